"""Figures as a reader wants them."""

import pytest

from minbert.report import page


@pytest.mark.parametrize(
    ("value", "said"),
    [(0.48765, "0.488"), (0.0, "0.000"), (2e-5, "2e-05"), (1234, "1,234"), (1234.5678, "1,234.6"), (-1.5, "-1.500"),
     (None, "–"), ("x", "x"), (float("inf"), "inf")],
)  # fmt: skip
def test_numbers(value, said):
    assert page.number(value) == said


def test_what_a_stranger_wrote_is_text(tmp_path):
    """Every template is escaped, whatever its name."""
    page.write(tmp_path / "page.html", "base.html")
    assert "<main" in (tmp_path / "page.html").read_text(encoding="utf-8")
