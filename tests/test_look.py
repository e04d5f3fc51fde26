"""python -m minbert.look: a page of a checkpoint or a run, its words to whoever errs, and the same in a notebook."""

import contextlib
import io
import json
import runpy
import shutil
import subprocess
import sys
from unittest import mock

import matplotlib
import numpy as np
import pytest
import tiny
import torch
from browser import Page, needs_chromium, opened

from bert import BertModel
from minbert import load
from minbert.flags.look import build_parser
from minbert.inside.changes import relative_changes
from minbert.inside.heads import moved
from minbert.inside.numbers import decoded
from minbert.look import attention_map, open_model, open_run, predictions, trace

TEXT, OTHER = "the dog was a good dog", "a film"


def look(*argv):
    """The command inside this process: tiny.Outcome."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with (
        mock.patch.object(sys, "argv", ["look", *map(str, argv)]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        imported = sys.modules.pop("minbert.look")  # runpy would complain that it is there already
        try:
            runpy.run_module("minbert.look", run_name="__main__")
        except SystemExit as stop:
            code = stop.code or 0
        finally:
            sys.modules["minbert.look"] = imported
    return tiny.Outcome(code, out.getvalue(), err.getvalue())


@pytest.fixture(scope="module")
def run(tmp_path_factory, tiny_model, tiny_data):
    """A finished run of one epoch. Not to be written to."""
    folder = tmp_path_factory.mktemp("looked") / "run"
    outcome = tiny.runner(folder, tiny_model, tiny_data)("--epochs", 1, "--attention", "fused")
    assert outcome.code == 0, outcome.err
    return folder


def page_of(path):
    found = Page.of(path.read_text(encoding="utf-8"))
    return found, json.loads(found.all("script", id="data")[0][1])


def test_a_page_of_a_checkpoint(tmp_path, tiny_model):
    path = tmp_path / "a.html"
    outcome = look(TEXT, "--model", tiny_model, "--out", path)
    assert (outcome.code, outcome.out, outcome.err) == (0, f"look: {path}\n", "")
    found, data = page_of(path)
    assert [sentence["text"] for sentence in data["sentences"]] == [TEXT]
    assert [view["weights"] for view in data["views"]] == [""]
    assert not found.all("section", id="prediction")
    assert not found.all("section", id="changed")


def test_a_pair_is_one_sequence(tmp_path, tiny_model):
    path = tmp_path / "a.html"
    assert look("a dog", "a cat", "--pair", "--model", tiny_model, "--out", path).code == 0
    (sentence,) = page_of(path)[1]["sentences"]
    assert sentence["text"] == "a dog | a cat"
    assert [row["type"] for row in sentence["inputs"]] == [0, 0, 0, 0, 1, 1, 1]


# ------------------------------------------------------------------------------------------------------------ runs


def test_a_run_says_what_it_predicts_and_what_changed(tmp_path, run, tiny_model):
    path = tmp_path / "a.html"
    outcome = look(TEXT, OTHER, "--run", run, "--out", path)
    assert outcome.code == 0, outcome.err
    found, data = page_of(path)
    says = [text for _, text in found.all("p", class_="says")]
    saved = load(run)
    single, pair = saved.predict([TEXT, OTHER]), saved.predict([(TEXT, OTHER)])
    assert says == [*single["sst"].labels, *pair["quora"].labels, f"{pair['sts'].scores[0]:.3f}"]
    changes = relative_changes(BertModel.from_pretrained(tiny_model), saved.model.bert)
    cells = [text for a, text in found.all("td") if a.get("style", "").startswith("--share") and text.endswith("%")]
    assert cells == [f"{100 * value:.2f}%" for layer in changes["layers"] for value in layer.values()]
    assert any(cell != "0.00%" for cell in cells)
    assert [view["weights"] for view in data["views"]] == ["fine-tuned", "pretrained"] * 2
    before, after = (
        trace(*open_model(tiny_model), TEXT, OTHER),
        trace(open_run(run).model, saved.tokenizer, TEXT, OTHER),
    )
    moves = torch.stack([moved(before.part("softmax", n), after.part("softmax", n)) for n in (0, 1)])  # [layers, A]
    layer, head = divmod(moves.argmax().item(), 2)
    assert data["start"] == {"layer": layer, "head": head}
    buttons = [text for a, text in found.all("button") if "data-go" in a]
    assert buttons[0] == f"layer {layer + 1}, head {head + 1}: {moves.max():.0%}"
    assert len(buttons) == 4
    for text in (0, 1):
        for layer, kept in enumerate(data["before"][text]):
            assert np.allclose(decoded(kept), before.part("softmax", layer, text), atol=0.5001e-3)
            assert kept["data"] != data["values"]["softmax"][text][layer]["data"]


def test_the_heads_over_the_weights_before(tmp_path, run, tiny_model):
    path = tmp_path / "a.html"
    assert look(TEXT, "--run", run, "--out", path).code == 0
    saved = open_run(run)
    after = predictions(saved, [TEXT])
    saved.model.bert = BertModel.from_pretrained(tiny_model)
    before = predictions(saved, [TEXT])
    shares = [a["style"] for a, _ in page_of(path)[0].all("span") if "meter" in a.get("class", "")]
    expected = []
    for (_, _, new), (_, _, old) in zip(after, before, strict=True):
        for name, share in new["probabilities"].items():
            expected += [f"--share: {share}", f"--share: {old['probabilities'][name]}"]
    assert shares == expected
    assert len(shares) == 2 * 5


@pytest.mark.parametrize(
    ("name", "told"), [("somebody/some-bert", "the hub cannot be reached"), (None, "other weights")]
)
def test_weights_that_are_not_at_hand_are_not_compared(tmp_path, run, name, told, monkeypatch):
    """What a record names is anybody's word: it is not fetched, and must have the record's fingerprint."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "empty"))
    copy = shutil.copytree(run, tmp_path / "copy")
    config = tiny.read_json(copy / "config.json")
    config["model"] |= {"name": name} if name else {"sha256": "0" * 64}
    (copy / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with mock.patch("minbert.hub._ask", side_effect=AssertionError("the hub was asked")):
        outcome = look(TEXT, "--run", copy, "--out", tmp_path / "a.html")
    assert outcome.code == 0, outcome.err
    found, data = page_of(tmp_path / "a.html")
    assert told in found.all("p", class_="told")[0][1]
    assert data["before"] == []
    assert found.all("section", id="prediction")


@needs_chromium
def test_the_page_of_a_run_opens(tmp_path, run):
    assert look(TEXT, OTHER, "--run", run, "--out", tmp_path / "a.html").code == 0
    found, console = opened(tmp_path / "a.html", "#layer=2&head=2&word=2")
    assert console == []
    assert len(found.all("p", class_="said")) == 4
    assert all("takes most from" in text for _, text in found.all("p", class_="said"))


# -------------------------------------------------------------------------------------------------------- mistakes


def test_mistakes_are_told_in_one_line(tmp_path, run, tiny_model):
    other = tmp_path / "notes.html"
    other.write_text("my notes")
    model = ("--model", tiny_model, "--out", tmp_path / "a.html")
    for argv, told in (
        (("", *model), "is empty"),
        (("dog " * 70, *model), "72 tokens, a page room for 64"),
        (("dog " * 600, *model), "more than 512 tokens"),
        (("a", "b", "c"), "3 texts: give one or two, each in quotes"),
        (("a", "--pair"), "--pair: give two texts"),
        ((), "the following arguments are required: text"),
        (("a", "--model", "no such model"), "model no such model"),
        (("a", "--run", tmp_path), "no finished run is there"),
        (("a", "--run", run, "--model", tmp_path), "neither model.safetensors"),
        ((TEXT, "--model", tiny_model, "--out", other), "holds something else"),
        ((TEXT, "--model", tiny_model, "--out", tmp_path / "none" / "a.html"), "No such file or directory"),
    ):
        assert told in look(*argv).error, argv
    assert not (tmp_path / "a.html").exists()
    assert other.read_text() == "my notes"


def test_a_run_that_reads_pairs_apart_has_no_pair_in_one_sequence(tmp_path, run):
    with mock.patch("multitask_classifier.load") as loaded:
        loaded.return_value = load(run)
        loaded.return_value.model.fused = False
        assert "leave --pair out" in look("a", "b", "--pair", "--run", run, "--out", tmp_path / "a.html").error


@pytest.mark.parametrize("argv", [["--help"], ["a", "b", "c"]])
def test_help_and_mistakes_answer_without_torch_or_jinja2(tmp_path, argv):
    for name in ("torch", "tokenizers", "safetensors", "jinja2", "numpy"):
        (tmp_path / f"{name}.py").write_text(f"raise SystemExit('{name} was imported')")
    done = subprocess.run(
        [sys.executable, "-m", "minbert.look", *argv],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=tiny.ROOT,
        env=tiny.environment(PYTHONPATH=str(tmp_path)),
    )
    assert "imported" not in done.stderr
    if argv == ["--help"]:
        assert done.returncode == 0
        assert all(action.option_strings[-1] in done.stdout for action in build_parser()._actions[:1])
    else:
        assert (done.returncode, done.stderr) == (2, "error: 3 texts: give one or two, each in quotes\n")


# ------------------------------------------------------------------------------------------------------ a notebook


def test_a_map_of_attention(tiny_model, monkeypatch):
    matplotlib.use("Agg")
    seen = trace(*open_model(tiny_model), TEXT, OTHER)
    axes = attention_map(seen, layer=1, head=0, text=1)
    assert [label.get_text() for label in axes.get_xticklabels()] == ["[CLS]", "a", "film", "[SEP]"]
    (image,) = axes.get_images()
    assert np.array_equal(image.get_array(), seen.part("softmax", 1, 1, 0)[:, :4])
    matplotlib.pyplot.close(axes.figure)
