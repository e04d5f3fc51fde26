"""Runs on files of one's own: alone and beside the built-in tasks, saved with their labels, and with the methods."""

import itertools
import json
import shutil

import numpy as np
import pytest
import tiny
from kills import stop_at
from own_text import NAMES, flags_of, rows_of, written
from transformers import pipeline

import minbert
from minbert.training import analysis

pytestmark = pytest.mark.filterwarnings("ignore:a constant prediction")  # of so few examples
CLASSES = tuple(sorted(NAMES))
SCORES = {"pairs": True, "score": (-2, 8)}


@pytest.fixture(scope="module")
def run(tmp_path_factory, tiny_model):
    """run(flags...) -> the folder of a finished run of one epoch."""
    folder, numbers = tmp_path_factory.mktemp("runs"), itertools.count()

    def finished(*flags):
        run_dir = folder / str(next(numbers))
        done = tiny.script("--model", tiny_model, "--run_dir", run_dir, *tiny.FINETUNE, "--epochs", 1, *flags)
        assert done.code == 0, done.err
        return run_dir

    return finished


@pytest.fixture(scope="module")
def mail(tmp_path_factory):
    """The flags of a task with three classes, and its folder."""
    folder = tmp_path_factory.mktemp("mail")
    return [*flags_of(folder, ".jsonl"), "--test", written(folder / "c.tsv", rows_of(5, 3)), "--name", "mail"]


@pytest.fixture(scope="module")
def saved(run, mail):
    """The folder of a run on that task alone. Not to be written to, but for its `evaluation`."""
    return run(*mail)


def predicted(folder, task, split):
    """The column of a prediction file."""
    lines = (folder / "predictions" / f"{task}-{split}-output.csv").read_text(encoding="utf-8").splitlines()
    return [line.split(" , ", 1)[1].strip() for line in lines[1:]]


def test_a_run_knows_its_classes_and_predicts_them_by_name(saved):
    record, scores = tiny.read_json(saved / "config.json"), tiny.read_json(saved / "scores.json")
    assert record["flags"]["labels"] == list(CLASSES)
    assert {split: part["rows"] for split, part in record["data"]["mail"].items()} == {"train": 24, "dev": 9, "test": 5}
    said = predicted(saved, "mail", "dev")
    assert set(said) <= set(CLASSES)
    hits = [a == row["kind"] for a, row in zip(said, rows_of(9, 2), strict=True)]
    assert scores["dev"]["mail"]["accuracy"] == np.mean(hits)
    assert len(predicted(saved, "mail", "test")) == 5


def test_asked_evaluated_and_exported_without_its_training_file(saved, tmp_path):
    """The saved run alone knows what its labels are called."""
    run = shutil.copytree(saved, tmp_path / "run")
    record = tiny.read_json(run / "config.json")
    moved = written(tmp_path / "dev.csv", rows_of(9, 2))
    record["flags"]["train"] = str(tmp_path / "gone.jsonl")
    (run / "config.json").write_text(json.dumps(record))

    texts = [row["subject"] for row in rows_of(9, 2)]
    answers = minbert.load(run).predict(texts)["mail"]
    assert answers.classes == CLASSES
    assert answers.labels == predicted(saved, "mail", "dev")

    done = tiny.script("--evaluate", run, "--dev", moved, "--test", moved)
    assert done.code == 0, done.err
    assert tiny.read_json(run / "evaluation" / "scores.json")["dev"] == tiny.read_json(saved / "scores.json")["dev"]
    assert predicted(run / "evaluation", "mail", "test") == predicted(saved, "mail", "dev")

    assert tiny.script("--export", run, tmp_path / "heads").code == 0
    said = pipeline("text-classification", model=str(tmp_path / "heads" / "mail"))(texts)
    assert [answer["label"] for answer in said] == answers.labels


def test_scores_of_pairs_beside_a_built_in_task(run, tiny_data, tmp_path):
    flags = flags_of(tmp_path, **SCORES)
    folder = run(*flags, "--name", "fit", "--tasks", "fit,cfimdb", "--data_dir", tiny_data)
    scores = tiny.read_json(folder / "scores.json")
    assert list(scores["dev"]) == ["fit", "cfimdb"]
    said = minbert.load(folder).predict([(row["subject"], row["reply"]) for row in rows_of(9, 2, **SCORES)])
    assert said["fit"].scores == pytest.approx([float(cell) for cell in predicted(folder, "fit", "dev")], abs=1e-6)
    assert all(-2 < score < 8 for score in said["fit"].scores)
    assert tiny.script("--export", folder, tmp_path / "heads").code == 0
    card = (tmp_path / "heads" / "fit" / "README.md").read_text(encoding="utf-8")
    assert "a score from -2 to 8" in card
    assert '`-2 + 10 * answer["score"]`' in card


