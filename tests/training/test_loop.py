"""The loop: one trunk pass and one sum of losses a step, what is frozen, which checkpoint is kept, when it stops."""

import itertools
import json
import math
import signal

import numpy as np
import pytest
import tiny
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

import multitask_classifier
from datasets import TASKS
from minbert import evaluation
from minbert.files import UserError
from minbert.hub import resolve
from minbert.methods.schedules import Batches
from minbert.training.loop import Stopped

FINETUNE = ("--option", "finetune", "--lr", "1e-3")


def weights(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def changed(before, after):
    return {name for name in before if not torch.equal(before[name], after[name])}


# ------------------------------------------------------------------------------------------------------- a step


def test_a_step_is_one_trunk_pass_over_a_batch_of_every_task(trainer_of):
    trace = tiny.trace(trainer_of(*FINETUNE, "--epochs", 2))
    assert trace.trunk_passes == [1] * 10
    assert [set(rows) for rows in trace.rows] == [{"sst", "quora", "sts"}] * 10


def test_a_sequential_step_is_one_pass_and_one_update_a_batch(trainer_of):
    trainer = trainer_of(*FINETUNE, "--epochs", 1, "--schedule", "sequential")
    trace = tiny.trace(trainer)
    assert [list(rows) for rows in trace.rows] == [["quora"], ["sts"], ["sst"]] * 5
    assert trace.trunk_passes == [1] * 15
    assert trainer.loop.progress.update == 15


def reference_losses(model, data, rows):
    """The mean loss of each task on its own, through the public padded call of the trunk."""
    losses = {}
    for name, chosen in rows.items():
        part = data[name]["train"].sequences.take(chosen)
        longest = int(part.lengths.max())
        ids, types, mask = torch.zeros(3, len(part), longest, dtype=torch.int64)
        for row in range(len(part)):
            tokens = slice(part.offsets[row], part.offsets[row + 1])
            n = int(part.lengths[row])
            ids[row, :n] = torch.from_numpy(part.ids[tokens]).long()
            types[row, :n] = torch.from_numpy(part.types[tokens]).long()
            mask[row, :n] = 1
        head = model.heads[name].linear
        logits = F.linear(model.bert(ids, mask, types)["pooler_output"], head.weight, head.bias)
        labels = torch.from_numpy(data[name]["train"].examples.labels[chosen])
        if name == "sst":
            losses[name] = F.cross_entropy(logits, labels)
        elif name == "quora":
            losses[name] = F.binary_cross_entropy(logits[:, 0].sigmoid(), labels.float())
        else:
            losses[name] = F.mse_loss(5 * logits[:, 0].sigmoid(), labels)
    return losses


@pytest.mark.parametrize("schedule", ["simultaneous", "sequential"])
def test_the_gradient_is_that_of_the_sum_of_each_task_s_mean(trainer_of, still_model, monkeypatch, schedule):
    """Every step of an epoch, the short last batches included: 4 rows of 8 in SST, 5 in Quora and STS."""
    trainer = trainer_of(
        *FINETUNE, "--epochs", 1, "--hidden_dropout_prob", 0, "--schedule", schedule, model=still_model
    )
    model, sizes, rows = trainer.model, [], {}
    choose = Batches.__call__

    def watched(batches, epoch, index):
        rows[batches.task] = choose(batches, epoch, index)
        return rows[batches.task]

    monkeypatch.setattr(Batches, "__call__", watched)
    step = trainer.loop.optimizer.step

    def compare_then_step():
        losses = reference_losses(model, trainer.data, rows)
        parameters = dict(model.named_parameters())
        gradients = torch.autograd.grad(sum(losses.values()), parameters.values(), allow_unused=True)
        for (name, parameter), expected in zip(parameters.items(), gradients, strict=True):
            if expected is None:  # a task that is not in this step
                assert parameter.grad is None
                continue
            error = (parameter.grad - expected).abs().max()
            assert error < 3e-5 * expected.abs().max() + 1e-7, name
        sizes.append({name: len(chosen) for name, chosen in rows.items()})
        rows.clear()
        step()

    monkeypatch.setattr(trainer.loop.optimizer, "step", compare_then_step)
    trainer.fit()
    short = {name: size % 8 for name, size in (("sst", 20), ("quora", 37), ("sts", 13))}
    assert all(any(size.get(name) == rest for size in sizes) for name, rest in short.items())


def test_the_record_holds_the_mean_of_the_losses_and_what_was_counted(trainer_of):
    trainer = trainer_of(*FINETUNE, "--epochs", 2)
    trace = tiny.trace(trainer)
    lengths = {name: trainer.data[name]["train"].sequences.lengths for name in trainer.plan.batches}
    for record, part in zip(trainer.loop.progress.history, (slice(0, 5), slice(5, 10)), strict=True):
        for name in ("sst", "quora", "sts"):
            assert record["loss"][name] == pytest.approx(np.mean([loss[name] for loss in trace.losses[part]]), rel=1e-6)
        assert record["update"] == part.stop
        assert record["tokens"] == sum(lengths[n][rows].sum() for r in trace.rows[: part.stop] for n, rows in r.items())


def test_training_learns(trainer_of):
    """Rote learning of 20 rows is no proof of anything, but a trainer that cannot do it is broken."""
    trainer = trainer_of("--option", "finetune", "--tasks", "sst", "--lr", "5e-3", "--epochs", 30)
    trainer.fit()
    train = trainer.data["sst"]["train"]
    predictions = evaluation.predict(trainer.model, "sst", train.sequences).values
    assert np.mean(predictions == train.examples.labels) > 0.8


# ----------------------------------------------------------------------------------------------------- freezing


def test_pretrain_leaves_the_trunk_and_trains_the_heads(trainer_of):
    trainer = trainer_of("--option", "pretrain", "--epochs", 2, "--weight_decay", 0.1)
    before = weights(trainer.model)
    trainer.fit()
    moved = changed(before, weights(trainer.model))
    assert moved == {name for name in before if name.startswith("heads.")}


def test_finetune_trains_everything(trainer_of):
    trainer = trainer_of(*FINETUNE, "--epochs", 2)
    before = weights(trainer.model)
    trainer.fit()
    after = weights(trainer.model)
    assert changed(before, after) == set(before)
    still = [name for name in before if (before[name] - after[name]).abs().max() < 1e-4]
    assert all(name.endswith("self_attention.key.bias") for name in still), still  # their gradient is 0 in theory


def test_frozen_features_are_computed_once_in_eval_mode(trainer_of, monkeypatch):
    trainer = trainer_of("--option", "pretrain", "--epochs", 3)
    model, passes = trainer.model, []
    encode = model.encode
    monkeypatch.setattr(model, "encode", lambda *args: passes.append(model.bert.training) or encode(*args))
    trainer.fit()
    # three training sets and three dev sets, once each in three epochs: the tiny sets fit into one batch each
    assert passes == [False] * (3 + 3)
    rows = np.array([4, 0, 7])
    with torch.no_grad():
        expected = model.eval().embed({"sst": trainer.data["sst"]["train"].sequences.take(rows)})["sst"]
    torch.testing.assert_close(trainer.frozen.of("sst", "train")[rows], expected, rtol=0, atol=1e-6)


def test_pretrain_on_features_is_pretrain_through_the_trunk(trainer_of, still_model):
    """Computing the trunk once is an economy, not another method: without dropout the losses agree."""
    flags = ("--option", "pretrain", "--epochs", 2, "--hidden_dropout_prob", 0)
    fast, slow = trainer_of(*flags, model=still_model), trainer_of(*flags, model=still_model)
    slow.objective.frozen = False
    one, two = tiny.trace(fast), tiny.trace(slow)
    assert sum(one.trunk_passes) == 0
    for a, b in zip(one.losses, two.losses, strict=True):
        assert a == pytest.approx(b, abs=1e-5)


def test_tasks_that_are_not_trained_are_scored_and_keep_their_heads(trainer_of):
    trainer = trainer_of(*FINETUNE, "--tasks", "quora", "--also_score", "sst,sts", "--epochs", 1)
    before = weights(trainer.model.heads)
    trainer.fit()
    assert changed(before, weights(trainer.model.heads)) == {"quora.linear.weight", "quora.linear.bias"}
    record = trainer.loop.progress.history[0]
    assert set(record["dev"]) == {"sst", "quora", "sts"}
    assert list(record["loss"]) == ["quora"]
    assert record["selection_score"] == record["dev"]["quora"]["accuracy"]


# ------------------------------------------------------------------------------------- which checkpoint is kept


def fit_with_scores(trainer, monkeypatch, scores):
    """Fit while the epochs score `scores`; returns the weights [epoch] as they were scored."""
    scores, seen = iter(scores), []

    def selection_score(tasks, dev):
        seen.append(weights(trainer.model))
        return next(scores)

    monkeypatch.setattr(evaluation, "selection_score", selection_score)
    trainer.fit()
    return seen


@pytest.mark.parametrize(
    ("scores", "best"), [([0.2, 0.5, 0.3], 2), ([0.4, 0.4, 0.4], 1), ([0.0, 0.0, 0.1], 3), ([-1.0, -1.0, -2.0], 1)]
)
def test_the_best_epoch_is_kept_and_the_first_always(trainer_of, monkeypatch, scores, best):
    trainer = trainer_of(*FINETUNE, "--epochs", 3)
    seen = fit_with_scores(trainer, monkeypatch, scores)
    saved = load_file(trainer.folder / "model.safetensors")
    assert saved.keys() == seen[best - 1].keys()
    assert not changed(seen[best - 1], saved)
    assert (trainer.loop.progress.best_epoch, trainer.loop.progress.best) == (best, scores[best - 1])
    assert not changed(seen[2], weights(trainer.model))  # training went on from the last, not from the best


def test_the_first_epoch_is_saved_before_the_second_begins(trainer_of, monkeypatch):
    trainer = trainer_of(*FINETUNE, "--epochs", 2)
    train_epoch = trainer.loop._train_epoch

    def watched():
        if trainer.loop.progress.epoch == 1:
            for name in ("model.safetensors", "state.pt", "metrics.jsonl", "predictions/sst-dev-output.csv"):
                assert (trainer.folder / name).is_file()
            raise KeyboardInterrupt
        train_epoch()

    monkeypatch.setattr(trainer.loop, "_train_epoch", watched)
    with pytest.raises(KeyboardInterrupt):
        trainer.fit()


def test_a_score_that_is_no_number_is_never_the_best(trainer_of, monkeypatch):
    """`nan > best` is false for ever: a NaN kept as the best would shut out all later epochs."""
    trainer = trainer_of(*FINETUNE, "--epochs", 2)
    with pytest.raises(UserError, match="epoch 1"):
        fit_with_scores(trainer, monkeypatch, [math.nan, 0.5])
    assert not (trainer.folder / "model.safetensors").exists()


def test_selection_is_on_the_dev_files(trainer_of, tiny_data):
    """Recomputed from the files alone: the dev predictions of the best epoch against the labels of the dev set."""
    trainer = trainer_of(*FINETUNE, "--epochs", 3)
    trainer.fit()
    progress, dev = trainer.loop.progress, {}
    for name, short, kind in (("sst", "sst", int), ("quora", "para", float), ("sts", "sts", float)):
        lines = (trainer.folder / "predictions" / f"{short}-dev-output.csv").read_text().splitlines()[1:]
        ids, values = zip(*[line.split(" , ") for line in lines], strict=True)
        rows = [line.split("\t") for line in (tiny_data / TASKS[name].files["dev"]).read_text().splitlines()[1:]]
        assert list(ids) == [row[1] for row in rows]
        values, labels = np.array([kind(value) for value in values]), np.array([kind(row[-1]) for row in rows])
        dev[name] = np.corrcoef(values, labels)[0, 1] if name == "sts" else np.mean(values == labels)
    expected = (dev["sst"] + dev["quora"] + (dev["sts"] + 1) / 2) / 3
    assert progress.best == pytest.approx(expected, abs=1e-6)
    assert progress.best == max(record["selection_score"] for record in progress.history)
    assert progress.history[progress.best_epoch - 1]["score"] == progress.best


@pytest.mark.parametrize(
    ("scores", "epochs"),
    [([0.5, 0.4, 0.5], 3), ([0.1, 0.2, 0.1, 0.15], 4), ([0.1, 0.2, 0.3, 0.4, 0.5], 5), ([0.3, 0.2, 0.4, 0.1, 0.1], 5)],
)
def test_patience_counts_epochs_without_a_gain(trainer_of, monkeypatch, scores, epochs):
    trainer = trainer_of(*FINETUNE, "--epochs", 5, "--patience", 2)
    fit_with_scores(trainer, monkeypatch, scores)
    assert trainer.loop.progress.epoch == epochs
    assert trainer.loop.progress.stopped_early == (epochs < 5 or scores == [0.3, 0.2, 0.4, 0.1, 0.1])


# -------------------------------------------------------------------------------------------- checkpoints, stops


def test_a_state_restores_everything_in_mid_epoch(trainer_of, monkeypatch):
    """A new Trainer on the saved state draws the same dropout and takes the same steps as the old one going on."""
    trainer = trainer_of(*FINETUNE, "--epochs", 2, "--lr_schedule", "linear", "--warmup", 0.2, "--clip", 0.5)
    step, steps = trainer.loop.optimizer.step, itertools.count(1)

    def stop_in_the_seventh():
        step()
        trainer.loop.stop_requested = next(steps) == 7

    monkeypatch.setattr(trainer.loop.optimizer, "step", stop_in_the_seventh)
    with pytest.raises(Stopped, match="after 2 of 5 steps"):
        trainer.fit()
    assert (trainer.loop.progress.epoch, trainer.loop.progress.step, trainer.loop.progress.update) == (1, 2, 7)

    again = trainer_of(*FINETUNE, "--epochs", 2, "--lr_schedule", "linear", "--warmup", 0.2, "--clip", 0.5)
    (again.folder / "state.pt").write_bytes((trainer.folder / "state.pt").read_bytes())
    (again.folder / "metrics.jsonl").write_bytes((trainer.folder / "metrics.jsonl").read_bytes())
    again.loop.resume()
    assert again.loop.progress == trainer.loop.progress
    rest = tiny.trace(again)
    whole = trainer_of(*FINETUNE, "--epochs", 2, "--lr_schedule", "linear", "--warmup", 0.2, "--clip", 0.5)
    full = tiny.trace(whole)
    assert (rest.losses, rest.rates, rest.norms) == (full.losses[7:], full.rates[7:], full.norms[7:])
    assert not changed(weights(whole.model), weights(again.model))
    for one, two in zip(tiny.metrics(whole.folder), tiny.metrics(again.folder), strict=True):
        assert {**one, "seconds": 0} == {**two, "seconds": 0}


def test_signals_are_handed_back(trainer_of):
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    trainer_of(*FINETUNE, "--epochs", 1).fit()
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_state_of_another_run_is_refused(trainer_of):
    one, two = trainer_of(*FINETUNE, "--tasks", "cfimdb"), trainer_of(*FINETUNE)
    one.loop.save()
    (one.folder / "state.pt").rename(two.folder / "state.pt")
    with pytest.raises(UserError, match="state of this run"):
        two.loop.resume()


@pytest.mark.parametrize("content", [b"", b"garbage", b"PK\x03\x04" + bytes(100)], ids=["empty", "garbage", "cut"])
def test_a_damaged_state_is_refused(trainer_of, content):
    trainer = trainer_of(*FINETUNE)
    (trainer.folder / "state.pt").write_bytes(content)
    with pytest.raises(UserError, match=r"state\.pt: not a state of this run"):
        trainer.loop.resume()


def test_a_pickle_with_code_in_it_is_not_run(trainer_of, tmp_path):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "sprung"), "w"))

    trainer = trainer_of(*FINETUNE)
    torch.save({"progress": Trap()}, trainer.folder / "state.pt")
    with pytest.raises(UserError, match="not a state"):
        trainer.loop.resume()
    assert not (tmp_path / "sprung").exists()


