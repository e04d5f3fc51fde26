"""A check and its verdict: the outputs of a student's code against the expected ones, and what a mismatch looks like.

The verdict is made from numbers alone, outside the process that ran the student's code.
"""

from dataclasses import dataclass, field

import numpy as np

from assignments.school.symptoms import CLOSE, same, shape_symptom, symptom
from assignments.school.views import VIEWS

ROUNDED = 1e-8  # what a right answer in float64 may differ by, relative to the largest number


@dataclass
class Check:
    """name: what is checked, in words; part: of the assignment; probe: the function of probes.py that asks the
    student's code, with these inputs. expected {name: array}; variants [(sentence, {name: array})]: what known mistakes
    give. view: a name in views.VIEWS. tolerance: 1e-8, or more where the answer is a numerical derivative."""

    name: str
    part: str
    probe: str
    inputs: dict
    expected: dict
    variants: list = field(default_factory=list)
    hidden: bool = False
    view: str = "as_it_is"
    tolerance: float = ROUNDED
    weight: float = 1.0
    dialect: str = ""  # the only one that it is for; "" for any


@dataclass
class Verdict:
    passed: bool
    message: str = ""
    cause: bool = False  # whether the message names a cause, not only a place


def judge(check, answer):
    """`answer`: {"outputs": {name: array}} or {"error": sentence} -> Verdict."""
    if "error" in answer:
        return Verdict(False, str(answer["error"])[:500], True)
    try:
        outputs = {name: _array(value) for name, value in answer["outputs"].items()}
        if check.view != "as_it_is":
            outputs = VIEWS[check.view](outputs)
    except (AttributeError, KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
        return Verdict(False, f"what came back is of another kind than asked for ({error})")
    expected = {name: _array(value) for name, value in check.expected.items()}
    for name, wanted in expected.items():
        if name not in outputs:
            return Verdict(False, f"{name} did not come back")
        if outputs[name].shape != wanted.shape:
            shapes = f"{name} has the shape {list(outputs[name].shape)}; expected {list(wanted.shape)}"
            return Verdict(False, shapes + shape_symptom(outputs[name].shape, wanted.shape), True)
    wrong = [name for name in expected if not same(outputs[name], expected[name], check.tolerance)]
    if not wrong:
        return Verdict(True)
    for sentence, values in check.variants:
        if all(same(outputs[name], _array(values[name]), max(CLOSE, check.tolerance)) for name in expected):
            return Verdict(False, f"it looks as if {sentence}. {_apart(wrong[0], outputs, expected)}", True)
    said = symptom(outputs[wrong[0]], expected[wrong[0]])
    where = _apart(wrong[0], outputs, expected)
    return Verdict(False, f"{wrong[0]}: {said}{'' if said[-1] == '?' else '.'} {where}" if said else where, bool(said))


def distinct(check):
    """The check without variants that give the expected values, or what an earlier one gives: they say nothing."""
    expected = {name: _array(value) for name, value in check.expected.items()}
    kept = []
    for sentence, values in check.variants:
        values = {name: _array(value) for name, value in values.items()}
        others = [expected, *(other for _, other in kept)]
        if not any(all(same(values[name], other[name], 1e-5) for name in expected) for other in others):
            kept.append((sentence, values))
    check.variants = kept
    return check


def _array(value):
    return np.asarray(value, dtype=np.float64)


def _apart(name, outputs, expected):
    """The largest difference, and where it is."""
    yours, wanted = outputs[name], expected[name]
    with np.errstate(all="ignore"):
        apart = np.abs(yours - wanted)
    apart = np.where(np.isnan(apart), np.inf, apart)
    if not apart.ndim:
        return f"{name} is {float(yours):.6g}, expected {float(wanted):.6g}"
    place = np.unravel_index(int(apart.argmax()), apart.shape)
    at = ", ".join(str(int(i)) for i in place)
    share = f"{float(np.mean(apart > CLOSE)):.0%}"
    return (
        f"{name}{list(wanted.shape)} differs most at [{at}]: {float(yours[place]):.6g}, expected "
        f"{float(wanted[place]):.6g} ({share} of its numbers differ)"
    )
