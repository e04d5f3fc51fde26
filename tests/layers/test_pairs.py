"""The joins of a pair against numpy and torch's own functions, their gradients by differences, and their edges."""

import numpy as np
import pytest
import says_why
import torch
import torch.nn.functional as F

from minbert.layers.pairs import JOINS, join, width

B, H = 5, 6
WIDTHS = {"concat": 12, "absdiff": 6, "cosine": 1, "dot_attention": 12}


@pytest.fixture
def uv():
    torch.manual_seed(3)
    return torch.randn(2, B, H, dtype=torch.float64).unbind(0)


def by_hand(name, u, v):
    """One example: u, v [H] -> [J], with loops where the code has matrix products."""
    if name == "concat":
        return np.concatenate([u, v])
    if name == "absdiff":
        return np.abs(u - v)
    if name == "cosine":
        return np.array([u @ v / np.sqrt((u @ u) * (v @ v))])
    attended = []
    for query in (u, v):
        weights = np.exp([query @ key / np.sqrt(H) for key in (u, v)])
        attended.append((weights[0] * u + weights[1] * v) / weights.sum())
    return np.concatenate(attended)


@says_why.each_part_of("minbert/layers/pairs.py")
def test_known_mistakes(part):
    says_why.assert_right(*part)


def test_there_are_four():
    assert set(JOINS) == set(WIDTHS)


@pytest.mark.parametrize("name", WIDTHS)
def test_values_by_hand(name, uv):
    u, v = uv
    joint = join(name, u, v)
    assert joint.shape == (B, WIDTHS[name]) == (B, width(name, H))
    expected = np.stack([by_hand(name, u[i].numpy(), v[i].numpy()) for i in range(B)])
    np.testing.assert_allclose(joint.numpy(), expected, rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("name", WIDTHS)
def test_gradient_by_differences(name, uv):
    inputs = [x.clone().requires_grad_() for x in uv]
    assert torch.autograd.gradcheck(lambda u, v: join(name, u, v), inputs, eps=1e-6, atol=1e-8, rtol=1e-6)


def test_dot_attention_is_torchs(uv):
    x = torch.stack(uv, dim=1)
    torch.testing.assert_close(
        join("dot_attention", *uv).view(B, 2, H), F.scaled_dot_product_attention(x, x, x), rtol=1e-12, atol=1e-13
    )


def test_what_swapping_the_sentences_does(uv):
    u, v = uv
    for name in ("absdiff", "cosine"):
        torch.testing.assert_close(join(name, u, v), join(name, v, u), rtol=1e-15, atol=0)
    for name in ("concat", "dot_attention"):  # the halves change places
        first, second = join(name, u, v).chunk(2, dim=1)
        torch.testing.assert_close(join(name, v, u), torch.cat([second, first], dim=1), rtol=1e-14, atol=1e-15)


def test_cosine_knows_directions_only(uv):
    u, v = uv
    torch.testing.assert_close(join("cosine", u, 3 * u), torch.ones(B, 1, dtype=torch.float64))
    torch.testing.assert_close(join("cosine", u, -u), -torch.ones(B, 1, dtype=torch.float64))
    torch.testing.assert_close(join("cosine", 100 * u, 0.01 * v), join("cosine", u, v))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("zero", ["u", "v", "both"])
def test_cosine_is_finite_at_zero_vectors(zero, dtype, uv):
    u, v = (x.to(dtype) for x in uv)
    u = (torch.zeros_like(u) if zero in ("u", "both") else u).requires_grad_()
    v = (torch.zeros_like(v) if zero in ("v", "both") else v).requires_grad_()
    c = join("cosine", u, v)
    assert torch.equal(c, torch.zeros_like(c))
    c.sum().backward()
    assert u.grad.isfinite().all()
    assert v.grad.isfinite().all()


@pytest.mark.parametrize("name", WIDTHS)
def test_examples_do_not_mix(name, uv):
    """The joint vector of an example is the same alone and in a batch; a batch of none is a batch of none."""
    u, v = uv
    torch.testing.assert_close(join(name, u[2:3], v[2:3]), join(name, u, v)[2:3], rtol=1e-13, atol=1e-14)
    assert join(name, u[:0], v[:0]).shape == (0, WIDTHS[name])
