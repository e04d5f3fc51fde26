"""What a Trainer leaves behind after training, and what its loop counts and saves on the way."""

import types

import numpy as np
import pytest
import tiny
import torch
from safetensors.torch import load_file

from minbert import evaluation
from minbert.training import analysis, loop

FINETUNE = ("--option", "finetune", "--lr", "1e-3")


def weights(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def changed(before, after):
    return {name for name in before if not torch.equal(before[name], after[name])}


def test_after_training_the_best_weights_are_back_and_the_last_are_kept_beside(trainer_of, monkeypatch):
    monkeypatch.setattr(analysis, "draw", lambda *_: None)  # takes longer than all the rest
    trainer, seen, scores = trainer_of(*FINETUNE, "--keep_state", "--epochs", 3), [], iter([0.2, 0.5, 0.3])

    def selection_score(tasks, dev):
        seen.append(weights(trainer.model))
        return next(scores)

    monkeypatch.setattr(evaluation, "selection_score", selection_score)
    trainer.fit()
    said = trainer.finish()
    assert (said["best_epoch"], said["selection_score"], said["epochs"]) == (2, 0.5, 3)
    now = weights(trainer.model)
    assert changed(seen[2], now), "the model still has its last weights"
    assert not changed(seen[1], now), "the model does not have the weights of its best epoch"
    assert not changed(seen[2], load_file(trainer.folder / "last.safetensors")), "last.safetensors: not the last"
    for name in ("sst", "quora", "sts"):
        task, test = trainer.model.tasks[name], trainer.data[name]["test"]
        rows = (trainer.folder / "predictions" / f"{task.file_name}-test-output.csv").read_text().splitlines()[1:]
        written = [float(row.split(" , ")[1]) for row in rows]
        best = evaluation.predict(trainer.model, name, test.sequences).values
        assert written == pytest.approx(best.astype(float)), f"{name}: the test set was not predicted by the best"


@pytest.mark.parametrize(("scores", "best"), [([0.4, 0.4, 0.3], 1), ([0.2, 0.5, 0.5], 2), ([0.1, 0.2, 0.3], 3)])
def test_the_teacher_keeps_a_best_epoch_of_its_own_the_first_of_equals(trainer_of, monkeypatch, scores, best):
    """The student, examined before it, is at its best in the second epoch whatever the teacher does."""
    trainer, seen = trainer_of(*FINETUNE, "--epochs", 3, "--mean_teacher", "kl"), []
    both = iter([score for pair in zip([0.1, 0.9, 0.2], scores, strict=True) for score in pair])

    def selection_score(tasks, dev):
        seen.append(weights(trainer.teacher.model))
        return next(both)

    monkeypatch.setattr(evaluation, "selection_score", selection_score)
    trainer.fit()
    told = trainer.loop.progress.best_teacher
    assert (told["best_epoch"], told["selection_score"]) == (best, scores[best - 1])
    saved = load_file(trainer.folder / "teacher.safetensors")
    assert not changed(seen[2 * best - 1], saved), f"teacher.safetensors is not the teacher of epoch {best}"
    assert trainer.loop.progress.best_epoch == 2, "the teacher's score decides on the student's best epoch"


@pytest.mark.parametrize("more", [(), ("--pcgrad",), ("--schedule", "sequential")], ids=" ".join)
def test_the_tokens_of_every_task_count_however_the_gradient_comes_about(trainer_of, more):
    trainer = trainer_of(*FINETUNE, "--epochs", 1, *more)
    rows = tiny.trace(trainer).rows
    lengths = {name: trainer.data[name]["train"].sequences.lengths for name in trainer.plan.batches}
    of_task = {name: sum(lengths[name][step[name]].sum() for step in rows if name in step) for name in lengths}
    assert all(np.array(list(of_task.values())) > 0)
    assert trainer.loop.progress.tokens == sum(of_task.values()), f"tokens trained on, by task: {of_task}"


@pytest.fixture
def slow(trainer_of, monkeypatch):
    """slow(flags...) -> a Trainer by whose clock a step takes 25 seconds, an exam 7, and all the rest nothing."""

    def make(*flags):
        trainer, now = trainer_of(*FINETUNE, *flags), [0.0]

        def takes(seconds, work):
            def watched(*args):
                now[0] += seconds
                return work(*args)

            return watched

        monkeypatch.setattr(loop, "time", types.SimpleNamespace(monotonic=lambda: now[0]))
        monkeypatch.setattr(trainer.loop, "step", takes(25, trainer.loop.step))
        monkeypatch.setattr(trainer.exam, "score", takes(7, trainer.exam.score))
        return trainer

    return make


@pytest.mark.parametrize(
    ("minutes", "saved_after"), [(1, [3, 5]), (0.4, [1, 2, 3, 4, 5, 5]), (2, [5, 5]), (60, [5])], ids=str
)
def test_checkpoint_minutes_are_minutes(slow, monkeypatch, minutes, saved_after):
    """Five steps of 25 seconds: the state is saved after more than so many minutes, and at the end of the epoch."""
    trainer, saved = slow("--epochs", 1, "--checkpoint_minutes", minutes), []
    monkeypatch.setattr(trainer.loop, "save", lambda: saved.append(trainer.loop.progress.update))
    trainer.fit()
    assert saved == saved_after, f"the updates after which --checkpoint_minutes {minutes} saved"


def test_the_time_of_steps_and_of_exams_is_counted_apart_and_over_all_epochs(slow):
    trainer = slow("--epochs", 2)
    trainer.fit()
    progress = trainer.loop.progress
    assert progress.train_seconds == 2 * 5 * 25, "the seconds in training of both epochs"
    assert progress.eval_seconds == 2 * 7, "the seconds in exams of both epochs"
    assert [record["seconds"] for record in progress.history] == [132, 264], "the seconds so far, epoch by epoch"
    assert progress.tokens_per_second == progress.tokens / 250
