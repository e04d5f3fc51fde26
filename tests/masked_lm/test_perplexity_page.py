"""report.html of a masked-LM run: the numbers of its scores, and the command that makes it again."""

import json
import shlex

import pytest
import tiny
from browser import Page

import pretraining
from minbert.masked_lm.perplexity_page import write_report
from minbert.training import run_report


@pytest.fixture(scope="module")
def finished(tmp_path_factory, tiny_model, tiny_data):
    folder = tmp_path_factory.mktemp("pretrained") / "run"
    flags = ("--epochs", "2", "--batch_size", "16", "--log_every", "1", "--run_dir", str(folder))
    pretraining.main(["--model", str(tiny_model), "--data_dir", str(tiny_data), *flags])
    return folder


def test_figures_curves_and_command(finished):
    found = Page.of((finished / "report.html").read_text(encoding="utf-8"))
    scores = dict(run_report.flattened(tiny.read_json(finished / "scores.json")))
    figures = {a["data-path"]: a["value"] for a, _ in found.all("data")}
    assert figures == {path: str(value) for path, value in scores.items()}
    titles = {text for _, text in found.all("title")}
    assert {"Held-out perplexity", "Loss", "Learning rate", "Gradient norm", "text, loss"} <= titles
    (command,) = [text for _, text in found.all("pre")]
    words = shlex.split(command)[1:]
    assert words[:2] == ["python", "pretraining.py"]
    config = tiny.read_json(finished / "config.json")
    again = json.loads(json.dumps(pretraining.check(pretraining.parse(words[2:]))[2]))
    assert {**again, "run_dir": config["flags"]["run_dir"]} == config["flags"]


def test_the_log_has_a_line_an_update(finished):
    lines = [json.loads(line) for line in (finished / "log.jsonl").read_text().splitlines()]
    assert [line["update"] for line in lines] == list(range(1, tiny.read_json(finished / "scores.json")["updates"] + 1))
    assert all(line["loss"].keys() == {"text"} and line["gradient_norm"] > 0 for line in lines)


def test_a_flag_that_only_settles_is_none_of_the_command_s(finished):
    """weight decay and clipping are in config.json, and no flags of pretraining.py."""
    defaults = vars(pretraining.build_parser().parse_args([]))
    assert "weight_decay" in tiny.read_json(finished / "config.json")["flags"].keys() - defaults.keys()
    assert write_report(finished, defaults) == f"report: {finished / 'report.html'}"
