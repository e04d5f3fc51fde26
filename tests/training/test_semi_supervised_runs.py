"""Learning from unlabelled text in whole runs: with every schedule, pair kind and head, resumed, scored, and refused.

One test for each flag: test_semi_supervised_flags.py.
"""

import math
from unittest import mock

import pytest
import tiny
import torch
import unlabelled_text
from kills import stop_at
from safetensors.torch import load_file
from unlabelled_text import written

from datasets import TASKS
from minbert.methods import objective
from minbert.methods.schedules import SCHEDULES
from minbert.training import results

pytestmark = pytest.mark.filterwarnings("ignore:a constant prediction")  # of so few examples
COURSE = unlabelled_text.COURSE
CLASSES = "--sts_head classification"
EVERYTHING = f"--tsa linear {{fresh_uda}} {{fresh}} --mean_teacher kl --uda_threshold 0.2 {CLASSES}"
TERMS = [f"{task}{term}" for task in COURSE for term in ("", " UDA", " consistency")]


@pytest.fixture(scope="module")
def texts(tmp_path_factory, tiny_data):
    return unlabelled_text.flags_for(tmp_path_factory.mktemp("texts"), tiny_data)


@pytest.fixture
def script(tmp_path, tiny_model, tiny_data, texts):
    """script(flags, run="run") -> Outcome of a short fine-tuning run in tmp_path / run."""

    def run(line, run="run"):
        return tiny.runner(tmp_path / run, tiny_model, tiny_data)(*line.format(**texts).split(), "--keep_state")

    return run


def fitted(trainer_of, line, texts):
    """(Trainer after an epoch, the mean of each term)"""
    trainer = trainer_of(*tiny.FINETUNE, "--epochs", 1, *line.format(**texts).split())
    trainer.fit()
    (record,) = trainer.loop.progress.history
    assert all(math.isfinite(value) for value in record["loss"].values())
    return trainer, record["loss"]


# ------------------------------------------------------------------------------------------------- with everything


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_schedule(trainer_of, texts, schedule):
    """The student's trunk is passed once an update, and the teacher's."""
    line = f"{EVERYTHING} --schedule {schedule}".format(**texts)
    trainer = trainer_of(*tiny.FINETUNE, "--epochs", 1, *line.split())
    student, teacher, passes = trainer.model.bert, trainer.teacher.model.bert, []

    def watched(name, encode):
        def noted(*args):
            passes.append((name, torch.is_grad_enabled()))
            return encode(*args)

        return noted

    with (
        mock.patch.object(student, "encode", watched("student", student.encode)),
        mock.patch.object(teacher, "encode", watched("teacher", teacher.encode)),
    ):
        trainer.loop._train_epoch()
    assert passes == [("student", True), ("teacher", False)] * trainer.loop.progress.update
    trainer.loop._finish_epoch()
    (record,) = trainer.loop.progress.history
    assert [*record["loss"]] == TERMS
    assert all(math.isfinite(value) for value in record["loss"].values())
    assert [*record["kept"]] == [f"{task} {method} kept" for task in COURSE for method in ("TSA", "UDA")]


@pytest.mark.parametrize("pairs", ["fused", "concat", "absdiff", "cosine", "dot_attention"])
@pytest.mark.parametrize("heads", [CLASSES, "--sts_head ordinal6 --sst_head coral --pooling mean"])
def test_every_pair_kind_and_every_head_with_classes(trainer_of, texts, pairs, heads):
    line = EVERYTHING.replace(CLASSES, heads)
    assert [*fitted(trainer_of, f"{line} --pairs {pairs} --epoch_steps 2", texts)[1]] == TERMS


@pytest.mark.parametrize("kind", ["kl", "mse", "mse_prob", "bregman"])
@pytest.mark.parametrize(
    "head", ["regression", "linear", "cosine --pairs concat", "cosine --sts_cosine embedding --pairs cosine"]
)
def test_a_mean_teacher_of_scores(trainer_of, texts, kind, head):
    line = f"--mean_teacher {kind} {{fresh}} --sts_head {head} --epoch_steps 2"
    assert fitted(trainer_of, line, texts)[1]["sts consistency"] > 0


