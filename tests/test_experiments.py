"""Tables, runner and report: what is missing runs and nothing else, and the figures shown are those of the runs.

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

import experiments
import jobs
import options
import report
from files import UserError, sha256
from hub import MINILM, SHA256
from tables import TABLES, Row, Table

TABLE = Table(
    name="demo",
    title="A demonstration",
    source="Nobody, Table 1",
    columns={"SST": "dev.sst.accuracy", "F1 of neutral": "dev.sst.f1.2", "STS": "dev.sts.pearson", "score": "score"},
    flags={"epochs": 2, "batch_size": 4, "option": "finetune"},
    rows=(
        Row("plain", "Plain", {"lr": 1e-5}, paper={"SST": 0.511, "score": 0.752}, note="with a note"),
        Row("clipped", "Clipped", {"clip": 0.1}, base="plain"),
        Row("part", "Part", {"limit": "quora=14,sts=0.5", "dev_limit": "quora=9"}, paper={"STS": 0.4}),
    ),
)


class Script:
    """Stands in for multitask_classifier.py: notes its arguments and writes a run's files. `fail` maps a row name to an
    exit code, `interrupt` is the number of calls after which it is interrupted."""

    def __init__(self):
        self.calls, self.fail, self.interrupt, self.accuracy = [], {}, None, {}

    def __call__(self, arguments, log):
        flags = options.check(options.parse(arguments[3:]))
        folder = Path(flags.run_dir)
        row = folder.parent.name
        existed = (folder / "config.json").exists()
        self.calls.append((row, flags, existed))
        config = self.config(flags)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps(config))
        (folder / "state.pt").write_text("half")
        if len(self.calls) == self.interrupt:
            raise KeyboardInterrupt
        if row in self.fail:
            log.write(b"epoch 1\rerror: out of memory\n")
            log.flush()
            return self.fail[row]
        accuracy = self.accuracy.get(flags.seed, 0.5)
        dev = {"sst": {"accuracy": accuracy, "f1": [0.1, 0.2, 0.3, 0.4, 0.5]}, "sts": {"pearson": 0.25}}
        history = [{"epoch": e, "dev": dev, "score": accuracy + 0.1} for e in (1, 2)]
        scores = {"score": accuracy + 0.1, "dev": dev, "epochs": 2, "train_seconds": 100.0, "eval_seconds": 20.0}
        (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in history))
        (folder / "scores.json").write_text(json.dumps(scores))
        (folder / "model.safetensors").write_text("weights")
        (folder / "bert").mkdir(exist_ok=True)
        (folder / "bert" / "model.safetensors").write_text("weights")
        return 0

    @staticmethod
    def config(flags):
        files = [Path(flags.data_dir) / f"{name}-train.csv" for name in ("ids-sst", "quora", "sts")]
        return {
            "flags": options.to_saved(flags),
            "model": {"name": flags.model, "source": "here", "sha256": sha256(Path(flags.model) / "model.safetensors")},
            "data": {path.name: {"train": {"file": str(path), "rows": 20, "sha": "0"}} for path in files},
            "versions": {"python": "3"},
            "machine": {"device": "abacus", "threads": 2},
        }

    @property
    def rows(self):
        return [row for row, _, _ in self.calls]


@pytest.fixture
def home(monkeypatch, tmp_path):
    """Runs, results and tables of this test alone."""
    monkeypatch.setattr(jobs, "RUNS", tmp_path / "runs")
    monkeypatch.setattr(jobs, "RESULTS", tmp_path / "results")
    monkeypatch.setitem(TABLES, "demo", TABLE)
    return tmp_path


@pytest.fixture
def script(home, monkeypatch):
    fake = Script()
    monkeypatch.setattr(experiments, "launch", fake)
    return fake


@pytest.fixture
def run(home, tiny_model, tiny_data):
    """`experiments.py run demo` with more arguments; returns the exit code."""
    before = signal.getsignal(signal.SIGTERM)

    def run_demo(*more, model=tiny_model, data=tiny_data):
        jobs.checkpoint.cache_clear(), jobs.content.cache_clear()  # each call stands for a process of its own
        return experiments.main(["run", "demo", "--model", str(model), "--data_dir", str(data), *more])

    yield run_demo
    signal.signal(signal.SIGTERM, before)


def result_of(home, row, name="seed-11711"):
    return tiny.read_json(home / "results" / "demo" / row / f"{name}.json")


def shown(capsys):
    assert experiments.main(["show", "demo"]) == 0
    text = capsys.readouterr().out
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
    return text, {row[0]: dict(zip(rows[0], row, strict=True)) for row in rows[2:]}


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
    assert "Open: clipped (its flags changed since it ran)." in text
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


# --------------------------------------------------------------------------------------------------------- showing


def test_mean_and_deviation_by_hand(script, run, capsys):
    script.accuracy = {11711: 0.40, 11712: 0.44, 11713: 0.54}
    run("--seeds", "3", "--only", "plain")
    run("--only", "clipped")
    script.accuracy = {11711: 0.1}
    run("--only", "plain", "--fraction", "0.5")
    text, rows = shown(capsys)
    # mean (0.40 + 0.44 + 0.54) / 3 = 0.46; squares 0.0036 + 0.0004 + 0.0064 = 0.0104, over 2 is 0.0052, root 0.0721
    assert "| Plain " in text
    lines = [line for line in text.splitlines() if line.startswith("| Plain ")]
    whole, part = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert whole == ["Plain", "0.460 ± 0.072 (0.511)", "0.300 ± 0.000", "0.250 ± 0.000", "0.560 ± 0.072 (0.752)",
                     "1", "3", "2", "2.0"]  # fmt: skip
    assert part == ["Plain", "0.100 (0.511)", "0.300", "0.250", "0.200 (0.752)", "0.5", "1", "2", "2.0"]
    assert rows["Clipped"]["SST"] == "0.400"  # one seed has no deviation, and the paper no figure
    assert rows["Part"] == {
        "": "Part", "SST": "", "F1 of neutral": "", "STS": "open (0.400)", "score": "", "fraction": "", "seeds": "0",
        "epochs": "", "minutes": "",
    }  # fmt: skip
    assert "Open: part." in text
    assert "- Plain: with a note" in text
    assert "Nobody, Table 1" in text
    assert "abacus" in text
    assert "Quora duplicate pairs" not in text


def test_a_figure_on_part_of_a_dev_set_is_marked(script, run, capsys):
    run()
    _, rows = shown(capsys)
    assert rows["Part"]["score"] == "0.600*"  # Quora, one of the three, was scored on 9 rows
    assert rows["Part"]["STS"] == "0.250 (0.400)"
    assert rows["Plain"]["score"] == "0.600 (0.752)"


def test_models_and_data_are_not_averaged_together(script, run, home, tmp_path, capsys):
    run("--seeds", "2", "--only", "plain")
    path = home / "results/demo/plain/seed-11712.json"
    result = tiny.read_json(path)
    result["model"] = {"name": "minilm", "source": "a package", "sha256": SHA256[MINILM]}
    path.write_text(json.dumps(result))
    text, rows = shown(capsys)
    assert [row["seeds"] for name, row in rows.items() if name.startswith("Plain")] == ["1", "1"]
    assert {name.split(" [")[1].split(",")[0] for name in rows if name.startswith("Plain")} == {"tiny", "minilm"}
    assert "Quora duplicate pairs" in text


def test_pictures_are_drawn_where_asked(script, run, home, tmp_path, capsys):
    assert experiments.main(["show", "demo"]) == 0
    assert "drawn" not in capsys.readouterr().out  # nothing to draw yet
    run("--seeds", "2")
    assert experiments.main(["show", "demo", "--out", str(tmp_path / "pictures")]) == 0
    for name in ("bars.png", "curves.png"):
        assert (tmp_path / "pictures" / name).read_bytes().startswith(b"\x89PNG")


def test_the_curves_are_means_by_epoch_of_trained_tasks(script, run, monkeypatch):
    script.accuracy = {11711: 0.4, 11712: 0.6}
    rows = (*TABLE.rows, Row("sst", "SST alone", {"tasks": "sst"}))
    table = replace(TABLE, rows=rows)
    monkeypatch.setitem(TABLES, "demo", table)
    run("--seeds", "2")
    lines = report.collect(table)
    assert lines[0].history("dev.sst.accuracy") == {1: [0.4, 0.6], 2: [0.4, 0.6]}
    panels = {panel.get_title(): panel for panel in report._curves(table, lines).axes}
    assert len(panels["SST"].lines) == 4
    assert len(panels["STS"].lines) == 3  # the row that trains SST alone has no STS curve
    assert list(panels["SST"].lines[0].get_ydata()) == pytest.approx([0.5, 0.5])
    bars = {panel.get_title(): panel for panel in report._bars(table, lines).axes}
    widths = [bar.get_width() for bar in bars["SST"].patches]
    assert widths == pytest.approx([0.5, 0.511, 0.5, 0.5, 0.5])  # ours, the paper's, and the rows it has not


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
