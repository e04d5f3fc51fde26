"""An assignment's checks: made by its answers.py, for the grader whole, for a handout the public ones as plain data.

answers.py of an assignment is never part of a handout. It has `checks(random, hidden)`, a list of `Check`, whose
expected values come from formulas in numpy, written for this and not taken from the code that is blanked.
"""

import importlib
from dataclasses import asdict

import numpy as np

from assignments.school.judging import Check, distinct

PUBLIC_SEED, HIDDEN_SEED = 11711, 92177
DIGITS = 13  # of the numbers in a handout: the same bytes on every machine


def checks_of(assignment, dialect, hidden, seed=None):
    """[Check] of an assignment in a dialect; hidden: whether the hidden ones, which have other sizes and numbers."""
    answers = importlib.import_module(f"assignments.{assignment.name}.answers")
    usual = (HIDDEN_SEED if hidden else PUBLIC_SEED) + (assignment.variant.number or 0)
    random = np.random.default_rng(usual if seed is None else seed)
    found = answers.checks(random, hidden, **assignment.variant.constants(assignment))
    for check in found:
        check.hidden = hidden
    return [
        distinct(check) for check in found if check.part in assignment.parts[dialect] and check.dialect in ("", dialect)
    ]


def public_checks(assignment, dialect):
    """The public checks as JSON has them, inputs, expected values and all."""
    return [_plain({**asdict(check)}) for check in checks_of(assignment, dialect, hidden=False)]


def check_from(facts):
    """A `Check` from what `public_checks` made."""
    return Check(**{**facts, "expected": facts["expected"], "variants": [tuple(each) for each in facts["variants"]]})


def inputs_as_json(inputs):
    """Inputs for a probe: arrays as {"array": ..., "dtype": ...}."""
    return {name: _input(value) for name, value in inputs.items()}


def _input(value):
    if isinstance(value, (np.ndarray, np.generic)):
        value = np.asarray(value)
        return {"array": value.tolist(), "dtype": {"f": "float", "i": "int", "b": "bool"}[value.dtype.kind]}
    if isinstance(value, dict):
        return {name: _input(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_input(each) for each in value]
    return value


def _plain(check):
    check["inputs"] = inputs_as_json(check["inputs"])
    check["expected"] = {name: _rounded(value) for name, value in check["expected"].items()}
    check["variants"] = [
        [sentence, {name: _rounded(value) for name, value in values.items()}] for sentence, values in check["variants"]
    ]
    return check


def _rounded(value):
    """Nested lists of floats with DIGITS significant digits."""
    array = np.asarray(value, dtype=np.float64)
    flat = [float(f"{number:.{DIGITS}g}") for number in array.ravel()]
    return np.array(flat).reshape(array.shape).tolist()
