"""What a Trainer leaves behind after training, and what its loop counts and saves on the way."""

import types

import numpy as np
import pytest
import tiny
import torch
from safetensors.torch import load_file

import evaluation
from minbert.training import loop

FINETUNE = ("--option", "finetune", "--lr", "1e-3")


def weights(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def changed(before, after):
    return {name for name in before if not torch.equal(before[name], after[name])}


def test_after_training_the_best_weights_are_back_and_the_last_are_kept_beside(trainer_of, monkeypatch):
    trainer, seen, scores = trainer_of(*FINETUNE, "--epochs", 3), [], iter([0.2, 0.5, 0.3])

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


@pytest.mark.parametrize("more", [(), ("--pcgrad",), ("--schedule", "sequential")], ids=" ".join)
def test_the_tokens_of_every_task_count_however_the_gradient_comes_about(trainer_of, more):
    trainer = trainer_of(*FINETUNE, "--epochs", 1, *more)
    rows = tiny.trace(trainer).rows
    lengths = {name: trainer.data[name]["train"].sequences.lengths for name in trainer.plan.batches}
    of_task = {name: sum(lengths[name][step[name]].sum() for step in rows if name in step) for name in lengths}
    assert all(np.array(list(of_task.values())) > 0)
    assert trainer.loop.progress.tokens == sum(of_task.values()), f"tokens trained on, by task: {of_task}"


@pytest.mark.parametrize(
    ("minutes", "saved_after"), [(1, [3, 5]), (0.4, [1, 2, 3, 4, 5, 5]), (2, [5, 5]), (60, [5])], ids=str
)
def test_checkpoint_minutes_are_minutes(trainer_of, monkeypatch, minutes, saved_after):
    """A step of 25 seconds, five to an epoch: after more than so many minutes the state is saved, and at the end."""
    trainer = trainer_of(*FINETUNE, "--epochs", 1, "--checkpoint_minutes", minutes)
    step, saved, now = trainer.loop.step, [], [0.0]

    def slow_step(parts):
        step(parts)
        now[0] += 25

    monkeypatch.setattr(loop, "time", types.SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(trainer.loop, "step", slow_step)
    monkeypatch.setattr(trainer.loop, "save", lambda: saved.append(trainer.loop.progress.update))
    trainer.fit()
    assert saved == saved_after, f"the updates after which --checkpoint_minutes {minutes} saved"
    assert trainer.loop.progress.train_seconds == 5 * 25
