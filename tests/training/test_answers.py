"""What a saved model answers: one object a task, every head of the kind, texts in their order, bounds in memory."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from bert import BertModel
from datasets import TASKS
from minbert import evaluation
from minbert.files import UserError
from minbert.text.tokenization import Tokenizer
from minbert.training import answers
from multitask_classifier import MultitaskBERT

TEXTS = ["the film was good", "a dull slow plot and bad music", "a dog", "how why", "the cat will run fast"]
PAIRS = [("a dog", "a big old cat"), ("how", "why"), ("the film", "the small bad film")]


@pytest.fixture
def saved(tiny_model):
    """saved(names, choices...) -> SavedModel with a head for each of these tasks."""

    def make(*names, **choices):
        torch.manual_seed(2)
        model = MultitaskBERT(BertModel.from_pretrained(tiny_model), {name: TASKS[name] for name in names}, **choices)
        return answers.SavedModel(model, Tokenizer.from_folder(tiny_model), 64)

    return make


def test_classes_have_labels_and_probabilities_and_no_scores(saved):
    model = saved("sst", "cfimdb", "quora")
    said = model.predict(TEXTS)
    assert list(said) == ["sst", "cfimdb"]
    expected = evaluation.predict(model.model, "sst", model.tokenizer.encode([(text,) for text in TEXTS], 64))
    sst = said["sst"]
    assert len(sst) == len(TEXTS)
    assert sst.labels == [TASKS["sst"].labels[value] for value in expected.values]
    assert np.array_equal(sst.probabilities, expected.probabilities)
    assert sst.classes == TASKS["sst"].labels
    assert sst.scores is None
    row = sst.of(1)
    assert row["label"] == sst.labels[1]
    assert [np.float32(p) for p in row["probabilities"].values()] == sst.probabilities[1].tolist()
    assert [*row["probabilities"]] == [*TASKS["sst"].labels]


@pytest.mark.parametrize("choices", [{}, {"pairs": "concat"}], ids=str)
def test_a_score_has_neither_labels_nor_probabilities(saved, choices):
    model = saved("sst", "sts", **choices)
    said = model.predict([list(pair) for pair in PAIRS])
    sequences = model.tokenizer.encode(PAIRS, 64, fused=model.model.fused)
    expected = evaluation.predict(model.model, "sts", sequences).values
    sts = said["sts"]
    assert np.array_equal(sts.scores, expected)
    assert (sts.labels, sts.probabilities, sts.classes) == (None, None, ())
    assert sts.of(2) == {"score": float(str(np.float32(expected[2])))}


def test_a_score_told_in_classes_names_them(saved):
    sts = saved("sts", sts_head="ordinal6").predict(PAIRS)["sts"]
    assert sts.classes == (0, 1, 2, 3, 4, 5)
    assert [*sts.of(0)["probabilities"]] == ["0", "1", "2", "3", "4", "5"]
    assert sts.scores[0] == sts.probabilities[0].argmax()


def test_more_texts_than_are_held_at_a_time(saved, monkeypatch):
    model = saved("sst", "sts")
    whole, scores = model.predict(TEXTS)["sst"], model.predict(PAIRS)["sts"].scores
    monkeypatch.setattr(answers, "PORTION", 2)
    parts = model.predict(TEXTS)["sst"]
    assert parts.labels == whole.labels
    np.testing.assert_allclose(parts.probabilities, whole.probabilities, rtol=1e-5)
    np.testing.assert_allclose(model.predict(PAIRS)["sts"].scores, scores, rtol=1e-5)


def test_nothing_asked_is_nothing_answered(saved):
    assert saved("sst").predict([]) == {}


@pytest.mark.parametrize(
    ("texts", "says"),
    [
        ("A fine film.", "predict takes a list"),
        (["a dog", ("a", "b")], "texts[1] is a pair of sentences, texts[0] is not: ask for the two kinds apart"),
        (["a dog", float("nan")], "texts[1] is nan; expected a text, or a tuple of two texts"),
        ([("a", "b", "c")], "texts[0] is ('a', 'b', 'c'); expected"),
        ([("a", "b")], "a pair of sentences: this model's heads, sst, read none"),
    ],
)
def test_what_is_no_list_of_texts_is_refused(saved, texts, says):
    with pytest.raises(UserError) as refused:
        saved("sst").predict(texts)
    assert says in str(refused.value)


def test_names_of_two_kinds_of_heads(saved):
    model = saved("sst", "quora").model
    model.tasks["own"] = replace(TASKS["sst"], name="own")
    assert answers.heads_by_kind(model) == {1: ["sst", "own"], 2: ["quora"]}
