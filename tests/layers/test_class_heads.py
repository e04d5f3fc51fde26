"""Heads with classes by hand: probabilities, the classes of scores, and CORAL."""

import dataclasses
import math
from decimal import ROUND_FLOOR, Decimal
from itertools import pairwise

import numpy as np
import pytest
import torch
from head_cases import HEADS, WITH_CLASSES, B, H, embeddings_for, head_of, labels_of, sigmoid

from datasets import TASKS
from minbert.layers.heads import ClassesHead, make_head

# ---------------------------------------------------------------------------------------------- classes of a head


@pytest.mark.parametrize("name", HEADS)
def test_a_head_with_classes_has_their_probabilities(name):
    head, labels = head_of(name), labels_of(name)
    assert head.classes == (2 if name.startswith("binary") else WITH_CLASSES.get(name))
    if head.classes is None:
        assert not hasattr(head, "class_of")
        return
    logits = head(embeddings_for(head)).detach()
    p = head.probabilities(logits)
    assert p.shape == (B, head.classes)
    torch.testing.assert_close(p.sum(dim=1), torch.ones(B, dtype=p.dtype))
    torch.testing.assert_close(head.log_probabilities(logits).exp(), p)
    true_class = head.class_of(labels)
    assert true_class.dtype == torch.int64
    if name != "coral":  # whose loss is not the negative log-probability of one class
        nll = -head.log_probabilities(logits)[torch.arange(B), true_class]
        torch.testing.assert_close(nll, head.losses(logits, labels), rtol=1e-12, atol=1e-13)


def test_one_logit_is_the_softmax_over_0_and_itself():
    head = head_of("binary")
    z = torch.tensor([[-300.0], [-2.0], [-1e-6], [0.0], [1e-6], [2.0], [300.0]])
    two = torch.cat([torch.zeros_like(z), z], dim=1)
    torch.testing.assert_close(head.log_probabilities(z), two.log_softmax(dim=1))
    torch.testing.assert_close(head.probabilities(z), two.softmax(dim=1))
    assert head.predict(z).tolist() == [0, 0, 0, 0, 1, 1, 1]  # 1 iff sigmoid(z) > 0.5, and at 0.5 it is not
    assert head.predict(z).dtype == torch.int64


@pytest.mark.parametrize("name", WITH_CLASSES)
def test_large_logits_stay_finite(name):
    """No exp overflows and no log meets a 0: a confident wrong answer has a finite loss, log-probability, gradient."""
    head = head_of(name)
    x = (1000 * embeddings_for(head).detach()).float().requires_grad_()
    logits = head.float()(x)
    log_p = head.log_probabilities(logits)
    (head.loss(logits, labels_of(name)) + log_p.sum()).backward()
    assert log_p.isfinite().all()
    assert head.probabilities(logits).isfinite().all()
    assert x.grad.isfinite().all()


def test_a_confident_answer_costs_its_logit_or_nothing():
    far = torch.tensor([[100.0], [-100.0]])
    binary, softmax = head_of("binary"), head_of("softmax")
    assert binary.losses(far, torch.tensor([0, 1])).tolist() == pytest.approx([100, 100])
    assert binary.losses(far, torch.tensor([1, 0])).tolist() == pytest.approx([0, 0], abs=1e-30)
    assert softmax.loss(torch.tensor([[1000.0, 0, 0, 0, 0]]), torch.tensor([3])).item() == pytest.approx(1000)


# ------------------------------------------------------------------------------------------------ scores as classes


def exact_class(text, step):
    """floor(y / step + 1/2) of a score written as a decimal number, in decimal arithmetic."""
    return int((Decimal(text) / Decimal(step) + Decimal("0.5")).to_integral_value(ROUND_FLOOR))


@pytest.mark.parametrize(("name", "step"), [("classification", "0.2"), ("ordinal6", "1")])
def test_the_class_of_a_float32_score_is_that_of_its_decimal(name, step):
    """All of 0.00, 0.05 ... 5.00, of which 0.1, 0.3 ... 4.9 lie halfway between two of 26 classes; and thirds."""
    texts = [f"{Decimal(i) * Decimal('0.05'):.2f}" for i in range(101)]
    texts += ["0.067", "1.53333333333333", "2.556", "2.47", "0.499", "4.4999", "4.899"]
    labels = torch.from_numpy(np.array([float(text) for text in texts], dtype=np.float32))
    expected = [exact_class(text, step) for text in texts]
    assert head_of(name).class_of(labels).tolist() == expected
    assert head_of(name).class_of(labels.double()).tolist() == expected
    ties = torch.tensor([0.1, 0.5, 2.3, 2.5, 4.7])
    assert head_of(name).class_of(ties).tolist() == ([1, 3, 12, 13, 24] if step == "0.2" else [0, 1, 2, 3, 5])


def test_the_score_of_a_class():
    for name, steps in (("classification", 5), ("ordinal6", 1)):
        head = head_of(name)
        scores = head.predict(torch.eye(head.classes, dtype=torch.float64))
        assert scores.tolist() == [k / steps for k in range(head.classes)]
        assert head.class_of(scores).tolist() == list(range(head.classes))


def test_the_expectation_is_the_mean_score_and_stays_in_range():
    head = head_of("expectation")
    flat = torch.zeros(1, 26)
    assert head.predict(flat).item() == pytest.approx(2.5)
    two = torch.full((1, 26), -100.0)
    two[0, 3], two[0, 10] = math.log(1), math.log(3)  # 0.6 with probability 1/4, 2.0 with 3/4
    assert head.predict(two).item() == pytest.approx(0.25 * 0.6 + 0.75 * 2.0)
    torch.manual_seed(0)
    many = torch.randn(20000, 26) * torch.logspace(-2, 3, 20000)[:, None]
    many[::2, 25] += 30  # most of the weight at the end of the range
    scores = head.predict(many)
    assert scores.min() >= 0
    assert scores.max() <= 5