BESIDE = {
    "--pcgrad": [],
    "--smart 1": ["SMART"],
    "--r_drop 1": ["R-Drop"],
    "--layer_decay 0.9 --clip 0.1 --weight_decay 0.01 --eval_train": [],
    "--labels_per_class 1": [],
}


@pytest.mark.parametrize("more", BESIDE)
def test_beside_other_methods(trainer_of, texts, more):
    trainer, loss = fitted(trainer_of, f"{EVERYTHING} {more}", texts)
    assert loss.keys() - set(TERMS) == {f"{task} {term}" for task in COURSE for term in BESIDE[more]}
    assert trainer.teacher.t == trainer.loop.progress.update == trainer.plan.updates


@pytest.mark.parametrize("pairs", ["fused", "absdiff"])
def test_a_frozen_trunk(trainer_of, texts, tiny_model, pairs):
    trainer, loss = fitted(trainer_of, f"{EVERYTHING} --option pretrain --pairs {pairs}", texts)
    assert [*loss] == TERMS
    assert trainer.loop.progress.tokens == 0
    start = load_file(tiny_model / "model.safetensors")["embeddings.word_embeddings.weight"]
    for model in (trainer.model, trainer.teacher.model):
        assert torch.equal(model.bert.word_embedding.weight, start)
    student, teacher = (model.heads["sst"].linear.weight for model in (trainer.model, trainer.teacher.model))
    assert not torch.equal(student, teacher)


# --------------------------------------------------------------------------------------------- resumed to the same bits


def state_of(folder):
    state = torch.load(folder / "state.pt", weights_only=True)
    for name in ("train_seconds", "eval_seconds"):
        del state["progress"][name]
    for line in state["progress"]["history"]:
        del line["seconds"]
    return state


def assert_equal(one, two):
    """Of nested dicts and lists of numbers and tensors."""
    assert type(one) is type(two)
    if isinstance(one, dict):
        assert one.keys() == two.keys()
        for name in one:
            assert_equal(one[name], two[name])
    elif isinstance(one, list):
        assert len(one) == len(two)
        for a, b in zip(one, two, strict=True):
            assert_equal(a, b)
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one, two)
    else:
        assert one == two


@pytest.mark.parametrize(
    ("line", "update"),
    [
        ("--mean_teacher kl --ema_decay 0.8", 3),
        ("--mean_teacher mse {fresh} --teacher_mode eval --labels_per_class 1 --epoch_steps 5", 7),
        (f"{{uda}} --tsa log --uda_threshold 0.2 {CLASSES}", 7),
        (f"{EVERYTHING} --schedule annealed", 13),
    ],
)
def test_a_stopped_run_ends_with_the_same_bits(tmp_path, script, monkeypatch, line, update):
    assert script(f"{line} --epochs 2", "whole").code == 0
    with monkeypatch.context() as patch:
        stop_at(patch, update)
        assert script(f"{line} --epochs 2").code == 130
    assert torch.load(tmp_path / "run" / "state.pt", weights_only=True)["progress"]["update"] == update
    assert tiny.script("--resume", tmp_path / "run").code == 0
    whole, resumed = tmp_path / "whole", tmp_path / "run"
    tiny.assert_same_results(whole, resumed)
    assert_equal(state_of(whole), state_of(resumed))
    assert (whole / "teacher.safetensors").exists() == ("teacher" in line)
    if "teacher" in line:
        assert_equal(load_file(whole / "teacher.safetensors"), load_file(resumed / "teacher.safetensors"))
        assert tiny.read_json(resumed / "scores.json")["teacher"] == tiny.read_json(whole / "scores.json")["teacher"]
        assert state_of(resumed)["teacher"]["t"] == state_of(resumed)["progress"]["update"]


