"""The sweep: what is missing runs and nothing else, and a result says what was computed.

Most tests replace the script by one that writes the files of a run at once; one runs the real script on a tiny model.
"""

import fcntl
import json
import shutil
import signal
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import tiny
from sweeps import TABLE, forget, result_of, run_folder, shown

from minbert.files import sha256
from minbert.tables import store, sweep
from minbert.tables.catalogue import TABLES
from minbert.tables.processes import Processes
from minbert.tables.rows import Row


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
    forget("part", 11712)
    assert run("--seeds", "3") == 0
    assert [(row, flags.seed) for row, flags, _ in script.calls[8:]] == [("part", 11712), ("clipped", 11713)]


def test_a_result_says_what_was_computed(script, run, home, tiny_data, tiny_model):
    run("--only", "part", "--fraction", "0.5")
    result = result_of("part", fraction=0.5)
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
    kept = {path.name for path in run_folder("plain").iterdir()}
    assert kept == {"config.json", "metrics.jsonl", "scores.json"}
    run("--only", "clipped", "--keep_weights")
    kept = {path.name for path in run_folder("clipped").iterdir()}
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
    assert result_of("clipped")["flags"]["clip"] == 0.2


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
    result = result_of("plain")
    del result["flags"]["attention"]
    store.put(TABLE, result)
    run("--only", "plain")
    assert len(script.calls) == 1
    result["flags"]["attention"] = "fused"
    store.put(TABLE, result)
    run("--only", "plain")
    assert len(script.calls) == 2


def test_a_killed_sweep_goes_on_where_it_was(script, run, home, capsys):
    script.interrupt = 2
    assert run() == 130
    assert script.rows == ["plain", "clipped"]
    assert "goes on from here" in capsys.readouterr().err
    assert run() == 0
    assert script.rows[2:] == ["clipped", "part"]
    assert script.calls[2][2] is True  # the half-done run is continued
    assert "state.pt" not in [path.name for path in run_folder("clipped").iterdir()]


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
    assert result_of("plain") is None
    script.fail = {}
    assert run() == 0
    assert script.rows == ["plain", "clipped", "part", "plain"]


def test_a_row_that_another_process_runs_is_left_to_it(script, run, home, capsys):
    log = run_folder("plain").with_suffix(".log")
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
        sweep.launch([sys.executable, "-c", CHILD], out, Processes())
    thread.join()
    assert log.read_text().split() == ["ready", "saved"]


# ------------------------------------------------------------------------------------------------- the real script


def test_the_real_script_under_the_runner(run, home, monkeypatch, tiny_data, capsys):
    row = Row("real", "Real", {"tasks": "sst", "lr": 1e-3, "epochs": 1}, paper={"SST": 0.5})
    monkeypatch.setitem(TABLES, "demo", replace(TABLE, rows=(row,)))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert run("--fraction", "0.5") == 0, capsys.readouterr().out
    result = result_of("real", fraction=0.5)
    assert result["data"]["sst"]["train"]["rows"] == 10  # of 20
    assert result["data"]["sst"]["train"]["sha256"] == sha256(tiny_data / "ids-sst-train.csv")
    assert result["history"][0]["dev"]["sst"]["accuracy"] == result["scores"]["dev"]["sst"]["accuracy"]
    folder = run_folder("real", "seed-11711-fraction-0.5")
    assert (folder / "predictions").is_dir()
    assert not list(folder.glob("*.safetensors"))
    assert not (folder / "state.pt").exists()
    stamp = folder.stat().st_mtime_ns
    assert run("--fraction", "0.5") == 0
    assert folder.stat().st_mtime_ns == stamp
    _, rows = shown(capsys)
    assert rows["Real"]["fraction"] == "0.5"
    assert rows["Real"]["SST"] == f"{result['scores']['dev']['sst']['accuracy']:.3f} (0.500)"
