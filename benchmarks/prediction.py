"""How fast does a saved run answer? `minbert.load(RUN).predict` against transformers' pipeline, on real sentences.

    python benchmarks/prediction.py

Ours reads sequences of similar length together, real tokens only. Theirs is `pipeline("text-classification")` with
batches of 64, in the order given, on the same head, exported by `--export`. The gain is what is not padded, so it
depends on how lengths differ: less where all sentences are alike (`--of sst`). Both are asked from text to answer, in
turns in one process, and give the same labels. Reported: sentences a second (medians) and their ratio; on a CPU the
ratio is to be at least FLOOR. Without --run a run is made that is hardly trained, which changes no time.
"""

import argparse
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # as multitask_classifier.py, for both sides
ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
FLOOR = 2.5
BATCH = 64


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", help="a finished run with an SST head (default: one is made in a temporary folder)")
    parser.add_argument("--model", default="minilm", help="checkpoint of that run (default: %(default)s)")
    parser.add_argument("--data_dir", help="the course's files (default: as multitask_classifier.py)")
    parser.add_argument("--rows", type=int, default=10_000, help="sentences at the most (default: %(default)s)")
    parser.add_argument("--of", default="sst,quora,sts", help="whose training sentences (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="counted passes of each side (default: %(default)s)")
    parser.add_argument("--threads", type=int, help="CPU threads (default: torch's choice)")
    parser.add_argument("--use_gpu", action="store_true", help="both sides on the CUDA device")
    args = parser.parse_args()
    from minbert.script import carry_out

    with tempfile.TemporaryDirectory() as folder:
        return carry_out(lambda: compare(args, Path(folder)))


def compare(args, folder):
    """Ask both sides in turns, print what came of it; exit code 1 where a CPU's ratio is below FLOOR."""
    import torch
    import transformers

    from minbert import load

    if args.threads:
        torch.set_num_threads(args.threads)
    run = Path(args.run) if args.run else made_run(args, folder / "run")
    command("--export", run, folder / "heads")
    texts, where = sentences(args)
    ours = load(run, use_gpu=args.use_gpu)
    theirs = transformers.pipeline(
        "text-classification",
        model=str(folder / "heads" / "sst"),
        truncation=True,
        batch_size=BATCH,
        device="cuda" if args.use_gpu else "cpu",
    )
    sides = {
        "ours": lambda: ours.predict(texts)["sst"].labels,
        "transformers": lambda: [answer["label"] for answer in theirs(texts)],
    }
    print(f"{len(texts):,} sentences ({where}); {torch.get_num_threads()} threads; {theirs.device}")
    times, labels = {side: [] for side in sides}, {}  # [(seconds, seconds of processor time)]
    for _ in range(args.repeats):
        for side, ask in sides.items():
            start, busy = time.perf_counter(), time.process_time()
            labels[side] = ask()
            times[side].append((time.perf_counter() - start, time.process_time() - busy))
    same = sum(a == b for a, b in zip(labels["ours"], labels["transformers"], strict=True))
    print(f"equal labels: {same:,} of {len(texts):,}")
    (a, of_a), (b, of_b) = (map(statistics.median, zip(*times[side], strict=True)) for side in sides)
    print(f"ours {len(texts) / a:,.0f} sentences/s, transformers {len(texts) / b:,.0f}: {b / a:.2f} times as fast")
    print(f"by processor time, which other programs change less: {of_b / of_a:.2f} times")
    return int(not args.use_gpu and b / a < FLOOR)


def sentences(args):
    """(the sentences of the training sets named, shuffled, as many as asked for; where they are from)"""
    from datasets import TASKS, data_folder, read

    folder, why = data_folder(args.data_dir)
    texts = []
    for name in args.of.split(","):
        examples = read(TASKS[name], folder / TASKS[name].files["train"], "train").texts
        texts += [text for example in examples for text in example][: args.rows]
    random.Random(0).shuffle(texts)
    return texts[: args.rows], f"{args.of}; {why}"


def made_run(args, folder):
    """A run with an SST head after a step on a frozen trunk."""
    flags = ["--model", args.model, "--epochs", "1", "--limit", "sst=8,quora=8,sts=8", "--skip_test"]
    flags += ["--dev_limit", "sst=8,quora=8,sts=8", *(["--data_dir", args.data_dir] if args.data_dir else [])]
    command("--option", "pretrain", *flags, "--run_dir", folder)
    return folder


def command(*words):
    """multitask_classifier.py in a process of its own, silent unless it fails."""
    script = [sys.executable, str(ROOT / "multitask_classifier.py"), *map(str, words)]
    done = subprocess.run(script, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr or done.stdout)


if __name__ == "__main__":
    from minbert.script import carry_out

    sys.exit(carry_out(main))
