"""regularizers.py: divergences against torch's kl_div, SMART against a slow version of its own, R-Drop on a model."""

import math

import numpy as np
import pytest
import says_why
import torch
import torch.nn.functional as F

from base_bert import BertConfig
from bert import BertModel
from datasets import TASKS
from minbert.layers.heads import make_head
from minbert.layers.packing import PackedTokens, Packing
from minbert.methods.regularizers import divergence, r_drop, smoothness

H = 16
ROWS = {"sst": slice(0, 3), "quora": slice(3, 5), "sts": slice(5, 7)}  # of the batch of seven


class Model:
    """A tiny BERT in float64 with the heads of three tasks, and a packed batch: 3 sst rows, 2 quora, 2 sts."""

    def __init__(self, dropout=0.0, dtype=torch.float64):
        torch.manual_seed(0)
        config = BertConfig(
            vocab_size=30,
            hidden_size=H,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=32,
            max_position_embeddings=12,
            initializer_range=0.2,
            hidden_dropout_prob=dropout,
            attention_probs_dropout_prob=dropout,
        )
        self.bert = BertModel(config).to(dtype)
        self.heads = {name: make_head(TASKS[name], H, dropout).to(dtype) for name in ROWS}
        lengths = np.array([5, 3, 7, 4, 8, 3, 6])
        packing = Packing(lengths)
        positions = np.concatenate([np.arange(lengths[row]) for row in packing.order])
        ids = torch.randint(1, 30, (int(lengths.sum()),))
        self.tokens = PackedTokens(ids, torch.from_numpy(positions), torch.zeros_like(ids), packing)
        self.labels = {"sst": torch.tensor([0, 4, 2]), "quora": torch.tensor([1, 0]), "sts": torch.tensor([0.5, 4.0])}
        self.labels["sts"] = self.labels["sts"].to(dtype)

    def embed(self):
        return self.bert.embed(self.tokens.ids, self.tokens.positions, self.tokens.types)

    def classify(self, embedded):
        pooled = self.bert.pool(self.bert.encode(embedded, self.tokens.packing)[self.tokens.packing.first])
        return {name: self.heads[name](pooled[rows].unsqueeze(1)) for name, rows in ROWS.items()}

    def supervised(self, logits):
        return sum(self.heads[name].loss(logits[name], self.labels[name]) for name in logits)

    def parameters(self):
        named = {f"bert.{name}": p for name, p in self.bert.named_parameters()}
        for task, head in self.heads.items():
            named |= {f"{task}.{name}": p for name, p in head.named_parameters()}
        return named

    def gradients(self, loss):
        parameters = self.parameters()
        gradients = torch.autograd.grad(loss, parameters.values(), materialize_grads=True)
        return dict(zip(parameters, gradients, strict=True))

    def smoothness(self, **numbers):
        embedded = self.embed()
        logits = self.classify(embedded)
        return smoothness(self.classify, embedded, logits, self.heads, **numbers), logits


# ------------------------------------------------------------------------------------------------------- divergence


@says_why.each_part_of("minbert/methods/regularizers.py")
def test_known_mistakes(part):
    says_why.assert_right(*part)


@pytest.mark.parametrize("choice", [{}, {"sst_head": "coral"}])
def test_divergence_is_kl_both_ways(choice):
    head = make_head(TASKS["sst"], H, 0.0, **choice)
    torch.manual_seed(0)
    a, b = torch.randn(2, 9, head(torch.randn(9, 1, H)).shape[1], dtype=torch.float64).sort(descending=True)[0] * 3
    p, q = head.probabilities(a), head.probabilities(b)
    both = F.kl_div(p.log(), q, reduction="batchmean") + F.kl_div(q.log(), p, reduction="batchmean")
    torch.testing.assert_close(divergence(head, a, b), both, rtol=1e-12, atol=0)
    torch.testing.assert_close(divergence(head, b, a), both, rtol=1e-12, atol=0)


def test_one_logit_is_two_classes():
    """p = 0.5 and q = 0.8: (0.5 - 0.8) (log 0.5 - log 0.8) + (0.5 - 0.2) (log 0.5 - log 0.2) = 0.3 log 4."""
    head = make_head(TASKS["quora"], H, 0.0)
    z = torch.tensor([[0.0], [math.log(4)]], dtype=torch.float64)
    assert divergence(head, z[:1], z[1:]).item() == pytest.approx(0.3 * math.log(4), rel=1e-12)
    two = torch.distributions.Bernoulli(logits=z[:1]), torch.distributions.Bernoulli(logits=z[1:])
    both = torch.distributions.kl_divergence(*two) + torch.distributions.kl_divergence(*two[::-1])
    torch.testing.assert_close(divergence(head, z[:1], z[1:]), both.mean(), rtol=1e-12, atol=0)


