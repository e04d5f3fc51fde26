"""Locks: who comes second to a folder gets a line, or waits, and nobody's results are lost."""

import errno
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
import tiny
from scheme_runs import arguments

from minbert.files import UserError, write_json
from minbert.flags import checks
from minbert.locks import Busy, alone_in
from minbert.training import analysis

BUSY = "another process is at work there"


@pytest.fixture(autouse=True)
def _no_drawing(monkeypatch):
    monkeypatch.setattr(analysis, "draw", lambda *_: None)  # takes longer than all the rest


@pytest.fixture(scope="module")
def argv_of(tiny_model, tiny_data):
    """argv_of(folder, flags...) -> the command line of a short run in that folder."""
    where = ("--model", tiny_model, "--data_dir", tiny_data)
    return lambda folder, *flags: [*where, *tiny.FINETUNE, "--epochs", 1, "--run_dir", folder, *flags]


def until(condition, process):
    deadline = time.monotonic() + 100
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


# ------------------------------------------------------------------------------------------------------- a folder


def test_one_at_a_time(tmp_path):
    with alone_in(tmp_path / "deep" / "folder"):
        with pytest.raises(Busy, match=BUSY), alone_in(tmp_path / "deep" / "folder"):
            pass
        with alone_in(tmp_path / "deep"):
            pass
        (tmp_path / "deep" / "folder" / "file").write_text("")
    with alone_in(tmp_path / "deep" / "folder"):
        pass
    assert [path.name for path in (tmp_path / "deep" / "folder").iterdir()] == ["file"]


def test_a_folder_where_nothing_came_to_be_is_taken_away(tmp_path):
    (tmp_path / "there").mkdir()
    for name in ("there", "new/deep"):
        with pytest.raises(UserError), alone_in(tmp_path / name):
            raise UserError
    assert [path.name for path in tmp_path.rglob("*")] == ["there"]


WAIT = """
import sys, time
sys.path.insert(0, sys.argv[1])
from minbert.locks import alone_in
from pathlib import Path
for turn in range(20):
    with alone_in(Path(sys.argv[2]), wait=""):
        (Path(sys.argv[2]).parent / "one").mkdir()
        time.sleep(0.002)
        (Path(sys.argv[2]).parent / "one").rmdir()
"""


def test_who_waits_is_alone_when_its_turn_comes(tmp_path):
    """The file of the lock is made and taken away by each of them, and so is the folder as long as nobody waits."""
    argv = [sys.executable, "-c", WAIT, str(tiny.ROOT), str(tmp_path / "folder")]
    processes = [subprocess.Popen(argv, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    for process in processes:
        assert process.communicate(timeout=100)[1] == ""
    assert not list(tmp_path.rglob(".lock"))


def test_a_link_is_not_followed(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / ".lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic links"), alone_in(tmp_path / "folder"):
        pass
    assert not (tmp_path / "elsewhere").exists()


# ----------------------------------------------------------------------------------------------------------- runs


def test_a_run_keeps_others_out_until_it_is_killed(tmp_path, argv_of):
    argv = argv_of(tmp_path / "run", "--epochs", 500, "--patience", 500, "--checkpoint_minutes", 1e-9)
    process = tiny.start(*argv)
    until((tmp_path / "run" / "state.pt").is_file, process)
    for again in (argv, [*argv, "--resume"], ["--resume", tmp_path / "run"]):
        assert f"{tmp_path / 'run'}: {BUSY}" in tiny.script(*again).error
    assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    last = tiny.start("--resume", tmp_path / "run")  # at once: the lock is gone
    until(lambda: (tmp_path / "run" / "metrics.jsonl").is_file(), last)
    last.send_signal(signal.SIGINT)
    out, err = last.communicate(timeout=100)
    assert (last.returncode, "resuming after" in out) == (130, True), err


@pytest.mark.parametrize("what", ["a grid", "an evaluation", "pretraining", "a new run"])
def test_every_command_that_writes_into_a_folder_locks_it(tmp_path, argv_of, tiny_model, tiny_data, monkeypatch, what):
    argv = argv_of(tmp_path / "run")
    if what == "a grid":
        argv += ["--lr", "1e-3,1e-2"]
    if what == "an evaluation":
        assert tiny.script(*argv).code == 0
        argv = ["--evaluate", tmp_path / "run", "--run_dir", tmp_path / "out"]
    if what == "pretraining":
        monkeypatch.setattr(tiny, "SCRIPT", str(tiny.ROOT / "pretraining.py"))
        argv = ["--model", tiny_model, "--data_dir", tiny_data, "--run_dir", tmp_path / "run", "--epochs", 1]
    with alone_in(argv[argv.index("--run_dir") + 1]):
        assert BUSY in tiny.script(*argv).error
    assert tiny.script(*argv).code == 0


def test_without_locks_the_first_file_decides(tmp_path, argv_of, monkeypatch):
    """On a file system that has none, where another process begins in the folder while this one reads its data."""

    def flock(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    def begin_elsewhere(found, options):
        write_json(tmp_path / "run" / "config.json", {"another": "run"})
        return build(found, options)

    monkeypatch.setattr(fcntl, "flock", flock)
    build = tiny.multitask_classifier.build_model
    assert tiny.script(*argv_of(tmp_path / "free")).code == 0
    main = tiny.multitask_classifier
    monkeypatch.setattr(main, "build_model", begin_elsewhere)
    with pytest.raises(UserError, match=r"config\.json: there already"):
        main.train(checks.parse([str(word) for word in argv_of(tmp_path / "run")]))
    assert tiny.read_json(tmp_path / "run" / "config.json") == {"another": "run"}


def test_a_file_system_without_hard_links(tmp_path, argv_of, monkeypatch):
    def link(*_):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)
    assert tiny.script(*argv_of(tmp_path / "run")).code == 0


def test_runs_of_the_same_second_have_names_of_their_own():
    assert len({checks.new_run_dir() for _ in range(100)}) == 100


def test_two_schemes_train_their_plain_models_once(tmp_path, tiny_model, tiny_data):
    """The second waits for the model that the first is at."""
    glue = tiny.make_glue_data(tmp_path / "glue")
    first, second = (tmp_path / name / "run" for name in ("first", "second"))
    alone = tiny.start(*arguments(tiny_model, tiny_data, glue, first, "soft_predicted"))  # with as many threads
    _, err = alone.communicate(timeout=100)
    assert alone.returncode == 0, err
    (made,) = (tmp_path / "first" / "plain_models").glob("mnli-*")
    folder = tmp_path / "second" / "plain_models" / made.name
    with alone_in(folder):
        process = tiny.start(*arguments(tiny_model, tiny_data, glue, second, "soft_predicted"))
        assert "waiting for another process that trains the plain model of mnli" in _line(process, "waiting")
        shutil.copytree(made, folder, dirs_exist_ok=True)
    out, err = process.communicate(timeout=100)
    assert process.returncode == 0, err
    assert "plain model of sst2" in out
    assert "plain model of mnli" not in out
    tiny.assert_same_results(first, second)


def _line(process, word):
    """The next line of its output with the word."""
    for line in process.stdout:
        if word in line:
            return line
    raise AssertionError(process.communicate())
