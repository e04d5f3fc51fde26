import os

import pytest
from assignments_graded import OnePart


@pytest.fixture(scope="session")
def grade():
    if os.name != "posix":
        pytest.skip("student code is kept apart on Linux and macOS only")
    grade = OnePart()
    yield grade
    grade.close()