def test_regression_is_the_squared_difference_of_scores():
    head = make_head(TASKS["sts"], H, 0.0)
    a, b = torch.tensor([[0.0], [1.0]]), torch.tensor([[math.log(4)], [1.0]])  # 2.5 and 4.0, and twice the same
    assert divergence(head, a, b).item() == pytest.approx(1.5**2 / 2, rel=1e-6)


@pytest.mark.parametrize("name", ["sst", "quora", "sts"])
def test_divergence_is_zero_for_equals_and_reaches_both_sides(name):
    head = make_head(TASKS[name], H, 0.0)
    a, b = (torch.randn(4, head.linear.out_features, dtype=torch.float64, requires_grad=True) for _ in range(2))
    assert divergence(head, a, a.clone()).item() == 0.0
    divergence(head, a, b).backward()
    assert a.grad.abs().sum() > 0
    assert b.grad.abs().sum() > 0
    assert torch.autograd.gradcheck(lambda a, b: divergence(head, a, b), (a, b))


def test_divergence_of_neighbours_survives_float32():
    """Two KL terms of 1e-4 each would have to cancel to 1e-8: rounding would leave half of the digits, or a minus."""
    head = make_head(TASKS["sst"], H, 0.0)
    a = torch.randn(50, 5, generator=torch.Generator().manual_seed(0))
    b = a + 1e-4 * torch.randn(50, 5, generator=torch.Generator().manual_seed(1))
    exact = divergence(head, a.double(), b.double()).item()
    assert divergence(head, a, b).item() == pytest.approx(exact, rel=1e-2)
    assert all(divergence(head, a[i : i + 1], b[i : i + 1]) >= 0 for i in range(50))


# ----------------------------------------------------------------------------------------------------------- R-Drop


