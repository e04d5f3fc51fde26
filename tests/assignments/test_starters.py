"""The course's starters: their form is told by their imports, their bugs are named, theirs and ours get full marks."""

import pytest
from assignments_graded import ALL, changed, reference
from planted_bugs_of_starters import BUGS

from assignments.school.submissions import dialect_of


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: f"{bug[0]}-{bug[1]}")
def test_a_bug_is_caught_and_named(grade, bug):
    name, part, file, old, new, words = bug
    wrong = [c for c in grade(name, part, {file: changed(file, old, new, "starter")}, "starter").checks if not c.passed]
    assert wrong, "nobody noticed"
    assert words is None or any(words in check.message for check in wrong), "\n".join(c.message for c in wrong)


@pytest.mark.parametrize("name", ["a1", "a2", "a3", "a4"])
def test_the_dialect_is_told(name):
    for dialect in ("ours", "starter"):
        assert dialect_of({file: reference(file, dialect) for file in ALL[name].files(dialect)}) == dialect
