"""The semi-supervised tables: what the papers print, what the rows ask for, and files of text under names that hold on
every machine, whose content decides whether a result stands."""

import json
import shutil
from dataclasses import replace

import pytest
import tiny
from sweeps import TABLE, Script, forget, paper, resolved, result_of, shown

import experiments
from minbert.files import UserError, sha256
from minbert.tables import places, record, sweep, text_files
from minbert.tables.catalogue import TABLES
from minbert.tables.rows import Row
from minbert.tables.semi import CHAT, SEMI_TABLES
from minbert.text.rows import read_augmented, read_rows

# ----------------------------------------------------------------------------------------------- the papers' figures


@pytest.mark.parametrize(
    ("row", "figures"),
    [
        ("yan2/baseline", {"SST": 0.501, "Quora": 0.829, "STS": 0.852, "score": 0.752}),
        ("yan2/tsa", {"SST": 0.520, "Quora": 0.836, "STS": 0.861, "score": 0.762}),
        ("yan2/uda", {}),
        ("yan2/back_translation", {"SST": 0.520, "Quora": 0.821, "STS": 0.862, "score": 0.758}),
        ("yan2/sentence_completion", {"SST": 0.506, "Quora": 0.820, "STS": 0.853, "score": 0.751}),
        ("yan2/random_mask", {"SST": 0.520, "Quora": 0.808, "STS": 0.827, "score": 0.747}),
        (
            "yan3/final",
            {"SST": 0.520, "Quora": 0.836, "STS": 0.861, "score": 0.762, "SST test": 0.517, "Quora test": 0.839,
             "STS test": 0.866, "score test": 0.763},
        ),
        ("yan-a2/original", {"SST": 0.501, "Quora": 0.829, "STS": 0.852, "score": 0.752}),
        ("yan-a2/mlm", {}),
        ("yan-a2/back_translation", {"SST": 0.510, "Quora": 0.826, "STS": 0.802, "score": 0.746}),
        ("yan-a2/random_mask", {"SST": 0.470, "Quora": 0.781, "STS": 0.723, "score": 0.704}),
        ("yan-a2/sentence_completion", {"SST": 0.411, "Quora": 0.728, "STS": 0.630, "score": 0.651}),
        ("qin-teacher/sst", {"SST": 0.516, "Quora": 0.463, "STS": 0.248, "mean": 0.409}),
        ("qin-teacher/sst-teacher", {"SST": 0.515, "Quora": 0.475, "STS": 0.245, "mean": 0.417}),
        ("qin-teacher/quora-teacher", {"SST": 0.197, "Quora": 0.823, "STS": 0.388, "mean": 0.469}),
        ("qin-teacher/sts-teacher", {"SST": 0.203, "Quora": 0.594, "STS": 0.722, "mean": 0.506}),
        ("qin-teacher/specialised", {"SST": 0.493, "Quora": 0.748, "STS": 0.654, "mean": 0.632}),
        ("qin-teacher/teacher-kl", {"SST": 0.519, "Quora": 0.746, "STS": 0.727, "mean": 0.664}),
        ("qin-teacher/teacher-mse", {}),
        ("qin2-teacher/teacher-kl", {"SST test": 0.529, "Quora test": 0.744, "STS test": 0.677, "mean test": 0.650}),
    ],
)  # fmt: skip
def test_figures_of_the_papers(row, figures):
    assert paper(row) == figures
    if row.split("/")[0] + "-cpu" in TABLES:
        assert paper(row.replace("/", "-cpu/")) == figures


def test_averages_follow_from_the_other_columns():
    """score counts a correlation r as (r + 1) / 2: a figure typed wrong shows. The paper's own 0.417 is 0.412."""
    of_yan = [row.paper for table in ("yan2", "yan-a2", "yan3") for row in TABLES[table].rows if row.paper]
    assert len(of_yan) == 5 + 4 + 1
    for figures in of_yan:
        for end in ("", " test") if "score test" in figures else ("",):
            three = figures[f"SST{end}"] + figures[f"Quora{end}"] + (figures[f"STS{end}"] + 1) / 2
            assert figures[f"score{end}"] == pytest.approx(three / 3, abs=0.0011)
    for row in TABLES["qin-teacher"].rows:
        if row.paper and row.name != "sst-teacher":
            three = row.paper["SST"] + row.paper["Quora"] + row.paper["STS"]
            assert row.paper["mean"] == pytest.approx(three / 3, abs=0.0011)


