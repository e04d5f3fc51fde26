"""The schedules in whole runs: the flags that decide which batches make a step, and that any of them can be resumed.

What each schedule is, with its sources, is proved in test_schedules.py.
"""

import itertools
import shutil
from collections import Counter

import pytest
import tiny
import torch

from minbert.flags import parser as flags
from minbert.methods import schedules
from minbert.training.loop import Stopped


def order(trace):
    """The tasks of each step."""
    return [list(step) for step in trace.losses]


# ------------------------------------------------------------------------------------------------------- schedules

COURSE = ("sst", "quora", "sts")
IN_TURN = [["sst"]] * 3 + [["quora"]] * 5 + [["sts"]] * 2
EPOCHS = {  # the tasks of each step of an epoch with 3 batches of SST, 5 of Quora and 2 of STS
    "simultaneous": [["sst", "quora", "sts"]] * 5,
    "sequential": [["quora"], ["sts"], ["sst"]] * 5,
    "round_robin": [["sst"], ["quora"], ["sts"]] * 2 + [["sst"], ["quora"], ["quora"], ["quora"]],
    "balanced_round_robin": [["sst"], ["quora"], ["sts"]] * 2,
    "in_turn": IN_TURN,
    "mtdnn_upsample": [["sst"], ["quora"], ["sts"]] * 5,
    "mtdnn": None,
    "annealed": None,
}


def test_choices_are_those_of_schedules_py():
    choices = {action.dest: action.choices for action in flags.build_parser()._actions}
    assert choices["schedule"] == tuple(schedules.SCHEDULES) == tuple(EPOCHS)
    assert choices["step"] == schedules.STEPS
    assert {name for name, preset in schedules.SCHEDULES.items() if not preset.ordered} == {"mtdnn", "annealed"}


@pytest.mark.parametrize("name", schedules.SCHEDULES)
def test_schedule(run_of, name):
    trace, trainer = run_of("--schedule", name, "--epochs", 2)
    steps = order(trace)
    assert trainer.loop.progress.update == trainer.plan.updates == len(steps)
    half = len(steps) // 2
    if EPOCHS[name]:
        assert steps == EPOCHS[name] * 2
    else:  # at random
        assert half == 10
        assert steps[:half] != steps[half:]
        assert steps[:half] != IN_TURN
        assert {len(step) for step in steps} == {1}
    if name in ("round_robin", "in_turn", "mtdnn"):  # each example once an epoch
        for epoch in (trace.rows[:half], trace.rows[half:]):
            seen = Counter((task, row) for step in epoch for task, rows in step.items() for row in rows.tolist())
            assert seen == Counter((task, row) for task in COURSE for row in range(tiny.ROWS[task][0]))


@pytest.mark.parametrize("name", schedules.SCHEDULES)
def test_batch_size_per_task_in_every_schedule(trainer_of, name):
    trainer, sizes = trainer_of("--schedule", name, "--batch_size", "sst=5,quora=11,sts=2"), {}
    for step in trainer.plan.steps_of(0):
        for task, index in step:
            sizes.setdefault(task, set()).add(len(trainer.plan.batches[task](0, index)))
    assert {task: max(found) for task, found in sizes.items()} == {"sst": 5, "quora": 11, "sts": 2}


def test_also_score(run_of):
    """A head that nothing trains is scored too; the heads of the trained tasks begin with the same weights."""
    trace, trainer = run_of("--tasks", "sts,sst", "--also_score", "sst,quora")
    assert [list(rows) for rows in trace.rows] == [["sts", "sst"]] * 3
    assert "train" not in trainer.data["quora"]
    assert list(trainer.loop.progress.history[0]["dev"]) == ["sts", "sst", "quora"]
    assert tiny.parse("--also_score", "sts,sst").also_score is None  # all are trained


def test_accumulate(run_of, trainer_of, still_model):
    """Two batches of 4 make the update of one of 8, as far as rounding goes; an epoch's last update may have fewer."""
    flags = (*tiny.FINETUNE, "--tasks", "quora", "--epochs", 1, "--hidden_dropout_prob", 0)
    gradients = []
    for more in (("--batch_size", 8), ("--batch_size", 4, "--accumulate", 2)):
        trainer = trainer_of(*flags, *more, model=still_model)
        trainer.model.train()
        trainer.loop.step(*trainer.plan.updates_of(0)[0])
        gradients.append({name: p.grad for name, p in trainer.model.named_parameters() if p.grad is not None})
    one, two = gradients
    assert one.keys() == two.keys()
    for name in one:
        torch.testing.assert_close(one[name], two[name], rtol=1e-4, atol=1e-6)
    trace, trainer = run_of("--accumulate", 2, "--epochs", 2)
    assert [len(steps) for steps in trainer.plan.updates_of(0)] == [2, 2, 1]
    assert trainer.loop.progress.update == trainer.plan.updates == len(trace.rates) == 6
    assert "5 steps, 6 updates of 2 steps each;" in trainer.describe()


