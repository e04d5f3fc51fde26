"""Confusions, per-class measures and fits against scikit-learn and NumPy; the worst errors; what is in the picture."""

import json
from pathlib import Path

import numpy as np
import pytest
import sklearn.metrics
from matplotlib.figure import Figure

from datasets import TASKS, Examples
from minbert.evaluation import Predictions, task_scores
from minbert.training import analysis

SST, QUORA, STS, MNLI = (TASKS[name] for name in ("sst", "quora", "sts", "mnli"))


def examples_of(task, labels):
    count = len(labels)
    texts = [tuple(f"{side} {row}" for side in task.text) for row in range(count)]
    return Examples(task, "dev", Path("dev.csv"), [f"id{row}" for row in range(count)], texts, labels)


def random_case(task, count=60, seed=0):
    """Examples, and predictions that never say the last class and are often right."""
    random, classes = np.random.default_rng(seed), len(task.labels)
    labels = random.integers(0, classes, count)
    scores = random.random((count, classes)) + 0.5 * np.eye(classes)[labels]
    scores[:, -1] = 0
    probabilities = (scores / scores.sum(axis=1, keepdims=True)).astype(np.float32)
    return examples_of(task, labels), Predictions(probabilities.argmax(axis=1), probabilities)


def random_scores(count=80, seed=0):
    random = np.random.default_rng(seed)
    labels = (random.integers(0, 26, count) / 5).astype(np.float32)
    return examples_of(STS, labels), Predictions(0.6 * labels.astype(np.float64) + 1 + random.normal(0, 0.5, count))


# ----------------------------------------------------------------------------------------------- classification


@pytest.mark.parametrize("task", [SST, QUORA, MNLI], ids=lambda task: task.name)
def test_confusion_and_classes_are_scikit_learn_s(task):
    examples, predictions = random_case(task)
    every, reference = np.arange(len(task.labels)), sklearn.metrics
    result = analysis.analyse(task, examples, predictions)
    confusion = reference.confusion_matrix(examples.labels, predictions.values, labels=every)  # rows are true
    assert result["confusion"] == confusion.tolist()
    assert confusion.tolist() != confusion.T.tolist()
    assert result["labels"] == list(result["per_class"]) == list(task.labels)
    measures = reference.precision_recall_fscore_support(
        examples.labels, predictions.values, labels=every, zero_division=0
    )
    ours = [list(of_class.values()) for of_class in result["per_class"].values()]
    np.testing.assert_allclose(ours, np.transpose(measures), atol=1e-12)
    assert list(result["per_class"][task.labels[0]]) == ["precision", "recall", "f1", "examples"]
    assert result["scores"] == task_scores(task, predictions.values, examples.labels)
    assert result["examples"] == 60


def test_a_confusion_by_hand():
    """Three duplicates, one of them missed, and one false alarm."""
    said = np.array([1, 1, 0, 1, 0])
    examples = examples_of(QUORA, np.array([1, 1, 1, 0, 0]))
    result = analysis.analyse(QUORA, examples, Predictions(said, np.eye(2, dtype=np.float32)[said]))
    assert result["confusion"] == [[1, 1], [1, 2]]
    duplicate = result["per_class"]["duplicate"]
    assert duplicate == {"precision": pytest.approx(2 / 3), "recall": pytest.approx(2 / 3), "f1": pytest.approx(2 / 3),
                         "examples": 3}  # fmt: skip