def test_a_stopped_run_goes_on_with_the_same_labels(run, mail, saved, tiny_model, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        stop_at(patch, 2)
        flags = ("--model", tiny_model, *tiny.FINETUNE, "--epochs", 1, *mail)
        assert tiny.script(*flags, "--run_dir", tmp_path / "run").code == 130
    assert tiny.script("--resume", tmp_path / "run").code == 0
    tiny.assert_same_results(saved, tmp_path / "run")


def test_a_file_that_has_changed_is_noticed(mail, saved, tmp_path):
    run = shutil.copytree(saved, tmp_path / "run")
    record = tiny.read_json(run / "config.json")
    record["flags"]["dev"] = str(written(tmp_path / "dev.csv", rows_of(9, 4)))
    (run / "config.json").write_text(json.dumps(record))
    assert "(mail dev) is not what this run began with" in tiny.script("--resume", run).error


def test_a_grid_knows_its_classes_too(run, mail):
    folder = run(*mail, "--lr", "1e-3,1e-4")
    assert tiny.read_json(folder / "config.json")["flags"]["labels"] == list(CLASSES)
    assert minbert.load(folder).predict(["a dog"])["mail"].classes == CLASSES


def test_an_unknown_label_in_dev_is_a_bad_row_named(tiny_model, tmp_path):
    flags = flags_of(tmp_path)
    written(tmp_path / "b.csv", [*rows_of(4), {"subject": "a dog", "kind": "Spam"}])
    done = tiny.script("--model", tiny_model, "--run_dir", tmp_path / "run", *flags, "--epochs", 1)
    assert "own dev: 1 row skipped (line 6: 'Spam' is no label of the training file)" in done.out
    assert tiny.read_json(tmp_path / "run" / "config.json")["data"]["own"]["dev"]["rows"] == 4


def test_a_long_name_stands_apart_in_the_table(tiny_model, tmp_path):
    flags = ("--model", tiny_model, "--run_dir", tmp_path / "run", *flags_of(tmp_path), "--epochs", 1)
    done = tiny.script(*flags, "--name", "a-name-of-31-signs-is-the-longes")
    assert "expected up to 31" in done.err
    done = tiny.script(*flags, "--name", "a-name-of-31-signs-is-the-longe")
    assert "\na-name-of-31-signs-is-the-longe accuracy  " in done.out


def copies_of(path, train):
    """A file of changed copies as augmentation.py writes it, of rows without ids."""
    lines = [f"{number}\t{row['subject']} again\ttest" for number, row in enumerate(train)]
    path.write_text("\n".join(["id\tsentence\tmethod", *lines]) + "\n", encoding="utf-8")
    return path


METHODS = {
    "tsa": ("--tsa", "linear"),
    "uda": ("--uda", "own=COPIES", "--labels_per_class", 2, "--uda_threshold", 0),
    "unlabelled of the same columns": ("--unlabeled", "own=MORE", "--mean_teacher", "mse"),
    "augmented": ("--train_on_augmented", "own=COPIES"),
    "mean teacher": ("--mean_teacher", "kl", "--labels_per_class", 2),
    "smart and r_drop": ("--smart", 1, "--r_drop", 1),
    "limit": ("--limit", "own=12", "--dev_limit", "own=5"),
}


@pytest.mark.parametrize("method", METHODS)
def test_methods_take_it_and_learn_otherwise(run, tmp_path, method):
    flags = flags_of(tmp_path)
    copies, more = copies_of(tmp_path / "copies.tsv", rows_of(24, 1)), written(tmp_path / "more.csv", rows_of(20, 7))
    words = [str(word).replace("COPIES", str(copies)).replace("MORE", str(more)) for word in METHODS[method]]
    plain, other = tiny.metrics(run(*flags)), tiny.metrics(run(*flags, *words))
    assert plain[0]["loss"]["own"] != other[0]["loss"]["own"]


def test_scores_as_classes_take_tsa(run, tmp_path):
    folder = run(*flags_of(tmp_path, **SCORES), "--sts_head", "classification", "--tsa", "log")
    assert minbert.load(folder).predict([("a dog", "a cat")])["own"].probabilities.shape == (1, 51)


def test_init_begins_with_the_trunk_and_the_head(run, mail, saved, tmp_path):
    done = tiny.script("--init", saved, "--run_dir", tmp_path / "run", *mail, "--epochs", 1)
    assert f"weights of {saved}\n" in done.out


def test_150_classes_are_drawn_in_time(run, tmp_path):
    names = [f"class {number}" for number in range(150)]
    folder = run(*flags_of(tmp_path, train=300, dev=150, names=names), "--max_length", 8)
    analyses = tiny.read_json(folder / "analysis.json")
    assert len(analyses["own"]["confusion"]) == 150
    assert len(names) > analysis.MOST_READABLE
