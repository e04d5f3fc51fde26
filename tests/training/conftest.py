"""Fixtures of test_resume.py and test_damaged_runs.py: a finished run, and one that was stopped."""

import pytest
import tiny
from kills import stop_at
from runs_to_resume import EVERY_STEP, FLAGS


@pytest.fixture(scope="module")
def argv_of(tiny_model, tiny_data):
    """argv_of(folder, flags...) -> the command line of a run in that folder."""

    def argv(folder, *flags, model=tiny_model, data=tiny_data):
        return ["--model", model, "--data_dir", data, "--run_dir", folder, *FLAGS, *EVERY_STEP, *flags]

    return argv


@pytest.fixture(scope="module")
def finished(tmp_path_factory, argv_of):
    """An unbroken run of two epochs. Not to be written to."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    assert tiny.script(*argv_of(folder, "--epochs", 2)).code == 0
    return folder


@pytest.fixture
def stopped(tmp_path, argv_of, monkeypatch):
    """A run of two epochs that was stopped after 7 of 10 updates."""
    with monkeypatch.context() as patch:
        stop_at(patch, 7)
        assert tiny.script(*argv_of(tmp_path / "run", "--epochs", 2)).code == 130
    return tmp_path / "run"
