"""Which statement of a source file is being carried out: found by the stack, and read from the file itself, so that
what is shown beside a number is the code that made it."""

import ast
import functools
import linecache
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Statement:
    """A statement as it stands in `file` from line `first` on, in the function `function` ("BertLayer.forward")."""

    file: str
    function: str
    first: int
    text: str

    def __str__(self):
        return f"{self.file}:{self.first}, {self.function}\n{self.text}"


def running_in(paths):
    """The innermost statement of one of these files that is being carried out now; None where none is under way."""
    frame = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename not in paths:
        frame = frame.f_back
    return frame and statement_at(frame.f_code.co_filename, frame.f_lineno)


def files_of(model):
    """The paths, as the stack names them, of the files in which a model and those of its parts that have parts compute:
    bert.py, and not torch's, nor Dropout's. The cells of a notebook have such paths too."""
    kinds = {kind for module in model.modules() if any(module.children()) for kind in type(module).__mro__}
    ours = (kind for kind in kinds if "forward" in vars(kind) and kind.__module__.split(".")[0] != "torch")
    return {kind.forward.__code__.co_filename for kind in ours}


@functools.cache
def _read(path):
    text = "".join(linecache.getlines(path))
    return text.splitlines(), ast.parse(text)


@functools.cache
def statement_at(path, line):
    """The innermost statement of the file at `path` that holds this line, and the function around it."""
    lines, tree = _read(path)
    names, inner = [], tree
    while True:
        around = [node for node in ast.iter_child_nodes(inner) if _holds(node, line)]
        if not around:
            break
        inner = around[0]
        if isinstance(inner, (ast.ClassDef, ast.FunctionDef)):
            names.append(inner.name)
        elif not hasattr(inner, "body"):
            break
    text = textwrap.dedent("\n".join(lines[inner.lineno - 1 : inner.end_lineno]))
    return Statement(Path(path).name, ".".join(names), inner.lineno, text)


def _holds(node, line):
    return isinstance(node, ast.stmt) and node.lineno <= line <= node.end_lineno
