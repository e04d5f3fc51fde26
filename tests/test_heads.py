"""The task heads by hand: losses, gradients, predictions and probabilities written out in float64, and dropout."""

import dataclasses
import math

import pytest
import torch

from datasets import TASKS
from heads import BinaryHead, RegressionHead, SoftmaxHead, make_head

B, H = 7, 6
OUTPUTS = {"sst": 5, "cfimdb": 2, "quora": 1, "sts": 1}


def head_of(name, dropout=0.0):
    torch.manual_seed(1)
    return make_head(TASKS[name], H, dropout).double()


def labels_of(name):
    task = TASKS[name]
    if task.kind == "regression":
        return torch.tensor([0.0, 5.0, 2.5, 1.3, 4.9, 0.2, 3.0], dtype=torch.float64)
    return torch.arange(B) * 3 % len(task.labels)


@pytest.fixture
def joint():
    torch.manual_seed(2)
    return torch.randn(B, H, dtype=torch.float64, requires_grad=True)


def by_hand(name, z, labels):
    """The loss [] and its gradient with respect to the logits z [B, C], from the equations."""
    z = z.detach()
    if name in ("sst", "cfimdb"):
        p = z.exp() / z.exp().sum(dim=1, keepdim=True)
        y = torch.eye(z.shape[1], dtype=z.dtype)[labels]
        return -(y * p.log()).sum() / B, (p - y) / B
    s = 1 / (1 + (-z[:, 0]).exp())
    if name == "quora":
        y = labels.double()
        return -(y * s.log() + (1 - y) * (1 - s).log()).sum() / B, ((s - y) / B)[:, None]
    return ((5 * s - labels) ** 2).sum() / B, (2 * (5 * s - labels) * 5 * s * (1 - s) / B)[:, None]


@pytest.mark.parametrize("name", OUTPUTS)
def test_loss_and_gradient_by_hand(name, joint):
    head, labels = head_of(name), labels_of(name)
    logits = head(joint)
    assert logits.shape == (B, OUTPUTS[name])
    assert torch.equal(logits, joint @ head.linear.weight.T + head.linear.bias)
    loss = head.loss(logits, labels)
    assert loss.shape == ()
    loss.backward()
    expected, dz = by_hand(name, logits, labels)
    torch.testing.assert_close(loss.detach(), expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(head.linear.weight.grad, dz.T @ joint.detach(), rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(head.linear.bias.grad, dz.sum(dim=0), rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(joint.grad, dz @ head.linear.weight.detach(), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", OUTPUTS)
def test_gradient_by_differences(name, joint):
    head, labels = head_of(name), labels_of(name)
    assert torch.autograd.gradcheck(lambda x: head.loss(head(x), labels), joint, eps=1e-6, atol=1e-8, rtol=1e-6)


@pytest.mark.parametrize("name", OUTPUTS)
@pytest.mark.parametrize("size", [1, 3])
def test_the_loss_is_the_mean_over_the_examples_there_are(name, size, joint):
    """A short last batch counts what it has: the loss of `size` examples is the mean of their single losses."""
    head, labels = head_of(name), labels_of(name)
    logits = head(joint)
    single = [head.loss(logits[i : i + 1], labels[i : i + 1]) for i in range(size)]
    torch.testing.assert_close(head.loss(logits[:size], labels[:size]), torch.stack(single).mean(), rtol=1e-12, atol=0)


def test_predictions_and_probabilities():
    softmax, binary, score = head_of("sst"), head_of("quora"), head_of("sts")
    logits = torch.tensor([[0.0, 1.0, 3.0, 2.0, -1.0], [4.0, 1.0, 3.0, 2.0, -1.0]])
    assert softmax.predict(logits).tolist() == [2, 0]
    torch.testing.assert_close(softmax.probabilities(logits).sum(dim=1), torch.ones(2))
    assert softmax.probabilities(logits).argmax(dim=1).tolist() == [2, 0]
    torch.testing.assert_close(softmax.probabilities(logits)[0, 2].item(), math.exp(3) / sum(map(math.exp, logits[0])))

    z = torch.tensor([[-2.0], [-1e-6], [0.0], [1e-6], [2.0]])
    assert binary.predict(z).tolist() == [0, 0, 0, 1, 1]  # 1 iff sigmoid(z) > 0.5, and at 0.5 it is not
    assert binary.predict(z).dtype == torch.int64
    p = binary.probabilities(z)
    torch.testing.assert_close(p.sum(dim=1), torch.ones(5))
    torch.testing.assert_close(p[:, 1], torch.sigmoid(z[:, 0]))

    torch.testing.assert_close(score.predict(z), 5 / (1 + torch.exp(-z[:, 0])))
    assert score.predict(torch.tensor([[-100.0], [0.0], [100.0]])).tolist() == pytest.approx([0.0, 2.5, 5.0])


def test_the_losses_are_those_of_large_logits_too():
    """No exp overflows: a confident wrong answer costs its logit, a confident right one nothing."""
    far = torch.tensor([[100.0], [-100.0]])
    quora, sst = head_of("quora"), head_of("sst")
    assert quora.loss(far, torch.tensor([0, 1])).item() == pytest.approx(100)
    assert quora.loss(far, torch.tensor([1, 0])).item() == pytest.approx(0, abs=1e-30)
    assert sst.loss(torch.tensor([[1000.0, 0, 0, 0, 0]]), torch.tensor([3])).item() == pytest.approx(1000)


def test_a_regression_task_may_have_another_range():
    task = dataclasses.replace(TASKS["sts"], score_range=(-1.0, 3.0))
    head = make_head(task, H, 0.0)
    assert head.predict(torch.tensor([[-100.0], [0.0], [100.0]])).tolist() == pytest.approx([-1.0, 1.0, 3.0])


def test_which_task_gets_which_head():
    kinds = {name: type(make_head(task, H, 0.1)) for name, task in TASKS.items()}
    assert kinds.pop("quora") is BinaryHead
    assert kinds.pop("sts") is RegressionHead
    assert set(kinds.values()) == {SoftmaxHead}
    outputs = {name: make_head(task, H, 0.1).linear.out_features for name, task in TASKS.items()}
    assert outputs == {"sst": 5, "cfimdb": 2, "quora": 1, "sts": 1, "rte": 2, "qqp": 2, "mnli": 3, "sst2": 2}


@pytest.mark.parametrize("name", OUTPUTS)
def test_dropout_acts_in_training_only_and_on_the_joint_vector(name):
    head = head_of(name, dropout=0.5)
    x = torch.ones(2000, H, dtype=torch.float64)
    head.eval()
    assert torch.equal(head(x), torch.nn.functional.linear(x, head.linear.weight, head.linear.bias))
    head.train()
    torch.manual_seed(0)
    noisy = head(x)
    assert len(noisy.unique(dim=0)) > 2**H / 2  # of the 2^H ways to drop some of H inputs
    # the mean over many draws is the output without dropout: kept inputs are scaled by 1 / (1 - p)
    error = 5 * head.linear.weight.norm().item() / math.sqrt(2000)
    torch.testing.assert_close(noisy.mean(dim=0), head.eval()(x)[0], rtol=0, atol=error)
