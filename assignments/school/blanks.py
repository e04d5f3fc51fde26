"""Functions taken out of a source file and put in again, by its syntax tree.

A blank keeps decorators, signature and docstring; its body is one line that names the assignment. Where only a part of
a function is the task, comments mark it in the reference:

    # BEGIN SOLUTION a4
    ...
    # END SOLUTION

Everything else in a file stays as it is, to the byte.
"""

import ast
import re
from dataclasses import dataclass

from assignments.school import syntax
from assignments.school.syntax import find

BEGIN = re.compile(r"^\s*# BEGIN SOLUTION (\w+)\s*$")
END = re.compile(r"^\s*# END SOLUTION\s*$")
MARK = "is not written yet"  # what every blank says


@dataclass(frozen=True)
class Place:
    """Where a function stands: lines from 0; `first` is its first decorator's or its `def`, `body` the first line
    after signature and docstring, `stop` the line after its last; `indent` of its body."""

    first: int
    body: int
    stop: int
    indent: str


def place(source, function):
    node = find(source, function)
    first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)]) - 1
    statements = node.body[1:] if ast.get_docstring(node, clean=False) is not None else node.body
    # What stands between docstring and first statement, a comment, belongs to the body.
    before = node.body[0].end_lineno if statements is not node.body else _end_of_signature(source, node)
    indent = " " * node.body[0].col_offset
    return Place(first, before, node.end_lineno, indent)


def _end_of_signature(source, node):
    """The line after the colon of a function without docstring."""
    first = node.body[0]
    lines = source.splitlines()
    line = first.lineno - 1
    while line > node.lineno and (not lines[line - 1].strip() or lines[line - 1].lstrip().startswith("#")):
        line -= 1
    return line


def blank(source, function, assignment, sentence):
    """The source with the function's body, or its part marked as this assignment's, replaced by one line that raises
    NotImplementedError(sentence)."""
    where = place(source, function)
    lines = source.splitlines(keepends=True)
    body = lines[where.body : where.stop]
    marks = [i for i, line in enumerate(body) if (found := BEGIN.match(line)) and found[1] == assignment]
    if not marks:
        new = [_raise(where.indent, sentence)]
    else:
        new = list(body)
        for begin in reversed(marks):
            end = next(i for i in range(begin, len(new)) if END.match(new[i]))
            indent = new[begin][: len(new[begin]) - len(new[begin].lstrip())]
            new[begin : end + 1] = [_raise(indent, sentence)]
    return "".join(lines[: where.body] + new + lines[where.stop :])


def with_body(source, function, body):
    """The source with that function's body, after signature and docstring, replaced by one line."""
    where = place(source, function)
    lines = source.splitlines(keepends=True)
    return "".join([*lines[: where.body], f"{where.indent}{body}\n", *lines[where.stop :]])


def _raise(indent, sentence):
    """One statement, in the shape that `ruff format` gives it; a long sentence goes over lines at its semicolons."""
    line = f"{indent}raise NotImplementedError({_quoted(sentence)})\n"
    if len(line) <= 121:
        return line
    whole = len(f"{indent}    {_quoted(sentence)}") <= 120
    parts = [sentence] if whole else re.split(r"(?<=; )", sentence)
    return (
        f"{indent}raise NotImplementedError(\n" + "".join(f"{indent}    {_quoted(p)}\n" for p in parts) + f"{indent})\n"
    )


def _quoted(text):
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def without_marks(source):
    """The source without the comments that mark solutions."""
    return "".join(line for line in source.splitlines(keepends=True) if not (BEGIN.match(line) or END.match(line)))


def is_blank(source, function):
    """Whether a function still is what a handout or a starter left: it does nothing but raise NotImplementedError, or
    raises it after its first steps."""
    node = find(source, function)
    return any(_raises_not_implemented(statement) for statement in ast.walk(node))


def _raises_not_implemented(node):
    if not isinstance(node, ast.Raise) or node.exc is None:
        return False
    raised = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
    return isinstance(raised, ast.Name) and raised.id == "NotImplementedError"


def put(source, function, donor):
    """The source with its function replaced by that of `donor`, another source, whole: decorators and signature too.
    Missing where either has none."""
    here, there = place(source, function), place(donor, function)
    lines, new = source.splitlines(keepends=True), donor.splitlines(keepends=True)
    shift = _indent(lines[here.first]) - _indent(new[there.first])
    taken = [_shifted(line, shift) for line in new[there.first : there.stop]]
    if taken and not taken[-1].endswith("\n"):
        taken[-1] += "\n"
    return "".join(lines[: here.first] + taken + lines[here.stop :])


def _indent(line):
    return len(line) - len(line.lstrip())


def _shifted(line, shift):
    """A line moved to the right or left: the starters indent by two."""
    if not line.strip() or shift == 0:
        return line
    return " " * shift + line if shift > 0 else line[min(-shift, _indent(line)) :]


def imports_missing(source, donor):
    """The top-level import statements of `donor` whose names `source` does not have, as lines."""
    have, lines = _imported(syntax.tree(source)), []
    for node in syntax.tree(donor).body:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            lines += [
                ast.unparse(type(node)(**{**vars(node), "names": [alias]}))
                for alias in node.names
                if (alias.asname or alias.name) not in have
            ]
    return lines


def _imported(tree):
    return {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for alias in node.names
    }
