"""A tree in which the courses' scripts run: ours, a checkpoint called bert-base-uncased, and files of theirs."""

import ast
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).parents[1]


class Tree:
    """A copy of our files in `folder`, with course/ on the path and no network."""

    def __init__(self, folder, checkpoint):
        self.folder = folder
        shutil.copytree(ROOT / "minbert", folder / "minbert", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copytree(ROOT / "course", folder / "course", ignore=shutil.ignore_patterns("__pycache__"))
        for path in ROOT.glob("*.py"):
            shutil.copy(path, folder)
        (folder / "bert-base-uncased").symlink_to(checkpoint)

    def run(self, script, *argv, folder=None, **variables):
        """The finished process of a script of this tree, run in its root or in `folder`."""
        variables = {"HF_HUB_OFFLINE": "1", "PYTHONPATH": str(self.folder / "course"), **variables}
        return subprocess.run(
            [sys.executable, self.folder / script, *map(str, argv)],
            **{"cwd": folder or self.folder, "capture_output": True, "text": True},
            env={**os.environ, "OMP_NUM_THREADS": "1", **variables},
        )


def completed(path, answers):
    """A starter's source with its blanks filled. answers: {qualified name of a function: the lines that stand for
    `raise NotImplementedError`, or a whole body that begins with "def "}; names that the file lacks are left out."""
    lines = path.read_text(encoding="utf-8").splitlines()
    for name, node in sorted(_functions(ast.parse("\n".join(lines))), key=lambda found: -found[1].lineno):
        if name not in answers:
            continue
        margin, answer = " " * node.col_offset, answers[name]
        if answer.startswith("def "):
            filled = textwrap.indent(answer, margin).splitlines()
        else:
            step = " " * (node.body[0].col_offset)
            old = [line for line in lines[node.lineno - 1 : node.end_lineno] if line.strip() != BLANK]
            filled = [*old, *textwrap.indent(textwrap.dedent(answer).strip(), step).splitlines()]
        lines[node.lineno - 1 : node.end_lineno] = filled
    return "\n".join(lines) + "\n"


BLANK = "raise NotImplementedError"


def _functions(tree):
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            yield from ((f"{node.name}.{part.name}", part) for part in node.body if isinstance(part, ast.FunctionDef))
        elif isinstance(node, ast.FunctionDef):
            yield node.name, node


def bodies(path):
    """{qualified name: source} of every function of a file, from its `def`."""
    return {name: ast.unparse(node) for name, node in _functions(ast.parse(path.read_text(encoding="utf-8")))}
