"""Which examples make up each step: coverage, cycles, order, and that all of it is a function of (seed, epoch)."""

from collections import Counter

import numpy as np
import pytest
import says_why

from minbert.methods.schedules import (
    SCHEDULES,
    STEPS,
    Batches,
    annealed_exponent,
    batch_count,
    make_batches,
    steps_of_epoch,
)

ROWS = {"sst": 20, "quora": 37, "sts": 13}  # 3, 5 and 2 batches of 8
COUNTS = {"sst": 3, "quora": 5, "sts": 2}
LONGEST = ("simultaneous", "sequential", "mtdnn_upsample")
WHOLE = ("round_robin", "in_turn", "mtdnn")


def steps_of(schedule, counts=None, epoch=0, epochs=3, seed=11711, **kwargs):
    return steps_of_epoch(schedule, counts or COUNTS, epoch, epochs, seed, **kwargs)


def rows_of(schedule, rows=ROWS, size=8, epoch=0, step=None, **kwargs):
    """[[(task, row numbers)] of each step], as a run would take them."""
    batches = make_batches(schedule, rows, size, 11711, **kwargs)
    steps = steps_of(schedule, {task: b.count for task, b in batches.items()}, epoch, step=step)
    return [[(task, batches[task](epoch, index).tolist()) for task, index in step] for step in steps]


def times_taken(steps):
    """{task: how often each row is taken}"""
    taken = {}
    for task, rows in (part for step in steps for part in step):
        taken.setdefault(task, Counter()).update(rows)
    return taken


def parts_of(steps):
    return sorted(part for step in steps for part in step)


# --------------------------------------------------------------------------------------- each schedule as its name says


@says_why.each_part_of("minbert/methods/schedules.py")
def test_known_mistakes(part):
    says_why.assert_right(*part)


def test_the_longest_task_sets_the_length_of_simultaneous_sequential_and_mtdnn_upsample():
    assert steps_of("simultaneous") == [[("sst", i), ("quora", i), ("sts", i)] for i in range(5)]
    assert steps_of("sequential") == [[(task, i)] for i in range(5) for task in ("quora", "sts", "sst")]
    assert steps_of("mtdnn_upsample") == [[(task, i)] for i in range(5) for task in ("sst", "quora", "sts")]


@pytest.mark.parametrize("schedule", ["round_robin", "balanced_round_robin"])
def test_round_robin_lets_exhausted_sets_drop_out(schedule):
    turns = [["sst", "quora", "sts"]] * 2 + [["sst", "quora"]] + [["quora"]] * 2
    batches = [[(task, index) for task in turn] for index, turn in enumerate(turns)]
    assert steps_of(schedule, step="summed") == batches
    assert steps_of(schedule) == [[part] for turn in batches for part in turn]


def test_in_turn_is_one_whole_set_after_another_sst_quora_sts():
    assert steps_of("in_turn") == [[(task, i)] for task in ("sst", "quora", "sts") for i in range(COUNTS[task])]


def test_mtdnn_is_every_batch_once_in_one_shuffled_order():
    orders = [steps_of("mtdnn", epoch=epoch) for epoch in range(400)]
    every_batch = parts_of(steps_of("in_turn"))
    assert all(parts_of(order) == every_batch and {len(step) for step in order} == {1} for order in orders)
    # every batch is as likely to be the first: chi-square with 9 degrees of freedom, p = 0.001
    firsts = Counter(order[0][0] for order in orders)
    assert sum((firsts[batch] - 40) ** 2 / 40 for batch in every_batch) < 27.9


