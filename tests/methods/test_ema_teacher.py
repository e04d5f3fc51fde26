"""The EMA teacher against its closed form, its state, and the bugs that have turned others' into a copy of the student.

The consistency losses: test_semi_supervised.py.
"""

import types
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from minbert.methods import semi_supervised as ours

SOURCE = Path(ours.__file__).read_text(encoding="utf-8")


class Student(nn.Module):
    """One layer, one buffer that counts, and one weight used twice."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 2)
        self.tied = self.layer
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))


def train(student, t):
    """Some update of the student, in place as optimizers do it."""
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(t)))
        student.steps += 1


def weights(model):
    return np.concatenate([p.detach().double().numpy().ravel() for p in model.parameters()])


def follow(module, decay, updates):
    """A teacher after that many updates, and the student's weights at the start and after each."""
    torch.manual_seed(0)
    student = Student()
    teacher, history = module.EmaTeacher(student, decay), [weights(student)]
    for t in range(1, updates + 1):
        train(student, t)
        teacher.update()
        history.append(weights(student))
    return teacher, np.array(history)


def check_closed_form(module, decay=lambda t: 0.9, updates=30):
    """theta'_n = sum over i of w_i theta_i,  w_i = (1 - d_i) d_(i+1) ... d_n,  w_0 = d_1 ... d_n."""
    teacher, history = follow(module, decay, updates)
    d = np.array([0.0] + [decay(t) for t in range(1, updates + 1)])  # d_0 = 0: the start counts whole
    w = [(1 - d[i]) * np.prod(d[i + 1 :]) for i in range(updates + 1)]
    assert sum(w) == pytest.approx(1)
    np.testing.assert_allclose(weights(teacher.model), np.array(w) @ history, rtol=0, atol=3e-6)


@pytest.mark.parametrize("decay", [lambda t: 0.9, ours.mean_teacher_decay, partial(ours.bregman_decay, planned=50)])
def test_after_n_updates_the_closed_form(decay):
    check_closed_form(ours, decay)


def test_early_the_teacher_is_the_plain_mean():
    teacher, history = follow(ours, ours.mean_teacher_decay, 20)
    np.testing.assert_allclose(weights(teacher.model), history.mean(axis=0), rtol=0, atol=3e-6)


def test_decays_by_hand():
    assert [ours.mean_teacher_decay(t) for t in (1, 2, 3, 998)] == pytest.approx([1 / 2, 2 / 3, 3 / 4, 998 / 999])
    assert [ours.mean_teacher_decay(t) for t in (999, 1000, 10**6)] == [0.999] * 3
    assert ours.mean_teacher_decay(50, most=0.9) == 0.9
    assert [ours.bregman_decay(t, planned=200) for t in (1, 20, 21, 200)] == [0.99, 0.99, 0.999, 0.999]
    assert ours.ramp_up(0, ours.BREGMAN["share"]) * ours.BREGMAN["weight"] == 1
    assert ours.BREGMAN["kind"] in ours.CONSISTENCIES


def check_copy(module):
    """The teacher starts as a copy, shares no memory with the student, then or later, and asks for no gradient."""
    torch.manual_seed(0)
    student = Student()
    teacher = module.EmaTeacher(student)
    np.testing.assert_array_equal(weights(teacher.model), weights(student))
    for t in (1, 2):
        before = weights(teacher.model)
        train(student, t)
        np.testing.assert_array_equal(weights(teacher.model), before, "the student's update moved the teacher")
        teacher.update()
        assert np.abs(weights(teacher.model) - before).max() > 0.01, "an update did not move the teacher"
        assert np.abs(weights(teacher.model) - weights(student)).max() > 0.01, "the teacher is the student"
        assert teacher.model.steps == t, "buffers are not copied"
    assert not any(p.requires_grad for p in teacher.model.parameters())
    assert all(p.requires_grad for p in student.parameters())
    assert teacher.model.tied is teacher.model.layer


def test_a_copy_that_shares_nothing():
    check_copy(ours)


def test_resumed_it_goes_on_the_same(tmp_path):
    whole, _ = follow(ours, ours.mean_teacher_decay, 10)
    half, _ = follow(ours, ours.mean_teacher_decay, 5)
    torch.save({"teacher": half.state_dict(), "student": half.student.state_dict()}, tmp_path / "state.pt")
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    student = Student()
    student.load_state_dict(state["student"])
    teacher = ours.EmaTeacher(student)
    teacher.load_state_dict(state["teacher"])
    for t in range(6, 11):
        train(student, t)
        teacher.update()
    assert teacher.t == 10
    for name, value in whole.model.state_dict().items():
        assert torch.equal(teacher.model.state_dict()[name], value), name


BUGS = {
    ".data aliasing instead of a copy": (
        "mean.lerp_(now, 1 - decay)",
        "mean.data = now.data if self.t == 1 else mean.lerp_(now, 1 - decay).data",
        check_copy,
    ),
    "the student itself instead of a copy": ("copy.deepcopy(student).requires_grad_(False)", "student", check_copy),
    "the decay on the wrong side": ("mean.lerp_(now, 1 - decay)", "mean.lerp_(now, decay)", check_closed_form),
    "t counted after the decay": (
        "decay = self.decay(self.t)",
        "decay = self.decay(self.t - 1)",
        partial(check_closed_form, decay=ours.mean_teacher_decay),
    ),
    "buffers left behind": ("mean.copy_(now)", "pass", check_copy),
    "a teacher that never moves": ("mean.lerp_(now, 1 - decay)", "pass", check_copy),
}


@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_is_found(bug):
    old, new, check = BUGS[bug]
    assert SOURCE.count(old) == 1
    planted = types.ModuleType("planted")
    exec(compile(SOURCE.replace(old, new), "planted", "exec"), planted.__dict__)
    with pytest.raises(AssertionError):
        check(planted)