def test_another_file_of_copies_is_another_run(tmp_path, script, monkeypatch, tiny_data):
    copies = written(tmp_path / "copies.tsv", unlabelled_text.copied(unlabelled_text.training_texts(tiny_data, "sst")))
    with monkeypatch.context() as patch:
        stop_at(patch, 2)
        assert script(f"--tasks sst --uda sst={copies}").code == 130
    copies.write_text(copies.read_text().replace("film", "cat", 1))
    error = tiny.script("--resume", tmp_path / "run").error
    assert f"{copies} (sst augmented) is not what this run began with" in error


# ----------------------------------------------------------------------------------------- the student and the teacher


def test_student_and_teacher_are_scored_and_each_keeps_its_best_epoch(trainer_of, monkeypatch):
    trainer = trainer_of(*tiny.FINETUNE, "--epochs", 4, "--mean_teacher", "kl")
    scores = {"student": iter([0.3, 0.7, 0.5, 0.6]), "teacher": iter([0.1, 0.2, 0.9, 0.4])}
    seen = {"student": [], "teacher": []}
    examine = trainer.exam._dev

    def watched(model):
        name = "student" if model is trainer.model else "teacher"
        seen[name].append({key: value.clone() for key, value in model.state_dict().items()})
        predictions, found = examine(model)
        return predictions, found | {"selection_score": next(scores[name])}

    monkeypatch.setattr(trainer.exam, "_dev", watched)
    trainer.fit()
    assert (trainer.loop.progress.best_epoch, trainer.loop.progress.best) == (2, 0.7)
    best = trainer.loop.progress.best_teacher
    assert (best["best_epoch"], best["selection_score"]) == (3, 0.9)
    assert best["dev"] == trainer.loop.progress.history[2]["teacher"]["dev"]
    assert_equal(load_file(trainer.folder / "model.safetensors"), dict(seen["student"][1]))
    assert_equal(load_file(trainer.folder / "teacher.safetensors"), dict(seen["teacher"][2]))


def test_the_teacher_s_scores_are_those_of_the_teacher_without_dropout(trainer_of):
    trainer = trainer_of(*tiny.FINETUNE, "--epochs", 1, "--mean_teacher", "kl", "--lr", "1e-2")
    trainer.fit()
    (record,) = trainer.loop.progress.history
    for model, scores in ((trainer.model, record["dev"]), (trainer.teacher.model, record["teacher"]["dev"])):
        said = results.predict_all(model, trainer.data, "dev")
        assert scores == results.scores_of(TASKS, trainer.data, "dev", said)
    assert record["dev"] != record["teacher"]["dev"]
    assert trainer.finish()["teacher"] == {"best_epoch": 1, **record["teacher"]}


# ------------------------------------------------------------------------------------------------------- mistakes


def test_a_consistency_that_is_not_finite_stops_the_run(script, tmp_path, monkeypatch):
    monkeypatch.setattr(objective, "consistency", lambda kind, head, ours, theirs: ours.sum() * math.inf)
    done = script("--mean_teacher kl")
    assert done.code == 2
    assert "Traceback" not in done.err
    (error,) = (line for line in done.err.splitlines() if line.startswith("error: "))
    assert "the loss of sst consistency is" in error
    assert "inf at update 1 (epoch 1); nothing was saved since it went wrong" in error
    assert not (tmp_path / "run" / "model.safetensors").exists()


def test_an_epoch_of_which_uda_keeps_nothing_warns(script):
    done = script(f"{{uda}} {CLASSES} --uda_threshold 0.99 --epochs 2")
    assert done.code == 0
    for task in COURSE:
        warning = f"warning: {task} UDA kept: 0 in the whole epoch, so UDA did nothing; lower --uda_threshold"
        assert done.out.count(warning) == 2
    assert "warning" not in script(f"{{uda}} {CLASSES} --uda_threshold 0.1", "other").out


