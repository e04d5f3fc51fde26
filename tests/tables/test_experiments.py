"""Tables, jobs and the runner: what is missing runs and nothing else, and a result says what was computed.

Most tests replace the script by one that writes the files of a run at once; one runs the real script on a tiny model.
"""

import fcntl
import json
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import tiny
from sweeps import TABLE, result_of, shown

import experiments
from experiments import TABLES
from minbert.files import UserError, sha256
from minbert.tables import jobs
from minbert.tables.rows import Row

# ---------------------------------------------------------------------------------------------------- rows as data


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_every_table_of_the_project_is_consistent(table):
    jobs.check(table)


def test_a_row_starts_from_its_base():
    assert jobs.flags_of(TABLE, TABLE.rows[1]) == {
        "epochs": 2, "batch_size": 4, "option": "finetune", "lr": 1e-5, "clip": 0.1
    }  # fmt: skip
    without = replace(TABLE, rows=(*TABLE.rows, Row("back", "", {"clip": None}, base="clipped")))
    assert "clip" not in jobs.flags_of(without, without.rows[3])
    jobs.check(without)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (Row("x", "", {"option": "pretrain"}, base="plain"), None),
        (Row("x", "", {"clip": 0.1, "lr": 1e-5}, base="plain"), "differs from it in clip"),
        (Row("x", "", {"option": "pretrain", "lr": None}, base="plain"), None),
        (
            Row("x", "", {"lr": None, "option": "pretrain", "seed": 11711}, base="plain"),
            "differs from it in lr, option",
        ),
        (Row("x", "", {"lr": 1e-5}, base="plain"), "differs from it in nothing"),
        (Row("x", "", {"clipp": 0.1}), "--clipp"),
        (Row("x", "", {"option": "both"}), "--option"),
        (Row("x", "", {"warmup": 0.1}), "--lr_schedule linear"),
        (Row("x", "", {}, paper={"CFIMDB": 0.9}), "no column CFIMDB"),
        (Row("x", "", {"clip": 1}, base="absent"), "no row absent"),
        (Row("plain", "", {}), "names a row twice"),
    ],
)
def test_a_row_that_is_not_what_it_says_is_refused(row, message):
    table = replace(TABLE, rows=(*TABLE.rows, row))
    if message is None:
        jobs.check(table)
    else:
        with pytest.raises(UserError, match=message):
            jobs.check(table)


def test_a_flag_that_follows_from_another_must_be_listed():
    free = Row("free", "", {})  # takes --lr from --option
    table = replace(TABLE, rows=(free, Row("frozen", "", {"option": "pretrain"}, base="free")))
    with pytest.raises(UserError, match="varies option of free, but differs from it in lr, option"):
        jobs.check(table)


def test_a_budget_wins_over_every_flag_and_leaves_rows_different():
    small = {"epochs": 1, "limit": "sst=5"}
    table = replace(TABLE, budget={"plain": small, "clipped": small})
    jobs.check(table)  # `clipped` still differs from its base in --clip alone
    assert jobs.flags_of(table, TABLE.rows[0]) == {
        "epochs": 1, "batch_size": 4, "option": "finetune", "lr": 1e-5, "limit": "sst=5"
    }  # fmt: skip
    assert jobs.flags_of(table, TABLE.rows[1])["clip"] == 0.1
    same = replace(TABLE, budget={"plain": small, "clipped": {**small, "clip": None}})
    with pytest.raises(UserError, match="its budget makes plain and clipped the same"):
        jobs.check(same)
    with pytest.raises(UserError, match="there is no row absent"):
        jobs.check(replace(TABLE, budget={"absent": small}))


def test_a_row_starts_from_the_weights_of_a_row_above_it():
    for init in ("absent", "late", "below"):
        rows = (TABLE.rows[0], Row("late", "", {"clip": 1}, init=init), Row("below", "", {"clip": 2}))
        with pytest.raises(UserError, match=f"starts from {init}, which is no row above it"):
            jobs.check(replace(TABLE, rows=rows))


