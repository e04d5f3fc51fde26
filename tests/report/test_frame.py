"""Places and ticks by hand."""

import pytest

from minbert.report import charts
from minbert.report.frame import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Frame, around, decades, short, steps


def test_corners():
    frame = Frame((0, 10), (-1, 1))
    assert (frame.right(0), frame.right(10)) == (LEFT, WIDTH - RIGHT)
    assert (frame.down(-1), frame.down(1)) == (HEIGHT - BOTTOM, TOP)
    assert frame.down(0) == pytest.approx((TOP + HEIGHT - BOTTOM) / 2)


def test_a_logarithmic_axis_has_equal_steps():
    frame = Frame((0, 1), (1, 100), logarithmic=True)
    assert frame.down(10) == pytest.approx((frame.down(1) + frame.down(100)) / 2)
    assert decades(1, 100) == [1, 2, 5, 10, 20, 50, 100]
    assert decades(0.1, 2000) == [0.1, 1, 10, 100, 1000]


@pytest.mark.parametrize(
    ("low", "high", "most", "expected"),
    [
        (0, 1, 5, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (0.46, 0.54, 5, [0.46, 0.48, 0.5, 0.52, 0.54]),
        (0, 7, 5, [0, 2, 4, 6]),
        (1, 1e6, 5, [2e5, 4e5, 6e5, 8e5, 1e6]),
    ],
)
def test_round_numbers(low, high, most, expected):
    assert steps(low, high, most) == pytest.approx(expected)


def test_epochs_have_no_halves():
    assert steps(1, 2, 6, 1.0) == [1, 2]


@pytest.mark.parametrize(
    ("value", "said"),
    [(0, "0"), (0.25, "0.25"), (0.30000000000000004, "0.3"), (1500, "1,500"), (20000, "20k"), (3e6, "3M"),
     (2e-5, "2e-05"), (1.05e-4, "0.000105"), (-0.5, "-0.5")],
)  # fmt: skip
def test_numbers_at_an_axis(value, said):
    assert short(value) == said


def test_a_flat_line_has_room():
    assert around([2.0, 2.0]) == (pytest.approx(1.88), pytest.approx(2.12))
    assert around([0.0]) == (-1.0, 1.0)


def test_a_chart_says_what_it_shows_and_marks_the_best():
    chart = charts.lines("t", {"dev": [(1, 0.2), (2, 0.5), (3, 0.4)]}, "epoch", "y", baseline=0.3, best=2, dots=True)
    assert chart["told"] == "dev: 0.2 at epoch 1, 0.4 at epoch 3, between 0.2 and 0.5."
    (line,) = chart["lines"]
    assert [dot["best"] for dot in line["dots"]] == [False, True, False]
    assert line["dots"][1]["told"] == "dev, epoch 2: 0.5, the best"
    assert chart["baseline"]["value"] == 0.3
    assert charts.lines("t", {"dev": []}, "epoch", "y") is None


def test_a_norm_that_spans_decades_is_logarithmic():
    wide, narrow = ({"n": [(1, 0.1), (2, high)]} for high in (100.0, 2.0))
    assert "logarithmic" in charts.lines("t", wide, "update", "norm", logarithmic=True)["y_label"]
    assert charts.lines("t", narrow, "update", "norm", logarithmic=True)["y_label"] == "norm"
    assert charts.lines("t", {"n": [(1, 0.0), (2, 99.0)]}, "update", "norm", logarithmic=True)["y_label"] == "norm"