# ------------------------------------------------------------------------------------------------ what the rows ask for

TRAINING_TEXT = {task: f"{{data_dir}}/{file}-train.csv" for task, file in
                 (("sst", "ids-sst"), ("quora", "quora"), ("sts", "sts"))}  # fmt: skip
TFIDF = {task: f"tfidf({file})" for task, file in TRAINING_TEXT.items()}
FEW = {"lr": 5e-5, "lr_schedule": "linear", "batch_size": 8, "epochs": 3, "epoch_steps": 100, "option": "finetune"}
SIZE = {"limit": dict.fromkeys(TFIDF, 6040), "epochs": 2, "lr": 5e-5, "patience": None, "dev_limit": {"quora": 2000}}


@pytest.mark.parametrize(
    ("row", "flags"),
    [
        ("few-sst/supervised-10", {**FEW, "tasks": ["sst"], "labels_per_class": 10, "unlabeled": {}, "tsa": None}),
        ("few-sst/tsa-100", {**FEW, "labels_per_class": 100, "tsa": "linear", "unlabeled": {}}),
        (
            "few-quora/uda-10",
            {**FEW, "tasks": ["quora"], "unlabeled": {"quora": "{unlabelled_dir}/quora.tsv"}, "mean_teacher": None,
             "uda": {"quora": "tfidf({unlabelled_dir}/quora.tsv)"}, "labels_per_class": 10},
        ),
        (
            "few-sts/teacher-4",
            {**FEW, "sts_head": "classification", "unlabeled": {"sts": "{unlabelled_dir}/sts.tsv"}, "uda": {},
             "mean_teacher": "kl", "ema_decay": 0.99, "tsa": None, "labels_per_class": 4},
        ),
        (
            "few-imdb/uda-10",
            {**FEW, "tasks": ["imdb"], "max_length": 128, "labels_per_class": 10,
             "unlabeled": {"imdb": "{imdb_dir}/unsup.jsonl.gz"}, "uda": {"imdb": "tfidf({imdb_dir}/unsup.jsonl.gz)"}},
        ),
        ("yan2/baseline", {"tsa": None, "epochs": 10, "sts_head": "classification", "clip": 0.1, "lr": 1e-5}),
        ("yan2/tsa", {"tsa": "linear", "epochs": 50, "patience": 10, "limit": {"quora": 14057}, "uda": {}}),
        ("yan2/uda", {"tsa": "linear", "uda": TFIDF, "unlabeled": {}, "uda_threshold": 0.8, "uda_temperature": 0.4}),
        ("yan-f2/exp", {"tsa": "exp", "epochs": 10, "patience": None}),
        ("yan2-cpu/baseline", {**SIZE, "tsa": None}),
        ("yan2-cpu/uda", {**SIZE, "tsa": "linear", "uda": TFIDF}),
        ("yan-f2-cpu/log", {**SIZE, "tsa": "log"}),
        ("yan-a2/original", {"train_on_augmented": {}, "sts_head": "regression", "limit": {"quora": 14057}}),
        ("yan-a2/tfidf", {"train_on_augmented": TFIDF, "sts_head": "regression", "epochs": 10, "uda": {}}),
        ("yan-a2-cpu/tfidf", {"train_on_augmented": TFIDF, "limit": dict.fromkeys(TFIDF, 4000), "epochs": 1}),
        ("qin-teacher/teacher-mse", {"mean_teacher": "mse", "schedule": "balanced_round_robin", "step": "per_task"}),
        ("qin-teacher-cpu/sts-teacher", {"tasks": ["sts"], "sts_head": "linear", "mean_teacher": "kl", "epochs": 1}),
        ("qin-teacher-cpu/teacher-kl", {"limit": {"sst": 240, "quora": 4000, "sts": 170}, "epochs": 8}),
    ],
)  # fmt: skip
def test_flags_of_the_rows(row, flags):
    found = resolved(row)
    assert {name: found[name] for name in flags} == flags