@pytest.mark.parametrize(("epoch", "exponent"), [(0, 1.0), (2, 0.6), (4, 0.2)])
def test_annealed_draws_tasks_as_their_batches_to_the_power_of_a(epoch, exponent):
    """First, middle and last of 5 epochs; each frequency within 4 standard deviations of the binomial's mean."""
    assert annealed_exponent(epoch, 5) == pytest.approx(exponent, abs=1e-15)
    assert annealed_exponent(0, 1) == 1
    counts = {"sst": 1068, "quora": 17688, "sts": 755}
    steps = steps_of("annealed", counts, epoch, 5)
    drawn, total = Counter(task for ((task, _),) in steps), sum(counts.values())
    assert len(steps) == total
    for task, n in counts.items():
        p = n**exponent / sum(m**exponent for m in counts.values())
        assert abs(drawn[task] - total * p) < 4 * np.sqrt(total * p * (1 - p))


def test_annealed_walks_through_each_set_and_cycles():
    rows = {"sst": 2, "quora": 60}
    for epoch in range(3):
        steps = steps_of("annealed", rows, epoch)
        taken = times_taken(rows_of("annealed", rows, 1, epoch))
        for task, n in rows.items():
            walked = [index for ((name, index),) in steps if name == task]
            assert walked == list(range(len(walked)))
            assert len(taken[task]) == min(n, len(walked))  # none again before the set's end
            assert max(taken[task].values()) == batch_count(len(walked), n)
    assert sum(taken["sst"].values()) > 10  # at n^0.2 the small set starts again and again


# -------------------------------------------------------------------------------------------- which examples, how often


@pytest.mark.parametrize("schedule", LONGEST)
def test_an_epoch_takes_every_example_of_the_longest_task_once_and_cycles_the_others(schedule):
    chosen = times_taken(rows_of(schedule))
    assert chosen["quora"] == Counter(range(37))
    # 5 batches of a task with 3 (8, 8, 4 rows): one whole pass and the first two batches of another
    assert sum(chosen["sst"].values()) == 20 + 16
    assert set(chosen["sst"]) == set(range(20))
    assert max(chosen["sst"].values()) == 2
    assert sum(chosen["sts"].values()) == 2 * 13 + 8  # two passes of 2 batches (8 and 5 rows) and half a third
    assert set(chosen["sts"].values()) == {2, 3}


@pytest.mark.parametrize("schedule", WHOLE)
def test_an_epoch_takes_every_example_of_every_task_once(schedule):
    own = {"sst": 3, "quora": 16, "sts": 13}  # rows: each task may have its own batch size
    for size, counts in ((8, [3, 5, 2]), (own, [7, 3, 1])):
        assert [b.count for b in make_batches(schedule, ROWS, size, 1).values()] == counts
        assert times_taken(rows_of(schedule, size=size)) == {task: Counter(range(n)) for task, n in ROWS.items()}


@pytest.mark.parametrize("size", [8, {"sst": 3, "quora": 16, "sts": 4}])
@pytest.mark.parametrize("sample", ["epoch", "once"])
@pytest.mark.parametrize("shuffle", ["epoch", "once"])
def test_balanced_takes_as_many_different_rows_of_every_set_as_the_smallest_has(size, sample, shuffle):
    samples, orders = [], []
    for epoch in range(3):
        steps = rows_of("balanced_round_robin", size=size, epoch=epoch, sample=sample, shuffle=shuffle)
        chosen = times_taken(steps)
        assert {task: len(times) for task, times in chosen.items()} == dict.fromkeys(ROWS, 13)
        assert all(set(times.values()) == {1} and max(times) < ROWS[task] for task, times in chosen.items())
        samples.append(frozenset(chosen["quora"]))
        orders.append(tuple(row for ((task, rows),) in steps if task == "quora" for row in rows))
    assert len(set(samples)) == (3 if sample == "epoch" else 1)
    assert len(set(orders)) == (1 if sample == shuffle == "once" else 3)


def test_balanced_samples_every_row_as_often():
    batches = Batches("quora", 10, 4, 1, out_of=40)
    drawn = np.bincount([row for epoch in range(2000) for i in range(3) for row in batches(epoch, i)], minlength=40)
    assert abs(drawn - 500).max() < 4.5 * np.sqrt(2000 * 0.25 * 0.75)  # 40 rows, each binomial


