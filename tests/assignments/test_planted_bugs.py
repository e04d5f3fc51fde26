"""Every planted bug is caught, most with the cause in words; correct code written in another way gets full marks."""

import planted_bugs
import planted_bugs_of_methods
import pytest
from assignments_graded import changed
from right_ways import OTHERS

BUGS = [*planted_bugs.BUGS, *planted_bugs_of_methods.BUGS]


def name_of(case):
    return f"{case[0]}-{case[1]}"


@pytest.mark.parametrize("bug", BUGS, ids=name_of)
def test_a_bug_is_caught_and_named(grade, bug):
    name, part, file, old, new, words = bug
    result = grade(name, part, {file: changed(file, old, new)})
    wrong = [check for check in result.checks if not check.passed]
    assert wrong, "nobody noticed"
    if words:
        assert any(words in check.message for check in wrong), "\n".join(check.message for check in wrong)


@pytest.mark.parametrize("other", OTHERS, ids=name_of)
def test_another_right_way_is_not_refused(grade, other):
    name, part, file, old, new = other
    result = grade(name, part, {file: changed(file, old, new)})
    assert not [check.message for check in result.checks if not check.passed]


def test_there_are_enough_of_them():
    assert len(BUGS) >= 80
    assert sum(bug[-1] is not None for bug in BUGS) >= 70
