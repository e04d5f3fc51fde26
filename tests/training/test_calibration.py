"""Bins and the expected calibration error by hand; the examples behind a picture are few."""

import numpy as np
import pytest
from test_analysis import examples_of, random_case, random_scores

from datasets import TASKS, Task
from minbert.evaluation import Predictions
from minbert.training import examples as behind
from minbert.training.analysis import analyse
from minbert.training.calibration import calibration


def test_two_bins_by_hand():
    """Three at 0.95, two of them right: off by 0.2833; one at 0.55, right: off by 0.45. ECE (3 * .2833 + .45) / 4."""
    found = calibration([0.95, 0.95, 0.95, 0.55], [True, True, False, True])
    assert [(one["from"], one["to"], one["examples"]) for one in found["bins"]] == [(0.5, 0.6, 1), (0.9, 1.0, 3)]
    assert [one["accuracy"] for one in found["bins"]] == [1.0, pytest.approx(2 / 3)]
    assert found["ece"] == pytest.approx((3 * (0.95 - 2 / 3) + 0.45) / 4)


def test_borders_belong_to_the_bin_below_and_nothing_is_lost():
    found = calibration([0.0, 0.1, 0.2, 1.0], [False, False, True, True])
    assert [(one["from"], one["examples"]) for one in found["bins"]] == [(0.0, 2), (0.1, 1), (0.9, 1)]


def test_sure_and_right_is_calibrated():
    assert calibration([1.0, 1.0], [True, True])["ece"] == 0


def test_cells_hold_the_surest_examples_of_each():
    examples, predictions = random_case(TASKS["sst"], count=300)
    result = analyse(TASKS["sst"], examples, predictions)
    assert sum(cell["count"] for cell in result["cells"]) == 300
    for cell in result["cells"]:
        row, column = (result["labels"].index(cell[side]) for side in ("label", "prediction"))
        inside = np.flatnonzero((examples.labels == row) & (predictions.values == column))
        assert cell["count"] == len(inside) == result["confusion"][row][column]
        surest = sorted(inside, key=lambda i: -predictions.probabilities[i, column])[: behind.PER_CELL]
        assert [one["id"] for one in cell["examples"]] == [examples.ids[i] for i in surest]
        assert cell["examples"][0]["probability"] == round(float(predictions.probabilities[surest[0], column]), 4)


def test_many_classes_show_their_most_frequent_confusions():
    labels = tuple(f"class {number}" for number in range(150))
    task = Task("many", "classification", labels, ("text",), "label", "accuracy", {}, "csv")
    random = np.random.default_rng(0)
    true, said = random.integers(0, 150, 3000), random.integers(0, 150, 3000)
    true[:50], said[:50] = 3, 7  # the most frequent confusion
    cells = behind.behind_cells(examples_of(task, true), Predictions(said, np.full((3000, 150), 1 / 150)), labels)
    assert len(cells) == behind.MOST_CONFUSIONS
    assert (cells[0]["label"], cells[0]["prediction"]) == ("class 3", "class 7")
    assert all(cell["label"] != cell["prediction"] for cell in cells)
    assert [cell["count"] for cell in cells] == sorted((cell["count"] for cell in cells), reverse=True)


@pytest.mark.parametrize("count", [80, 5000])
def test_points_of_a_long_dev_set_are_the_worst_and_an_even_share(count):
    examples, predictions = random_scores(count)
    residuals = predictions.values - examples.labels
    shown = behind.behind_points(examples, residuals)
    rows = [one["row"] for one in shown]
    assert len(rows) == len(set(rows)) == min(count, behind.MOST_POINTS)
    assert rows == sorted(rows)
    assert set(np.argsort(-np.abs(residuals))[:100]) & set(range(count)) <= set(rows)
    assert all(one["id"] == examples.ids[one["row"]] for one in shown)


def test_long_texts_are_cut():
    examples = examples_of(TASKS["sst"], np.array([0]))
    examples.texts[0] = ("x" * 10_000,)
    assert behind.about(examples, 0)["texts"] == ["x" * behind.MOST_TEXT + "…"]
