"""says_why.py: a bug planted in our code is told by its cause, and a difference by concept, shape and place."""

import pytest
import says_why
import torch

import optimizer
from bert import BertSelfAttention
from minbert.layers import packing

Failed = pytest.fail.Exception


def test_the_cause_comes_first_and_then_the_function(monkeypatch):
    def unscaled(self, q, k, v, is_pad):
        return plain(self, q * q.shape[-1] ** 0.5, k, v, is_pad)

    plain = BertSelfAttention.plain_attention
    monkeypatch.setattr(BertSelfAttention, "plain_attention", unscaled)
    with pytest.raises(Failed) as failed:
        says_why.assert_right("a1", "attention")
    first, second, *_ = str(failed.value).splitlines()
    assert first.startswith(
        "it looks as if the scores are not divided by sqrt(D). the mixture[1, 1, 3, 4] differs most"
    )
    assert second == "That is BertSelfAttention.plain_attention in bert.py."


def test_an_optimizer_that_decays_first(monkeypatch):
    def decay_first(parameter, gradient, m, v, step_size, decay, beta1, beta2, eps):
        parameter.mul_(1 - decay)
        update(parameter, gradient, m, v, step_size, 0.0, beta1, beta2, eps)

    update = optimizer.update_
    monkeypatch.setattr(optimizer, "update_", decay_first)
    for part in ("update", "step"):
        with pytest.raises(Failed, match=r"^it looks as if the decay saw the old p"):
            says_why.assert_right("a4", part)


def test_all_is_afterwards_as_it_was():
    before = dict(packing.BLOCK_SCORES)
    says_why.assert_right("a2", "self_attention")
    assert torch.get_default_dtype() == torch.float32
    assert before == packing.BLOCK_SCORES


def test_same():
    expected = torch.tensor([[1.0, 2.0], [3.0, 5.0]], dtype=torch.float64)
    says_why.same("the sum", expected + 9e-7, expected, 1e-6)
    with pytest.raises(
        Failed, match=r"^the sum: only row 1 of axis 0 differs. the sum\[2, 2\] differs most at \[1, 0\]: 3.5,"
    ):
        says_why.same(
            "the sum", expected + torch.tensor([[0, 0], [0.5, 0]]), expected, 1e-6, [("it is doubled", 2 * expected)]
        )
    with pytest.raises(Failed, match=r"^it looks as if it is doubled. the sum\[2, 2\] differs most"):
        says_why.same("the sum", 2 * expected, expected, 1e-6, [("it is doubled", 2 * expected)])
    with pytest.raises(Failed, match="transposed"):
        says_why.same("the sum", expected.T, expected, 1e-6)
    with pytest.raises(Failed, match=r"has the shape \[2\]; expected \[2, 2\]"):
        says_why.same("the sum", expected[0], expected, 1e-6)
