"""Predictions in order and without side effects, metrics against scikit-learn and NumPy, files byte for byte."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
import sklearn.metrics
import torch

from bert import BertModel
from datasets import TASKS, read
from minbert import evaluation
from minbert.text.tokenization import Tokenizer
from multitask_classifier import MultitaskBERT

NAMES = ("sst", "quora", "sts", "cfimdb", "rte", "qqp", "mnli", "sst2")
SST, QUORA, STS, CFIMDB, RTE, QQP, MNLI, SST2 = (TASKS[name] for name in NAMES)
BUDGETS = [1, 40, 10**6]


@pytest.fixture(scope="module")
def build(tiny_model):
    """build(flags...) -> a model for sst, quora and sts."""
    bert = BertModel.from_pretrained(tiny_model)

    def make(**choices):
        torch.manual_seed(1)
        return MultitaskBERT(bert, {"sst": SST, "quora": QUORA, "sts": STS}, **choices)

    return make


@pytest.fixture
def model(build):
    return build()


@pytest.fixture(scope="module")
def encoded(tiny_model, tiny_data):
    """encoded(task, fused) -> the training sentences of a task."""
    tokenizer = Tokenizer.from_folder(tiny_model)

    def encode(task, fused=True):
        texts = read(TASKS[task], tiny_data / TASKS[task].files["train"], "train").texts
        return tokenizer.encode(texts, 128, fused=fused)

    return encode


# ------------------------------------------------------------------------------------------------------ predict


HEADS = [
    ("sst", {}, 5),
    ("sst", {"sst_head": "coral"}, 5),
    ("quora", {}, 2),
    ("quora", {"pairs": "absdiff"}, 2),
    ("sts", {}, None),
    ("sts", {"pairs": "concat", "sts_head": "cosine"}, None),
    ("sts", {"sts_head": "classification", "sts_predict": "expectation"}, 26),
]


@pytest.mark.parametrize(("name", "choices", "classes"), HEADS)
@pytest.mark.parametrize("budget", BUDGETS)
def test_predictions_are_those_of_each_example_alone_whatever_the_sizes(
    build, encoded, monkeypatch, name, choices, classes, budget
):
    model = build(**choices).eval()
    sequences, head = encoded(name, model.fused), model.heads[name]
    assert len(set(sequences.lengths)) > 5  # so that sorting by length does change the order
    with torch.no_grad():
        alone = torch.cat([model({name: sequences.take([row])})[name] for row in range(len(sequences))])
        expected = head.predict(alone).numpy()
        probabilities = head.probabilities(alone).numpy() if classes else None
    monkeypatch.setattr(evaluation, "TOKEN_BUDGET", budget)
    monkeypatch.setattr(evaluation, "HEAD_ROWS", 3 if budget == 40 else 4096)
    predictions = evaluation.predict(model, name, sequences)
    np.testing.assert_allclose(predictions.values, expected, atol=1e-5)
    assert predictions.values.dtype == (np.float64 if name == "sts" else np.int64)
    assert len(predictions) == len(sequences)
    if classes:
        assert predictions.probabilities.shape == (len(sequences), classes)
        assert predictions.probabilities.dtype == np.float32
        np.testing.assert_allclose(predictions.probabilities, probabilities, atol=1e-5)
    else:
        assert predictions.probabilities is None


def test_embeddings_are_read_out_in_portions_that_stay_small(model, encoded, monkeypatch):
    sizes, classify = [], model.classify

    def watched(embeddings):
        sizes.append(len(embeddings["sst"]))
        return classify(embeddings)

    monkeypatch.setattr(model, "classify", watched)
    monkeypatch.setattr(evaluation, "HEAD_ROWS", 8)
    embedded = evaluation.embeddings(model, "sst", encoded("sst"))
    assert embedded.shape == (20, 1, 16)
    evaluation.read_out(model, "sst", embedded)
    assert sizes == [8, 8, 4]


@pytest.mark.parametrize("budget", BUDGETS)
def test_a_batch_holds_at_most_the_token_budget(model, encoded, monkeypatch, budget):
    sizes = []
    monkeypatch.setattr(evaluation, "TOKEN_BUDGET", budget)
    embed = model.embed

    def watched(sequences, **asked):
        sizes.append([int(n) for n in sequences["sst"].lengths])
        return embed(sequences, **asked)

    monkeypatch.setattr(model, "embed", watched)
    sequences = encoded("sst")
    evaluation.predict(model, "sst", sequences)
    assert all(sum(lengths) <= budget or len(lengths) == 1 for lengths in sizes)
    assert sorted(length for lengths in sizes for length in lengths) == sorted(sequences.lengths)
    assert len(sizes) == {1: 20, 10**6: 1}.get(budget, len(sizes))


@pytest.mark.parametrize("training", [True, False])
def test_predict_runs_in_eval_mode_without_gradients_and_puts_the_mode_back(model, encoded, monkeypatch, training):
    modes, embed = [], model.train(training).embed

    def watched(sequences, **asked):
        modes.append((model.training, model.bert.training, model.heads["sst"].training, torch.is_grad_enabled()))
        return embed(sequences, **asked)

    monkeypatch.setattr(model, "embed", watched)
    before = torch.get_rng_state()
    evaluation.predict(model, "sst", encoded("sst"))
    assert modes == [(False, False, False, False)]
    assert all(module.training is training for module in model.modules())
    assert torch.is_grad_enabled()
    assert torch.equal(torch.get_rng_state(), before)  # scoring in mid-run changes nothing that follows


def test_predict_puts_the_mode_back_after_an_error(model, encoded, monkeypatch):
    monkeypatch.setattr(model, "embed", lambda sequences, all_tokens: 1 / 0)
    model.train()
    with pytest.raises(ZeroDivisionError):
        evaluation.predict(model, "sst", encoded("sst"))
    assert model.training


def test_predict_sees_the_weights_as_they_are_now(model, encoded):
    before = evaluation.predict(model, "sts", encoded("sts")).values
    with torch.no_grad():
        model.heads["sts"].linear.bias.add_(1)
    assert (evaluation.predict(model, "sts", encoded("sts")).values > before).all()


# ------------------------------------------------------------------------------------------------------ metrics


@pytest.mark.parametrize("task", [SST, CFIMDB, QUORA, RTE], ids=lambda task: task.name)
@pytest.mark.parametrize("seed", range(5))
def test_classification_scores_are_scikit_learn_s(task, seed):
    random, count = np.random.default_rng(seed), len(task.labels)
    labels, predictions = random.integers(0, count, (2, 6 + 10 * seed))
    labels[0] = predictions[1] = count - 1  # each side has the last class, so that sklearn sees two
    scores = evaluation.task_scores(task, predictions, labels)
    every = range(count)
    reference = sklearn.metrics
    assert scores["accuracy"] == pytest.approx(reference.accuracy_score(labels, predictions), abs=1e-12)
    assert scores["macro_f1"] == pytest.approx(reference.f1_score(labels, predictions, average="macro"), abs=1e-12)
    per_class = reference.f1_score(labels, predictions, average=None, labels=list(every), zero_division=0)
    assert scores["f1"] == pytest.approx(per_class.tolist(), abs=1e-12)
    assert ("precision" in scores) == ("recall" in scores) == (count == 2)
    if count == 2:
        assert scores["precision"] == pytest.approx(reference.precision_score(labels, predictions), abs=1e-12)
        assert scores["recall"] == pytest.approx(reference.recall_score(labels, predictions), abs=1e-12)


def test_classes_that_nobody_mentions_or_predicts():
    scores = evaluation.task_scores(SST, np.array([1, 1, 1, 1]), np.array([1, 1, 0, 3]))
    assert scores["f1"] == pytest.approx([0, 4 / 6, 0, 0, 0])
    assert scores["macro_f1"] == pytest.approx(4 / 6 / 3)  # over the classes 0, 1 and 3
    scores = evaluation.task_scores(QUORA, np.zeros(3, np.int64), np.ones(3, np.int64))
    assert (scores["accuracy"], scores["precision"], scores["recall"]) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_pearson_is_numpy_s(scale):
    random = np.random.default_rng(0)
    x, noise = random.normal(size=(2, 50))
    y = (x + noise).astype(np.float32)  # labels come as float32
    assert evaluation.pearson(scale * x + 3, y) == pytest.approx(np.corrcoef(x, y)[0, 1], abs=1e-7)
    assert evaluation.pearson(x, -2 * x) == pytest.approx(-1, abs=1e-12)
    assert isinstance(evaluation.pearson(x, y), float)


@pytest.mark.parametrize("constant", [0.0, 2.5, 2.1, 4.999999])
def test_a_constant_prediction_scores_zero_with_a_warning(constant):
    labels = np.array([0.5, 1, 4, 3.3, 2], np.float32)
    with pytest.warns(UserWarning, match="constant"):
        assert evaluation.pearson(np.full(5, constant), labels) == 0.0
    with pytest.warns(UserWarning, match="constant"):
        scores = evaluation.task_scores(STS, labels.astype(np.float64), np.full(5, constant, np.float32))
    assert (scores["pearson"], scores["slope"]) == (0.0, 0.0)
    assert scores["intercept"] == pytest.approx(2.16)  # the mean of what was predicted
    with pytest.warns(UserWarning, match="constant"):
        scores = evaluation.task_scores(STS, np.full(5, constant), labels)
    assert (scores["pearson"], scores["slope"]) == (0.0, 0.0)
    assert scores["intercept"] == pytest.approx(constant)
    assert np.isfinite(list(scores.values())).all()


def test_an_almost_constant_prediction_has_a_correlation():
    labels = np.array([0.5, 1, 4, 3.3, 2], np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert evaluation.pearson(2.5 + 1e-5 * labels.astype(np.float64), labels) == pytest.approx(1)


@pytest.mark.parametrize("seed", range(3))
def test_regression_scores_are_numpy_s_and_scikit_learn_s(seed):
    random = np.random.default_rng(seed)
    labels = random.uniform(0, 5, 40).astype(np.float32)
    values = 0.6 * labels.astype(np.float64) + 0.9 + random.normal(0, 0.5, 40)
    scores = evaluation.task_scores(STS, values, labels)
    slope, intercept = np.polyfit(labels.astype(np.float64), values, 1)  # not the line label = ... * value
    assert scores["slope"] == pytest.approx(slope, abs=1e-10)
    assert scores["intercept"] == pytest.approx(intercept, abs=1e-10)
    assert scores["rmse"] == pytest.approx(sklearn.metrics.mean_squared_error(labels, values) ** 0.5, abs=1e-10)
    assert scores["pearson"] == pytest.approx(np.corrcoef(labels, values)[0, 1], abs=1e-10)
    assert all(type(value) is float for value in scores.values())


@pytest.mark.parametrize("task", [SST, QUORA, MNLI], ids=lambda task: task.name)
def test_the_confusion_matrix_has_true_labels_in_rows(task):
    count = len(task.labels)
    labels, values = np.random.default_rng(0).integers(0, [[count], [count - 1]], (2, 30))  # the last is never said
    confusion = evaluation.confusion_matrix(task, values, labels)
    np.testing.assert_array_equal(confusion, sklearn.metrics.confusion_matrix(labels, values, labels=np.arange(count)))
    assert not np.array_equal(confusion, confusion.T)
    reference = sklearn.metrics.precision_recall_fscore_support(
        labels, values, labels=np.arange(count), zero_division=0
    )
    np.testing.assert_allclose(evaluation.per_class(confusion), reference[:3], atol=1e-12)


def test_both_averages_by_hand():
    scores = {"sst": {"accuracy": 0.5}, "quora": {"accuracy": 0.8}, "sts": {"pearson": 0.6}}
    assert evaluation.averages(scores) == pytest.approx({"mean": 1.9 / 3, "score": 2.1 / 3})
    assert evaluation.averages({"sst": {"accuracy": 0.5}, "cfimdb": {"accuracy": 0.9}}) == {}


def test_glue_s_average_by_hand():
    """Table 2 of Karpov and Burtsev: (RTE + QQP's F1 + (MNLI-m + MNLI-mm) / 2 + SST-2) / 4."""
    dev = {
        "rte": {"accuracy": 0.5},
        "qqp": {"accuracy": 0.99, "f1": [0.98, 0.6]},  # the F1 of duplicates counts, not the accuracy
        "mnli": {"accuracy": 0.7},
        "sst2": {"accuracy": 0.9},
    }
    mismatched = {"mnli": {"accuracy": 0.3}}
    assert evaluation.glue_average(dev, mismatched) == pytest.approx({"glue": (0.5 + 0.6 + 0.5 + 0.9) / 4})
    assert evaluation.glue_average(dev | {"sst": {"accuracy": 0.1}}, mismatched) == evaluation.glue_average(
        dev, mismatched
    )
    for missing in dev:
        rest = {task: scores for task, scores in dev.items() if task != missing}
        assert evaluation.glue_average(rest, mismatched) == {}, f"an average without {missing}"
    assert evaluation.glue_average(dev, {}) == {}, "an average without MNLI's second dev set"


def test_the_selection_score_is_the_score_for_the_three_tasks():
    scores = {
        "sst": {"accuracy": 0.5},
        "quora": {"accuracy": 0.8},
        "sts": {"pearson": -0.6},
        "cfimdb": {"accuracy": 0.9},
    }
    selection = evaluation.selection_score
    assert selection([SST, QUORA, STS], scores) == pytest.approx(evaluation.averages(scores)["score"])
    assert selection([CFIMDB], scores) == pytest.approx(0.9)
    assert selection([SST], scores) == pytest.approx(0.5)
    assert selection([STS, SST], scores) == pytest.approx((0.2 + 0.5) / 2)


def test_baselines():
    assert evaluation.baseline(SST, np.array([3, 3, 1, 0, 3])) == pytest.approx(0.6)
    assert evaluation.baseline(STS, np.array([1.0, 2.0])) == 0.0


# -------------------------------------------------------------------------------------------------------- files


@pytest.mark.parametrize(
    ("task", "predictions", "expected"),
    [
        (SST, [4, 0], "id \t Predicted_Sentiment \na1 , 4 \nb2 , 0 \n"),
        (CFIMDB, [1, 0], "id \t Predicted_Sentiment \na1 , 1 \nb2 , 0 \n"),
        (QUORA, [1, 0], "id \t Predicted_Is_Paraphrase \na1 , 1.0 \nb2 , 0.0 \n"),
        (STS, [2.5, 0.30000000000000004], "id \t Predicted_Similiary \na1 , 2.5 \nb2 , 0.30000000000000004 \n"),
    ],
    ids=["sst", "cfimdb", "quora", "sts"],
)
def test_prediction_files_byte_for_byte(tmp_path, task, predictions, expected):
    path = tmp_path / "new" / "folder" / "out.csv"
    evaluation.write_predictions(path, task, ["a1", "b2"], np.array(predictions))
    assert path.read_bytes() == expected.encode()


def test_too_few_predictions_are_not_written(tmp_path):
    path = tmp_path / "out.csv"
    path.write_text("before")
    with pytest.raises(ValueError, match="shorter"):
        evaluation.write_predictions(path, SST, ["a1", "b2"], np.array([1]))
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("task", "split", "values", "name", "expected"),
    [
        (RTE, "test", [1, 0], "RTE.tsv", "index\tprediction\n0\tnot_entailment\n7\tentailment\n"),
        (QQP, "test", [1, 0], "QQP.tsv", "index\tprediction\n0\t1\n7\t0\n"),
        (MNLI, "test", [1, 2], "MNLI-m.tsv", "index\tprediction\n0\tcontradiction\n7\tneutral\n"),
        (MNLI, "test_mismatched", [0, 0], "MNLI-mm.tsv", "index\tprediction\n0\tentailment\n7\tentailment\n"),
        (SST2, "test", [0, 1], "SST-2.tsv", "index\tprediction\n0\t0\n7\t1\n"),
    ],
    ids=["rte", "qqp", "mnli", "mnli-mm", "sst2"],
)
def test_submissions_byte_for_byte(tmp_path, task, split, values, name, expected):
    path = evaluation.write_submission(tmp_path / "new", task, ["0", "7"], np.array(values), split)
    assert path == tmp_path / "new" / name
    assert path.read_bytes() == expected.encode()


def test_a_submission_spells_labels_by_name(tmp_path):
    """With the labels the other way round the file still says 1 for a duplicate."""
    turned = replace(QQP, labels=QQP.labels[::-1])
    path = evaluation.write_submission(tmp_path, turned, ["0", "1"], np.array([0, 1]), "test")
    assert path.read_text() == "index\tprediction\n0\t1\n1\t0\n"
    with pytest.raises(ValueError, match="longer"):
        evaluation.write_submission(tmp_path, QQP, ["0"], np.array([0, 1]), "test")


def test_names_of_prediction_files(tmp_path):
    def names(task, split, option="finetune", alone=False):
        return [path.name for path in evaluation.prediction_files(tmp_path, task, split, option, alone)]

    assert names(SST, "dev") == ["sst-dev-output.csv"]
    assert names(QUORA, "test") == ["para-test-output.csv"]
    assert names(STS, "dev", alone=True) == ["sts-dev-output.csv"]
    assert names(SST, "test", "pretrain", alone=True) == ["sst-test-output.csv", "pretrain-sst-test-out.csv"]
    assert names(CFIMDB, "dev", alone=True) == ["cfimdb-dev-output.csv", "finetune-cfimdb-dev-out.csv"]