@pytest.mark.parametrize(
    "names",
    [
        ("yan2/baseline", "yan-f2/none"),
        ("yan2/tsa", "yan3/final"),
        ("yan-a2/original", "yan1/fused"),
        ("yan-a2-cpu/original", "yan1-cpu/fused"),
        ("yan2-cpu/baseline", "yan-f2-cpu/none"),
        ("yan2-cpu/tsa", "yan-f2-cpu/linear", "yan3-cpu/final"),
        ("qin1/sst", "qin-teacher/sst"),
        ("qin1/specialised", "qin-teacher/specialised"),
        ("qin-teacher/teacher-kl", "qin2-teacher/teacher-kl"),
        ("qin1-cpu/sst", "qin-teacher-cpu/sst"),
        ("qin1-cpu/specialised", "qin-teacher-cpu/specialised"),
    ],
    ids="=".join,
)
def test_rows_of_several_tables_that_are_one_run(names):
    flags = [{**resolved(name), "run_dir": None} for name in names]
    assert all(found == flags[0] for found in flags)


def test_every_method_of_a_few_labels_stands_beside_the_same_run_without_it():
    for name in ("few-sst", "few-quora", "few-sts", "few-imdb"):
        for row in TABLES[name].rows:
            assert row.base is None or row.base == f"supervised-{row.name.split('-')[1]}"
    assert len(TABLES["few-sst"].rows) == 8


def test_all_names_of_files_are_portable_and_only_chat_models_copies_are_missing():
    for table in SEMI_TABLES:
        for row in table.rows:
            flags = resolved(f"{table.name}/{row.name}")
            for name in [file for flag in text_files.FLAGS for file in flags[flag].values()]:
                source = name if "(" not in name else name.partition("(")[2].rstrip(")")
                assert source.startswith(("{data_dir}/", "{unlabelled_dir}/", "{imdb_dir}/")), name
                if "(" in name:
                    assert (name.partition("(")[0] in text_files.MADE_HERE) == (row.name not in CHAT)


# ---------------------------------------------------------------------------------------------------- names of files


def test_a_name_as_this_machine_has_it(tmp_path, tiny_data):
    folders, kept = {"data_dir": str(tiny_data), "unlabelled_dir": str(tmp_path / "a (1), b")}, tmp_path / "kept"
    assert text_files.local("{data_dir}/x.csv", folders, kept) == f"{tiny_data}/x.csv"
    assert text_files.local("sst={unlabelled_dir}/x.tsv", folders, kept) == f"sst={tmp_path}/a (1), b/x.tsv"
    path = text_files.local("eda({data_dir}/quora-train.csv)", folders, kept)
    digest = sha256(tiny_data / "quora-train.csv")
    assert path == str(kept / f"eda-{digest[:16]}.tsv")
    assert len(read_augmented(path).texts) == tiny.ROWS["quora"][0]
    assert [file.name for file in kept.iterdir()] == [f"eda-{digest[:16]}.tsv"]


def test_copies_may_have_a_share_of_their_own(tmp_path, tiny_data):
    source = tiny_data / "quora-train.csv"
    path = text_files.local(f"tfidf@0({source})", {}, tmp_path)
    assert path == str(tmp_path / f"tfidf@0-{sha256(source)[:16]}.tsv")
    assert read_augmented(path).texts == read_rows(source).texts
    assert read_augmented(text_files.local(f"tfidf@0.5({source})", {}, tmp_path)).texts != read_rows(source).texts


def test_what_a_name_cannot_be_is_said(tmp_path, tiny_data):
    folders = {"data_dir": str(tiny_data)}
    for name, message in [
        ("{unlabelled_dir}/sst.tsv", "say where that is with --unlabelled_dir"),
        ("tfidf({unlabelled_dir}/sst.tsv)", "say where that is with --unlabelled_dir"),
        ("tfidf({data_dir}/absent.tsv)", "absent.tsv: no such file"),
        ("back_translation({data_dir}/sts-train.csv)", "back_translation copies cannot be made here; lay those of"),
    ]:
        with pytest.raises(UserError, match=message):
            text_files.local(name, folders, tmp_path / "kept")
    assert not (tmp_path / "kept").exists()


def test_copies_made_elsewhere_are_taken_where_they_lie(tmp_path, tiny_data):
    path = tmp_path / f"random_mask-{sha256(tiny_data / 'sts-train.csv')[:16]}.tsv"
    path.write_text("id\tsentence1\tsentence2\tmethod\n")
    found = text_files.local("random_mask({data_dir}/sts-train.csv)", {"data_dir": str(tiny_data)}, tmp_path)
    assert found == str(path)


# ------------------------------------------------------------------------------------------------- rows with such files

