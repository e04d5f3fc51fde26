"""Kill a run at random moments, resume it each time, and compare what it comes to with a run that nobody touched.

    python benchmarks/kill_and_resume.py --model minilm --kills 20

The same training, on the project's sample unless flags say otherwise, runs once unbroken and then once more under a
rain of SIGKILLs: each strikes at a random moment of a process's life, its start included, and the process is started
again with --resume. A run that ends before all kills have fallen is compared, and the kills go on in a new one. Prints
a line for each kill and the verdict: weights, scores, losses and predictions must be the same bits. Exit code 0 or 1.
Flags after `--` go to multitask_classifier.py.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from safetensors import safe_open

SCRIPT = Path(__file__).resolve().parents[1] / "multitask_classifier.py"
RECIPE = "--option finetune --epochs 2 --lr 5e-5 --lr_schedule linear --warmup 0.1 --clip 1 --weight_decay 0.01"
TIMES = {"seconds", "train_seconds", "eval_seconds"}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="minilm", help="checkpoint (default: %(default)s)")
    parser.add_argument("--kills", type=int, default=20, help="(default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the moments (default: %(default)s)")
    parser.add_argument("--checkpoint_seconds", type=float, default=2, help="between saves (default: %(default)s)")
    parser.add_argument("flags", nargs="*", default=RECIPE.split(), metavar="-- FLAGS", help=f"(default: {RECIPE})")
    args = parser.parse_args()

    moments, fallen, same = random.Random(args.seed), 0, True
    with tempfile.TemporaryDirectory() as scratch:
        flags = ["--model", args.model, "--checkpoint_minutes", str(args.checkpoint_seconds / 60), *args.flags]
        whole = Path(scratch) / "unbroken"
        started = time.monotonic()
        if not finishes(start(whole, flags)):
            sys.exit("the unbroken run failed")
        seconds = time.monotonic() - started
        print(f"unbroken run: {seconds:.0f} s, {json.loads((whole / 'scores.json').read_text())['updates']} updates")

        while fallen < args.kills:
            folder = Path(scratch) / f"run-{fallen}"
            process = start(folder, flags)
            while fallen < args.kills:
                # half a run's length at the most, so that a run meets several kills
                moment = moments.uniform(0, seconds / 2)
                try:
                    process.wait(timeout=moment)
                    break
                except subprocess.TimeoutExpired:
                    process.send_signal(signal.SIGKILL)
                    process.wait()
                fallen += 1
                print(f"kill {fallen:3}: {moment:5.1f} s into a process; {where(folder)}", flush=True)
                process = start(folder, flags)
            if not finishes(process):
                sys.exit("a resumed run failed")
            different = differences(whole, folder)
            print(f"finished: {'differs in ' + ', '.join(different) if different else 'the same bits'}", flush=True)
            same &= not different
            shutil.rmtree(folder)
    print(f"{fallen} kills: {'every resumed run ended with the same bits' if same else 'NOT the same'}")
    return 0 if same else 1


def start(folder, flags):
    argv = [sys.executable, str(SCRIPT), "--run_dir", str(folder), "--resume", *flags]
    log = open(f"{folder}.log", "a")  # noqa: SIM115  (the process goes on writing to it)
    return subprocess.Popen(argv, stdout=log, stderr=log, env={**os.environ, "OMP_WAIT_POLICY": "PASSIVE"})


def finishes(process):
    """Wait for a process; if it fails, show what it said last."""
    if process.wait() == 0:
        return True
    log = Path(f"{process.args[process.args.index('--run_dir') + 1]}.log")
    print(log.read_text()[-2000:])
    return False


def where(folder):
    """What a killed run has to go on from."""
    if not (folder / "config.json").is_file():
        return "not yet a run"
    if not (folder / "state.pt").is_file():
        return "before the first checkpoint"
    lines = (folder / "metrics.jsonl").read_text().splitlines() if (folder / "metrics.jsonl").is_file() else []
    age = time.time() - (folder / "state.pt").stat().st_mtime
    return f"{len(lines)} epochs recorded, the state {age:.1f} s old"


def differences(one, two):
    """Names of what two runs do not have in common to the bit, times aside."""
    names = {str(path.relative_to(one)) for path in one.rglob("*.*") if path.suffix in (".safetensors", ".csv")}
    found = [name for name in sorted(names) if not equal(one / name, two / name)]
    for name in ("metrics.jsonl", "scores.json"):
        if timeless(one / name) != timeless(two / name):
            found.append(name)
    return found


def equal(one, two):
    if not two.is_file():
        return False
    if one.suffix == ".csv":
        return one.read_bytes() == two.read_bytes()
    with safe_open(one, "pt") as a, safe_open(two, "pt") as b:
        return a.keys() == b.keys() and all(a.get_tensor(name).equal(b.get_tensor(name)) for name in a.keys())  # noqa: SIM118


def timeless(path):
    text = path.read_text()
    records = [json.loads(line) for line in text.splitlines()] if path.suffix == ".jsonl" else [json.loads(text)]
    return [{key: value for key, value in record.items() if key not in TIMES} for record in records]


if __name__ == "__main__":
    sys.exit(main())