@pytest.mark.parametrize(
    ("flags", "fraction", "limit"),
    [
        ({}, 1.0, None),
        ({}, 0.25, "sst=0.25,quora=0.25,sts=0.25"),
        ({"limit": "quora=14057"}, 0.25, "sst=0.25,quora=3514,sts=0.25"),
        ({"limit": "quora=0.1"}, 0.05, "sst=0.05,quora=0.005,sts=0.05"),
        ({"tasks": "sst", "limit": "sst=3"}, 0.1, "sst=1"),
        ({"limit": "quora=14057"}, 1.0, "quora=14057"),
    ],
)
def test_a_fraction_becomes_a_limit(flags, fraction, limit):
    job = jobs.Job(replace(TABLE, rows=()), Row("x", "", flags), 11712, fraction)
    assert job.flags.get("limit") == limit
    assert job.flags["seed"] == 11712
    assert job.name == "seed-11712" + (f"-fraction-{fraction}" if fraction < 1 else "")
    jobs.resolve(job.flags)


# -------------------------------------------------------------------------------------------------------- running


def test_what_is_missing_runs_and_what_is_there_does_not(script, run, home, capsys):
    assert run("--seeds", "2") == 0
    assert script.rows == ["plain", "clipped", "part"] * 2  # every row once before any row twice
    assert [flags.seed for _, flags, _ in script.calls] == [11711] * 3 + [11712] * 3
    assert all(flags.resume is True for _, flags, _ in script.calls)
    assert "[6/6] part, seed-11712: ... done: SST 0.500, F1 of neutral 0.300, STS 0.250, score 0.600" in (
        capsys.readouterr().out
    )

    assert run("--seeds", "3", "--only", "plain", "part") == 0
    assert script.rows[6:] == ["plain", "part"]
    assert run("--seeds", "3", "--only", "plain", "part") == 0
    assert len(script.calls) == 8
    (home / "results/demo/part/seed-11712.json").unlink()
    assert run("--seeds", "3") == 0
    assert [(row, flags.seed) for row, flags, _ in script.calls[8:]] == [("part", 11712), ("clipped", 11713)]


def test_a_result_says_what_was_computed(script, run, home, tiny_data, tiny_model):
    run("--only", "part", "--fraction", "0.5")
    result = result_of(home, "part", "seed-11711-fraction-0.5")
    assert {key: result[key] for key in ("table", "row", "seed", "fraction")} == {
        "table": "demo", "row": "part", "seed": 11711, "fraction": 0.5
    }  # fmt: skip
    assert result["flags"]["limit"] == {"sst": 0.5, "quora": 7, "sts": 0.25}
    assert result["flags"]["dev_limit"] == {"quora": 9}
    assert result["model"] == {
        "name": Path(tiny_model).name, "source": "a folder", "sha256": sha256(Path(tiny_model) / "model.safetensors")
    }  # fmt: skip
    assert result["data"]["quora-train.csv"]["train"] == {
        "file": "{data_dir}/quora-train.csv", "rows": 20, "sha": "0", "sha256": sha256(tiny_data / "quora-train.csv")
    }  # fmt: skip
    assert result["data_from"] == tiny_data.name
    assert result["machine"] == {"device": "abacus", "threads": 2}
    assert [line["epoch"] for line in result["history"]] == [1, 2]
    assert result["scores"]["dev"]["sts"]["pearson"] == 0.25
    time.strptime(result["finished"], "%Y-%m-%d %H:%M:%S %z")
    assert str(tiny_data) not in json.dumps(result)  # nothing of where on this machine things lie


def test_weights_go_once_the_result_is_saved(script, run, home):
    run("--only", "plain")
    kept = {path.name for path in (home / "runs/demo/plain/seed-11711").iterdir()}
    assert kept == {"config.json", "metrics.jsonl", "scores.json"}
    run("--only", "clipped", "--keep_weights")
    kept = {path.name for path in (home / "runs/demo/clipped/seed-11711").iterdir()}
    assert kept >= {"state.pt", "model.safetensors", "bert"}


