"""Fixtures that several test files share: a tiny checkpoint and tiny data, made once a session."""

import os

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
