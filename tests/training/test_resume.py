"""A run that is killed and resumed ends with the same bits as one that is not, wherever the kill falls."""

import json
import os
import random
import shutil
import signal
import time

import pytest
import tiny
import torch
from kills import killed_before_rename, stop_at, stopped_at
from runs_to_resume import contents

from minbert.training import results
from minbert.training.loop import Loop
from minbert.training.scoring import DevExam

# -------------------------------------------------------------------------------------------- kills, one by one


def test_a_kill_at_any_file_leaves_a_run_that_can_be_resumed(tmp_path, argv_of):
    """Every moment between two files of a run, one after the other; state is saved after each step."""
    flags = ("--epochs", 2, "--limit", "sst=9,quora=12,sts=5")
    files = killed_before_rename(0, *argv_of(tmp_path / "whole", *flags))
    assert len(files) > 20
    for number in range(1, len(files) + 1):
        folder = tmp_path / str(number)
        assert len(killed_before_rename(number, *argv_of(folder, *flags))) == number - 1
        assert list(folder.rglob(".*.part"))
        resumed = tiny.script(*argv_of(folder, *flags), "--resume")
        assert resumed.code == 0, f"killed before file {number}: {resumed.err}"
        tiny.assert_same_results(tmp_path / "whole", folder)
        if number > 1:  # the kill of the very first file leaves a folder that is no run yet
            assert not list(folder.rglob(".*"))


# ----------------------------------------------------------------------------------------- kills of real processes


def interrupted(argv, number, wait):
    """Start a run, send it a signal `wait` seconds after its next checkpoint. Returns (exit code, output, error)."""
    state = argv[argv.index("--run_dir") + 1] / "state.pt"
    before = state.stat().st_mtime_ns if state.exists() else None
    process = tiny.start(*argv)
    deadline = time.monotonic() + 100
    while process.poll() is None and time.monotonic() < deadline:
        if state.exists() and state.stat().st_mtime_ns != before:
            time.sleep(wait)
            break
        time.sleep(0.002)
    process.send_signal(number)
    out, err = process.communicate(timeout=100)
    return process.returncode, out, err


def test_signals_at_random_moments(tmp_path, argv_of):
    flags, moments = ("--epochs", 8), random.Random(3)
    unbroken = tiny.start(*argv_of(tmp_path / "whole", *flags))
    argv = [*argv_of(tmp_path / "run", *flags), "--resume"]  # with a new folder, --resume begins a new run

    for number in (signal.SIGKILL, signal.SIGINT, signal.SIGKILL, signal.SIGTERM, signal.SIGKILL):
        code, out, err = interrupted(argv, number, moments.uniform(0, 0.15))
        if number == signal.SIGKILL:
            assert code == -signal.SIGKILL, "the run was over before it could be killed"
        else:
            assert code == 130, err
            assert "Traceback" not in err
            assert "; continue with --resume " in out
    last = tiny.start("--resume", tmp_path / "run")  # nothing else is needed: the flags are in its config.json
    out, err = last.communicate(timeout=100)
    assert last.returncode == 0, err
    assert "resuming after" in out
    assert unbroken.wait(timeout=100) == 0
    tiny.assert_same_results(tmp_path / "whole", tmp_path / "run")


# ----------------------------------------------------------------------------------------------- a clean stop


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize(("update", "where"), [(3, "epoch 1 after 3"), (5, "epoch 1 after 5"), (6, "epoch 2 after 1")])
def test_a_signal_finishes_the_step_and_saves(finished, tmp_path, argv_of, monkeypatch, number, update, where):
    argv = argv_of(tmp_path / "run", "--epochs", 2, "--checkpoint_minutes", 10)
    with monkeypatch.context() as patch:
        stop_at(patch, update, number)
        stopped = tiny.script(*argv)
    assert stopped.code == 130
    assert f"stopped in {where} of 5 steps; continue with --resume" in stopped.out
    assert torch.load(tmp_path / "run" / "state.pt", weights_only=True)["progress"]["update"] == update
    assert len(list((tmp_path / "run").glob("metrics.jsonl"))) == (update > 5)
    assert tiny.script(*argv, "--resume").code == 0
    tiny.assert_same_results(finished, tmp_path / "run")