def test_scores_need_whole_steps():
    with pytest.raises(ValueError, match=r"0 to 5 are not a whole number of steps of 0\.3"):
        ClassesHead(H, (0.0, 5.0), 0.0, step=0.3)


@pytest.mark.parametrize("name", [name for name in HEADS if HEADS[name][0] == "sts"])
def test_scores_are_not_cast_to_integers(name):
    """Labels 2.4 and 2.6 are 2 as integers, and are told apart."""
    head = head_of(name)
    logits = head(embeddings_for(head)).detach()
    assert head.loss(logits, torch.full((B,), 2.4)) != head.loss(logits, torch.full((B,), 2.6))


def test_another_range_of_scores():
    """From -1 to 3: every head speaks in terms of the task's own range."""
    task = dataclasses.replace(TASKS["sts"], score_range=(-1.0, 3.0))
    z = torch.tensor([[-1.0], [0.0], [1.0]])

    def head(**choices):
        return make_head(task, H, 0.0, pairs="concat", **choices)

    assert head().predict(100 * z).tolist() == pytest.approx([-1.0, 1.0, 3.0])
    assert head(sts_head="cosine").predict(z).tolist() == pytest.approx([-5.0, -1.0, 3.0])
    for variant in ("shifted", "embedding"):
        assert head(sts_head="cosine", sts_cosine=variant).predict(z).tolist() == pytest.approx([-1.0, 1.0, 3.0])
    embedding = head(sts_head="cosine", sts_cosine="embedding")
    assert embedding.losses(torch.full((2, 1), 0.25), torch.tensor([1.0, 0.9])).tolist() == pytest.approx([0.75, 0.25])
    classes = head(sts_head="classification")
    assert classes.classes == 21
    assert classes.class_of(torch.tensor([-1.0, -0.9, 0.3, 3.0])).tolist() == [0, 1, 7, 20]
    assert classes.predict(torch.eye(21)).tolist() == pytest.approx([-1 + k / 5 for k in range(21)])


# ------------------------------------------------------------------------------------------------------------ CORAL


def test_coral_by_hand():
    """Logits 2, 1, -1, -3: P(y > k) falls, the rank is 2, and the classes' probabilities are the differences."""
    head = head_of("coral")
    z = torch.tensor([[2.0, 1.0, -1.0, -3.0]], dtype=torch.float64)
    a, b, c, d = sigmoid(z[0].numpy())
    assert head.predict(z).tolist() == [2]
    np.testing.assert_allclose(head.probabilities(z)[0], [1 - a, a - b, b - c, c - d, d], rtol=1e-13)
    loss = -math.log(a) - math.log(b) - math.log(c) - math.log(1 - d)
    assert head.losses(z, torch.tensor([3])).item() == pytest.approx(loss, rel=1e-13)


def test_coral_shares_one_weight_vector():
    head = head_of("coral")
    shapes = {name: tuple(p.shape) for name, p in head.named_parameters()}
    assert shapes == {"linear.weight": (1, H), "linear.bias": (4,)}
    logits = head(embeddings_for(head))
    gaps = logits - logits[:, :1]
    torch.testing.assert_close(gaps, gaps[:1].expand(B, -1))  # the logits of all examples differ by the biases alone
    start = head.probabilities(head(torch.zeros(1, 1, H, dtype=torch.float64)))  # undecided
    torch.testing.assert_close(start, torch.full((1, 5), 0.2, dtype=torch.float64), rtol=1e-6, atol=0)


def test_coral_with_biases_out_of_order():
    """A negative difference counts as 0 and the others are divided by their sum."""
    head = head_of("coral")
    z = torch.tensor([[1.0, 2.0, -1.0, -1.0]], dtype=torch.float64)
    above = np.concatenate([[1], sigmoid(z[0].numpy()), [0]])
    expected = np.maximum(above[:-1] - above[1:], 0)
    assert expected[1] == expected[3] == 0 and expected.sum() > 1.1  # noqa: PT018
    np.testing.assert_allclose(head.probabilities(z)[0], expected / expected.sum(), rtol=1e-12, atol=1e-15)
    assert head.log_probabilities(z).isfinite().all()


def test_coral_keeps_its_digits_in_the_tails():
    """In float32, sigmoid(20) - sigmoid(19) is 0; the logarithm of the difference is -19.5 all the same."""
    head = head_of("coral").float()
    z = torch.tensor([[20.0, 19.0, 18.0, 17.0], [-17.0, -18.0, -19.0, -20.0]])
    above = np.pad(sigmoid(z.double().numpy()), ((0, 0), (1, 1)), constant_values=(1, 0))
    np.testing.assert_allclose(head.log_probabilities(z), np.log(above[:, :-1] - above[:, 1:]), rtol=1e-6, atol=1e-7)


def test_coral_learns_ordered_classes():
    """At the loss's minimum the biases are in order (theorem 1 of the paper), from wherever they start."""
    head = head_of("coral")
    x = torch.linspace(-2, 2, 200, dtype=torch.float64)
    y = ((x + 2) * 1.2499).long() % 5
    x = x[:, None, None] * torch.ones(1, 1, H, dtype=torch.float64)
    with torch.no_grad():
        head.linear.bias.copy_(torch.tensor([-1.0, 1.0, -2.0, 2.0]))
    optimizer = torch.optim.LBFGS(head.parameters(), max_iter=30, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        loss = head.loss(head(x), y)
        loss.backward()
        return loss

    optimizer.step(closure)
    assert all(a > b for a, b in pairwise(head.linear.bias.tolist()))
    assert (head.predict(head(x)) == y).double().mean() > 0.95