def test_what_a_run_says_of_its_copies(tmp_path, script, tiny_data):
    texts = unlabelled_text.training_texts(tiny_data, "sst")
    ids = [*texts]
    copies = unlabelled_text.copied(texts) | {ids[3]: texts[ids[3]], ids[4]: ("",)}
    path = written(tmp_path / "copies.tsv", copies | {"strange": ("of no use",)})
    done = script(f"--tasks sst --epochs 1 --uda sst={path}")
    assert done.code == 0, done.err
    said = f"sst: 19 of 20 unlabelled texts have a copy in {path}, 1 of them unchanged; "
    assert f"{said}1 row there skipped (line 6: no value in column 'sentence')" in done.out
    assert any(note.startswith(said) for note in tiny.read_json(tmp_path / "run" / "config.json")["data_notes"])


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("--tsa linear", "--tsa needs classes, but sts has a regression head: add --sts_head classification"),
        ("--tsa exp --sts_head linear", "--tsa needs classes, but sts has a regression head"),
        ("--tsa exp --sts_head cosine --pairs concat", "--tsa needs classes, but sts has a regression head"),
        ("{uda}", "--uda needs classes, but sts has a regression head: add --sts_head classification"),
        ("--uda sst=nothing.tsv", "nothing.tsv: no such file"),
        ("--uda cfimdb=x.tsv", "--uda names cfimdb: no use in a run with --tasks sst,quora,sts"),
        ("--unlabeled rte=x.tsv --mean_teacher kl", "--unlabeled names rte: no use in a run"),
        ("--unlabeled sst=x.tsv", "--unlabeled is of no use without --uda or --mean_teacher"),
        ("--unlabeled_batch_size 4", "--unlabeled_batch_size is of no use without --uda or --mean_teacher"),
        ("--unlabeled_batch_size 4 --mean_teacher kl", "there is no unlabelled text; add --unlabeled"),
        ("--uda_weight 2", "--uda_weight is of no use without --uda"),
        ("--uda_temperature 1", "--uda_temperature is of no use without --uda"),
        ("--uda_threshold 0.5", "--uda_threshold is of no use without --uda"),
        ("--uda_mean kept", "--uda_mean is of no use without --uda"),
        ("--ema_decay 0.9", "--ema_decay is of no use without --mean_teacher"),
        ("--ramp_up 0.1", "--ramp_up is of no use without --mean_teacher"),
        ("--teacher_mode eval", "--teacher_mode is of no use without --mean_teacher"),
        ("--consistency_weight 2", "--consistency_weight is of no use without --mean_teacher"),
        ("--mean_teacher bregman --ramp_up 0.1", "--ramp_up: --mean_teacher bregman settles that itself"),
        ("--labels_per_class 1000", "--labels_per_class 1000: sst has no more than that, nothing is left"),
        ("--epoch_steps 3 --schedule mtdnn", "--epoch_steps: an epoch of --schedule mtdnn has a length of its own"),
        ("--tsa cosine", "invalid choice: 'cosine'"),
        ("--mean_teacher mean", "invalid choice: 'mean'"),
        ("--uda file.tsv", "expected task=value"),
        ("--uda_threshold 1", "expected a number at least 0 and below 1"),
        ("--uda_temperature 0", "expected a number above 0"),
        ("--labels_per_class 0", "expected a whole number above 0"),
    ],
)
def test_what_makes_no_sense_is_refused_and_leaves_no_folder(script, tmp_path, line, says):
    assert says in script(line).error
    assert not (tmp_path / "run").exists()


def test_tsa_and_uda_of_other_tasks_need_no_classes_of_sts(script, texts):
    path = texts["uda"].split("sst=")[1].split(",")[0]
    assert script(f"--tasks sst,quora --tsa linear --uda sst={path} --epochs 1").code == 0


def test_text_that_no_method_reads_is_refused(script, texts):
    path = texts["fresh_uda"].split("sst=")[1].split(",")[0]
    assert "--unlabeled names quora, sts, which --uda does not" in script(f"{{fresh}} --uda sst={path}").error


def test_copies_of_other_texts_are_refused(script, texts, tmp_path):
    path = texts["fresh_uda"].split("sst=")[1].split(",")[0]
    assert f"--uda sst={path}: 0 of 20 unlabelled texts have a copy there by id" in script(f"--uda sst={path}").error
    assert not (tmp_path / "run").exists()
