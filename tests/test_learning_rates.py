"""The learning-rate schedules of optimizer.py: their factors by hand, and groups that keep their own first rate."""

import copy

import numpy as np
import pytest
import says_why
import torch

from optimizer import AdamW, learning_rate_factor, set_learning_rate


def factors(kind, total, warmup=0.0, extra=0):
    return [learning_rate_factor(kind, step, total, warmup) for step in range(total + extra)]


@says_why.each_part_of("optimizer.py", "linear")
def test_the_schedule(part):
    says_why.assert_right(*part)


def test_constant_is_one():
    assert factors("constant", 5, warmup=0.4) == [1.0] * 5


def test_linear_values():
    assert factors("linear", 4, extra=2) == [1.0, 0.75, 0.5, 0.25, 0.0, 0.0]
    assert factors("linear", 10, 0.3) == pytest.approx([1 / 4, 2 / 4, 3 / 4] + [k / 7 for k in (7, 6, 5, 4, 3, 2, 1)])
    assert factors("linear", 4, 1.0) == [0.25, 0.5, 0.75, 1.0]
    assert factors("linear", 1, 0.5) == [1.0]


@pytest.mark.parametrize("total", [2, 3, 10, 97, 1000])
@pytest.mark.parametrize("warmup", [0.0, 0.06, 0.1, 0.5])
def test_linear_rises_to_one_at_its_peak_and_falls(total, warmup):
    values, peak = factors("linear", total, warmup), round(warmup * total)
    assert values[peak] == 1.0 == max(values)
    assert min(values) > 0
    assert values[0] == pytest.approx(1 / (peak + 1))
    assert values[-1] == pytest.approx(1 / (total - peak))
    assert np.allclose(np.diff(values[: peak + 1]), 1 / (peak + 1))
    assert np.allclose(np.diff(values[peak:]), -1 / (total - peak))


@pytest.mark.parametrize(
    ("arguments", "word"),
    [(("sine", 0, 1), "sine"), (("linear", -1, 4), "-1"), (("linear", 0, 0), "0 of 0"), (("linear", 0, 4, 2), "2")],
)
def test_schedule_refuses(arguments, word):
    with pytest.raises(ValueError, match=word):
        learning_rate_factor(*arguments)


def test_each_group_scales_its_own_first_rate_and_resumes_it():
    parameters = [torch.zeros(2), torch.zeros(2)]
    ours = AdamW([{"params": parameters[:1]}, {"params": parameters[1:], "lr": 0.5}], lr=0.1)
    for factor in (0.5, 1.0, 0.0, 0.25):
        set_learning_rate(ours, factor)
        assert [group["lr"] for group in ours.param_groups] == [0.1 * factor, 0.5 * factor]
    again = AdamW([{"params": parameters[:1]}, {"params": parameters[1:]}])
    again.load_state_dict(copy.deepcopy(ours.state_dict()))
    set_learning_rate(again, 1.0)
    assert [group["lr"] for group in again.param_groups] == [0.1, 0.5]
