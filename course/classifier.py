"""The courses' classifier.py, carried out by multitask_classifier.py: SST and then CFIMDB, each by itself, and their
predictions in predictions/ under the names that the used flag implies; or, with --train, CMU's one task.

    python course/classifier.py --option finetune --epochs 10 --lr 1e-5
    python course/classifier.py --train sst-train.txt --dev sst-dev.txt --test sst-test.txt --dev_out sst-dev-output.txt

Every flag is passed on, so each of multitask_classifier.py will do. The runs themselves are in runs/.
"""

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[1] / "multitask_classifier.py"
TASKS = {"sst": [], "cfimdb": ["--batch_size", "8"]}  # CFIMDB's long texts go 8 at a time, whatever SST's do


def main(argv):
    """Run the command or both; returns the first exit code that is not 0."""
    runs = [argv]
    if not {"-h", "--help", "--train"} & {word.partition("=")[0] for word in argv}:
        runs = [[*argv, "--tasks", task, *more, "--predictions_dir", "predictions"] for task, more in TASKS.items()]
    return next((code for run in runs if (code := subprocess.call([sys.executable, SCRIPT, *run]))), 0)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
