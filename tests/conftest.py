"""Fixtures that several test files share: a tiny checkpoint and tiny data, made once a session."""

import itertools
import os
import shutil

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch is imported; see multitask_classifier.py

import pytest
import tiny
from sweeps import home, run, script  # noqa: F401  (fixtures)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory):
    """A Hugging Face folder with a random BERT: H 16, 2 layers, 512 positions."""
    return tiny.make_checkpoint(tmp_path_factory.mktemp("checkpoint") / "tiny")


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory):
    """A folder with the course's files for sst, quora, sts and cfimdb, 8 to 37 random rows each."""
    return tiny.make_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def still_model(tmp_path_factory):
    """The tiny checkpoint without dropout."""
    folder = tmp_path_factory.mktemp("checkpoint") / "still"
    return tiny.make_checkpoint(folder, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)


@pytest.fixture
def trainer_of(tmp_path, tiny_model, tiny_data):
    """trainer_of(flags...) -> a Trainer in a new folder."""
    numbers = itertools.count()

    def make(*argv, model=tiny_model):
        return tiny.make_trainer(tmp_path / f"run{next(numbers)}", model, tiny_data, *argv)

    return make


@pytest.fixture
def data(tmp_path, tiny_data):
    """A copy of the tiny data, to be spoiled."""
    return shutil.copytree(tiny_data, tmp_path / "data")