def test_the_worst_errors_have_most_probability_on_the_wrong_label():
    examples, predictions = random_case(SST)
    said, true = predictions.values, examples.labels
    wrong = [row for row in range(60) if said[row] != true[row]]
    expected = sorted(wrong, key=lambda row: -predictions.probabilities[row, said[row]])
    errors = analysis.analyse(SST, examples, predictions, worst=7)["worst_errors"]
    assert len(wrong) > 7
    assert [error["id"] for error in errors] == [f"id{row}" for row in expected[:7]]
    row, first = expected[0], errors[0]
    assert first == {
        "id": f"id{row}",
        "texts": [f"sentence {row}"],
        "label": SST.labels[true[row]],
        "prediction": SST.labels[said[row]],
        "probability_of_label": pytest.approx(predictions.probabilities[row, true[row]], abs=1e-4),
        "probability_of_prediction": pytest.approx(predictions.probabilities[row, said[row]], abs=1e-4),
    }
    every = analysis.analyse(SST, examples, predictions, worst=1000)["worst_errors"]
    assert [error["id"] for error in every] == [f"id{row}" for row in expected]


def test_of_errors_equally_sure_the_one_that_saw_least_of_the_right_label_is_worse():
    probabilities = np.array([[0.7, 0.2, 0.1], [0.7, 0.1, 0.2], [0.7, 0.25, 0.05], [0.9, 0.1, 0.0]], np.float32)
    examples = examples_of(MNLI, np.array([1, 1, 1, 0]))
    errors = analysis.analyse(MNLI, examples, Predictions(np.zeros(4, np.int64), probabilities))["worst_errors"]
    assert [error["id"] for error in errors] == ["id1", "id0", "id2"]
    assert [error["prediction"] for error in errors] == ["entailment"] * 3


# --------------------------------------------------------------------------------------------------- regression


def test_the_fit_is_numpy_s():
    examples, predictions = random_scores()
    true, said = examples.labels.astype(np.float64), predictions.values
    result = analysis.analyse(STS, examples, predictions)
    scores = result["scores"]
    assert [scores["slope"], scores["intercept"]] == pytest.approx(np.polyfit(true, said, 1).tolist(), abs=1e-10)
    assert scores["pearson"] == pytest.approx(np.corrcoef(true, said)[0, 1], abs=1e-10)
    assert scores["rmse"] == pytest.approx(sklearn.metrics.mean_squared_error(true, said) ** 0.5, abs=1e-10)
    assert result["residual_mean"] == pytest.approx(np.mean(said) - np.mean(true))
    assert result["residual_deviation"] == pytest.approx(np.std(said - true))
    assert scores["rmse"] ** 2 == pytest.approx(result["residual_mean"] ** 2 + result["residual_deviation"] ** 2)
    np.testing.assert_allclose(result["points"], np.stack([true, said], axis=1), atol=1e-4)
    assert result["score_range"] == [0.0, 5.0]


def test_residuals_by_rounded_score_by_hand():
    labels = np.array([0.0, 0.4, 0.5, 1.4, 2.5, 5.0], np.float32)  # halves go up: 0 0 1 1 3 5
    examples, said = examples_of(STS, labels), np.array([1.0, 1.0, 0.5, 2.0, 2.5, 4.0])
    found = analysis.analyse(STS, examples, Predictions(said))["by_score"]
    assert [(row["score"], row["examples"]) for row in found] == [(0, 2), (1, 2), (3, 1), (5, 1)]
    assert [row["residual_mean"] for row in found] == pytest.approx([0.8, 0.3, 0.0, -1.0], abs=1e-6)
    assert [row["residual_deviation"] for row in found] == pytest.approx([0.2, 0.3, 0.0, 0.0], abs=1e-6)


def test_the_worst_errors_of_scores_have_the_largest_residuals_of_either_sign():
    examples = examples_of(STS, np.array([3.4, 1.0, 5.0, 2.0], np.float32))
    result = analysis.analyse(STS, examples, Predictions(np.array([3.9, 3.0, 1.5, 2.0])), worst=3)
    errors = result["worst_errors"]
    assert [error["id"] for error in errors] == ["id2", "id1", "id0"]
    assert [error["residual"] for error in errors] == [-3.5, 2.0, 0.5]
    assert errors[2] == {
        "id": "id0",
        "texts": ["sentence1 0", "sentence2 0"],
        "label": 3.4,
        "prediction": 3.9,
        "residual": 0.5,
    }
    every = analysis.analyse(STS, examples, Predictions(np.array([3.9, 3.0, 1.5, 2.0])))["worst_errors"]
    assert len(every) == 3  # a perfect prediction is no error


