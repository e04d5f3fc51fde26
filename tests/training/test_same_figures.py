"""A run's figures are scores.json's wherever they are told: by the API, --predict, --evaluate, exported heads, cards.

Those of report.html: test_run_report.py.
"""

import json

import numpy as np
import pytest
import tiny
from sklearn.metrics import accuracy_score, f1_score, precision_score, recall_score
from transformers import pipeline

import minbert
from datasets import TASKS, read

pytestmark = pytest.mark.filterwarnings("ignore:a constant prediction")  # of so few examples
NAMES = ("sst", "quora", "sts")


@pytest.fixture(scope="module")
def run(tmp_path_factory, tiny_model, tiny_data):
    """The folder of a run whose heads are far from where they began. Not to be written to."""
    folder = tmp_path_factory.mktemp("figures") / "run"
    learning = ("--option", "pretrain", "--lr", "5e-1", "--epochs", 2, "--max_length", 64)
    done = tiny.script("--model", tiny_model, "--data_dir", tiny_data, "--run_dir", folder, *learning)
    assert done.code == 0, done.err
    return folder


@pytest.fixture(scope="module")
def heads(run):
    folder = run.parent / "heads"
    assert tiny.script("--export", run, folder).code == 0
    return folder


def dev_set(name, data):
    """The texts of a task's dev file as `predict` takes them, and their labels."""
    examples = read(TASKS[name], data / TASKS[name].files["dev"], "dev")
    return [row if len(row) == 2 else row[0] for row in map(tuple, examples.texts)], np.array(examples.labels)


def figures(name, labels, answers):
    """What scores.json says of a task, worked out by others from its answers: class numbers, or scores."""
    assert len(set(answers)) > 1  # a constant answer would look right for the wrong reason
    if name == "sts":
        slope, intercept = np.polyfit(labels, answers, 1)
        rmse = np.sqrt(np.mean((np.array(answers) - labels) ** 2))
        return {"pearson": np.corrcoef(labels, answers)[0, 1], "rmse": rmse, "slope": slope, "intercept": intercept}
    said = {
        "accuracy": accuracy_score(labels, answers),
        "macro_f1": f1_score(labels, answers, average="macro", zero_division=0),
        "f1": f1_score(labels, answers, average=None, zero_division=0, labels=range(len(TASKS[name].labels))).tolist(),
    }
    if len(TASKS[name].labels) == 2:
        said["precision"] = precision_score(labels, answers, zero_division=0)
        said["recall"] = recall_score(labels, answers, zero_division=0)
    return said


def same(said, saved):
    assert said.keys() == saved.keys()
    for metric, value in saved.items():
        assert said[metric] == pytest.approx(value, abs=1e-5), metric


@pytest.mark.parametrize("name", NAMES)
def test_load_and_predict(run, tiny_data, name):
    texts, labels = dev_set(name, tiny_data)
    said = minbert.load(run).predict(texts)[name]
    answers = said.scores if name == "sts" else [TASKS[name].labels.index(label) for label in said.labels]
    same(figures(name, labels, answers), tiny.read_json(run / "scores.json")["dev"][name])


@pytest.mark.parametrize("name", NAMES)
def test_predict_from_the_shell(run, tiny_data, tmp_path, name):
    texts, labels = dev_set(name, tiny_data)
    lines = [text if isinstance(text, str) else "\t".join(text) for text in texts]
    (tmp_path / "in.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    flags = ("--input", tmp_path / "in.txt", "--output", tmp_path / "out.json", "--format", "json")
    assert tiny.script("--predict", run, *flags).code == 0
    said = [json.loads(line)["answers"][name] for line in (tmp_path / "out.json").read_text().splitlines()]
    answers = [one["score"] if name == "sts" else TASKS[name].labels.index(one["label"]) for one in said]
    same(figures(name, labels, answers), tiny.read_json(run / "scores.json")["dev"][name])


@pytest.mark.parametrize("name", NAMES)
def test_an_exported_head_in_the_pipeline(run, heads, tiny_data, name):
    texts, labels = dev_set(name, tiny_data)
    texts = texts if name == "sst" else [{"text": a, "text_pair": b} for a, b in texts]
    said = pipeline("text-classification", model=str(heads / name), truncation=True)(texts)
    answers = [5 * one["score"] if name == "sts" else TASKS[name].labels.index(one["label"]) for one in said]
    same(figures(name, labels, answers), tiny.read_json(run / "scores.json")["dev"][name])


@pytest.mark.parametrize("name", NAMES)
def test_the_card_has_every_figure(run, heads, name):
    scores = tiny.read_json(run / "scores.json")
    found = (heads / name / "README.md").read_text(encoding="utf-8").partition("## Scores on dev")[2]
    rows = dict(line.strip("| ").split(" | ") for line in found.splitlines() if line.startswith("| ") and "0" in line)
    saved = {metric: f"{value:.4f}" for metric, value in scores["dev"][name].items() if metric != "f1"}
    main = "pearson" if name == "sts" else "accuracy"
    assert rows == {**saved, f"{main} of a constant answer": f"{scores['baseline'][name]:.4f}"}


def test_evaluate(run, tiny_data):
    assert tiny.script("--evaluate", run, "--data_dir", tiny_data).code == 0
    saved, again = (tiny.read_json(path / "scores.json") for path in (run, run / "evaluation"))
    assert again["dev"] == saved["dev"]
    assert again["baseline"] == saved["baseline"]