def test_ctrl_c_after_the_training_loses_nothing(finished, tmp_path, argv_of, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(results, "write_results", lambda *_, **__: os.kill(os.getpid(), signal.SIGINT) or time.sleep(9))
        stopped = tiny.script(*argv_of(tmp_path / "run", "--epochs", 2, "--checkpoint_minutes", 10))
    assert stopped.code == 130
    told = "interrupted; all that was trained is saved; continue with --resume "
    assert stopped.out.splitlines()[-1] == told + os.path.relpath(tmp_path / "run")
    done = tiny.script("--resume", tmp_path / "run")
    assert (done.code, done.err) == (0, "")  # no step is taken: no progress bar
    tiny.assert_same_results(finished, tmp_path / "run")


def test_ctrl_c_before_there_is_a_run(tmp_path, argv_of, monkeypatch):
    build = tiny.multitask_classifier.BertModel.from_pretrained
    monkeypatch.setattr(
        "bert.BertModel.from_pretrained", lambda *_, **__: os.kill(os.getpid(), signal.SIGINT) or build(*_, **__)
    )
    stopped = tiny.script(*argv_of(tmp_path / "run"))
    assert (stopped.code, stopped.err) == (130, "interrupted\n")
    assert not (tmp_path / "run").exists()


def test_nohup_lets_a_run_outlive_its_terminal(finished, tmp_path, argv_of, monkeypatch):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        stop_at(monkeypatch, 3, signal.SIGHUP)
        assert tiny.script(*argv_of(tmp_path / "run", "--epochs", 2)).code == 0
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
    tiny.assert_same_results(finished, tmp_path / "run")


def test_a_terminal_that_goes_away(tmp_path, argv_of):
    """What the run prints then fails; its state is saved all the same."""
    ours, its = os.openpty()
    argv = argv_of(tmp_path / "run", "--epochs", 500)
    process = tiny.start(*argv, stdin=its, stdout=its, stderr=its, start_new_session=True)
    os.close(its)
    while not (tmp_path / "run" / "state.pt").exists():
        assert os.read(ours, 1000)
    os.close(ours)
    process.send_signal(signal.SIGHUP)  # as the kernel would to the terminal's own
    assert process.wait(timeout=100) == 130
    assert torch.load(tmp_path / "run" / "state.pt", weights_only=True)["progress"]["update"] > 0


def test_a_signal_in_the_scoring_of_an_epoch_stops_after_it(finished, tmp_path, argv_of, monkeypatch):
    argv, score = argv_of(tmp_path / "run", "--epochs", 2), DevExam._dev
    with monkeypatch.context() as patch:
        patch.setattr(DevExam, "_dev", lambda exam, m: os.kill(os.getpid(), signal.SIGINT) or score(exam, m))
        stopped = tiny.script(*argv)
    assert stopped.code == 130
    assert "stopped in epoch 2 after 0 of 5 steps" in stopped.out
    assert [line["epoch"] for line in tiny.metrics(tmp_path / "run")] == [1]
    assert tiny.script(*argv, "--resume").code == 0
    tiny.assert_same_results(finished, tmp_path / "run")


@pytest.mark.parametrize("extra", [("--option", "pretrain"), ("--patience", 1), ("--schedule", "sequential")])
def test_other_runs_resume_to_the_same_bits_too(tmp_path, argv_of, monkeypatch, extra):
    flags = ("--epochs", 3, "--clip", 0.1, *extra)
    assert tiny.script(*argv_of(tmp_path / "whole", *flags)).code == 0
    with monkeypatch.context() as patch:
        stop_at(patch, 7)
        assert tiny.script(*argv_of(tmp_path / "run", *flags)).code == 130
    assert tiny.script("--resume", tmp_path / "run").code == 0
    tiny.assert_same_results(tmp_path / "whole", tmp_path / "run")


@pytest.fixture
def other_threads():
    """This process has another number of threads than it had, as on another machine; before and after, the same."""
    before = torch.get_num_threads()
    yield lambda: torch.set_num_threads(before + 1)
    torch.set_num_threads(before)


@pytest.mark.parametrize(("lr", "update"), [("1e-3", 3), ("1e-3,1e-2", 7)], ids=["run", "grid"])
def test_a_run_goes_on_with_the_threads_it_began_with(tmp_path, argv_of, monkeypatch, other_threads, lr, update):
    step, threads = Loop.step, torch.get_num_threads()
    stopped_at(update, *argv_of(tmp_path / "run", "--epochs", 1, "--lr", lr))
    other_threads()
    seen = set()
    monkeypatch.setattr(Loop, "step", lambda loop, what: seen.add(torch.get_num_threads()) or step(loop, what))
    done = tiny.script("--resume", tmp_path / "run")
    assert done.code == 0, done.err
    assert done.out.count(f"threads: {threads}, as it began with, and not {threads + 1}") == 1
    assert seen == {threads}


def test_another_version_of_a_library_is_told(stopped, finished):
    config = tiny.read_json(stopped / "config.json")
    (stopped / "config.json").write_text(json.dumps({**config, "versions": {**config["versions"], "torch": "1.0"}}))
    done = tiny.script("--resume", stopped)
    assert done.out.count("warning:") == 1
    assert f"warning: it began with torch 1.0, now it is {torch.__version__}" in done.out
    tiny.assert_same_results(finished, stopped)


# -------------------------------------------------------------------------------------------- what resume refuses


@pytest.mark.parametrize(
    "change",
    [
        ("--lr", "2e-3"),
        ("--epochs", 3),
        ("--batch_size", 4),
        ("--seed", 1),
        ("--limit", "sst=5"),
        ("--tasks", "sst"),
        ("--option", "pretrain"),
        ("--clip", 1),
        ("--no_decay_bias_norm", "--weight_decay", 0.01),
    ],
    ids=lambda change: change[0],
)
def test_other_flags_are_refused(stopped, argv_of, change):
    before = contents(stopped)
    line = tiny.script(*argv_of(stopped, "--epochs", 2), *change, "--resume").error
    assert f"error: {change[0]} " in line
    assert "the run to resume " in line  # has another value, or was planned for so many epochs
    assert contents(stopped) == before


def test_flags_that_decide_nothing_may_change(stopped, finished):
    assert tiny.script("--resume", stopped, "--checkpoint_minutes", 5).code == 0
    tiny.assert_same_results(finished, stopped)


def test_other_data_are_refused(tmp_path, argv_of, monkeypatch, tiny_data):
    data = shutil.copytree(tiny_data, tmp_path / "data")
    argv = argv_of(tmp_path / "run", "--epochs", 2, data=data)
    with monkeypatch.context() as patch:
        stop_at(patch, 7)
        assert tiny.script(*argv).code == 130
    path = data / "sts-dev.csv"
    text = path.read_text()
    path.write_text(text.rsplit("\t", 1)[0] + "\t1.23\n")  # one label
    before = contents(tmp_path / "run")
    assert "(sts dev) is not what this run began with" in tiny.script(*argv, "--resume").error
    assert contents(tmp_path / "run") == before
    path.write_text(text)
    assert tiny.script(*argv, "--resume").code == 0


def test_another_model_in_the_same_place_is_refused(tmp_path, argv_of, monkeypatch):
    model = tiny.make_checkpoint(tmp_path / "model")
    argv = argv_of(tmp_path / "run", "--epochs", 2, model=model)
    with monkeypatch.context() as patch:
        stop_at(patch, 2)
        assert tiny.script(*argv).code == 130
    tiny.make_checkpoint(model, seed=1)
    assert "not what this run began with" in tiny.script(*argv, "--resume").error
