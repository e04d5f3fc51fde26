"""An epoch of each order of batches as letters, and the learning rate's way as a curve."""

import sys

import numpy as np

from minbert.methods.schedules import drawn, rounds, shuffled, task_wise
from optimizer import linear

TAKES = {"sst": 6, "quora": 18, "sts": 9}
STEPS = 24


def main():
    for order in (rounds, task_wise, shuffled, drawn):
        letters = [task[:2] for one in order(TAKES, np.random.default_rng(1), 0.5) for task, _ in one]
        print(f"{order.__name__:10}" + " ".join(letters))
    print("\nlearning rate, warm-up over a quarter of the steps")
    for step in range(STEPS):
        print(f"{step:3} {linear(step, STEPS, 0.25):.3f} " + "#" * round(40 * linear(step, STEPS, 0.25)))


if __name__ == "__main__":
    try:
        main()
    except NotImplementedError as error:
        sys.exit(str(error))
