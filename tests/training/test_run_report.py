"""report.html: its numbers are those of the run's files, it is one harmless file, it opens, and it stays small."""

import json
import re
import shlex
import shutil

import pytest
import tiny
from browser import Page, needs_chromium, opened, seconds_to_open

from minbert.flags import checks
from minbert.report import page
from minbert.training import log_curves, run_report

EVIL = "<script>document.title='spoiled'</script>\"'><img src=x onerror=alert(1)>"
FLAGS = ("--sts_head", "classification", "--tsa", "linear", "--limit", "quora=0.5", "--clip", 1, "--log_every", 1)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, tiny_model, tiny_data):
    """A run of two epochs with its report, and what it said. Not to be written to."""
    folder = tmp_path_factory.mktemp("reported") / "run"
    outcome = tiny.runner(folder, tiny_model, tiny_data)(*FLAGS)
    assert outcome.code == 0, outcome.err
    return folder, outcome


@pytest.fixture
def copy(finished, tmp_path):
    return shutil.copytree(finished[0], tmp_path / "copy")


def page_of(folder):
    return Page.of((folder / "report.html").read_text(encoding="utf-8"))


def rewritten(folder, file, change):
    """Change a JSON file of a run, and write its report anew."""
    value = tiny.read_json(folder / file)
    change(value)
    (folder / file).write_text(json.dumps(value), encoding="utf-8")
    assert run_report.write_report(folder) == f"report: {folder / 'report.html'}"
    return page_of(folder)


# ------------------------------------------------------------------------------------------------------- numbers


def test_every_figure_is_that_of_scores_json(finished):
    scores = dict(run_report.flattened(tiny.read_json(finished[0] / "scores.json")))
    figures = [(a["data-path"], a["value"], text) for a, text in page_of(finished[0]).all("data")]
    assert scores.keys() == {path for path, _, _ in figures}
    for path, value, text in figures:
        assert value == str(scores[path]), path
        assert text == page.number(scores[path]), path


def test_the_end_of_a_run_names_it(finished):
    folder, outcome = finished
    assert f"report: {folder / 'report.html'}" in outcome.out.splitlines()


def test_the_table_of_epochs_is_metrics_jsonl(finished):
    text = " ".join(text for _, text in page_of(finished[0]).all("table"))
    for record in tiny.metrics(finished[0]):
        for name, scores in record["dev"].items():
            assert page.number(scores["pearson" if name == "sts" else "accuracy"]) in text
        for value in record["loss"].values():
            assert page.number(value) in text


def test_the_curves_are_those_of_the_log(finished):
    curves = log_curves.read_log(finished[0] / "log.jsonl")
    lines = [json.loads(line) for line in (finished[0] / "log.jsonl").read_text().splitlines()]
    assert curves["rate", ""] == [(line["update"], line["rate"]) for line in lines]
    assert curves["kept", "sst TSA kept"] == [(line["update"], line["kept"]["sst TSA kept"]) for line in lines]
    titles = [text for _, text in page_of(finished[0]).all("title")]
    assert {"Learning rate", "Gradient norm", "Kept shares", "sst, loss", "Loss"} <= set(titles)
    assert "sts: predicted against true scores" in titles


def test_cells_have_the_counts_of_the_confusion(finished):
    analysis = tiny.read_json(finished[0] / "analysis.json")["sst"]
    buttons = [
        int(re.match(r".*(?<=: )(\d+)", a["aria-label"])[1])
        for a, _ in page_of(finished[0]).all("button", data_task="sst")
    ]
    assert sorted(buttons) == sorted(count for row in analysis["confusion"] for count in row if count)


def test_the_command_makes_the_same_flags(finished):
    config = tiny.read_json(finished[0] / "config.json")
    (command,) = [text for _, text in page_of(finished[0]).all("pre")]
    words = shlex.split(command)
    threads = config["machine"]["threads"]
    assert words[:3] == [f"OMP_NUM_THREADS={threads}", "python", "multitask_classifier.py"]
    again = json.loads(json.dumps(checks.to_saved(checks.check(checks.parse(words[3:])))))
    assert {**again, "run_dir": config["flags"]["run_dir"]} == config["flags"]
    assert "run_dir" not in command  # which must be new


def test_data_have_their_fingerprints_and_the_run_its_commit(finished):
    config = tiny.read_json(finished[0] / "config.json")
    text = (finished[0] / "report.html").read_text(encoding="utf-8")
    for splits in config["data"].values():
        for part in splits.values():
            assert part["sha"] in text
    assert config["model"]["sha256"] in text
    if config["code"]:
        assert re.fullmatch(r"[0-9a-f]{40}", config["code"]["commit"])
        assert config["code"]["commit"] in text


# ------------------------------------------------------------------------------------------------- one sound page


def test_it_is_one_file_that_asks_for_nothing(finished):
    found = page_of(finished[0])
    for name in ("src", "href", "srcset", "action"):
        values = {attributes[name] for _, attributes, _ in found.elements if name in attributes}
        assert all(value.startswith(("#", "data:")) for value in values)
    text = (finished[0] / "report.html").read_text(encoding="utf-8")
    assert "default-src 'none'" in text
    assert not re.search(r"url\(|@import|fetch\(|https?://", text)