def test_changed_flags_run_again(script, run, home, monkeypatch, capsys):
    run()
    changed = replace(TABLE, rows=(TABLE.rows[0], replace(TABLE.rows[1], flags={"clip": 0.2}), TABLE.rows[2]))
    monkeypatch.setitem(TABLES, "demo", changed)
    text, rows = shown(capsys)
    assert "Open: clipped (changed since it ran)." in text
    assert rows["Clipped"]["SST"] == ""
    run()
    assert script.rows[3:] == ["clipped"]
    assert script.calls[3][2] is False  # into an empty folder: the old run is not continued
    assert "again (clip was 0.1, now 0.2)" in capsys.readouterr().out
    assert result_of(home, "clipped")["flags"]["clip"] == 0.2


def test_other_data_or_another_model_runs_again_and_the_same_elsewhere_does_not(
    script, run, home, tmp_path, tiny_data, tiny_model, capsys
):
    data = shutil.copytree(tiny_data, tmp_path / "moved")
    run("--only", "plain")
    run("--only", "plain", data=data)
    assert len(script.calls) == 1
    (data / "sts-train.csv").write_text((data / "sts-train.csv").read_text() + "\n")
    run("--only", "plain", data=data)
    assert "sts-train.csv is not the file it was" in capsys.readouterr().out
    run("--only", "plain", data=data, model=tiny.make_checkpoint(tmp_path / "other", seed=1))
    assert "the model was tiny, now" in capsys.readouterr().out
    assert len(script.calls) == 3


def test_a_flag_that_is_new_since_counts_as_its_default(script, run, home):
    run("--only", "plain")
    path = home / "results/demo/plain/seed-11711.json"
    result = tiny.read_json(path)
    del result["flags"]["attention"]
    path.write_text(json.dumps(result))
    run("--only", "plain")
    assert len(script.calls) == 1
    result["flags"]["attention"] = "fused"
    path.write_text(json.dumps(result))
    run("--only", "plain")
    assert len(script.calls) == 2


def test_a_killed_sweep_goes_on_where_it_was(script, run, home, capsys):
    script.interrupt = 2
    assert run() == 130
    assert script.rows == ["plain", "clipped"]
    assert "goes on from here" in capsys.readouterr().out
    assert run() == 0
    assert script.rows[2:] == ["clipped", "part"]
    assert script.calls[2][2] is True  # the half-done run is continued
    assert "state.pt" not in [path.name for path in (home / "runs/demo/clipped/seed-11711").iterdir()]


def test_a_half_done_run_of_other_flags_is_not_continued(script, run, monkeypatch):
    script.interrupt = 1
    run("--only", "plain")
    monkeypatch.setitem(TABLES, "demo", replace(TABLE, flags={**TABLE.flags, "epochs": 3}))
    assert run("--only", "plain") == 0
    assert script.calls[1][2] is False


def test_a_failing_row_is_reported_and_the_rest_goes_on(script, run, home, capsys):
    script.fail = {"plain": 2}
    assert run() == 1
    out = capsys.readouterr().out
    assert "[1/3] plain, seed-11711: ... FAILED: error: out of memory (exit code 2" in out
    assert "2 run" in out
    assert "1 failed" in out
    assert not (home / "results/demo/plain").exists()
    script.fail = {}
    assert run() == 0
    assert script.rows == ["plain", "clipped", "part", "plain"]


