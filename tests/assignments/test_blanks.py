"""Functions out of a file and in again: signature and docstring stay, everything else to the byte."""

import ast

import pytest

from assignments.school import blanks, syntax

SOURCE = '''"""A file."""

import math


class Shape:
    """A shape."""

    @property
    def area(self):
        """pi r^2."""
        # how round it is
        return math.pi * self.r**2

    def plain(self, x):
        return x + 1


def two(
    a,
    b=1,
):
    """Two things."""
    first = a
    # BEGIN SOLUTION a4
    second = b * 2
    # END SOLUTION
    return first, second
'''


def test_a_blank_keeps_decorator_signature_and_docstring():
    out = blanks.blank(SOURCE, "Shape.area", "a1", "area is not written yet")
    assert '    @property\n    def area(self):\n        """pi r^2."""\n        raise NotImplementedError(' in out
    assert "how round it is" not in out
    assert "math.pi" not in out
    assert out.replace('        raise NotImplementedError("area is not written yet")\n', "") == SOURCE.replace(
        "        # how round it is\n        return math.pi * self.r**2\n", ""
    )


def test_a_function_without_docstring():
    out = blanks.blank(SOURCE, "Shape.plain", "a1", "no")
    assert '    def plain(self, x):\n        raise NotImplementedError("no")\n\n\ndef two' in out


def test_a_part_of_a_function():
    out = blanks.blank(SOURCE, "two", "a4", "half")
    assert '    first = a\n    raise NotImplementedError("half")\n    return first, second\n' in out
    other = blanks.blank(SOURCE, "two", "a3", "all of it")
    assert "first = a" not in other


def test_marks_go():
    assert "SOLUTION" not in blanks.without_marks(SOURCE)
    assert "second = b * 2" in blanks.without_marks(SOURCE)


def test_long_sentences_stay_within_the_line():
    out = blanks.blank(SOURCE, "Shape.plain", "a1", "x" * 70 + "; " + "y" * 60)
    assert max(map(len, out.splitlines())) <= 120
    assert ast.parse(out)


def test_put_takes_another_indentation_along():
    starter = "class Shape:\n  def plain(self, x):\n    return 7\n"
    out = blanks.put(starter, "Shape.plain", SOURCE)
    assert out == "class Shape:\n  def plain(self, x):\n      return x + 1\n"
    assert ast.parse(out)


def test_what_is_blank():
    assert blanks.is_blank("def f():\n  raise NotImplementedError", "f")
    assert blanks.is_blank("def f():\n  x = 1\n  raise NotImplementedError()", "f")
    assert not blanks.is_blank("def f():\n  return 1", "f")
    with pytest.raises(syntax.Missing):
        blanks.is_blank(SOURCE, "Shape.volume")
    with pytest.raises(syntax.Missing):
        syntax.find(SOURCE, "Shape")


def test_imports_that_are_missing():
    assert blanks.imports_missing("import os\n", "import os\nimport torch.nn.functional as F\n") == [
        "import torch.nn.functional as F"
    ]
