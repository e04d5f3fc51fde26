"""Rows of tables that need a checkpoint of pretraining.py: as their model, or to fill in words of their texts."""

import json
import shutil
from dataclasses import replace

import pytest
import tiny
from sweeps import TABLE, Script, result_of, run_folder, shown

from minbert.files import sha256
from minbert.tables import sweep, text_files
from minbert.tables.catalogue import TABLES
from minbert.tables.rows import Row
from minbert.text.rows import read_augmented

SST = "{data_dir}/ids-sst-train.csv"
ROWS = replace(
    TABLE,
    columns={"SST": "dev.sst.accuracy"},
    rows=(
        Row("plain", "Plain", {"tasks": "sst"}),
        Row("copies", "Copies", {"train_on_augmented": f"sst=mlm({SST})"}, base="plain"),
        Row("heads", "Heads", {"model": "{masked_lm}"}, base="plain"),
        Row("all", "All", {"epochs": 3}, base="heads", init="heads"),
    ),
)


class CopiesScript(Script):
    """A stand-in whose runs read the file of --train_on_augmented in place of the training file, as real ones do."""

    @staticmethod
    def config(flags):
        config = Script.config(flags)
        for file in flags.train_on_augmented.values():
            split = config["data"]["ids-sst-train.csv"]["train"]
            config["data"]["ids-sst-train.csv"]["train"] = {**split, "file": file, "labels_file": split["file"]}
        return config


@pytest.fixture
def script(home, monkeypatch):
    fake = CopiesScript()
    monkeypatch.setattr(sweep, "launch", fake)
    monkeypatch.setitem(TABLES, "demo", ROWS)
    return fake


@pytest.fixture
def head(tmp_path, tiny_model):
    """RUN/bert of a finished run of pretraining.py."""
    folder = tiny.make_masked_lm(tmp_path / "pretrained/bert", tiny_model)
    scores = {"perplexity_before": 812.25, "perplexity": 43.21, "texts": 1234, "epochs": 4}
    (folder.parent / "scores.json").write_text(json.dumps(scores))
    return folder


def test_only_rows_that_need_the_checkpoint_ask_for_it(script, run, capsys):
    assert run() == 1
    out = capsys.readouterr().out
    assert script.rows == ["plain"]
    assert out.count("say where that is with --masked_lm") == 3


def test_rows_with_the_checkpoint(script, run, head, home, capsys, tiny_model):
    assert run("--masked_lm", str(head)) == 0, capsys.readouterr().out
    assert script.rows == ["plain", "copies", "heads", "all"]
    flags = {row: flags for row, flags, _ in script.calls}
    assert flags["heads"].model == str(head)
    assert flags["all"].init == str(run_folder("heads"))
    assert flags["copies"].model == str(tiny_model)
    copies = flags["copies"].train_on_augmented["sst"]
    assert len(read_augmented(copies).texts) == tiny.ROWS["sst"][0]

    results = {row.name: result_of(row.name) for row in ROWS.rows}
    weights = sha256(head / "model.safetensors")
    assert results["heads"]["model"] == {"name": "bert", "source": "a folder", "sha256": weights}
    assert results["all"]["model"] == results["heads"]["model"]
    for name in ("copies", "heads", "all"):
        assert results[name]["masked_lm"]["sha256"] == weights
        assert results[name]["masked_lm"]["scores"]["perplexity"] == 43.21
    assert "masked_lm" not in results["plain"]
    assert results["copies"]["flags"]["train_on_augmented"] == {"sst": f"mlm({SST})"}
    split = results["copies"]["data"]["ids-sst-train.csv"]["train"]
    assert (split["file"], split["labels_file"]) == (f"mlm({SST})", SST)
    assert str(home) not in json.dumps(results)  # nothing on where things lie here

    assert run("--masked_lm", str(head)) == 0
    assert len(script.calls) == 4  # nothing again
    text, _ = shown(capsys)
    assert "The masked-LM checkpoint: 1,234 texts, epochs: 4; held-out perplexity 812.2 before, 43.2 after." in text


def test_other_labels_are_another_experiment(script, run, head, data):
    """Copies of the same texts are the same whatever the labels are."""
    run("--masked_lm", str(head), data=data)
    file = data / "ids-sst-train.csv"
    lines = [line.split("\t") for line in file.read_text().splitlines()]
    flipped = ["\t".join([*cells[:-1], "4" if cells[-1] == "0" else "0"]) for cells in lines[1:]]
    file.write_text("\n".join(["\t".join(lines[0]), *flipped]) + "\n")
    script.calls.clear()
    assert run("--masked_lm", str(head), data=data) == 0
    assert "copies" in script.rows


@pytest.mark.parametrize("what", ["a run", "minilm", "a run that trained no masked LM"])
def test_what_is_no_such_checkpoint_is_said_at_once(script, run, head, tmp_path, tiny_model, capsys, what):
    given = {"a run": head.parent, "minilm": "minilm"}.get(what) or tmp_path / "classifier/bert"
    if what not in ("a run", "minilm"):
        tiny.make_masked_lm(given, tiny_model)
        (given.parent / "scores.json").write_text(json.dumps({"dev": {}}))
    assert run("--masked_lm", str(given)) == 2
    assert capsys.readouterr().err == (
        f"error: --masked_lm {given}: expected RUN/bert of a finished run of pretraining.py\n"
    )
    assert script.calls == []


def test_a_model_of_any_name(script, run, tmp_path, tiny_model):
    odd = shutil.copytree(tiny_model, tmp_path / "ck(1){a}")
    assert run("--only", "plain", model=odd) == 0
    assert script.calls[-1][1].model == str(odd)


def test_another_checkpoint_is_another_experiment(script, run, head, tmp_path, tiny_model):
    run("--masked_lm", str(head))
    other = tiny.make_masked_lm(tmp_path / "other/bert", tiny_model, seed=4)
    shutil.copy(head.parent / "scores.json", other.parent)
    script.calls.clear()
    assert run("--masked_lm", str(other)) == 0
    assert script.rows == ["copies", "heads", "all"]


def test_copies_are_kept_by_source_and_checkpoint(tmp_path, head, tiny_model, tiny_data):
    other, paths = tiny.make_masked_lm(tmp_path / "other", tiny_model, seed=4), []
    for model in (head, other):
        folders = {"data_dir": str(tiny_data), "masked_lm": str(model)}
        paths.append(text_files.local(f"mlm({SST})", folders, tmp_path / "kept"))
        digests = sha256(tiny_data / "ids-sst-train.csv")[:16], sha256(model / "model.safetensors")[:8]
        assert paths[-1] == str(tmp_path / "kept" / f"mlm-{'-'.join(digests)}.tsv")
    one, two = (read_augmented(path).texts for path in paths)
    assert one.keys() == two.keys()
    assert one != two