def test_a_balanced_set_that_starts_again_keeps_its_sample():
    batches = Batches("quora", 10, 10, 1, out_of=40)
    assert set(batches(3, 0)) == set(batches(3, 1)) != set(batches(4, 0))
    assert batches(3, 0).tolist() != batches(3, 1).tolist()


# --------------------------------------------------------------------------------------------- steps, orders, functions


@pytest.mark.parametrize("schedule", [name for name, preset in SCHEDULES.items() if preset.summed])
def test_summed_and_per_task_regroup_the_very_same_batches(schedule):
    summed, per_task = rows_of(schedule, step="summed"), rows_of(schedule, step="per_task")
    assert [[part] for step in summed for part in step] == per_task
    assert max(map(len, summed)) == 3


def test_longest_schedules_differ_by_order_and_step_alone():
    assert parts_of(rows_of("simultaneous")) == parts_of(rows_of("sequential")) == parts_of(rows_of("mtdnn_upsample"))
    assert steps_of("mtdnn_upsample", order=["quora", "sts", "sst"]) == steps_of("sequential")


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_default_step_and_that_every_epoch_has_as_many_steps(schedule):
    assert SCHEDULES[schedule].step == ("summed" if schedule == "simultaneous" else "per_task")
    assert steps_of(schedule) == steps_of(schedule, step=SCHEDULES[schedule].step)
    for step in STEPS if SCHEDULES[schedule].summed else ("per_task",):
        count = 5 if step == "summed" else 15 if schedule in LONGEST else 10
        assert {len(steps_of(schedule, epoch=epoch, step=step)) for epoch in range(3)} == {count}


def test_orders_of_tasks():
    def order_of(schedule, **kwargs):
        return list(dict.fromkeys(task for ((task, _),) in steps_of(schedule, **kwargs)))

    assert order_of("in_turn", order=["sts", "sst", "quora"]) == ["sts", "sst", "quora"]
    assert order_of("round_robin", order=["sts"]) == ["sts", "sst", "quora"]  # named first, the rest as given
    counts = {"rte": 1, "sst": 2, "cfimdb": 1, "quora": 1}
    assert order_of("sequential", counts=counts) == ["quora", "sst", "rte", "cfimdb"]
    assert order_of("in_turn", counts=counts, order=["sts", "cfimdb"]) == ["cfimdb", "rte", "sst", "quora"]
    for schedule in ("sequential", "in_turn", "mtdnn", "annealed"):  # these have an order of their own
        assert steps_of(schedule) == steps_of(schedule, dict(reversed(COUNTS.items())))


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_steps_are_a_function_of_seed_and_epoch_and_work_for_one_task(schedule):
    assert steps_of(schedule, epoch=1) == steps_of(schedule, epoch=1)
    random = schedule in ("mtdnn", "annealed")
    assert (steps_of(schedule, epoch=1) != steps_of(schedule, epoch=2)) == random
    assert (steps_of(schedule, seed=1) != steps_of(schedule, seed=2)) == random
    assert parts_of(steps_of(schedule, {"sst": 3})) == [("sst", 0), ("sst", 1), ("sst", 2)]


@pytest.mark.parametrize("schedule", LONGEST)
@pytest.mark.parametrize("batches", [1, 2, 5, 12])
def test_an_epoch_of_so_many_batches_of_each_task(schedule, batches):
    """Fewer or more than there are: the first of an epoch without a number, or sets that start again."""
    steps = steps_of(schedule, batches=batches)
    assert Counter(task for step in steps for task, _ in step) == dict.fromkeys(COUNTS, batches)
    assert parts_of(steps) == sorted((task, index) for task in COUNTS for index in range(batches))
    plain = steps_of(schedule)
    assert (steps + plain[len(steps) :])[: len(plain)] == plain
    assert (steps == plain) == (batches == max(COUNTS.values()))