def test_a_loss_that_is_not_finite_stops_the_run_before_the_update(trainer_of, monkeypatch):
    trainer = trainer_of(*FINETUNE, "--epochs", 1)
    loss, calls = trainer.model.heads["sts"].loss, itertools.count(1)
    monkeypatch.setattr(
        trainer.model.heads["sts"],
        "loss",
        lambda logits, labels: loss(logits, labels) * (math.nan if next(calls) == 4 else 1),
    )
    with pytest.raises(UserError, match=r"loss of sts is nan at update 4 \(epoch 1\)"):
        trainer.fit()
    assert trainer.loop.progress.update == 3
    assert all(torch.isfinite(parameter).all() for parameter in trainer.model.parameters())


def test_weights_that_are_not_finite_are_never_saved(trainer_of):
    trainer = trainer_of(*FINETUNE, "--epochs", 1)
    with torch.no_grad():
        trainer.model.heads["sst"].linear.bias[0] = math.inf
    with pytest.raises(UserError, match=r"heads\.sst\.linear\.bias is not finite"):
        trainer.loop.save()
    assert not (trainer.folder / "state.pt").exists()


def test_tensorboard_gets_losses_and_scores_by_update(trainer_of):
    class Writer:
        def __init__(self):
            self.scalars, self.flushed = {}, 0

        def add_scalar(self, name, value, update):
            self.scalars[name, update] = value

        def flush(self):
            self.flushed += 1

    trainer = trainer_of(*FINETUNE, "--epochs", 2)
    trainer.exam.writer = Writer()
    trainer.fit()
    history = trainer.loop.progress.history
    tags = ["loss/sst", "loss/quora", "loss/sts", "dev/sst", "dev/quora", "dev/sts", "dev/selection_score"]
    assert set(trainer.exam.writer.scalars) == set(itertools.product(tags, (5, 10)))
    assert trainer.exam.writer.scalars["dev/sts", 10] == history[1]["dev"]["sts"]["pearson"]
    assert trainer.exam.writer.scalars["loss/quora", 5] == history[0]["loss"]["quora"]
    assert trainer.exam.writer.flushed == 2


