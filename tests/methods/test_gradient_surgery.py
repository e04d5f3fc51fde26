"""gradient_surgery.py: PCGrad by hand, against Algorithm 1 in numpy, and on a small model."""

import gc
import weakref

import numpy as np
import pytest
import says_why
import torch
from torch import nn

from minbert.methods import gradient_surgery
from minbert.methods.gradient_surgery import backward, project


def reference(gradients, orders):
    """Yu et al. 2020, Algorithm 1, line by line; `orders` [T][T - 1]: the other tasks in the order they come."""
    original = [np.array(g, dtype=np.float64) for g in gradients]
    projected = [g.copy() for g in original]
    for i, order in enumerate(orders):
        for j in order:
            product = projected[i] @ original[j]
            if product < 0:
                projected[i] = projected[i] - product / (original[j] @ original[j]) * original[j]
    return sum(projected)


def orders_of(generator, tasks):
    return [[j for j in torch.randperm(tasks, generator=generator).tolist() if j != i] for i in range(tasks)]


@says_why.each_part_of("minbert/methods/gradient_surgery.py")
def test_known_mistakes(part):
    says_why.assert_right(*part)


def test_by_hand():
    """g1 = (1, 0), g2 = (-1, 1): g1.g2 = -1; g1 + g2/2 = (1/2, 1/2), g2 + g1 = (0, 1)."""
    gradients = torch.tensor([[1.0, 0.0], [-1.0, 1.0]])
    assert project(gradients).tolist() == [0.5, 1.5]
    assert gradients.tolist() == [[1.0, 0.0], [-1.0, 1.0]]  # not changed in place


@pytest.mark.parametrize("seed", range(20))
def test_against_algorithm_1(seed):
    """Five tasks in three dimensions: almost every pair conflicts, and the order matters."""
    gradients = torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    expected = reference(gradients.numpy(), orders_of(torch.Generator().manual_seed(seed), 5))
    ours = project(gradients, torch.Generator().manual_seed(seed))
    np.testing.assert_allclose(ours.numpy(), expected, rtol=1e-11, atol=1e-13)


