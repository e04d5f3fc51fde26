"""The task heads by hand: losses, gradients, predictions, where dropout acts, and which task gets which head."""

import dataclasses
import math

import numpy as np
import pytest
import says_why
import torch
import torch.nn.functional as F
from head_cases import COSINES, HEADS, B, H, embeddings_for, head_of, labels_of, sigmoid
from torch import nn

from datasets import TASKS
from minbert.layers.heads import (
    BinaryHead,
    ClassesHead,
    CoralHead,
    CosineHead,
    LinearHead,
    RegressionHead,
    SoftmaxHead,
    make_head,
)

OUTPUTS = {"imdb": 2, "sst": 5, "cfimdb": 2, "quora": 1, "sts": 1, "rte": 2, "qqp": 2, "mnli": 3, "sst2": 2}


def by_hand(name, logits, labels):
    """Losses [B] and predictions [B] in numpy, from the equations; logits [B, outputs], labels [B]."""
    kind = name if name.startswith("cosine") else name.split()[0]
    z, y = logits.detach().numpy(), labels.double().numpy()
    rows = np.arange(len(y))
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    if kind == "softmax":
        return -np.log(p[rows, labels]), z.argmax(axis=1)
    if kind in ("classification", "expectation", "ordinal6"):
        steps = 1 if kind == "ordinal6" else 5
        place = np.floor(steps * y + 0.5 + 1e-6).astype(int)
        scores = np.arange(z.shape[1]) / steps
        return -np.log(p[rows, place]), p @ scores if kind == "expectation" else scores[z.argmax(axis=1)]
    if kind == "coral":
        s, above = sigmoid(z), y[:, None] > np.arange(4)
        return -np.where(above, np.log(s), np.log(1 - s)).sum(axis=1), (s > 0.5).sum(axis=1)
    z = z[:, 0]
    if kind == "binary":
        return -(y * np.log(sigmoid(z)) + (1 - y) * np.log(1 - sigmoid(z))), (sigmoid(z) > 0.5).astype(int)
    if kind == "cosine embedding":
        return np.where(y >= 2.5, 1 - z, np.maximum(z, 0)), 5 * (z + 1) / 2
    score = {"regression": 5 * sigmoid(z), "linear": z, "cosine scaled": 5 * z, "cosine shifted": 5 * (z + 1) / 2}[kind]
    return (score - y) ** 2, score


@says_why.each_part_of("minbert/layers/heads.py")
def test_known_mistakes(part):
    says_why.assert_right(*part)