def test_a_row_that_another_process_runs_is_left_to_it(script, run, home, capsys):
    log = home / "runs/demo/plain/seed-11711.log"
    log.parent.mkdir(parents=True)
    with open(log, "ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        assert run() == 1
    assert "another process is running it" in capsys.readouterr().out
    assert script.rows == ["clipped", "part"]
    assert run() == 0


CHILD = """
import signal, sys, time
def save(*_):
    print("saved", flush=True); sys.exit(130)
signal.signal(signal.SIGTERM, save)
print("ready", flush=True)
time.sleep(20)
"""


def test_when_we_are_stopped_the_run_saves_its_state_first(tmp_path):
    log = tmp_path / "log"

    def interrupt_when_ready():
        while not log.exists() or "ready" not in log.read_text():
            time.sleep(0.01)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    thread = threading.Thread(target=interrupt_when_ready)
    with pytest.raises(KeyboardInterrupt), open(log, "ab") as out:  # noqa: PT012
        thread.start()
        experiments.launch([sys.executable, "-c", CHILD], out)
    thread.join()
    assert log.read_text().split() == ["ready", "saved"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("run", "absent"), "no table absent; there are minbert"),
        (("show", "absent"), "no table absent"),
        (("compare", "demo", "plain", "absent"), "no row absent"),
        (("compare", "demo", "plain", "part"), "plain and part of table demo have no seed, model and data in common"),
        (("compare", "demo", "plain", "part", "--column", "RTE"), "no column RTE; its columns: SST, F1 of neutral"),
        (("run", "demo", "--only", "absent"), "no row absent; its rows: plain, clipped, part"),
        (("run", "demo", "--seeds", "0"), "--seeds 0"),
        (("run", "demo", "--fraction", "1.5"), "--fraction 1.5"),
        (("run", "demo", "--fraction", "0"), "--fraction 0.0"),
        (("run", "demo", "--data_dir", "/absent"), "/absent: no such folder"),
    ],
)
def test_mistakes_are_one_line(script, capsys, arguments, message):
    assert experiments.main(arguments) == 2
    assert message in capsys.readouterr().err
    assert script.calls == []


def test_a_damaged_result_is_named(script, run, home, capsys):
    run("--only", "plain")
    (home / "results/demo/plain/seed-11711.json").write_text('{"half')
    assert run("--only", "plain") == 1
    assert "seed-11711.json: not JSON" in capsys.readouterr().out


def test_list_names_every_row(capsys):
    assert experiments.main(["list"]) == 0
    out = capsys.readouterr().out
    for table in TABLES.values():
        assert table.name in out
        assert all(row.name in out for row in table.rows)


def test_help_needs_neither_torch_nor_matplotlib():
    code = (
        "import sys\nimport experiments\n"
        "try:\n    experiments.main(['--help'])\nexcept SystemExit:\n    pass\n"
        "print([name for name in ('torch', 'matplotlib', 'numpy', 'tokenizers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=jobs.HERE, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


# ------------------------------------------------------------------------------------------------- the real script


def test_the_real_script_under_the_runner(run, home, monkeypatch, tiny_data, capsys):
    row = Row("real", "Real", {"tasks": "sst", "lr": 1e-3, "epochs": 1}, paper={"SST": 0.5})
    monkeypatch.setitem(TABLES, "demo", replace(TABLE, rows=(row,)))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert run("--fraction", "0.5") == 0, capsys.readouterr().out
    result = result_of(home, "real", "seed-11711-fraction-0.5")
    assert result["data"]["sst"]["train"]["rows"] == 10  # of 20
    assert result["data"]["sst"]["train"]["sha256"] == sha256(tiny_data / "ids-sst-train.csv")
    assert result["history"][0]["dev"]["sst"]["accuracy"] == result["scores"]["dev"]["sst"]["accuracy"]
    folder = home / "runs/demo/real/seed-11711-fraction-0.5"
    assert (folder / "predictions").is_dir()
    assert not list(folder.glob("*.safetensors"))
    assert not (folder / "state.pt").exists()
    stamp = folder.stat().st_mtime_ns
    assert run("--fraction", "0.5") == 0
    assert folder.stat().st_mtime_ns == stamp
    _, rows = shown(capsys)
    assert rows["Real"]["fraction"] == "0.5"
    assert rows["Real"]["SST"] == f"{result['scores']['dev']['sst']['accuracy']:.3f} (0.500)"