TEXTS = replace(
    TABLE,
    columns={
        "SST": "dev.sst.accuracy",
        "teacher": "teacher.dev.sst.accuracy",
        "UDA kept": "last_epoch.kept.sst UDA kept",
    },
    rows=(
        Row("plain", "Plain", {"tasks": "sst", "dev_limit": "sst=5"}),
        Row(
            "uda",
            "UDA",
            {"unlabeled": "sst={unlabelled_dir}/sst.tsv", "uda": "sst=tfidf({unlabelled_dir}/sst.tsv)"},
            base="plain",
        ),
    ),
)


class TextScript(Script):
    """A stand-in whose runs also read the files of --unlabeled and --uda, and leave a teacher and a kept share."""

    def __call__(self, arguments, log, processes):
        code = super().__call__(arguments, log, processes)
        folder = self.calls[-1][1].run_dir
        scores = tiny.read_json(f"{folder}/scores.json") | {"teacher": {"dev": {"sst": {"accuracy": 0.6}}}}
        with open(f"{folder}/scores.json", "w") as f:
            json.dump(scores, f)
        lines = [{"epoch": e, "kept": {"sst UDA kept": e / 8}, "dev": scores["dev"], "teacher": scores["teacher"]}
                 for e in (1, 2)]  # fmt: skip
        with open(f"{folder}/metrics.jsonl", "w") as f:
            f.writelines(json.dumps(line) + "\n" for line in lines)
        return code

    @staticmethod
    def config(flags):
        config = Script.config(flags)
        for split, files in (("unlabelled", flags.unlabeled), ("augmented", flags.uda)):
            for task, file in files.items():
                config["data"].setdefault(task, {})[split] = {"file": file, "rows": 3, "sha": "0"}
        return config


@pytest.fixture
def fresh(tmp_path):
    """A folder of text without labels."""
    folder = tmp_path / "fresh text"
    folder.mkdir()
    (folder / "sst.tsv").write_text("id\tsentence\n" + "".join(f"u{i}\tthe film {i} was a film\n" for i in range(9)))
    return folder


@pytest.fixture
def texts(home, run, monkeypatch):
    fake = TextScript()
    monkeypatch.setattr(sweep, "launch", fake)
    monkeypatch.setitem(TABLES, "demo", TEXTS)
    return fake


def test_the_run_gets_this_machines_files_and_the_result_the_tables_names(texts, run, home, fresh):
    assert run("--unlabelled_dir", str(fresh)) == 0
    flags = texts.calls[1][1]
    copies = places.experiments() / "augmented" / f"tfidf-{sha256(fresh / 'sst.tsv')[:16]}.tsv"
    assert flags.unlabeled == {"sst": str(fresh / "sst.tsv")}
    assert flags.uda == {"sst": str(copies)}
    assert read_augmented(copies).texts.keys() == {f"u{i}" for i in range(9)}
    result = result_of("uda")
    assert result["flags"]["uda"] == {"sst": "tfidf({unlabelled_dir}/sst.tsv)"}
    assert result["flags"]["unlabeled"] == {"sst": "{unlabelled_dir}/sst.tsv"}
    assert result["data"]["sst"] == {
        "unlabelled": {
            "file": "{unlabelled_dir}/sst.tsv", "rows": 3, "sha": "0", "sha256": sha256(fresh / "sst.tsv")
        },
        "augmented": {
            "file": "tfidf({unlabelled_dir}/sst.tsv)", "rows": 3, "sha": "0", "sha256": sha256(copies)
        },
    }  # fmt: skip
    assert result["data_from"] == result_of("plain")["data_from"]
    assert str(home) not in json.dumps(result)
    assert not {"unlabelled_dir", "imdb_dir"} & result["flags"].keys()


def test_text_that_moved_is_the_same_and_text_that_changed_is_not(texts, run, home, fresh, tmp_path, capsys):
    run("--unlabelled_dir", str(fresh))
    moved = shutil.copytree(fresh, tmp_path / "moved")
    shutil.rmtree(places.experiments() / "augmented")  # made again, to the same bytes
    assert run("--unlabelled_dir", str(moved)) == 0
    assert len(texts.calls) == 2
    with open(moved / "sst.tsv", "a") as f:
        f.write("u99\tone more film\n")
    assert run("--unlabelled_dir", str(moved)) == 0
    assert texts.rows[2:] == ["uda"]
    assert "again (" in capsys.readouterr().out
    copies = next(path for path in (places.experiments() / "augmented").iterdir() if "u99" in path.read_text())
    assert texts.calls[2][1].uda == {"sst": str(copies)}
    with open(copies, "a") as f:
        f.write("u100\tsomebody else's copy\ttfidf\n")
    run("--unlabelled_dir", str(moved))
    assert "tfidf-" in capsys.readouterr().out
    assert texts.rows[3:] == ["uda"]