@pytest.mark.parametrize("name", HEADS)
def test_losses_and_predictions_by_hand(name):
    head, labels = head_of(name), labels_of(name)
    logits = head(embeddings_for(head))
    losses, predictions = by_hand(name, logits, labels)
    assert head.losses(logits, labels).shape == head.predict(logits).shape == (B,)
    np.testing.assert_allclose(head.losses(logits, labels).detach(), losses, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(head.predict(logits).detach(), predictions, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(head.loss(logits, labels).item(), losses.mean(), rtol=1e-12)
    assert head.loss(logits, labels).shape == ()


@pytest.mark.parametrize("name", HEADS)
def test_gradient_by_differences(name):
    head, labels = head_of(name), labels_of(name)
    x = embeddings_for(head)
    assert torch.autograd.gradcheck(lambda x: head.loss(head(x), labels), x, eps=1e-6, atol=1e-7, rtol=1e-6)


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("size", [1, 3])
def test_the_loss_is_the_mean_over_the_examples_there_are(name, size):
    """A short last batch counts what it has, whatever the nominal batch size is."""
    head, labels = head_of(name), labels_of(name)
    logits = head(embeddings_for(head))
    single = [head.loss(logits[i : i + 1], labels[i : i + 1]) for i in range(size)]
    torch.testing.assert_close(head.loss(logits[:size], labels[:size]), torch.stack(single).mean(), rtol=1e-12, atol=0)


TORCHS = {  # embeddings [B, P, H], logits [B, outputs], labels [B] -> loss
    "softmax": lambda x, z, y: F.cross_entropy(z, y),
    "binary": lambda x, z, y: F.binary_cross_entropy(z[:, 0].sigmoid(), y.double()),
    "regression": lambda x, z, y: F.mse_loss(5 * z[:, 0].sigmoid(), y.double()),
    "cosine embedding": lambda x, z, y: F.cosine_embedding_loss(x[:, 0], x[:, 1], torch.where(y >= 2.5, 1, -1)),
}


@pytest.mark.parametrize("name", TORCHS)
def test_the_losses_are_torchs(name):
    head, labels = head_of(name), labels_of(name)
    x = embeddings_for(head)
    torch.testing.assert_close(head.loss(head(x), labels), TORCHS[name](x, head(x), labels), rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", ["softmax", "binary", "regression", "regression absdiff", "coral"])
def test_logits_are_one_linear_layer(name):
    head = head_of(name)
    x = embeddings_for(head)
    joint = (x[:, 0] - x[:, 1]).abs() if name.endswith("absdiff") else x[:, 0]
    expected = joint @ head.linear.weight.T + head.linear.bias
    torch.testing.assert_close(head(x), expected, rtol=1e-13, atol=1e-14)


# ---------------------------------------------------------------------------------------------------------- dropout


def test_dropout_acts_in_training_only():
    head = head_of("softmax", dropout=0.5)
    x = torch.ones(2000, 1, H, dtype=torch.float64)
    quiet = head.eval()(x)
    assert torch.equal(quiet, F.linear(x[:, 0], head.linear.weight, head.linear.bias))
    torch.manual_seed(0)
    noisy = head.train()(x)
    assert len(noisy.unique(dim=0)) > 2**H / 2  # of the 2^H ways to drop some of H inputs
    # the mean over many draws is the output without dropout: kept inputs are scaled by 1 / (1 - p)
    error = 5 * head.linear.weight.norm().item() / math.sqrt(2000)
    torch.testing.assert_close(noisy.mean(dim=0), quiet[0], rtol=0, atol=error)


def test_dropout_acts_on_u_and_v_separately_and_before_the_join():
    head = head_of("binary concat", dropout=0.25).train()
    ones = torch.ones(4000, 2, H, dtype=torch.float64)
    torch.manual_seed(0)
    u, v = head.joint(ones).chunk(2, dim=1)
    assert u.unique().tolist() == v.unique().tolist() == pytest.approx([0, 4 / 3])
    both = ((u == 0) & (v == 0)).double().mean().item()  # 1/16 where independent, 1/4 were the two masks the same
    assert both == pytest.approx(1 / 16, abs=5 * math.sqrt(1 / 16 / u.numel()))
    # |u - v| of equal embeddings is 0 unless one of the two was dropped: the noise comes before the join
    assert head_of("binary absdiff", dropout=0.25).train().joint(ones).unique().tolist() == pytest.approx([0, 4 / 3])


@pytest.mark.parametrize("name", ["binary cosine", "regression cosine", *(f"cosine {variant}" for variant in COSINES)])
def test_no_dropout_inside_the_cosine(name):
    head = head_of(name, dropout=0.9).train()
    x = embeddings_for(head, examples=100)
    assert torch.equal(head(x), head(x))
    assert torch.equal(head(x), head.eval()(x))
    torch.testing.assert_close(head.joint(x)[:, 0], F.cosine_similarity(x[:, 0], x[:, 1]))


# -------------------------------------------------------------------------------------------------- choosing a head


def test_which_task_gets_which_head():
    kinds = {name: type(make_head(task, H, 0.1)) for name, task in TASKS.items()}
    assert kinds.pop("quora") is BinaryHead
    assert kinds.pop("sts") is RegressionHead
    assert set(kinds.values()) == {SoftmaxHead}
    assert {name: make_head(task, H, 0.1).linear.out_features for name, task in TASKS.items()} == OUTPUTS
    everything = {"sts_head": "ordinal6", "sts_cosine": "shifted", "sts_predict": "expectation", "sst_head": "coral"}
    kinds = {name: type(make_head(task, H, 0.1, **everything)) for name, task in TASKS.items()}
    assert [kinds.pop(name) for name in ("sst", "quora", "sts")] == [CoralHead, BinaryHead, ClassesHead]
    assert set(kinds.values()) == {SoftmaxHead}  # of all other tasks, as before
    kinds = {name: type(head_of(name)) for name in HEADS}
    assert kinds["linear"] is LinearHead
    assert {kinds[f"cosine {variant}"] for variant in COSINES} == {CosineHead}


@pytest.mark.parametrize("name", TASKS)
def test_the_defaults_draw_one_linear_layer(name):
    """The initial weights of a seed are those of a plain nn.Linear, and nothing else is drawn."""
    torch.manual_seed(5)
    head = make_head(TASKS[name], H, 0.3)
    after = torch.rand(1)
    torch.manual_seed(5)
    plain = nn.Linear(H, OUTPUTS[name])
    assert torch.equal(after, torch.rand(1))
    assert list(head.state_dict()) == ["linear.weight", "linear.bias"]
    assert torch.equal(head.linear.weight, plain.weight)
    assert torch.equal(head.linear.bias, plain.bias)


def test_pairs_is_for_tasks_of_two_texts():
    for name, task in TASKS.items():
        head = make_head(task, H, 0.1, pairs="concat")
        assert head.join == ("concat" if task.is_pair else None)
        assert head.linear.in_features == (2 * H if task.is_pair else H), name


@pytest.mark.parametrize("choice", ["pairs", "sts_head", "sts_cosine", "sts_predict", "sst_head"])
def test_unknown_names_are_refused(choice):
    for task in TASKS.values():
        with pytest.raises(ValueError, match=f"{choice} 'nonsense': expected one of "):
            make_head(task, H, 0.1, **{choice: "nonsense"})


def test_a_cosine_needs_two_embeddings():
    with pytest.raises(ValueError, match="sts: sts_head 'cosine' needs a pair encoded separately"):
        make_head(TASKS["sts"], H, 0.1, sts_head="cosine")
    single = dataclasses.replace(TASKS["sts"], text=("sentence",))
    with pytest.raises(ValueError, match="needs a pair"):
        make_head(single, H, 0.1, sts_head="cosine", pairs="concat")
    assert list(make_head(TASKS["sts"], H, 0.1, sts_head="cosine", pairs="concat").parameters()) == []


@pytest.mark.parametrize(("name", "sequences"), [("softmax", 2), ("binary concat", 1), ("cosine scaled", 1)])
def test_the_wrong_number_of_embeddings_is_refused(name, sequences):
    with pytest.raises(ValueError, match="unpack"):
        head_of(name)(torch.zeros(B, sequences, H, dtype=torch.float64))


def test_every_choice_changes_the_loss_or_the_prediction():
    for task in ("sst", "quora", "sts"):
        outcomes = {}
        for name in (name for name in HEADS if HEADS[name][0] == task):
            head = head_of(name)
            logits = head(embeddings_for(head)).detach()
            outcome = [*head.losses(logits, labels_of(name)).tolist(), *head.predict(logits).double().tolist()]
            outcomes[name] = tuple(round(number, 6) for number in outcome)
        assert len(set(outcomes.values())) == len(outcomes), task
