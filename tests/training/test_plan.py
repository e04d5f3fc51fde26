"""What a run plans to do and how long it says it will take, after its first steps: Plan against sums by hand."""

import re

import pytest
import tiny

from minbert.training import plan


def minutes(trainer, seconds, update=plan.STEPS_TO_ESTIMATE):
    trainer.loop.progress.update, trainer.loop.progress.train_seconds = update, seconds
    return float(re.search(r"about ([0-9.]+) minutes", trainer._estimate())[1])


def test_epochs_shorter_than_the_first_steps(trainer_of):
    """20 updates are 4 of 40 epochs."""
    assert minutes(trainer_of(*tiny.FINETUNE, "--epochs", 40), seconds=600) == 100


def test_in_the_middle_of_an_epoch_tokens_count(trainer_of):
    """In turn SST's 3 batches, Quora's 5 and STS's 2: after 14 of 20 updates an epoch, SST's and a Quora batch."""
    trainer = trainer_of(*tiny.FINETUNE, "--schedule", "in_turn")
    sst, quora, sts = (trainer.data[name]["train"].sequences.lengths.sum() for name in ("sst", "quora", "sts"))
    epoch, done = sst + quora + sts, sst + quora / 5
    assert minutes(trainer, seconds=600, update=14) == pytest.approx(10 * 2 * epoch / (epoch + done), abs=0.05)


def test_what_is_done_once_is_counted_once(trainer_of):
    trainer = trainer_of("--option", "pretrain", "--epochs", 40)
    trainer.once_seconds = 500
    assert minutes(trainer, seconds=560) == pytest.approx((500 + 60 * 10) / 60, abs=0.05)


def test_the_unlabelled_text_beside_a_batch_counts_too():
    """In turn two batches of SST, each 8 x 10 tokens beside 4 x (30 + 20), and two of Quora, each 8 x 10."""
    flags = tiny.options_of("--schedule", "in_turn", "--epochs", 1).schedule
    made = plan.Plan(flags, {"sst": 16, "quora": 16}, {"sst": 40}, beside=4)
    lengths = {"sst": {"train": 10, "unlabelled": 30, "augmented": 20}, "quora": {"train": 10}}
    seconds = 600 * (2 * 280) / (2 * 280 + 2 * 80)  # what SST's half of the epoch takes of ten minutes
    assert "about 10.0 minutes" in made.estimate(lengths, updates=2, seconds=seconds, once=0)


@pytest.mark.parametrize("schedule", ["simultaneous", "sequential", "mtdnn"])
def test_the_updates_planned_are_those_of_all_epochs(schedule):
    flags = tiny.options_of("--schedule", schedule, "--epochs", 3).schedule
    made = plan.Plan(flags, {"sst": 20, "quora": 37, "sts": 13})
    assert made.updates == sum(len(made.steps_of(epoch)) for epoch in range(3))


def test_a_frozen_trunk_has_read_everything_before_the_first_step(trainer_of, monkeypatch):
    trainer = trainer_of("--option", "pretrain", "--epochs", 2)
    encode, train_step, passes = trainer.model.encode, trainer.loop.step, []

    def watched(*args):
        passes.append("embedding")
        return encode(*args)

    def step(*args):
        passes.append("step")
        train_step(*args)

    monkeypatch.setattr(trainer.model, "encode", watched)
    monkeypatch.setattr(trainer.loop, "step", step)
    trainer.fit()
    three = ["embedding"] * 3  # the training sets, and after the first epoch the dev sets
    assert passes == [*three, *["step"] * 5, *three, *["step"] * 5]
    assert 0 < trainer.once_seconds < trainer.loop.progress.train_seconds
