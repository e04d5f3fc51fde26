"""Masked LM on a corpus larger than memory: the first start, the second, memory, and a kill.

    python benchmarks/corpus.py --megabytes 2000 --folder FOLDER

Writes so much random text (words of the model's own vocabulary, by Zipf's law) into FOLDER, gives it to pretraining.py
with --token_cache, and tells how long it takes until training begins, with and without the tokens there; the largest
memory of the process (of which its own, without pages of files); and whether a run that is killed and resumed has the
losses of one that was not, digit for digit. The text and all else is deleted at the end (--keep keeps it).
"""

import argparse
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]
BEGINS = "plan:"  # how the line begins that a run prints before its first step
EVERY_UPDATE = ("--checkpoint_minutes", 1e-9)  # the state is saved
WORDS = 1 << 20  # of text made together


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=int, default=200, help="size of the text (default: %(default)s)")
    parser.add_argument("--folder", type=Path, help="where it is written (default: a temporary folder)")
    parser.add_argument("--model", default="minilm", help="as in pretraining.py (default: %(default)s)")
    parser.add_argument("--updates", type=int, default=30, help="of each run (default: %(default)s)")
    parser.add_argument("--batch_size", type=int, default=32, help="sentences (default: %(default)s)")
    parser.add_argument("--keep", action="store_true", help="keep the text and the tokens")
    flags = parser.parse_args()
    folder = Path(tempfile.mkdtemp(dir=flags.folder, prefix="corpus-")) if flags.folder else Path(tempfile.mkdtemp())
    try:
        measure(folder, flags)
    finally:
        if not flags.keep:
            shutil.rmtree(folder)


def measure(folder, flags):
    text = folder / "corpus.txt"
    took, lines = timed(lambda: write_text(text, flags.megabytes * 1_000_000, flags.model))
    print(f"text: {text.stat().st_size / 1e6:,.0f} MB, {lines:,} lines, written in {took:.0f} s", flush=True)

    first = Run(folder, "first", flags).until_updates(flags.updates)
    tokens = sum(path.stat().st_size for path in (folder / "cache").rglob("*") if path.is_file())
    print(f"first start: {first.began:,.1f} s until training ({text.stat().st_size / 1e6 / first.began:.1f} MB/s)")
    print(f"tokens on disk: {tokens / 1e6:,.0f} MB, {tokens / text.stat().st_size:.2f} times the text")
    print(f"largest memory: {first.memory()}", flush=True)

    second = Run(folder, "second", flags).until_updates(flags.updates)
    print(f"second start: {second.began:.2f} s until training; largest memory: {second.memory()}", flush=True)

    killed = Run(folder, "killed", flags, *EVERY_UPDATE).until_updates(flags.updates // 2)
    resumed = Run(folder, "killed", flags, "--resume").until_updates(flags.updates)
    same = losses(folder / "second", flags.updates) == losses(folder / "killed", flags.updates)
    print(f"killed after {killed.updates} updates, resumed in {resumed.began:.2f} s: ", end="")
    print(f"the losses of {flags.updates} updates are {'the same' if same else 'NOT THE SAME'}")
    if not same:
        raise SystemExit(1)


class Run:
    """pretraining.py as a process. began: seconds until training began."""

    def __init__(self, folder, name, flags, *more):
        self.folder, self.peak, self.own, self.updates = folder / name, 0, 0, 0
        self.started, self.began = time.monotonic(), None
        command = ["--model", flags.model, "--text", folder / "corpus.txt", "--token_cache", folder / "cache"]
        command += ["--epochs", 1, "--batch_size", flags.batch_size, "--run_dir", self.folder, "--log_every", 1]
        command += more
        self.output = (folder / f"{name}.txt").open("w")
        self.process = subprocess.Popen(
            [sys.executable, "-u", ROOT / "pretraining.py", *map(str, command)], stdout=self.output, stderr=self.output
        )

    def until_updates(self, count):
        """Wait for so many updates in the log, and kill it; returns itself."""
        while self.updates < count:
            if self.process.poll() is not None:
                raise SystemExit(f"pretraining.py ended: {Path(self.output.name).read_text()[-2000:]}")
            self._look()
            time.sleep(0.01)
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.output.close()
        return self

    def _look(self):
        said = Path(self.output.name).read_text()
        if self.began is None and any(line.startswith(BEGINS) for line in said.splitlines()):
            self.began = time.monotonic() - self.started
        log = self.folder / "log.jsonl"
        self.updates = log.read_bytes().count(b"\n") if log.is_file() else 0
        status = Path(f"/proc/{self.process.pid}/status")
        if status.is_file():  # on Linux
            found = dict(line.split(":", 1) for line in status.read_text().splitlines())
            self.peak = max(self.peak, _kilobytes(found, "VmHWM"))
            self.own = max(self.own, _kilobytes(found, "RssAnon"))

    def memory(self):
        return f"{self.peak / 1e6:.2f} GB, of which {self.own / 1e6:.2f} its own"


def _kilobytes(status, name):
    return int(status.get(name, "0 kB").split()[0])


def losses(folder, count):
    """[(update, its loss)] of the first `count` updates of a run's log, as its digits."""
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    found = {line["update"]: json.dumps(line["loss"]) for line in lines if "update" in line}
    return sorted(found.items())[:count]


def write_text(path, size, model):
    """Write lines of 5 to 40 words until the file has `size` bytes; returns how many lines."""
    from minbert import hub
    from minbert.text.tokenization import Tokenizer

    tokenizer = Tokenizer.from_folder(hub.resolve(model).folder)
    words = np.array([word for word in tokenizer.vocabulary if word.isascii() and word.isalpha()], dtype=object)
    random, lines = np.random.default_rng(0), 0
    with path.open("w", encoding="utf-8") as f:
        while f.tell() < size:
            drawn = words[np.minimum(random.zipf(1.2, WORDS), len(words)) - 1]
            stops = np.cumsum(random.integers(5, 41, WORDS // 20))
            parts = np.split(drawn, stops[stops < WORDS])
            f.write("\n".join(" ".join(part) for part in parts) + "\n")
            lines += len(parts)
    return lines


def timed(work):
    started = time.monotonic()
    result = work()
    return time.monotonic() - started, result


if __name__ == "__main__":
    main()
