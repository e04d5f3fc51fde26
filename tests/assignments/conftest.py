import os

import pytest
from assignments_graded import OnePart, reference


@pytest.fixture(scope="session")
def grade():
    """Grades parts in the sandbox; skips where student code cannot be kept apart."""
    if os.name != "posix":
        pytest.skip("student code is kept apart on Linux and macOS only")
    grade = OnePart()
    tried = grade("a5", "predict", {"minbert/layers/heads.py": reference("minbert/layers/heads.py")})
    if "would run as root" in tried.checks[0].message:
        pytest.skip(tried.checks[0].message)
    yield grade
    grade.close()
