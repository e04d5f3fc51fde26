"""Which examples make up each step: coverage, cycles, order, and that all of it is a function of (seed, epoch)."""

from collections import Counter

import numpy as np
import pytest

from schedules import SCHEDULES, Batches, batch_count

ROWS = {"sst": 20, "quora": 37, "sts": 13}  # 3, 5 and 2 batches of 8


def batches_of(rows=ROWS, size=8, seed=11711):
    return {task: Batches(task, count, size, seed) for task, count in rows.items()}


def epoch_of(schedule, batches, epoch=0):
    """[[(task, row numbers)] of each step]"""
    steps = SCHEDULES[schedule]({task: b.count for task, b in batches.items()})
    return [[(task, batches[task](epoch, index).tolist()) for task, index in step] for step in steps]


@pytest.mark.parametrize(("rows", "size", "count"), [(1, 8, 1), (8, 8, 1), (9, 8, 2), (5, 1, 5), (3, 99, 1)])
def test_batch_count_and_the_sizes_of_the_batches(rows, size, count):
    assert batch_count(rows, size) == count
    sizes = [len(Batches("sst", rows, size, 1)(0, index)) for index in range(count)]
    assert sizes == [size] * (count - 1) + [rows - size * (count - 1)]  # the last one short, none empty


def test_simultaneous_takes_a_batch_of_every_task_each_step():
    steps = epoch_of("simultaneous", batches_of())
    assert [[task for task, _ in step] for step in steps] == [["sst", "quora", "sts"]] * 5


def test_sequential_is_the_queue_quora_sts_sst_with_an_update_each():
    steps = epoch_of("sequential", batches_of())
    assert [[task for task, _ in step] for step in steps] == [["quora"], ["sts"], ["sst"]] * 5


def test_sequential_puts_other_tasks_last_as_given():
    steps = SCHEDULES["sequential"]({"rte": 1, "sst": 2, "cfimdb": 1, "quora": 1})
    assert [task for ((task, _),) in steps] == ["quora", "sst", "rte", "cfimdb"] * 2


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_an_epoch_takes_every_example_of_the_longest_task_once_and_cycles_the_others(schedule):
    chosen = {task: Counter() for task in ROWS}
    for step in epoch_of(schedule, batches_of()):
        for task, rows in step:
            chosen[task].update(rows)
    assert chosen["quora"] == Counter(range(37))
    # 5 batches of a task with 3 (8, 8, 4 rows): one whole pass and the first two batches of another
    assert sum(chosen["sst"].values()) == 20 + 16
    assert set(chosen["sst"]) == set(range(20))
    assert max(chosen["sst"].values()) == 2
    assert sum(chosen["sts"].values()) == 2 * 13 + 8  # two passes of 2 batches (8 and 5 rows) and half a third
    assert set(chosen["sts"].values()) == {2, 3}


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_both_schedules_see_the_same_batches(schedule):
    seen = sorted(part for step in epoch_of(schedule, batches_of()) for part in step)
    assert seen == sorted(part for step in epoch_of("simultaneous", batches_of()) for part in step)


def test_a_set_that_starts_again_comes_in_a_new_order():
    batches = Batches("sts", 13, 8, 1)
    passes = [np.concatenate([batches(0, index) for index in (2 * k, 2 * k + 1)]).tolist() for k in range(3)]
    assert all(sorted(one) == list(range(13)) for one in passes)
    assert len({tuple(one) for one in passes}) == 3


def test_the_order_depends_on_seed_task_and_epoch_alone():
    def order(seed=1, task="sst", epoch=0):
        return Batches(task, 50, 50, seed)(epoch, 0).tolist()

    assert order() == order()
    assert len({tuple(o) for o in (order(), order(seed=2), order(task="sts"), order(epoch=1))}) == 4
    # a run that begins in the middle, as after --resume, or looks at batches out of order, sees the same rows
    straight, jumping = Batches("sst", 20, 8, 1), Batches("sst", 20, 8, 1)
    rows = {key: straight(*key).tolist() for key in [(0, 0), (0, 1), (0, 4), (1, 0), (1, 2)]}
    assert {key: jumping(*key).tolist() for key in reversed(rows)} == dict(reversed(rows.items()))


def test_no_order_is_the_file_s_and_every_place_is_as_likely():
    firsts = [Batches("sst", 4, 4, 1)(epoch, 0)[0] for epoch in range(4000)]
    counts = np.bincount(firsts, minlength=4)
    assert ((counts - 1000) ** 2 / 1000).sum() < 16.3  # chi-square with 3 degrees of freedom, p = 0.001