# ------------------------------------------------------------------------------------------------- JSON, picture


@pytest.fixture(scope="module")
def analyses():
    return {
        "sst": analysis.analyse(SST, *random_case(SST)),
        "quora": analysis.analyse(QUORA, *random_case(QUORA)),
        "sts": analysis.analyse(STS, *random_scores()),
    }


def test_an_analysis_survives_json(analyses):
    assert json.loads(json.dumps(analyses, allow_nan=False)) == analyses


@pytest.fixture
def figures(monkeypatch):
    """The figures that draw() makes, kept to be looked at."""
    made = []

    class Kept(Figure):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            made.append(self)

    monkeypatch.setattr(analysis, "Figure", Kept)
    return made


def test_the_picture_has_a_panel_for_each_task(analyses, tmp_path, figures):
    path = tmp_path / "dev.png"
    analysis.draw(analyses, path)
    data = path.read_bytes()
    assert data.startswith(b"\x89PNG")
    assert len(data) > 10_000
    assert b"Software" not in data  # the same bytes whatever the version
    assert list(tmp_path.iterdir()) == [path]
    sst, quora, sts = figures[0].axes
    assert [panel.get_title().strip() for panel in (sst, quora, sts)] == ["sst", "quora", "sts"]

    confusion = analyses["sst"]["confusion"]
    counts = {text.get_position(): text.get_text().split("\n")[0] for text in sst.texts}
    for row, column in np.ndindex(5, 5):
        assert counts[column, row] == str(confusion[row][column])  # x is the predicted label, y the true one
    shades = sst.images[0].get_array()
    np.testing.assert_allclose(shades, confusion / np.sum(confusion, axis=1, keepdims=True))
    assert [tick.get_text() for tick in sst.get_yticklabels()][1] == "somewhat\nnegative"
    assert quora.get_ylabel() == "true label"

    scores = analyses["sts"]["scores"]
    (fit,) = [line for line in sts.lines if line.get_label().startswith("fit")]
    x, y = fit.get_data()
    assert (y[1] - y[0]) / (x[1] - x[0]) == pytest.approx(scores["slope"])
    assert y[0] - scores["slope"] * x[0] == pytest.approx(scores["intercept"])
    np.testing.assert_allclose(sts.collections[0].get_offsets(), analyses["sts"]["points"])
    assert sts.get_ylabel() == "predicted score"
    assert any(f"Pearson {scores['pearson']:.3f}, slope {scores['slope']:.2f}" in text.get_text() for text in sts.texts)


def test_many_panels_go_into_rows(analyses, tmp_path, figures):
    six = {f"{name}{copy}": result for copy in "12" for name, result in analyses.items()}
    analysis.draw(six, tmp_path / "six.png")
    assert len(figures[0].axes) == 6
    assert len({panel.get_subplotspec().rowspan.start for panel in figures[0].axes}) == 2


@pytest.mark.filterwarnings("error")
def test_poor_results_can_be_drawn(tmp_path):
    """One example, a class that never occurs, a constant prediction, scores outside the range."""
    one = analysis.analyse(QUORA, examples_of(QUORA, np.array([1])), Predictions(np.array([1]), np.eye(2)[[1]]))
    labels = np.array([0.0, 1.0, 4.0], np.float32)
    with pytest.warns(UserWarning, match="constant"):
        constant = analysis.analyse(STS, examples_of(STS, labels), Predictions(np.full(3, 2.5)))
    outside = analysis.analyse(STS, examples_of(STS, labels), Predictions(np.array([-1.0, 7.0, 2.0])))
    analysis.draw({"one": one, "constant": constant, "outside": outside}, tmp_path / "poor.png")
    assert (tmp_path / "poor.png").stat().st_size > 0