def test_what_the_trainer_writes_is_json_without_nan(trainer_of):
    trainer = trainer_of(*FINETUNE, "--epochs", 1)
    trainer.fit()
    (line,) = (trainer.folder / "metrics.jsonl").read_text().splitlines()
    json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} in metrics.jsonl"))


# ---------------------------------------------------------------------------------------------------- the model


def test_the_model_keeps_tasks_apart_in_one_pass(trainer_of, still_model):
    """Logits of a joint pass are those of each task alone, in the order of its rows."""
    trainer = trainer_of(*FINETUNE, model=still_model)
    parts = {name: trainer.data[name]["dev"].sequences for name in ("quora", "sst", "sts")}
    with torch.no_grad():
        together = trainer.model.eval()(parts)
        for name, part in parts.items():
            torch.testing.assert_close(together[name], trainer.model({name: part})[name], rtol=0, atol=1e-5)
    assert list(together) == ["quora", "sst", "sts"]


def test_heads_start_from_the_seed_whatever_was_drawn_before(tiny_model, tiny_data):
    options = tiny.options_of("--seed", 5)
    found = resolve(str(tiny_model))
    torch.manual_seed(1)
    one = weights(multitask_classifier.build_model(found, options))
    torch.manual_seed(2)
    assert not changed(one, weights(multitask_classifier.build_model(found, options)))
