"""The tables of pseudo-labels: what the paper prints, what the rows ask for, which of them are one run, and what a
sweep leaves behind: plain models stay, a grid's attempts are results of their own."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import paper_labeling
import pytest
import tiny
from sweeps import TABLE, Script, forget, paper, resolved, result_of, run_folder, shown

import experiments
import labeling
from minbert.tables import jobs, places, record, standing, sweep
from minbert.tables.catalogue import TABLES
from minbert.tables.labels import ACCURACY, FIVE_CLASSES, LABEL_TABLES, LABELS_2, LABELS_A, TABLE_1_COLUMNS, TITLES
from minbert.tables.rows import Row

TASKS = {"RTE": "rte", "QQP": "qqp", "MNLI": "mnli", "SST-2": "sst2"}
RATES = ("2e-5", "3e-5", "4e-5", "5e-5")


# ----------------------------------------------------------------------------------------------- the paper's figures


def test_the_rows_are_the_papers_settings_under_its_titles():
    assert list(TITLES) == ["plain", *labeling.SCHEMES]
    assert {name: title for name, title in TITLES.items() if name != "plain"} == {
        name: scheme.title for name, scheme in labeling.SCHEMES.items()
    }
    assert tuple(name for name, scheme in labeling.SCHEMES.items() if len(scheme.merging.classes) == 5) == FIVE_CLASSES
    for table in ("labels1", "labels2", "labels2-cpu"):
        assert [row.name for row in TABLES[table].rows] == list(TITLES)
    more = ["plain-mean", "independent-mean", "augmented_independent-mean", "soft_probability-mean", "grid"]
    assert [row.name for row in TABLES["labels1-cpu"].rows] == [*TITLES, *more]


@pytest.mark.parametrize("scheme", TITLES)
def test_table_1_is_the_best_attempt_of_appendix_a(scheme):
    """Section 6: the average of the best rate; the plain models choose theirs each."""
    found = {rate: paper(f"labels-a/{scheme}-{rate}") for rate in RATES}
    if scheme == "plain":
        best = sum(max(found[rate][task] for rate in RATES) for task in ACCURACY) / 4
    else:
        _, best = labeling.best_attempt(found)
    assert paper(f"labels1/{scheme}")["average"] == pytest.approx(best, abs=0.00051)
    assert paper(f"labels1/{scheme}")["average"] == round(paper_labeling.TABLE_1_AVERAGE[scheme] / 100, 3)


@pytest.mark.parametrize("scheme", TITLES)
def test_appendix_a(scheme):
    for attempt, rate in enumerate(RATES):
        printed = {heading: paper_labeling.APPENDIX_A[task][scheme][attempt] for heading, task in TASKS.items()}
        assert paper(f"labels-a/{scheme}-{rate}") == pytest.approx({k: v / 100 for k, v in printed.items()}, abs=1e-9)


@pytest.mark.parametrize("row", LABELS_2.rows, ids=lambda row: row.name)
def test_table_2s_averages_follow_from_its_other_columns(row):
    """(RTE + QQP's F1 + the mean of both MNLI + SST) / 4: a figure typed wrong shows."""
    of = row.paper
    average = (of["RTE"] + of["QQP F1"] + (of["MNLI-m"] + of["MNLI-mm"]) / 2 + of["SST-2"]) / 4
    assert of["average"] == pytest.approx(average, abs=0.0011)


@pytest.mark.parametrize(
    ("row", "figures"),
    [
        ("labels1/plain", {"average": 0.813, "RTE": 0.646, "QQP": 0.908, "MNLI": 0.773, "SST-2": 0.927}),
        ("labels1/independent", {"average": 0.828, "RTE": 0.783, "QQP": 0.906, "MNLI": 0.758, "SST-2": 0.920}),
        ("labels1/soft_independent", {"average": 0.822, "RTE": 0.697, "QQP": 0.895, "MNLI": 0.759, "SST-2": 0.926}),
        ("labels1/augmented_independent", {"average": 0.814, "RTE": 0.681, "QQP": 0.905, "MNLI": 0.756,
                                           "SST-2": 0.924}),
        ("labels1/soft_probability", {"average": 0.842, "RTE": 0.782, "QQP": 0.907, "MNLI": 0.762, "SST-2": 0.919}),
        ("labels1/soft_predicted", {"average": 0.832, "RTE": 0.763, "QQP": 0.905, "MNLI": 0.760, "SST-2": 0.922}),
        ("labels1/hard_predicted", {"average": 0.829, "RTE": 0.774, "QQP": 0.906, "MNLI": 0.753, "SST-2": 0.907}),
        ("labels1/independent_frozen", {"average": 0.825, "RTE": 0.761, "QQP": 0.905, "MNLI": 0.757, "SST-2": 0.914}),
        ("labels1/soft_independent_frozen", {"average": 0.826, "RTE": 0.744, "QQP": 0.904, "MNLI": 0.767,
                                             "SST-2": 0.912}),
        ("labels2/soft_probability", {"average": 0.797, "RTE": 0.727, "QQP F1": 0.707, "MNLI-m": 0.834,
                                      "MNLI-mm": 0.823, "SST-2": 0.925}),
    ],
)  # fmt: skip
def test_figures_of_the_paper(row, figures):
    assert paper(row) == figures
    assert paper(row.replace("/", "-cpu/")) == figures


def test_no_figure_of_the_paper_where_it_has_none():
    for table in ("labels-decode", "labels-cfimdb", "labels-decode-cpu", "labels-cfimdb-cpu"):
        assert not any(row.paper for row in TABLES[table].rows)
    assert "dev sets" in LABELS_2.note
    assert all("277 rows" in table.note for table in LABEL_TABLES)


# ------------------------------------------------------------------------------------------- what the rows ask for

PAPERS = {
    "tasks": ["rte", "qqp", "mnli", "sst2"], "option": "finetune", "epochs": 3, "batch_size": 32, "max_length": 128,
    "lr_schedule": "linear", "warmup": 0.1, "lr": [2e-5, 3e-5, 4e-5, 5e-5], "plain_lr": [2e-5, 3e-5, 4e-5, 5e-5],
    "limit": {}, "dev_limit": {},
}  # fmt: skip
SMALL = {
    **PAPERS, "epochs": 2, "lr": 5e-5, "plain_lr": [5e-5], "limit": {"mnli": 4000, "qqp": 4000, "sst2": 4000},
    "dev_limit": {"qqp": 2000},
}  # fmt: skip
FIVE_TASKS = {"tasks": ["rte", "qqp", "mnli", "sst2", "cfimdb"]}


@pytest.mark.parametrize(
    ("row", "flags"),
    [
        ("labels1/plain", {**PAPERS, "label_scheme": "plain"}),
        ("labels1/hard_predicted", {**PAPERS, "label_scheme": "hard_predicted", "literal_eq20": False}),
        ("labels-a/soft_predicted-3e-5", {**PAPERS, "label_scheme": "soft_predicted", "lr": 3e-5}),
        ("labels-a/plain-3e-5", {**PAPERS, "label_scheme": "plain", "lr": 3e-5, "plain_lr": [3e-5]}),
        ("labels-cfimdb/soft_predicted", {**PAPERS, **FIVE_TASKS, "label_scheme": "soft_predicted"}),
        ("labels1-cpu/plain", {**SMALL, "label_scheme": "plain"}),
        ("labels1-cpu/soft_predicted", {**SMALL, "label_scheme": "soft_predicted"}),
        ("labels1-cpu/plain-mean", {**SMALL, "label_scheme": "plain", "pooling": "mean"}),
        ("labels1-cpu/independent-mean", {**SMALL, "label_scheme": "independent", "pooling": "mean"}),
        ("labels1-cpu/grid", {**SMALL, "label_scheme": "independent", "lr": PAPERS["lr"], "plain_lr": PAPERS["lr"]}),
        (
            "labels-a-cpu/independent-2e-5",
            {**SMALL, "label_scheme": "independent", "lr": 2e-5, "plain_lr": PAPERS["lr"]},
        ),
        ("labels-cfimdb-cpu/plain", {**SMALL, **FIVE_TASKS, "label_scheme": "plain"}),
    ],
)
def test_flags_of_the_rows(row, flags):
    found = resolved(row)
    assert {name: found[name] for name in flags} == flags


SHARED = [
    *[(f"labels1{size}/{scheme}", f"labels2{size}/{scheme}") for size in ("", "-cpu") for scheme in TITLES],
    *[(f"labels1{size}/{scheme}", f"labels-decode{size}/{scheme}") for size in ("", "-cpu") for scheme in FIVE_CLASSES],
]


@pytest.mark.parametrize("names", SHARED, ids="=".join)
def test_rows_of_several_tables_that_are_one_run(names):
    one, other = (resolved(name) for name in names)
    assert {**one, "run_dir": None} == {**other, "run_dir": None}


@pytest.mark.parametrize(
    ("tried", "alone"),
    [(f"labels1/{s}", f"labels-a/{s}-{rate}") for s in TITLES if s != "plain" for rate in RATES]
    + [("labels1-cpu/grid", f"labels-a-cpu/independent-{rate}") for rate in RATES],
)
def test_rows_that_are_an_attempt_of_anothers_grid(tried, alone):
    one, other = resolved(tried), resolved(alone)
    assert other["lr"] in one["lr"]
    assert {**one, "lr": other["lr"], "run_dir": None} == {**other, "run_dir": None}


# ---------------------------------------------------------------------------------------------- what a sweep leaves

GRID = replace(
    TABLE,
    columns={**TABLE_1_COLUMNS, "glue": "glue", "mm": "dev_mismatched.mnli.accuracy", "a": "dev_argmax.qqp.accuracy"},
    flags={"tasks": "rte,qqp,mnli,sst2", "option": "finetune", "lr": "2e-5,3e-5", "epochs": 1},
    rows=(
        Row("plain", "Plain", {"label_scheme": "plain"}),
        Row("independent", "Independent", {"label_scheme": "independent"}),
    ),
)
ALONE = replace(
    GRID,
    name="alone",
    flags={**GRID.flags, "plain_lr": "2e-5,3e-5"},
    rows=tuple(Row(rate, rate, {"label_scheme": "independent", "lr": rate}) for rate in ("2e-5", "3e-5", "4e-5")),
)


class LabelScript(Script):
    """A stand-in that also leaves what a grid does, and a plain model; a rate of 2e-5 scores 0.2 everywhere."""

    def __call__(self, arguments, log, processes):
        code = super().__call__(arguments, log, processes)
        flags = self.calls[-1][1]
        folder, grid = Path(flags.run_dir), flags.lr if isinstance(flags.lr, list) else []
        attempts = {}
        for rate in grid:
            attempts[f"{rate:g}"] = self.leave(folder / f"lr-{rate:g}", rate)
        self.leave(folder, max(grid) if grid else flags.lr)
        if grid:
            record = {**self.config(flags), "best": max(grid), "attempts": attempts}
            (folder / "grid.json").write_text(json.dumps(record))
        plain = Path(flags.plain_dir) / "rte-2e-05-0"
        plain.mkdir(parents=True, exist_ok=True)
        (plain / "model.safetensors").write_text("weights")
        return code

    @staticmethod
    def leave(folder, rate):
        value = rate * 1e4
        dev = {task: {"accuracy": value} for task in TASKS.values()}
        scores = {"selection_score": value, "glue": value, "dev": dev, "dev_mismatched": dev, "dev_argmax": dev}
        scores |= {"epochs": 1, "train_seconds": 60.0, "eval_seconds": 0.0}
        folder.mkdir(exist_ok=True)
        (folder / "scores.json").write_text(json.dumps(scores))
        (folder / "metrics.jsonl").write_text(json.dumps({"epoch": 1, "selection_score": value}) + "\n")
        for name in ("state.pt", "model.safetensors"):
            (folder / name).write_text("weights")
        return scores


@pytest.fixture
def labels(home, run, monkeypatch):
    fake = LabelScript()
    monkeypatch.setattr(sweep, "launch", fake)
    monkeypatch.setitem(TABLES, "demo", GRID)
    return fake


def run_alone(monkeypatch, tiny_model, tiny_data, *more):
    monkeypatch.setitem(TABLES, "alone", ALONE)
    return experiments.main(["run", "alone", "--model", str(tiny_model), "--data_dir", str(tiny_data), *more])


def test_plain_models_stay_when_a_rows_weights_go(labels, run, home):
    assert run() == 0
    assert {flags.plain_dir for _, flags, _ in labels.calls} == {str(places.experiments() / "plain")}
    left = {path.relative_to(home / "runs").as_posix() for path in (home / "runs").rglob("*.safetensors")}
    assert left == {
        "experiments/plain/rte-2e-05-0/model.safetensors"
    }  # neither the rows' own nor those of the rates they tried
    assert not list((home / "runs").rglob("state.pt"))


def test_where_plain_models_are_kept_is_neither_saved_nor_compared(labels, run, home, monkeypatch):
    run()
    assert "plain_dir" not in result_of("plain")["flags"]
    assert str(home) not in json.dumps(result_of("plain"))
    shutil.copytree(home / "runs", home / "moved")
    monkeypatch.setattr(places, "RUNS", home / "moved")
    assert run() == 0
    assert len(labels.calls) == 2


def test_plain_rates_that_only_repeat_the_rates_change_nothing(labels, run, monkeypatch, capsys):
    run()
    monkeypatch.setitem(TABLES, "demo", replace(GRID, flags={**GRID.flags, "plain_lr": "2e-5,3e-5"}))
    run()
    assert len(labels.calls) == 2
    monkeypatch.setitem(TABLES, "demo", replace(GRID, flags={**GRID.flags, "plain_lr": "2e-5"}))
    run()
    assert "again (plain_lr was [2e-05, 3e-05], now [2e-05])" in capsys.readouterr().out
    assert len(labels.calls) == 4


def test_a_rate_that_a_grid_tried_is_not_run_again(labels, run, home, monkeypatch, tiny_model, tiny_data, capsys):
    run()
    result = result_of("independent")
    assert result["flags"]["lr"] == [2e-5, 3e-5]
    assert {rate: said["scores"]["glue"] for rate, said in result["attempts"].items()} == pytest.approx(
        {"2e-05": 0.2, "3e-05": 0.3}
    )
    assert run_alone(monkeypatch, tiny_model, tiny_data) == 0
    assert labels.rows[2:] == ["4e-5"]
    out = capsys.readouterr().out
    assert "2e-5, seed-11711: the same as demo/independent at 2e-05, which is there: average 0.200, RTE 0.200" in out
    taken = result_of("2e-5", table="alone")
    assert (taken["row"], taken["flags"]["lr"], taken["ran_as"]) == ("2e-5", 2e-5, "demo/independent at 2e-05")
    assert taken["history"] == [{"epoch": 1, "selection_score": pytest.approx(0.2)}]
    assert "attempts" not in taken
    assert run_alone(monkeypatch, tiny_model, tiny_data, "--seeds", "2", "--only", "2e-5") == 0
    assert labels.rows[3:] == ["2e-5"]  # another seed was not tried


def test_a_grid_that_was_stopped_is_continued(labels, run, home, tiny_model):
    """Until it is done it has no config.json, and its attempts are all there is to save."""
    run("--only", "independent")
    folder = run_folder("independent")
    forget("independent")
    (folder / "config.json").unlink()
    assert run("--only", "independent") == 0
    assert len(labels.calls) == 2
    assert result_of("independent") is not None
    job = jobs.Job(GRID, GRID.rows[1], 11711)
    (folder / "config.json").unlink()
    flags = {"model": str(tiny_model), "skip_test": True, **job.flags}
    assert standing.can_continue(job, flags)
    with_test = {name: value for name, value in flags.items() if name != "skip_test"}
    assert not standing.can_continue(job, with_test)  # it would leave test predictions out again
    assert not standing.can_continue(job, {**flags, "lr": "2e-5,5e-5"})


def test_figures_on_part_of_a_dev_set_are_marked_wherever_they_are_read(labels, run, monkeypatch, capsys):
    monkeypatch.setitem(TABLES, "demo", replace(GRID, flags={**GRID.flags, "dev_limit": "qqp=9"}))
    run("--only", "independent")
    _, rows = shown(capsys)
    marked = {heading for heading, cell in rows["Independent"].items() if cell.endswith("*")}
    assert marked == {"average", "glue", "QQP", "a"}
    assert rows["Independent"]["mm"] == "0.300"


# ------------------------------------------------------------------------------------------------- the real script


def test_every_column_has_a_figure_and_a_grid_goes_on_under_the_real_script(run, home, monkeypatch, capsys):
    """All columns of all label tables, from three rows of a tiny model on the sample data."""

    def launch(arguments, log, processes):
        outcome = tiny.script(*arguments[3:])
        log.write(outcome.err.encode())
        log.flush()
        return outcome.code

    monkeypatch.setattr(sweep, "launch", launch)
    flags = {"option": "finetune", "epochs": 1, "batch_size": 16, "max_length": 32, "lr": 1e-3}
    few = ",".join(f"{task}=32" for task in TASKS.values())
    flags |= {"tasks": ",".join(TASKS.values()), "limit": few, "dev_limit": few}
    columns = {path: path for table in LABEL_TABLES for path in table.columns.values() if "cfimdb" not in path}
    rows = (
        *(Row(scheme, scheme, {"label_scheme": scheme}) for scheme in ("plain", "soft_predicted")),
        Row("grid", "Grid", {"label_scheme": "soft_probability", "lr": "1e-3,2e-3"}),
    )
    monkeypatch.setitem(TABLES, "demo", replace(TABLE, columns=columns, flags=flags, rows=rows))
    assert run("--only", "plain") == 0, capsys.readouterr().out
    kept = places.experiments() / "plain"
    plain = {path: path.stat().st_mtime_ns for path in kept.glob("*/model.safetensors")}
    assert sorted(path.parent.name.split("-")[0] for path in plain) == sorted(TASKS.values())
    assert run() == 0, capsys.readouterr().out
    assert {
        path: path.stat().st_mtime_ns for path in (places.experiments() / "plain").glob("*/model.safetensors")
    } == plain
    for path in columns:
        for row in ("plain", "soft_predicted", "grid"):
            if row != "plain" or not path.startswith("dev_argmax"):  # a plain model is read in one way only
                assert isinstance(record.value_at(result_of(row)["scores"], path), float), (row, path)
    result = result_of("grid")
    assert set(result["attempts"]) == {"0.001", "0.002"}
    assert result["data"]["rte"]["dev"]["file"] == "{glue_dir}/RTE/dev.tsv"

    # a grid killed in its second attempt: the first is not trained again
    folder = run_folder("grid")
    shutil.rmtree(folder / "lr-0.002"), (folder / "config.json").unlink()
    forget("grid")
    stamp = (folder / "lr-0.001" / "scores.json").stat().st_mtime_ns
    assert run("--only", "grid") == 0, capsys.readouterr().out
    assert (folder / "lr-0.001" / "scores.json").stat().st_mtime_ns == stamp
    again = result_of("grid")
    assert {rate: said["scores"]["dev"] for rate, said in again["attempts"].items()} == {
        rate: said["scores"]["dev"] for rate, said in result["attempts"].items()
    }


def test_labels_a_has_a_row_for_each_attempt():
    assert [row.name for row in LABELS_A.rows] == [f"{scheme}-{rate}" for scheme in TITLES for rate in RATES]
