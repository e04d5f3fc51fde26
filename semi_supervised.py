"""Learning from unlabelled text beside the labelled: the methods of the semi-supervised papers as pure functions.

Training signal annealing: Xie, Dai, Hovy, Luong and Le, "Unsupervised Data Augmentation for Consistency Training",
NeurIPS 2020 (arXiv 1904.12848), section 2.3 of the first version, appendix of the last.

`import ssl` from the project's root offers these names too (see ssl.py); inside the project, import this file.
"""

import math

# How the share of training already done, p, releases the signal of the labelled examples: each s rises to s(1) = 1
# (log: 1 - exp(-5) = 0.993). log releases most of it early (much labelled data), exp late (little, soon overfitted).
TSA_SCHEDULES = {
    "linear": lambda p: p,
    "log": lambda p: 1 - math.exp(-5 * p),
    "exp": lambda p: math.exp(5 * (p - 1)),
}


def tsa_threshold(progress, num_classes, schedule):
    """The probability above which a labelled example is too well known to teach in this step.

        eta(p) = s(p) * (1 - 1/K) + 1/K,    s linear: p,    log: 1 - exp(-5 p),    exp: exp(5 (p - 1))

    It rises from chance, 1/K (exp starts exp(-5) (1 - 1/K) above it), to certainty, 1 (log ends exp(-5) (1 - 1/K)
    below it). An example whose probability of its true class is above eta(p) is left out of the step's loss.

    progress: p, updates done / updates planned, from 0 to 1. num_classes: K, at least 2.
    schedule: "linear", "log" or "exp". Returns a float in [1/K, 1].
    Raises ValueError on another schedule, or on a p or K out of its range.
    Source: Xie et al. 2020, the equation of eta_t and the figure of its three schedules.
    """
    if schedule not in TSA_SCHEDULES:
        raise ValueError(f"unknown TSA schedule {schedule!r}: choose one of {', '.join(TSA_SCHEDULES)}")
    if not 0 <= progress <= 1:
        raise ValueError(f"progress must be from 0 to 1 (updates done / updates planned), got {progress}")
    if num_classes < 2:
        raise ValueError(f"TSA needs at least 2 classes, got {num_classes}: chance, 1/K, is where it starts")
    chance = 1 / num_classes
    return TSA_SCHEDULES[schedule](progress) * (1 - chance) + chance
