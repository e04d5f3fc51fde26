"""--resume of a finished run: what it came to is never lost, and what is missing is written again or named."""

import os
import shutil

import pytest
import tiny
from runs_to_resume import contents

from minbert.training.loop import Loop


def test_it_may_be_resumed_and_stays_as_it_is(finished, tmp_path):
    folder = shutil.copytree(finished, tmp_path / "run")
    done = tiny.script("--resume", folder)
    assert done.code == 0
    assert "mean of the three" in done.out
    assert done.err == ""  # no step is taken: no progress bar
    assert contents(folder) == contents(finished)


@pytest.fixture
def no_steps(monkeypatch):
    """To train anything fails."""
    monkeypatch.setattr(Loop, "step", None)


GONE = ("metrics.jsonl", "predictions/sst-dev-output.csv", "predictions/para-test-output.csv")


def test_what_it_lost_is_written_again(finished, tmp_path, no_steps):
    folder = shutil.copytree(finished, tmp_path / "run")
    for name in GONE:
        (folder / name).unlink()
    assert tiny.script("--resume", folder).code == 0
    assert contents(folder) == contents(finished)


@pytest.mark.parametrize("lost", [("state.pt",), ("state.pt", *GONE), ("state.pt", "model.safetensors", *GONE)])
def test_without_its_state_it_is_not_trained_again(finished, tmp_path, no_steps, lost):
    folder = shutil.copytree(finished, tmp_path / "run")
    for name in lost:
        (folder / name).unlink()
    done = tiny.script("--resume", folder)
    assert done.code == 0, done.err
    assert f"{folder} is finished, and has no state.pt to go on from" in done.out
    assert "mean of the three" in done.out
    made_again = {name for name in lost if name.startswith("predictions") and "model.safetensors" not in lost}
    told = "missing, and not to be made again without the weights and the state: "
    named = {os.path.relpath(line[len(told) :], folder) for line in done.out.splitlines() if line.startswith(told)}
    assert made_again | named == {*lost} - {"state.pt", "model.safetensors"}
    assert contents(folder) == {n: c for n, c in contents(finished).items() if n in made_again or n not in lost}


def test_damaged_scores(finished, tmp_path):
    folder = shutil.copytree(finished, tmp_path / "run")
    (folder / "state.pt").unlink()
    (folder / "scores.json").write_text("{")
    assert "scores.json: not the scores of a finished run (not JSON" in tiny.script("--resume", folder).error
