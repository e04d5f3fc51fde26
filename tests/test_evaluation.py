"""Predictions in order and without side effects, metrics against scikit-learn and NumPy, files byte for byte."""

import warnings

import numpy as np
import pytest
import sklearn.metrics
import tiny
import torch

import evaluation
from datasets import TASKS

SST, QUORA, STS, CFIMDB, RTE = (TASKS[name] for name in ("sst", "quora", "sts", "cfimdb", "rte"))


@pytest.fixture
def trainer(tmp_path, tiny_model, tiny_data):
    return tiny.make_trainer(tmp_path / "run", tiny_model, tiny_data, "--option", "finetune")


# ------------------------------------------------------------------------------------------------------ predict


@pytest.mark.parametrize("name", ["sst", "quora", "sts"])
@pytest.mark.parametrize("budget", [1, 40, 10**6])
def test_predictions_are_those_of_each_example_alone_whatever_the_token_budget(trainer, monkeypatch, name, budget):
    sequences, model = trainer.data[name]["train"].sequences, trainer.model.eval()
    assert len(set(sequences.lengths)) > 5  # so that sorting by length does change the order
    with torch.no_grad():
        alone = [model({name: sequences.take([row])})[name] for row in range(len(sequences))]
        expected = torch.cat([model.heads[name].predict(logits) for logits in alone]).numpy()
    monkeypatch.setattr(evaluation, "TOKEN_BUDGET", budget)
    predictions = evaluation.predict(model, name, sequences)
    np.testing.assert_allclose(predictions, expected, atol=1e-5)
    assert predictions.dtype == (np.float64 if name == "sts" else np.int64)


@pytest.mark.parametrize("budget", [1, 40, 10**6])
def test_a_batch_holds_at_most_the_token_budget(trainer, monkeypatch, budget):
    sizes = []
    monkeypatch.setattr(evaluation, "TOKEN_BUDGET", budget)
    join = trainer.model.join

    def watched(sequences):
        sizes.append([int(n) for n in sequences["sst"].lengths])
        return join(sequences)

    monkeypatch.setattr(trainer.model, "join", watched)
    sequences = trainer.data["sst"]["train"].sequences
    evaluation.predict(trainer.model, "sst", sequences)
    assert all(sum(lengths) <= budget or len(lengths) == 1 for lengths in sizes)
    assert sorted(length for lengths in sizes for length in lengths) == sorted(sequences.lengths)
    assert len(sizes) == {1: 20, 10**6: 1}.get(budget, len(sizes))


@pytest.mark.parametrize("training", [True, False])
def test_predict_runs_in_eval_mode_without_gradients_and_puts_the_mode_back(trainer, monkeypatch, training):
    model, modes = trainer.model.train(training), []
    join = model.join

    def watched(sequences):
        modes.append((model.training, model.bert.training, model.heads["sst"].training, torch.is_grad_enabled()))
        return join(sequences)

    monkeypatch.setattr(model, "join", watched)
    before = torch.get_rng_state()
    evaluation.predict(model, "sst", trainer.data["sst"]["dev"].sequences)
    assert modes == [(False, False, False, False)]
    assert all(module.training is training for module in model.modules())
    assert torch.is_grad_enabled()
    assert torch.equal(torch.get_rng_state(), before)  # scoring in mid-run changes nothing that follows


def test_predict_puts_the_mode_back_after_an_error(trainer, monkeypatch):
    monkeypatch.setattr(trainer.model, "join", lambda sequences: 1 / 0)
    trainer.model.train()
    with pytest.raises(ZeroDivisionError):
        evaluation.predict(trainer.model, "sst", trainer.data["sst"]["dev"].sequences)
    assert trainer.model.training


def test_predict_sees_the_weights_as_they_are_now(trainer):
    dev = trainer.data["sts"]["dev"].sequences
    before = evaluation.predict(trainer.model, "sts", dev)
    with torch.no_grad():
        trainer.model.heads["sts"].linear.bias.add_(1)
    assert (evaluation.predict(trainer.model, "sts", dev) > before).all()


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
        assert evaluation.task_scores(STS, labels, np.full(5, constant, np.float32)) == {"pearson": 0.0}


def test_an_almost_constant_prediction_has_a_correlation():
    labels = np.array([0.5, 1, 4, 3.3, 2], np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert evaluation.pearson(2.5 + 1e-5 * labels.astype(np.float64), labels) == pytest.approx(1)


def test_both_averages_by_hand():
    scores = {"sst": {"accuracy": 0.5}, "quora": {"accuracy": 0.8}, "sts": {"pearson": 0.6}}
    assert evaluation.averages(scores) == pytest.approx({"mean": 1.9 / 3, "score": 2.1 / 3})
    assert evaluation.averages({"sst": {"accuracy": 0.5}, "cfimdb": {"accuracy": 0.9}}) == {}


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


def test_names_of_prediction_files(tmp_path):
    def names(task, split, option="finetune", alone=False):
        return [path.name for path in evaluation.prediction_files(tmp_path, task, split, option, alone)]

    assert names(SST, "dev") == ["sst-dev-output.csv"]
    assert names(QUORA, "test") == ["para-test-output.csv"]
    assert names(STS, "dev", alone=True) == ["sts-dev-output.csv"]
    assert names(SST, "test", "pretrain", alone=True) == ["sst-test-output.csv", "pretrain-sst-test-out.csv"]
    assert names(CFIMDB, "dev", alone=True) == ["cfimdb-dev-output.csv", "finetune-cfimdb-dev-out.csv"]
