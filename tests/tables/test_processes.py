"""Sweeps with several runs at a time, with a share of the rows, and with little time."""

import os
import signal
import sys
import threading
import time
from dataclasses import replace

import pytest
import tiny
from sweeps import TABLE, result_of, run_folder

from minbert.tables import jobs, places, processes, sweep
from minbert.tables.catalogue import TABLES
from minbert.tables.processes import OutOfTime, Processes, in_threads
from minbert.tables.rows import Row

CHAIN = (
    Row("plain", "Plain", {"lr": 1e-5}),
    Row("part", "Part", {"limit": "quora=14,sts=0.5"}),
    Row("after", "After", {"schedule": "in_turn"}, init="plain"),
    Row("last", "Last", {"schedule": "in_turn", "pairs": "concat"}, init="part"),
)
SLEEPER = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: (print("saved", flush=True), sys.exit(130)))
print("ready", flush=True)
time.sleep(float(sys.argv[1]))
"""


@pytest.fixture
def chain(monkeypatch):
    monkeypatch.setitem(TABLES, "demo", replace(TABLE, rows=CHAIN))


def names(of):
    return [(job.row.name, job.seed) for job in of]


def jobs_of(seeds):
    return [jobs.Job(TABLES["demo"], row, seed) for seed in range(seeds) for row in CHAIN]


# -------------------------------------------------------------------------------------------------------------- shards


def test_shards_have_every_row_once_and_a_start_beside_its_followers(home, chain):
    whole = jobs_of(3)
    for count in (1, 2, 3, 4, 9):
        shards = [sweep.shard(whole, number, count) for number in range(1, count + 1)]
        assert sorted(name for one in shards for name in names(one)) == sorted(names(whole))
        for one in shards:
            assert names(one) == [name for name in names(whole) if name in names(one)]  # in the table's order
            starts = [("plain", job.seed) for job in one if job.row.name == "after"]
            assert set(starts) <= set(names(one))
    assert names(sweep.shard(whole, 1, 6)) == [("plain", 0), ("after", 0)]
    assert names(sweep.shard(whole, 4, 6)) == [("part", 1), ("last", 1)]
    assert sweep.shard(whole, 9, 9) == []


def test_shards_of_a_table_come_to_the_whole(script, run, home, capsys):
    assert run("--shard", "2/2") == 0
    assert script.rows == ["clipped"]
    assert "shard 2 of 2: 1 of the rows" in capsys.readouterr().out
    assert run("--shard", "1/2") == 0
    assert script.rows == ["clipped", "plain", "part"]


# ------------------------------------------------------------------------------------------------------ several at once


def test_several_at_once_come_to_the_same(script, run, home, chain, capsys):
    assert run("--jobs", "3", "--seeds", "2") == 0
    assert sorted(script.rows) == sorted([row.name for row in CHAIN] * 2)
    assert all(result_of(row.name, seed) for row in CHAIN for seed in (11711, 11712))
    for start, follower in (("plain", "after"), ("part", "last")):
        assert script.rows.index(start) < script.rows.index(follower)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("[")]
    assert sorted(line.split("]")[0] for line in lines) == [f"[{number}/8" for number in range(1, 9)]
    assert all(": " in line and "done: SST 0.500" in line for line in lines)  # whole lines
    assert run("--jobs", "2", "--seeds", "2") == 0
    assert len(script.calls) == 8


def test_they_do_run_at_once_and_each_has_its_threads(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "cores", lambda: 7)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    both = Processes(at_once=2)
    meet = "import os, sys, time, pathlib; pathlib.Path(sys.argv[1]).touch()\n"
    meet += "while not pathlib.Path(sys.argv[2]).exists(): time.sleep(0.01)\nprint(os.environ['OMP_NUM_THREADS'])"

    def work(pair):
        with open(tmp_path / f"log{pair[0]}", "wb") as log:
            assert both.run([sys.executable, "-c", meet, *(str(tmp_path / name) for name in pair)], log) == 0

    in_threads(work, [("a", "b"), ("b", "a")], both)
    assert [(tmp_path / f"log{name}").read_text() for name in "ab"] == ["3\n", "3\n"]
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert both._environment()["OMP_NUM_THREADS"] == "2"
    assert Processes()._environment() is os.environ


def test_nothing_but_waiting_is_done_at_once(monkeypatch):
    """The umask, locks and what is printed are the whole process's."""
    inside, most = [], []

    def work(part):
        inside.append(part)
        most.append(len(inside))
        time.sleep(0.01)
        inside.remove(part)

    in_threads(work, range(8), Processes(at_once=4))
    assert most == [1] * 8


def test_a_failing_row_does_not_end_the_others(script, run, home, capsys):
    script.fail = {"plain": 2}
    assert run("--jobs", "2") == 1
    out = capsys.readouterr().out.splitlines()
    assert "2 run" in out[-2]
    assert "1 failed" in out[-2]
    assert out[-1].startswith("failed: plain, seed-11711: error: out of memory (exit code 2")
    assert result_of("clipped")
    assert result_of("part")


def test_a_mistake_of_ours_is_raised_when_all_have_stopped():
    seen = []

    def work(part):
        seen.append(part)
        raise ZeroDivisionError(part)

    with pytest.raises(ZeroDivisionError):
        in_threads(work, range(5), Processes(at_once=2))
    assert len(seen) <= 2


