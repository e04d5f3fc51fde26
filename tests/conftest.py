"""Fixtures that several test files share: a tiny checkpoint and tiny data, made once a session."""

import gc
import itertools
import os
import shutil
import signal
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch is imported; see multitask_classifier.py

if "PYTEST_XDIST_WORKER" in os.environ:  # as many processes as cores: a thread each, and so for all that they start
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import real_data  # noqa: F401  (reads MINBERT_DATA before it is taken away)
import tiny
from slow import SLOW
from sweeps import home, run, script  # noqa: F401  (fixtures)
from tasks import PREFIXES, TASKS, prefix_of

TESTS = Path(__file__).parent

os.environ.pop("MINBERT_DATA", None)  # the program under test gets the data that its test gives it, and no other

# A shell's background jobs begin with SIGINT ignored, and so would every process that the tests start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_ignore_collect(collection_path, config):
    """`-m attention` reads the files of attention alone, `make quick` none that is slow as a whole: reading is slow."""
    asked = config.option.markexpr
    files = tuple({prefix.partition("::")[0] for prefix in TASKS.get(asked, ())})
    name = collection_path.relative_to(TESTS).as_posix() if collection_path.is_relative_to(TESTS) else ""
    elsewhere = bool(files) and name.endswith(".py") and not name.startswith(files)
    return True if elsewhere or ("not slow" in asked and name in SLOW) else None


def pytest_collection_modifyitems(items):
    """Mark what is slow and, if it is not, what belongs to a student's task; tasks come first, from part to whole."""
    prefixes = {item: prefix_of(item.nodeid.removeprefix("tests/")) for item in items}
    for item, prefix in prefixes.items():
        if item.nodeid.removeprefix("tests/").startswith(tuple(SLOW)):
            item.add_marker(pytest.mark.slow)
        if prefix and not item.get_closest_marker("slow"):
            item.add_marker(PREFIXES[prefix])
    rooms = {prefix: (task, prefix.partition("::")[0]) for prefix, task in PREFIXES.items()}  # in a file, its own order
    order = [*dict.fromkeys(rooms.values()), None]
    items.sort(key=lambda item: order.index(rooms.get(prefixes[item])))


def pytest_collection_finish():
    """What is imported by now stays: the garbage collector need not walk through it after every few tests."""
    gc.freeze()


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


@pytest.fixture(scope="session")
def run_of(tmp_path_factory, tiny_model, tiny_data):
    """run_of(flags...) -> (Trace, Trainer) of a finished run: one epoch of fine-tuning with these flags; each is run
    once."""
    folder, numbers, done = tmp_path_factory.mktemp("runs"), itertools.count(), {}

    def finished(*flags, model=tiny_model):
        if (flags, model) not in done:
            argv = (*tiny.FINETUNE, "--epochs", 1, *flags)
            trainer = tiny.make_trainer(folder / str(next(numbers)), model, tiny_data, *argv)
            done[flags, model] = tiny.trace(trainer), trainer
        return done[flags, model]

    return finished


@pytest.fixture
def data(tmp_path, tiny_data):
    """A copy of the tiny data, to be spoiled."""
    return shutil.copytree(tiny_data, tmp_path / "data")