def test_r_drop_halves():
    """Wu et al. 2021, equation 2, example by example; rows i and B + i belong together."""
    head = make_head(TASKS["sst"], H, 0.0)
    logits = torch.randn(8, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    terms = []
    for i in range(4):
        p, q = logits[i].softmax(0), logits[4 + i].softmax(0)
        terms.append(((p * (p / q).log()).sum() + (q * (q / p).log()).sum()) / 2)
    assert r_drop(head, logits).item() == pytest.approx(sum(terms).item() / 4, rel=1e-12)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_r_drop_needs_dropout(dropout):
    model = Model(dropout)
    twice = [model.classify(model.embed()) for _ in range(2)]
    terms = {name: r_drop(head, torch.cat([once[name] for once in twice])) for name, head in model.heads.items()}
    if dropout == 0:
        assert [term.item() for term in terms.values()] == [0.0] * 3
    else:
        assert all(term.item() > 1e-4 for term in terms.values())
        gradients = model.gradients(sum(terms.values()))
        assert gradients["bert.word_embedding.weight"].any()
        assert all(gradients[f"{name}.linear.weight"].any() for name in terms)


# ------------------------------------------------------------------------------------------------------------ SMART


def slow_smoothness(model, noise, step_size, radius):
    """Jiang et al. 2020, Algorithm 1's inner loop, on its own: KL by torch, tokens one by one, an ordinary backward."""

    def apart(task, a, b):
        if task == "sts":
            return ((5 * a.sigmoid() - 5 * b.sigmoid()) ** 2).sum() / len(a)
        if task == "quora":
            a, b = (torch.cat([torch.zeros_like(z), z], dim=1) for z in (a, b))
        log_p, log_q = F.log_softmax(a, dim=1), F.log_softmax(b, dim=1)
        return sum(F.kl_div(x, y, reduction="batchmean", log_target=True) for x, y in ((log_p, log_q), (log_q, log_p)))

    embedded = model.embed()
    clean = model.classify(embedded)
    moved = (noise * torch.randn(embedded.shape, dtype=torch.float64) + embedded).detach().requires_grad_()
    noisy = model.classify(moved)
    sum(apart(task, noisy[task], clean[task].detach()) for task in clean).backward()
    for p in model.parameters().values():
        p.grad = None
    deltas = []
    for x, x_moved, g in zip(embedded.detach(), moved.detach(), moved.grad, strict=True):
        step = x_moved + step_size * g / max(abs(number) for number in g.tolist())
        deltas.append(torch.minimum(torch.maximum(step, x - radius), x + radius) - x)
    perturbed = model.classify(embedded + torch.stack(deltas))
    return {task: apart(task, perturbed[task], clean[task]) for task in clean}


@pytest.mark.parametrize("numbers", [(0.01, 0.02, 1.0), (0.01, 0.1, 0.03), (1e-2, 0.0, 1.0)])
def test_smoothness_against_a_slow_version(numbers):
    """A radius that never binds, one that often does, and noise alone."""
    model = Model()
    torch.manual_seed(3)
    expected = slow_smoothness(model, *numbers)
    torch.manual_seed(3)
    ours, _ = model.smoothness(noise=numbers[0], step_size=numbers[1], radius=numbers[2])
    assert ours.keys() == expected.keys()
    for task in ours:
        assert ours[task].item() > 1e-8
        torch.testing.assert_close(ours[task], expected[task], rtol=1e-8, atol=1e-16)
    theirs = model.gradients(sum(expected.values()))
    for name, gradient in model.gradients(sum(ours.values())).items():
        torch.testing.assert_close(gradient, theirs[name], rtol=1e-6, atol=1e-12, msg=name)


def test_gradient_reaches_everything():
    model = Model()
    terms, _ = model.smoothness(noise=0.01, step_size=0.1, radius=0.1)
    alone = model.gradients(sum(terms.values()))
    # No output depends on the keys' biases: a softmax ignores what all keys share.
    still = {name for name, gradient in alone.items() if gradient.abs().max() < 1e-12}
    assert still == {name for name in alone if name.endswith("key.bias")}


def test_smoothness_changes_the_update():
    model = Model()
    terms, logits = model.smoothness(noise=0.01, step_size=0.1, radius=0.1)
    loss, word = model.supervised(logits), model.bert.word_embedding.weight
    (both,) = torch.autograd.grad(loss + sum(terms.values()), word, retain_graph=True)
    (plain,) = torch.autograd.grad(loss, word)
    assert (both - plain).abs().max() > 1e-3 * plain.abs().max()  # rounding is 1e-16


def test_no_change_is_exactly_zero_and_the_default_is_not():
    for dtype in (torch.float32, torch.float64):
        model = Model(dtype=dtype)
        terms, _ = model.smoothness(noise=0.0, step_size=0.0)
        assert [term.item() for term in terms.values()] == [0.0] * 3
        terms, _ = model.smoothness(radius=0.0)
        assert [term.item() for term in terms.values()] == [0.0] * 3
        terms, _ = model.smoothness()
        assert all(0 < term.item() < 1e-3 for term in terms.values())


def test_a_gradient_of_zero_divides_nothing():
    """Without noise the clean point is the minimum: its gradient is 0 and stays so through any step."""
    terms, _ = Model().smoothness(noise=0.0)
    assert [term.item() for term in terms.values()] == [0.0] * 3


def test_the_step_climbs_and_stays_in_its_ball():
    model = Model()
    seen = []
    embedded = model.embed()

    def classify(x):
        seen.append((x - embedded).detach())
        return model.classify(x)

    def terms(**numbers):
        torch.manual_seed(0)
        result = smoothness(classify, embedded, model.classify(embedded), model.heads, **numbers)
        return sum(result.values()).item()

    assert terms(noise=1e-3, step_size=1e-3, radius=1.0) > 2 * terms(noise=1e-3, step_size=0.0, radius=1.0)
    terms(noise=1e-3, step_size=0.5, radius=0.02)
    assert seen[-1].abs().max() <= 0.02 * (1 + 1e-9)
    assert (seen[-1].abs() > 0.0199).double().mean() > 0.5
    terms()
    assert 0.9e-5 < seen[-1].abs().max() <= 1.0001e-5  # the paper's epsilon


def test_noise_step_leaves_no_gradient_behind():
    model = Model()
    model.smoothness()
    assert all(p.grad is None for p in model.parameters().values())


def test_under_autocast():
    """The change is float32 even where the embeddings are bfloat16, in which 1 + 1e-5 is 1."""
    model = Model(dtype=torch.float32)
    seen = []

    def classify(x):
        seen.append((x - embedded).detach())
        return model.classify(x)

    with torch.autocast("cpu", torch.bfloat16):
        embedded = model.embed().to(torch.bfloat16)
        logits = model.classify(embedded)
        smoothness(classify, embedded, logits, model.heads)
        terms = smoothness(model.classify, embedded, logits, model.heads, noise=0.05, step_size=0.1, radius=0.1)
    assert [change.dtype for change in seen] == [torch.float32] * 2
    assert all((change != 0).float().mean() > 0.9 for change in seen)
    assert all(term.dtype == torch.float32 and term.item() > 0 for term in terms.values())
    gradients = model.gradients(sum(terms.values()))
    assert all(gradient.isfinite().all() for gradient in gradients.values())
    assert gradients["bert.word_embedding.weight"].any()