def test_a_number_of_batches_is_for_schedules_that_go_by_the_longest():
    for schedule in set(SCHEDULES) - set(LONGEST):
        with pytest.raises(ValueError, match=f"schedule {schedule} has a length of its own, so a number of batches"):
            steps_of(schedule, batches=3)


def test_mistakes_are_told_in_one_line():
    for schedule in ("in_turn", "mtdnn", "annealed"):
        with pytest.raises(ValueError, match=f"{schedule} is one task's batch, nothing to sum; possible: simultan"):
            steps_of(schedule, step="summed")
    with pytest.raises(ValueError, match="schedule 'simultanous' is unknown; one of simultaneous, sequential, "):
        steps_of("simultanous")
    with pytest.raises(ValueError, match="step 'sum' is unknown; one of summed, per_task"):
        steps_of("sequential", step="sum")
    for flag in ("shuffle", "sample"):
        with pytest.raises(ValueError, match=f"{flag} 'never' is unknown; one of epoch, once"):
            make_batches("mtdnn", ROWS, 8, 1, **{flag: "never"})
    with pytest.raises(ValueError, match="sst: 0 rows in batches of 8; both must be at least 1"):
        make_batches("mtdnn", {"sst": 0}, 8, 1)


# -------------------------------------------------------------------------------------------------------------- batches


@pytest.mark.parametrize(("rows", "size", "count"), [(1, 8, 1), (8, 8, 1), (9, 8, 2), (5, 1, 5), (3, 99, 1)])
def test_batch_count_and_the_sizes_of_the_batches(rows, size, count):
    assert batch_count(rows, size) == count
    sizes = [len(Batches("sst", rows, size, 1)(0, index)) for index in range(count)]
    assert sizes == [size] * (count - 1) + [rows - size * (count - 1)]  # the last one short, none empty


def test_a_set_that_starts_again_comes_in_a_new_order():
    batches = Batches("sts", 13, 8, 1)
    passes = [np.concatenate([batches(0, index) for index in (2 * k, 2 * k + 1)]).tolist() for k in range(3)]
    assert all(sorted(one) == list(range(13)) for one in passes)
    assert len({tuple(one) for one in passes}) == 3


def test_a_set_shuffled_once_comes_in_the_same_order_in_every_epoch_and_pass():
    once = Batches("sts", 13, 8, 1, shuffle="once")
    for epoch, index in [(0, 0), (0, 2), (1, 0), (5, 4)]:
        assert once(epoch, index).tolist() == Batches("sts", 13, 8, 1)(0, 0).tolist()


def test_the_order_depends_on_seed_task_and_epoch_alone():
    def order(seed=1, task="sst", epoch=0):
        return Batches(task, 50, 50, seed)(epoch, 0).tolist()

    assert order() == order()
    assert len({tuple(o) for o in (order(), order(seed=2), order(task="sts"), order(epoch=1))}) == 4
    # fixed numbers: these orders have results recorded with them, which a change of the draw would make unrepeatable
    assert Batches("sst", 8, 8, 11711)(0, 0).tolist() == [0, 1, 4, 3, 7, 6, 2, 5]
    assert Batches("sst", 8, 8, 11711)(1, 1).tolist() == [2, 7, 1, 3, 6, 5, 4, 0]
    # a run that begins in the middle, as after --resume, or looks at batches out of order, sees the same rows
    straight, jumping = Batches("sst", 20, 8, 1), Batches("sst", 20, 8, 1)
    rows = {key: straight(*key).tolist() for key in [(0, 0), (0, 1), (0, 4), (1, 0), (1, 2)]}
    assert {key: jumping(*key).tolist() for key in reversed(rows)} == dict(reversed(rows.items()))


def test_no_order_is_the_file_s_and_every_place_is_as_likely():
    firsts = [Batches("sst", 4, 4, 1)(epoch, 0)[0] for epoch in range(4000)]
    counts = np.bincount(firsts, minlength=4)
    assert ((counts - 1000) ** 2 / 1000).sum() < 16.3  # chi-square with 3 degrees of freedom, p = 0.001