def test_it_can_be_heard_and_walked(finished):
    found = page_of(finished[0])
    assert len(found.all("h1")) == len(found.all("main")) == len(found.all("header")) == len(found.all("footer")) == 1
    assert all(attributes.get("aria-label") for attributes, _ in found.all("nav"))
    assert found.all("html", lang="en")
    tables = [text for _, text in found.all("table")]
    assert len(tables) == len(found.all("caption"))
    assert all(attributes.get("scope") in ("row", "col") for attributes, _ in found.all("th"))
    pictures = [a for a, _ in found.all("svg") if a.get("aria-hidden") != "true"]
    assert len(pictures) == len(found.all("desc")) == len(found.all("desc")) > 8
    ids = [attributes["id"] for _, attributes, _ in found.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert all(set(a["aria-labelledby"].split()) <= set(ids) for _, a, _ in found.elements if "aria-labelledby" in a)
    assert {a["href"][1:] for a, _ in found.all("a")} <= set(ids)
    marks = [a for a, _ in found.all("circle") if "data-example" in a]
    assert [a["tabindex"] for a in marks].count("0") == 1  # one stop for the tab key
    assert all(a["aria-label"] for a in marks)


@pytest.mark.parametrize(
    ("value", "told"),
    [(1, "1"), (0, "0"), (True, "yes"), (False, "no"), (None, "–"), (1e-05, "1e-05"), ({"sst": 1}, "sst=1"), ({}, "–")],
)
def test_a_flags_value_as_it_is_typed(value, told):
    assert run_report._told(value) == told


def test_a_long_text_is_folded_and_a_short_one_is_not(copy):
    def lengthen(analysis):
        analysis["sst"]["worst_errors"][0]["texts"] = [400 * "a" + "b"]
        analysis["sst"]["worst_errors"][1]["texts"] = [400 * "c"]

    found = rewritten(copy, "analysis.json", lengthen)
    assert [a.get("class") for a, _ in found.all("details")].count("long") == 1
    text = (copy / "report.html").read_text(encoding="utf-8")
    assert f"<summary>{300 * 'a'} …</summary>… {100 * 'a'}b</details>" in text
    assert f"<span>{400 * 'c'}</span>" in text


def test_strangers_words_are_words(copy):
    def spoil_texts(analysis):
        analysis["sst"]["worst_errors"][0]["texts"] = [EVIL]
        analysis["sst"]["cells"][0]["examples"][0]["texts"] = [EVIL]
        analysis["sst"]["labels"][0] = EVIL

    def spoil_flags(config):
        config["flags"]["init"] = EVIL
        config["data_notes"] = [EVIL]
        config["data"][EVIL] = config["data"]["sst"]
        config["model"]["name"] = EVIL

    rewritten(copy, "analysis.json", spoil_texts)
    found = rewritten(copy, "config.json", spoil_flags)
    assert len(found.all("script")) == 2
    assert not found.all("img")
    text = (copy / "report.html").read_text(encoding="utf-8")
    assert "<script>document" not in text
    assert text.count("&lt;script&gt;document") >= 6


def test_a_task_with_a_strange_name(copy):
    """A task of one's own may be called anything."""
    for file in ("analysis.json", "scores.json"):
        value = tiny.read_json(copy / file)
        for place in [value] if file == "analysis.json" else [value["dev"], value["baseline"]]:
            place[EVIL] = place.pop("sst")
        (copy / file).write_text(json.dumps(value), encoding="utf-8")
    lines = [json.loads(line) for line in (copy / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        line["dev"][EVIL] = line["dev"].pop("sst")
        line["loss"][EVIL] = 1.0
    (copy / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    run_report.write_report(copy)
    assert "<script>document" not in (copy / "report.html").read_text(encoding="utf-8")
    assert len(page_of(copy).all("script")) == 2


# ------------------------------------------------------------------------------------------------ with less, or more


def test_without_jinja2_a_run_ends_well_and_says_how_to_get_it(tmp_path, tiny_model, tiny_data, monkeypatch):
    run = tiny.runner(tmp_path / "run", tiny_model, tiny_data)
    with monkeypatch.context() as patch:
        patch.setattr(page, "can_render", lambda: False)
        outcome = run("--epochs", 1)
    assert outcome.code == 0
    (told,) = [line for line in outcome.out.splitlines() if "the package jinja2" in line]
    assert told.startswith(
        "no report.html was written: it needs the package jinja2 (pip install jinja2); then --resume"
    )
    assert not (tmp_path / "run" / "report.html").exists()
    assert tiny.script("--resume", tmp_path / "run").code == 0
    assert (tmp_path / "run" / "report.html").is_file()


def test_what_a_run_lacks_its_report_goes_without(copy):
    for name in ("analysis.json", "log.jsonl"):
        (copy / name).unlink()
    run_report.write_report(copy)
    titles = [text for _, text in page_of(copy).all("h2")]
    assert titles == ["Curves", "All scores", "Flags", "Data and model", "To make it again"]
    found = {attributes["href"] for attributes, _ in page_of(copy).all("a")}
    assert {"#steps", "#tasks"} & found == set()


def test_an_analysis_of_before_there_were_reports(copy):
    def older(analysis):
        for of in analysis.values():
            for name in ("cells", "calibration", "point_examples"):
                of.pop(name, None)

    rewritten(copy, "analysis.json", older)


@pytest.mark.parametrize("line", ["{", "[]", '{"update": 1}', '{"update": "x", "rate": 1, "gradient_norm": 1}'])
def test_a_damaged_log_is_told_by_its_line(copy, line):
    with open(copy / "log.jsonl", "a") as f:
        f.write(line + "\n")
    said = run_report.write_report(copy)
    assert re.match(
        r"no report\.html was written: .*log\.jsonl, line \d+: not a line of a log \(.*; delete the line", said
    )
    assert "\n" not in said


@pytest.mark.parametrize(
    "change",
    [
        lambda a: a["sts"]["point_examples"][0].update(row=10**6),
        lambda a: a["sst"].update(confusion=[[1]]),
        lambda a: a["sst"]["scores"].clear(),
        lambda a: a.update(nothing=a["sst"]),
    ],
)
def test_files_that_do_not_fit_each_other_are_told_in_a_line(copy, change):
    analysis = tiny.read_json(copy / "analysis.json")
    change(analysis)
    (copy / "analysis.json").write_text(json.dumps(analysis), encoding="utf-8")
    said = run_report.write_report(copy)
    assert said.startswith(f"no report.html was written: the files in {copy} do not fit each other (")
    assert "\n" not in said


# -------------------------------------------------------------------------------------------------- in a browser


@needs_chromium
def test_it_opens_and_what_stands_behind_a_cell_and_a_point_is_shown(finished):
    folder, analysis = finished[0], tiny.read_json(finished[0] / "analysis.json")
    found, console = opened(folder / "report.html")
    assert console == []
    assert [text for _, text in found.all("div", data_of="sst")] == ["Choose a cell to see what stands behind it."]
    cell = analysis["sst"]["cells"][1]
    found, console = opened(folder / "report.html", "#sst/cell/1")
    assert console == []
    ((_, shown),) = found.all("div", data_of="sst")
    assert shown.startswith(f"{cell['label']} said to be {cell['prediction']}: {cell['count']}")
    assert all(one["texts"][0] in shown for one in cell["examples"])
    assert [a["data-cell"] for a, _ in found.all("button", data_task="sst", aria_pressed="true")] == ["1"]
    point = analysis["sts"]["point_examples"][2]
    ((_, shown),) = opened(folder / "report.html", "#sts/point/2")[0].all("div", data_of="sts")
    assert all(text in shown for text in point["texts"])


@needs_chromium
def test_strangers_words_do_nothing_in_a_browser(copy):
    def spoil(analysis):
        analysis["sst"]["cells"][0]["examples"][0]["texts"] = [EVIL]

    rewritten(copy, "analysis.json", spoil)
    found, console = opened(copy / "report.html", "#sst/cell/0")
    assert console == []
    assert "spoiled" not in [text for _, text in found.all("title")]
    assert EVIL in found.all("div", data_of="sst")[0][1]


@needs_chromium
def test_a_million_lines_and_150_classes_open_at_once(copy):
    """A page under 3 MB, in under 2 s."""
    line = '{{"update": {0}, "epoch": 1, "loss": {{"sst": {1}}}, "kept": {{}}, "rate": 1e-05, "gradient_norm": {1}}}\n'
    with open(copy / "log.jsonl", "w") as f:
        for start in range(0, 10**6, 10**4):
            f.write("".join(line.format(i + 1, (i * 7919 % 1000) / 500) for i in range(start, start + 10**4)))

    def many(analysis):
        labels = [f"class number {number}" for number in range(150)]
        texts = {"id": "an id", "texts": ["x" * 300, "y" * 300], "probability": 0.5}
        analysis["sst"] |= {
            "labels": labels,
            "confusion": [[(row * column) % 7 for column in range(150)] for row in range(150)],
            "per_class": dict.fromkeys(labels, analysis["sst"]["per_class"].popitem()[1]),
            "cells": [
                {"label": labels[i], "prediction": labels[i + 1], "count": 9, "examples": [texts] * 6}
                for i in range(40)
            ],
        }
        points = [[i % 26 / 5, i % 23 / 5] for i in range(1500)]
        analysis["sts"] |= {"points": points, "point_examples": [{**texts, "row": row} for row in range(1500)]}

    rewritten(copy, "analysis.json", many)
    assert (copy / "report.html").stat().st_size < 3_000_000
    found, console = opened(copy / "report.html", "#sst/cell/3")
    assert console == []
    assert "class number 3 said to be class number 4: 9; the 6" in found.all("div", data_of="sst")[0][1]
    assert seconds_to_open(copy / "report.html") < 2