def test_another_name_is_another_experiment(texts, run, fresh, monkeypatch, capsys):
    run("--unlabelled_dir", str(fresh))
    other = replace(TEXTS.rows[1], flags={**TEXTS.rows[1].flags, "uda": "sst=eda({unlabelled_dir}/sst.tsv)"})
    monkeypatch.setitem(TABLES, "demo", replace(TEXTS, rows=(TEXTS.rows[0], other)))
    text, _ = shown(capsys)
    assert "Open: uda (changed since it ran)." in text
    run("--unlabelled_dir", str(fresh))
    assert texts.rows[2:] == ["uda"]
    assert "now {'sst': 'eda({unlabelled_dir}/sst.tsv)'}" in capsys.readouterr().out


def test_a_half_done_run_with_text_goes_on(texts, run, fresh):
    texts.interrupt = 2
    assert run("--unlabelled_dir", str(fresh)) == 130
    assert run("--unlabelled_dir", str(fresh)) == 0
    assert texts.rows == ["plain", "uda", "uda"]
    assert texts.calls[2][2] is True


def test_only_rows_that_need_the_text_ask_for_it(texts, run, capsys):
    assert run() == 1
    out = capsys.readouterr().out
    assert texts.rows == ["plain"]
    assert "FAILED: sst={unlabelled_dir}/sst.tsv: say where that is with --unlabelled_dir" in out
    assert experiments.main(["run", "demo", "--unlabelled_dir", "/absent"]) == 2
    assert "/absent: no such folder" in capsys.readouterr().err


def test_the_teachers_figure_and_the_kept_share_of_the_last_epoch_are_shown(texts, run, fresh, capsys):
    run("--unlabelled_dir", str(fresh))
    assert "SST 0.500, teacher 0.600, UDA kept 0.250" in capsys.readouterr().out
    _, rows = shown(capsys)
    assert rows["UDA"]["teacher"] == "0.600*"  # the dev set is cut for the teacher too
    assert rows["UDA"]["UDA kept"] == "0.250"


def test_a_run_without_test_predictions_does_not_stand_for_one_with_them(script, run, home, monkeypatch, capsys):
    run("--only", "plain")
    assert script.calls[0][1].skip_test
    tested = replace(TABLE, name="tested", columns={**TABLE.columns, "SST test": "test.sst.accuracy"})
    monkeypatch.setitem(TABLES, "demo", tested)
    assert run("--only", "plain") == 0
    assert not script.calls[1][1].skip_test
    monkeypatch.setitem(TABLES, "demo", TABLE)
    forget("plain")
    assert run("--only", "plain") == 0
    assert "the same as tested/plain" in capsys.readouterr().out
    assert len(script.calls) == 2


def test_uda_and_mean_teacher_under_the_real_script(run, home, fresh, monkeypatch, capsys):
    """Every column of the table of a few labels has a figure, from a tiny model."""
    monkeypatch.setattr(sweep, "launch", lambda arguments, log, processes: tiny.script(*arguments[3:]).code)
    table = TABLES["few-sst"]
    small = {"epochs": 1, "epoch_steps": 2, "labels_per_class": 1, "dev_limit": None, "uda_threshold": None}
    rows = ("supervised-10", "tsa-10", "uda-10", "teacher-10")
    small = replace(table, name="demo", budget=dict.fromkeys(rows, small), rows=table.rows[:4])
    monkeypatch.setitem(TABLES, "demo", small)
    assert run("--unlabelled_dir", str(fresh)) == 0, capsys.readouterr().out
    found = {row: result_of(row) for row in rows}
    for row, path in [
        ("supervised-10", "dev.sst.accuracy"),
        ("tsa-10", "last_epoch.kept.sst TSA kept"),
        ("uda-10", "last_epoch.kept.sst UDA kept"),
        ("teacher-10", "teacher.dev.sst.accuracy"),
    ]:
        assert path in table.columns.values()
        assert 0 <= record.figure(found[row], path) <= 1
    assert found["uda-10"]["data"]["sst"]["augmented"]["rows"] == 9
    assert found["uda-10"]["data"]["sst"]["augmented"]["file"] == "tfidf({unlabelled_dir}/sst.tsv)"
