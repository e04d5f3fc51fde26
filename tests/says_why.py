"""Failures that name the cause: what the assignments know of wrong answers, asked of our own code.

Each assignment has small checks in float64 against formulas in numpy, and what known mistakes would give. Here the same
questions go to the code in this tree, in this process, and a wrong answer is told in the grader's words. `same` does it
for any two arrays.
"""

import functools
import importlib

import numpy as np
import pytest
import torch

from assignments.school import manifest, probing
from assignments.school.judging import Check, distinct, judge
from assignments.school.public import HIDDEN_SEED, PUBLIC_SEED, inputs_as_json
from assignments.school.student import student_of

ALL = manifest.load()
EXTRA = {("a4", "step"): "AdamW.step in optimizer.py"}  # asked of the starters' dialect alone, and right for ours too


@functools.cache
def checks_of(assignment):
    """[Check] of an assignment, public ones first."""
    answers = importlib.import_module(f"assignments.{assignment}.answers")
    asked = [(PUBLIC_SEED, False), (HIDDEN_SEED, True)]
    found = [check for seed, hidden in asked for check in answers.checks(np.random.default_rng(seed), hidden)]
    return [distinct(check) for check in found if check.dialect in ("", "ours")]


def places():
    """{(assignment, part): the function it is about}"""
    return {(name, part): str(to) for name, each in ALL.items() for part, to in each.parts["ours"].items()} | EXTRA


def each_part_of(file, *names):
    """Parametrizes a test by `part`, an (assignment, part) for each function of this file that is one's task; of these
    `names` alone, if there are any."""
    found = [part for part, place in places().items() if place.endswith(f" in {file}")]
    found = [part for part in found if not names or part[1] in names]
    return pytest.mark.parametrize("part", found, ids=[name for _, name in found])


def assert_right(assignment, part):
    """Fail with the first cause that a check of this part finds, then with what the others say."""
    __tracebackhide__ = True
    probes, ours, wrong = importlib.import_module(f"assignments.{assignment}.probes"), student_of("ours"), []
    mine = [check for check in checks_of(assignment) if check.part == part]
    assert mine
    for check in mine:
        verdict = judge(check, probing.ask(getattr(probes, check.probe), ours, inputs_as_json(check.inputs)))
        if not verdict.passed:
            wrong.append((not verdict.cause, f"{verdict.message} ({check.name})"))
    if wrong:
        told = [message for _, message in sorted(wrong, key=lambda each: each[0])]
        pytest.fail("\n".join([told[0], f"That is {places()[assignment, part]}.", *told[1:]]), pytrace=False)


def same(concept, ours, expected, within, mistakes=()):
    """Fail where |ours - expected| is over `within` somewhere, in words: the concept, its shape, the largest difference
    and where it is, and the cause if one of the `mistakes` [(sentence, what it would give)] gives ours."""
    __tracebackhide__ = True
    arrays = [_array(each) for each in (ours, expected)]
    largest = max(1.0, float(np.abs(arrays[1]).max(initial=0.0)))
    variants = [(sentence, {concept: _array(gives)}) for sentence, gives in mistakes]
    check = Check(concept, concept, "", {}, {concept: arrays[1]}, variants, tolerance=within / largest)
    verdict = judge(check, {"outputs": {concept: arrays[0]}})
    if not verdict.passed:
        pytest.fail(verdict.message)


def _array(value):
    return value.detach().cpu().double().numpy() if isinstance(value, torch.Tensor) else np.asarray(value, float)