def test_max_steps(run_of):
    """The run ends there, in mid-epoch too, and so does the rate's way."""
    flags = ("--epochs", 9, "--lr_schedule", "linear")
    trace, trainer = run_of(*flags, "--max_steps", 7)
    assert len(trace.rates) == trainer.plan.updates == 7
    assert [record["update"] for record in trainer.loop.progress.history] == [5, 7]
    assert [rate for rates in trace.rates for rate in rates] == pytest.approx([1e-3 * (7 - i) / 7 for i in range(7)])
    assert run_of(*flags, "--max_steps", 10)[1].plan.epochs == 2
    assert run_of("--epochs", 2, "--max_steps", 11)[1].plan.updates == 10


def test_step(run_of):
    assert order(run_of("--step", "per_task")[0]) == EPOCHS["mtdnn_upsample"]
    assert order(run_of("--schedule", "sequential", "--step", "summed")[0]) == [["quora", "sts", "sst"]] * 5
    summed, trainer = run_of("--schedule", "round_robin", "--step", "summed")
    assert order(summed) == [["sst", "quora", "sts"]] * 2 + [["sst", "quora"], ["quora"], ["quora"]]
    assert trainer.loop.progress.tokens == run_of("--schedule", "round_robin")[1].loop.progress.tokens


def test_task_order(run_of):
    (one, _), (two, _) = (run_of("--schedule", "in_turn", *more) for more in ((), ("--task_order", "sts,quora")))
    assert order(two) == IN_TURN[8:] + IN_TURN[3:8] + IN_TURN[:3]
    assert sorted(map(str, one.batches)) == sorted(map(str, two.batches))  # the batches themselves are the same


def test_shuffle(run_of):
    anew, once = (run_of("--epochs", 2, "--shuffle", when)[0].batches for when in ("epoch", "once"))
    one, two, three, four = ([step["quora"] for step in epoch] for epoch in (anew[:5], anew[5:], once[:5], once[5:]))
    assert one != two
    assert one == three == four
    assert once[0]["sts"] == once[2]["sts"] == once[4]["sts"]  # another pass over the set, in the same order
    assert anew[0]["sts"] != anew[2]["sts"]


def test_balanced_sample(run_of):
    def samples(when):
        trace, _ = run_of("--schedule", "balanced_round_robin", "--balanced_sample", when, "--epochs", 2)
        quora = [step["quora"] for step in trace.batches if "quora" in step]
        return [sorted(quora[0] + quora[1]), sorted(quora[2] + quora[3])]

    assert [len(set(sample)) for sample in samples("epoch")] == [13, 13]  # as many as STS has
    assert samples("epoch")[0] != samples("epoch")[1]
    assert samples("once")[0] == samples("once")[1]


# ---------------------------------------------------------------------------------------------------------- resume


@pytest.mark.parametrize(
    "flags",
    [
        *(("--schedule", name) for name in schedules.SCHEDULES),
        *(("--schedule", name, "--step", "summed") for name in ("round_robin", "balanced_round_robin")),
        ("--pcgrad",),
        ("--accumulate", 2),
        ("--smart", 1),
        ("--r_drop", 1),
        ("--pairs", "dot_attention", "--pooling", "mean"),
        ("--option", "pretrain", "--pairs", "concat"),
    ],
    ids=lambda flags: " ".join(map(str, flags)),
)
def test_a_run_stopped_in_mid_epoch_goes_on_to_the_same_bits(trainer_of, monkeypatch, flags):
    whole = trainer_of(*tiny.FINETUNE, *flags)
    full = tiny.trace(whole)
    stop = len(whole.plan.updates_of(0)) + 1
    trainer = trainer_of(*tiny.FINETUNE, *flags)
    step, steps = trainer.loop.optimizer.step, itertools.count(1)

    def stop_in_the_second_epoch():
        step()
        trainer.loop.stop_requested = next(steps) == stop

    monkeypatch.setattr(trainer.loop.optimizer, "step", stop_in_the_second_epoch)
    with pytest.raises(Stopped, match="in epoch 2 after 1 of"):
        trainer.fit()
    again = trainer_of(*tiny.FINETUNE, *flags)
    shutil.copy(trainer.folder / "state.pt", again.folder)
    again.loop.resume()
    rest = tiny.trace(again)
    assert rest.batches == full.batches[stop:]
    assert (rest.losses, rest.rates, rest.norms) == (full.losses[stop:], full.rates[stop:], full.norms[stop:])
    for (name, one), two in zip(whole.model.state_dict().items(), again.model.state_dict().values(), strict=True):
        assert torch.equal(one, two), name
    for one, two in zip(tiny.metrics(whole.folder), tiny.metrics(again.folder), strict=True):
        assert {**one, "seconds": 0} == {**two, "seconds": 0}