def test_ctrl_c_stops_all_and_they_save(tmp_path):
    both, logs = Processes(at_once=2), [tmp_path / "0", tmp_path / "1"]

    def work(log):
        with open(log, "wb") as out:
            both.run([sys.executable, "-c", SLEEPER, "60"], out)

    def interrupt_when_ready():
        while not all(log.exists() and "ready" in log.read_text() for log in logs):
            time.sleep(0.01)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    thread = threading.Thread(target=interrupt_when_ready)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        in_threads(work, [*logs, tmp_path / "never"], both)
    thread.join()
    assert [log.read_text().split() for log in logs] == [["ready", "saved"]] * 2
    assert not (tmp_path / "never").exists() or (tmp_path / "never").read_text() == ""


# ---------------------------------------------------------------------------------------------------------- little time


def test_a_run_is_stopped_in_time_and_none_begins(tmp_path):
    short = Processes(minutes=4 / 60)  # stopped after 3 s, the last begins before 2
    started = time.monotonic()
    with open(tmp_path / "log", "wb") as log:
        with pytest.raises(OutOfTime):
            short.run([sys.executable, "-c", SLEEPER, "60"], log)
        assert 2.9 < time.monotonic() - started < 4
        assert short.is_over
        with pytest.raises(OutOfTime):
            short.run([sys.executable, "-c", "print('began')"], log)
    assert (tmp_path / "log").read_text().split() == ["ready", "saved"]


def test_a_run_that_does_not_stop_is_killed_in_time(tmp_path):
    """It goes on from its last checkpoint."""
    stubborn, started = SLEEPER.replace("sys.exit(130)", "0"), time.monotonic()
    with open(tmp_path / "log", "wb") as log, pytest.raises(OutOfTime):
        Processes(minutes=1.5 / 60).run([sys.executable, "-c", stubborn, "60"], log)
    assert 1.4 < time.monotonic() - started < 3


def test_a_run_that_ends_as_time_does_counts(tmp_path):
    with open(tmp_path / "log", "wb") as log:
        ends_well = SLEEPER.replace("sys.exit(130)", "sys.exit(0)")
        assert Processes(minutes=1.5 / 60).run([sys.executable, "-c", ends_well, "60"], log) == 0


def test_rows_that_time_was_too_short_for_are_told_and_run_next_time(script, run, home, monkeypatch, capsys):
    called = script.__class__.__call__

    def stopped(arguments, log, given):
        if len(script.calls) == 1:
            called(script, arguments, log, given)
            given.stop()
            raise OutOfTime
        return called(script, arguments, log, given)

    monkeypatch.setattr(sweep, "launch", stopped)
    assert run("--minutes", "60") == 0
    out = capsys.readouterr().out
    assert "[2/3] clipped, seed-11711: ... stopped, its state is saved\n" in out
    assert "1 run in" in out
    assert "2 left, the first: clipped, seed-11711; the same command goes on from here" in out
    monkeypatch.setattr(sweep, "launch", script)
    assert run("--minutes", "60") == 0
    assert script.rows == ["plain", "clipped", "clipped", "part"]
    assert script.calls[2][2] is True  # it was gone on with


def test_the_real_script_stops_and_goes_on_to_the_same_bits(tmp_path, tiny_model, tiny_data, monkeypatch, home):
    """By --minutes, which here end once the run's first epochs are there."""
    row = Row("real", "Real", {"tasks": "sst", "lr": 1e-3, "epochs": 40})
    job = jobs.Job(replace(TABLE, rows=(row,)), row, 1)
    extra = {"model": str(tiny_model), "data_dir": str(tiny_data), "skip_test": True}
    monkeypatch.setenv("OMP_NUM_THREADS", "1")

    def swept(given, folder):
        monkeypatch.setattr(places, "RUNS", tmp_path / folder)
        return sweep.Sweep(extra, keep_weights=True, processes=given).run_all([job])

    little = Processes(minutes=60)

    def end_soon():
        log = tmp_path / "stopped" / "experiments" / "demo" / "real" / "seed-1" / "metrics.jsonl"
        while not log.exists():
            time.sleep(0.01)
        little.stop()

    thread = threading.Thread(target=end_soon)
    thread.start()
    assert swept(little, "stopped") == 0
    thread.join()
    assert 0 < len(tiny.metrics(run_folder("real", "seed-1"))) < 40
    assert (run_folder("real", "seed-1") / "state.pt").is_file()
    assert swept(Processes(), "stopped") == 0
    assert swept(Processes(), "whole") == 0
    stopped, whole = (tmp_path / name / "experiments" / "demo" / "real" / "seed-1" for name in ("stopped", "whole"))
    tiny.assert_same_results(stopped, whole)


def test_two_at_once_with_the_real_script(run, home, monkeypatch, capsys):
    rows = tuple(Row(name, name, {"tasks": "sst", "lr": 1e-3, "epochs": 1, "seed": 3}) for name in ("one", "two"))
    rows = (*rows, Row("three", "three", {"tasks": "sst", "lr": 1e-3, "epochs": 1, "max_length": 600}))
    monkeypatch.setitem(TABLES, "demo", replace(TABLE, rows=rows))
    assert run("--jobs", "2") == 1, capsys.readouterr().out  # the model has 512 positions
    out = capsys.readouterr().out
    assert "failed: three, seed-11711: error: --max_length 600" in out
    assert [result_of(name)["machine"]["threads"] for name in ("one", "two")] == [1, 1]