def test_order_is_random_and_from_the_global_generator():
    gradients = torch.randn(6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    results = set()
    for seed in range(30):
        torch.manual_seed(seed)
        ours = project(gradients)
        expected = reference(gradients.numpy(), orders_of(torch.Generator().manual_seed(seed), 6))
        np.testing.assert_allclose(ours, expected, rtol=1e-11, atol=1e-13)
        results.add(tuple(ours.tolist()))
    assert len(results) > 5


def test_two_conflicting_tasks_end_at_right_angles():
    """The sum of both is then in conflict with neither."""
    random = torch.Generator().manual_seed(1)
    conflicts = 0
    for _ in range(50):
        gradients = torch.randn(2, 4, dtype=torch.float64, generator=random)
        total = project(gradients)
        if gradients[0] @ gradients[1] < 0:
            conflicts += 1
            assert (gradients @ total >= -1e-12).all()
            g = gradients[0] - (gradients[0] @ gradients[1]) / gradients[1].square().sum() * gradients[1]
            assert abs(g @ gradients[1]) < 1e-12
        else:
            assert torch.equal(total, gradients.sum(dim=0))
    assert 10 < conflicts < 40


def test_tasks_that_agree_are_summed():
    gradients = torch.rand(4, 7)  # all positive: no conflict
    torch.testing.assert_close(project(gradients), gradients.sum(dim=0), rtol=1e-6, atol=0)


def test_one_task_and_a_zero_gradient():
    alone = torch.randn(1, 5)
    assert torch.equal(project(alone), alone[0])
    gradients = torch.tensor([[1.0, -2.0], [0.0, 0.0], [-1.0, -1.0]])
    assert torch.equal(project(gradients), gradients.sum(dim=0))
    assert not project(torch.zeros(3, 4)).any()


# ------------------------------------------------------------------------------------------------------- on a model


class Model(nn.Module):
    """A shared trunk, a head for each of three tasks, and a layer that no task uses."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.trunk = nn.Linear(3, 4)
        self.heads = nn.ModuleList(nn.Linear(4, 1) for _ in range(3))
        self.unused = nn.Linear(2, 2)
        self.register_buffer("x", torch.randn(3, 8, 3))

    def loss(self, task):
        return (self.heads[task](self.trunk(self.x[task]).tanh()).squeeze(-1) - task + 1).square().mean()

    def losses(self, tasks=(0, 1, 2)):
        return [lambda task=task: self.loss(task) for task in tasks]


def gradients_of(model, task):
    """{name: gradient or None} of one task's loss alone, by torch's own backward."""
    model.zero_grad()
    model.loss(task).backward()
    return {name: p.grad for name, p in model.named_parameters()}


def test_backward_projects_what_tasks_share():
    model = Model().double()
    alone = [gradients_of(model, task) for task in range(3)]
    flat = np.stack([torch.cat([g["trunk.weight"].flatten(), g["trunk.bias"]]).numpy() for g in alone])
    assert (flat @ flat.T < 0).any()  # there is a conflict to solve
    expected = reference(flat, orders_of(torch.Generator().manual_seed(5), 3))
    torch.manual_seed(5)
    values = backward(model.losses(), model.parameters())
    assert [value.item() for value in values] == [model.loss(task).item() for task in range(3)]
    assert not any(value.requires_grad for value in values)
    ours = torch.cat([model.trunk.weight.grad.flatten(), model.trunk.bias.grad])
    np.testing.assert_allclose(ours.numpy(), expected, rtol=1e-11, atol=1e-14)
    assert not np.allclose(ours.numpy(), flat.sum(axis=0))
    for task, head in enumerate(model.heads):  # a task's own parameters: nothing to solve
        assert torch.equal(head.weight.grad, alone[task][f"heads.{task}.weight"])
        assert torch.equal(head.bias.grad, alone[task][f"heads.{task}.bias"])
    assert model.unused.weight.grad is None
    assert all(p.grad is None or p.grad.shape == p.shape for p in model.parameters())


def test_without_conflict_it_is_the_gradient_of_the_sum():
    model = Model()
    model.zero_grad()
    (2 * model.loss(1)).backward()
    expected = [None if p.grad is None else p.grad.clone() for p in model.parameters()]
    backward(model.losses((1, 1)), model.parameters())  # the same task twice agrees with itself; overwrites
    for p, gradient in zip(model.parameters(), expected, strict=True):
        if gradient is None:
            assert p.grad is None
        else:
            torch.testing.assert_close(p.grad, gradient, rtol=1e-6, atol=0)


def test_one_task_is_plain_backward():
    model = Model()
    expected = gradients_of(model, 2)
    expected = {name: None if g is None else g.clone() for name, g in expected.items()}
    backward(model.losses([2]), model.parameters())
    for name, p in model.named_parameters():
        assert (p.grad is None) if expected[name] is None else torch.equal(p.grad, expected[name])


def test_task_that_shares_only_a_part():
    """A parameter of two tasks out of three is shared: the third has a gradient of zero there."""
    model = Model().double()
    model.heads[1] = model.heads[0]
    alone = [gradients_of(model, task) for task in range(3)]
    names = ["trunk.weight", "trunk.bias", "heads.0.weight", "heads.0.bias"]
    zeros = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    pick = [[zeros[name] if g[name] is None else g[name] for name in names] for g in alone]
    flat = np.stack([torch.cat([piece.flatten() for piece in row]).numpy() for row in pick])
    expected = reference(flat, orders_of(torch.Generator().manual_seed(2), 3))
    torch.manual_seed(2)
    backward(model.losses(), model.parameters())
    ours = torch.cat([dict(model.named_parameters())[name].grad.flatten() for name in names])
    np.testing.assert_allclose(ours.numpy(), expected, rtol=1e-11, atol=1e-14)


def test_frozen_parameters_are_left_alone():
    model = Model()
    model.trunk.requires_grad_(False)
    backward(model.losses(), model.parameters())
    assert model.trunk.weight.grad is None
    assert all(head.weight.grad is not None for head in model.heads)


class Saved:
    """What autograd keeps of one tensor for the backward pass."""

    def __init__(self, tensor):
        self.tensor = tensor


def test_no_graph_outlives_its_task():
    """When a task's forward begins, all that the one before had saved for its backward is gone."""
    model = Model()
    saved, alive = [], []

    def pack(tensor):
        kept = Saved(tensor)
        saved.append(weakref.ref(kept))
        return kept

    def loss(task):
        gc.collect()
        alive.append(sum(kept() is not None for kept in saved))
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda kept: kept.tensor):
            return model.loss(task)

    values = backward([lambda task=task: loss(task) for task in range(3)], model.parameters())
    assert len(saved) >= 6
    assert alive == [0, 0, 0]
    assert all(value.grad_fn is None for value in values)


def test_clipping_takes_the_gradients():
    """`grad` may be cut from one long vector: clipping in place must work on it all the same."""
    model = Model()
    backward(model.losses(), model.parameters())
    norm = nn.utils.clip_grad_norm_(model.parameters(), 0.01)
    assert norm > 0.01
    total = sum(p.grad.square().sum() for p in model.parameters() if p.grad is not None).sqrt()
    assert total.item() == pytest.approx(0.01, rel=1e-4)
    assert all(p.grad is None or p.grad.is_contiguous() for p in model.parameters())


def test_alive(monkeypatch):
    """With the plain sum in place of the projection the trunk gets another gradient."""
    model = Model()
    backward(model.losses(), model.parameters())
    surgery = model.trunk.weight.grad.clone()
    monkeypatch.setattr(gradient_surgery, "project", lambda gradients, generator: gradients.sum(dim=0))
    backward(model.losses(), model.parameters())
    assert not torch.allclose(surgery, model.trunk.weight.grad, rtol=1e-3)
