"""Calibration: whether a model that is 80 % sure is right four times in five.

Guo et al. 2017, "On Calibration of Modern Neural Networks", section 2: examples go into bins by their confidence, the
probability of the predicted class, and the expected calibration error is the mean over examples of how far their bin's
accuracy is from its mean confidence. We use 10 bins (theirs are 15): dev sets of some hundreds fill no more.
"""

import numpy as np

BINS = 10


def calibration(confidence, right):
    """{"ece", "bins": [{"from", "to", "examples", "confidence", "accuracy"}]} of n predictions: `confidence` [n] in [0,
    1] and whether they are `right` [n]. Bins are (from, to], the first with its lower end; empty ones are left out.

    ECE = sum over bins of (examples / n) |accuracy - confidence|     (equation 3)
    """
    confidence, right = np.asarray(confidence, np.float64), np.asarray(right, bool)
    place = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)  # [n]
    bins = [
        {
            "from": number / BINS,
            "to": (number + 1) / BINS,
            "examples": int(inside.sum()),
            "confidence": float(confidence[inside].mean()),
            "accuracy": float(right[inside].mean()),
        }
        for number in range(BINS)
        if (inside := place == number).any()
    ]
    apart = [one["examples"] * abs(one["accuracy"] - one["confidence"]) for one in bins]
    return {"ece": sum(apart) / len(confidence), "bins": bins}
