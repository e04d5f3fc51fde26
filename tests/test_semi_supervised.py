"""The TSA threshold against its equation worked out by hand, from e^-5 = 0.0067379470, e^-3.75 = 0.0235177459,
e^-2.5 = 0.0820849986 and e^-1.25 = 0.2865047969 (tables of the exponential function)."""

import math
from itertools import pairwise

import pytest

from semi_supervised import tsa_threshold

PROGRESS = (0, 1 / 4, 1 / 2, 3 / 4, 1)

# eta at those five points: s (1 - 1/K) + 1/K, that is 0.5 s + 0.5, 0.8 s + 0.2, (25 s + 1) / 26
BY_HAND = {
    ("linear", 2): (0.5, 0.625, 0.75, 0.875, 1.0),
    ("linear", 5): (0.2, 0.4, 0.6, 0.8, 1.0),
    ("linear", 26): (0.0384615385, 0.2788461538, 0.5192307692, 0.7596153846, 1.0),
    ("log", 2): (0.5, 0.8567476016, 0.9589575007, 0.9882411271, 0.9966310265),
    ("log", 5): (0.2, 0.7707961625, 0.9343320011, 0.9811858033, 0.9946096424),
    ("log", 26): (0.0384615385, 0.7245146184, 0.9210721167, 0.9773867828, 0.9935212048),
    ("exp", 2): (0.5033689735, 0.5117588729, 0.5410424993, 0.6432523984, 1.0),
    ("exp", 5): (0.2053903576, 0.2188141967, 0.2656679989, 0.4292038375, 1.0),
    ("exp", 26): (0.0449403337, 0.0610747556, 0.1173894218, 0.3139469201, 1.0),
}


@pytest.mark.parametrize(("schedule", "num_classes"), BY_HAND)
def test_threshold_by_hand(schedule, num_classes):
    ours = [tsa_threshold(p, num_classes, schedule) for p in PROGRESS]
    assert ours == pytest.approx(BY_HAND[schedule, num_classes], abs=6e-11)


@pytest.mark.parametrize(("schedule", "num_classes"), BY_HAND)
def test_threshold_rises_from_chance_to_certainty(schedule, num_classes):
    etas = [tsa_threshold(i / 1000, num_classes, schedule) for i in range(1001)]
    assert all(low < high for low, high in pairwise(etas))
    room = 1 - 1 / num_classes
    starts_above = {"linear": 0, "log": 0, "exp": math.exp(-5)}[schedule]
    ends_below = {"linear": 0, "log": math.exp(-5), "exp": 0}[schedule]
    assert etas[0] - 1 / num_classes == pytest.approx(starts_above * room, abs=1e-15)
    assert 1 - etas[-1] == pytest.approx(ends_below * room, abs=1e-15)


def test_log_releases_first_and_exp_last():
    for p in (0.1, 0.5, 0.9):
        late, even, early = (tsa_threshold(p, 5, schedule) for schedule in ("exp", "linear", "log"))
        assert late < even < early


@pytest.mark.parametrize("progress", [-0.001, 1.001, math.nan, math.inf])
def test_progress_out_of_range(progress):
    with pytest.raises(ValueError, match="from 0 to 1"):
        tsa_threshold(progress, 2, "linear")


def test_too_few_classes():
    with pytest.raises(ValueError, match="at least 2 classes"):
        tsa_threshold(0.5, 1, "linear")


def test_unknown_schedule_names_the_known():
    with pytest.raises(ValueError, match=r"'cosine'.*linear, log, exp"):
        tsa_threshold(0.5, 2, "cosine")
