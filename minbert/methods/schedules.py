"""Which batches make up each optimizer step: schedules over task names and batch counts, knowing nothing of models.

A schedule is a LENGTH (how many batches of each task an epoch takes) x an ORDER (of those batches) x a STEP (`summed`:
one update on the sum of the losses of a round, `per_task`: one update after each batch). The names are presets:

    name                  length   order      step      source
    simultaneous          longest  rounds     summed    Yan, section 3.3: "losses are summed without weighting"
    sequential            longest  rounds     per_task  Yan, section 3.3: the queue Quora, STS, SST
    round_robin           whole    rounds     per_task  Qin and Tran, section 4.3: exhausted sets drop out ("uneven")
    balanced_round_robin  whole *  rounds     per_task  Qin and Tran, section 4.3: "three small steps"; `summed` is
                                                        their "one big step"; * of sets cut to the smallest's rows
    in_turn               whole    task_wise  per_task  Kalicki, section 4.2, Algorithm 1: one whole set after another
    mtdnn_upsample        longest  rounds     per_task  Kalicki, section 4.2, Algorithm 2: small sets cycled
    mtdnn                 whole    shuffled   per_task  Liu et al., Algorithm 1: all batches merged and shuffled
    annealed              whole    drawn      per_task  Stickland and Murray, "annealed sampling": task i is drawn with
                                                        probability ~ n_i^a, a = 1 - 0.8 (e - 1) / (E - 1) in epoch e

    Yan, "BERT Multitask Learning in a Semi-Supervised Learning Setup"
    Qin and Tran, "BERT's Mean Teacher and Multitask Fine-Tuning"
    Kalicki, "Multiple Strategies to Improve minBERT Multitask Learning"
    Liu et al. 2019, "Multi-Task Deep Neural Networks for Natural Language Understanding"
    Stickland and Murray 2019, "BERT and PALs: Projected Attention Layers for Efficient Adaptation in Multi-Task
        Learning"

Settled here, where a source is silent or disagrees with itself:
- `simultaneous` and `sequential`: an epoch is as long as the longest task, shorter ones start again. Appendix A.1 of
  Yan speaks of averaged losses and of tasks "in chunks"; section 3.3, sums and a queue batch by batch, is followed.
- `balanced_round_robin`: the random samples are redrawn each epoch (`sample="once"` keeps the first). Where batch
  sizes differ, the task with fewer batches drops out first.
- `in_turn`: SST, Quora, STS.
- `annealed`: n is the number of batches, not of examples, and an epoch has as many steps as there are batches in all,
  so that a = 1 is in expectation an epoch of everything; a = 1 where there is only one epoch.
- Sets are shuffled anew each epoch; Kalicki's algorithms shuffle once, before the first (`shuffle="once"`).
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

STEPS = ("summed", "per_task")

# --------------------------------------------------------------------------------------------------------------- length
# {task: its number of batches} -> {task: how many of them an epoch takes}


def whole(counts):
    """Every set once."""
    return dict(counts)


def longest(counts):
    """As many batches of each task as the longest has: shorter sets start again."""
    return dict.fromkeys(counts, max(counts.values()))


# ---------------------------------------------------------------------------------------------------------------- order
# Each takes ({task: batches to take}, a numpy Generator, the exponent of this epoch) and yields rounds: lists of (task,
# index), where an index at or beyond the task's count means that its set starts again. All have the same arguments so
# that a preset can name any of them.


def rounds(takes, rng, exponent):
    """One batch of each task in turn; a task with none left drops out."""
    for index in range(max(takes.values())):
        yield [(task, index) for task in takes if index < takes[task]]


def task_wise(takes, rng, exponent):
    """All batches of one task, then all of the next."""
    for task, number in takes.items():
        for index in range(number):
            yield [(task, index)]


def shuffled(takes, rng, exponent):
    """All batches of all tasks in one random order."""
    # sorted: the draw must not depend on the order in which the tasks were named
    batches = [(task, index) for task in sorted(takes) for index in range(takes[task])]
    for place in rng.permutation(len(batches)):
        yield [batches[place]]


def drawn(takes, rng, exponent):
    """As many draws as there are batches, each of a task with probability ~ n^exponent, n its number of batches.

    The draws of a task walk through its set from the first batch, and start again at its end.
    """
    tasks = sorted(takes)
    weights = np.array([takes[task] for task in tasks], dtype=float) ** exponent
    seen = Counter()
    for task in rng.choice(tasks, size=sum(takes.values()), p=weights / weights.sum()).tolist():
        yield [(task, seen[task])]
        seen[task] += 1


def annealed_exponent(epoch, epochs):
    """a = 1 - 0.8 (e - 1) / (E - 1), e = 1..E: from in proportion to size towards evenly (Stickland and Murray).

    `epoch` counts from 0 here, so e - 1 = epoch.
    """
    return 1 - 0.8 * epoch / (epochs - 1) if epochs > 1 else 1.0


# -------------------------------------------------------------------------------------------------------------- presets


@dataclass(frozen=True)
class Schedule:
    """One row of the table above."""

    length: Callable  # whole or longest
    order: Callable  # rounds, task_wise, shuffled or drawn
    told: str  # what --help says of it
    step: str = "per_task"  # the default of STEPS
    tasks: tuple = ()  # the order of tasks where none is asked for; others follow as given
    balanced: bool = False  # every set cut to the rows of the smallest

    @property
    def summed(self):
        """Can losses be summed over a round? Only where a round holds more than one task."""
        return self.order is rounds

    @property
    def ordered(self):
        """Do tasks have an order? Not where they are mixed at random."""
        return self.order in (rounds, task_wise)

    @property
    def by_longest(self):
        """May an epoch's number of batches be set? Where it goes by the longest task's."""
        return self.length is longest


SCHEDULES = {
    "simultaneous": Schedule(longest, rounds, "a batch of every task each step", "summed"),
    "sequential": Schedule(longest, rounds, "the same, an update after each", tasks=("quora", "sts", "sst")),
    "round_robin": Schedule(whole, rounds, "in turns until each set is used up"),
    "balanced_round_robin": Schedule(whole, rounds, "sets cut to the smallest", balanced=True),
    "in_turn": Schedule(whole, task_wise, "one task after the other", tasks=("sst", "quora", "sts")),
    "mtdnn_upsample": Schedule(longest, rounds, "as sequential, tasks as given"),
    "mtdnn": Schedule(whole, shuffled, "every batch once, shuffled"),
    "annealed": Schedule(whole, drawn, "tasks drawn by size, later evenly"),
}


def steps_of_epoch(schedule, counts, epoch, epochs, seed, step=None, order=None, batches=None):
    """The steps of epoch `epoch` (from 0) of `epochs`: a list of steps, each a list of (task, batch index).

    schedule  a name in SCHEDULES
    counts    {task: number of batches}
    step      "summed", "per_task", or None for the schedule's default
    batches   of each task in an epoch, where the schedule goes by the longest; None: as many as that one has
    order     names of tasks, or None for the schedule's own; tasks not named follow as given, names of tasks that are
              not in `counts` are passed over. `mtdnn` and `annealed` put tasks in random order whatever it says.

    A pure function of its arguments, so a resumed run computes the same steps; every epoch has the same number of them.
    Raises ValueError for an unknown schedule or step, and for `summed` where there is nothing to sum.
    """
    preset = _preset(schedule)
    step = step or preset.step
    _one_of("step", step, STEPS)
    if step == "summed" and not preset.summed:
        possible = ", ".join(name for name in SCHEDULES if SCHEDULES[name].summed)
        raise ValueError(f"step summed: a step of {schedule} is one task's batch, nothing to sum; possible: {possible}")
    named = [task for task in (order or preset.tasks) if task in counts]
    if batches is not None and not preset.by_longest:
        raise ValueError(f"schedule {schedule} has a length of its own, so a number of batches means nothing")
    counts = {task: batches or counts[task] for task in dict.fromkeys([*named, *counts])}
    takes = preset.length(counts)
    epoch_rounds = preset.order(takes, generator(seed, schedule, epoch), annealed_exponent(epoch, epochs))
    if step == "summed":
        return list(epoch_rounds)
    return [[part] for one_round in epoch_rounds for part in one_round]


# -------------------------------------------------------------------------------------------------------------- batches


def batch_count(rows, batch_size):
    """How many batches a set of `rows` rows makes; the last one may be short."""
    return -(-rows // batch_size)


def make_batches(schedule, rows, batch_size, seed, shuffle="epoch", sample="epoch"):
    """{task: Batches} for {task: number of rows}; `batch_size` is a number or {task: number}.

    For a balanced schedule each set is cut to the rows of the smallest. `shuffle` and `sample` as in Batches.
    Raises ValueError for an unknown schedule, `shuffle` or `sample`, for a set without rows and a batch size below 1.
    """
    smallest = min(rows.values())
    balanced = _preset(schedule).balanced
    sizes = batch_size if isinstance(batch_size, dict) else dict.fromkeys(rows, batch_size)
    return {
        task: Batches(task, smallest if balanced else number, sizes[task], seed, number, shuffle, sample)
        for task, number in rows.items()
    }


class Batches:
    """The rows of each batch of one task: a new order for every epoch and for every pass over the set within it.

    rows     how many rows an epoch takes, of the `out_of` rows in the set (None: all of them)
    count    how many batches they make
    shuffle  "epoch", or "once": the same order in every epoch and pass (Kalicki, Algorithms 1 and 2)
    sample   where rows < out_of, which rows: "epoch": a random sample for each epoch, "once": one for the whole run

    An order is a function of (seed, task, epoch, pass) alone, so a resumed run needs no memory of the past.
    """

    def __init__(self, task, rows, batch_size, seed, out_of=None, shuffle="epoch", sample="epoch"):
        _one_of("shuffle", shuffle, ("epoch", "once"))
        _one_of("sample", sample, ("epoch", "once"))
        if rows < 1 or batch_size < 1:
            raise ValueError(f"{task}: {rows} rows in batches of {batch_size}; both must be at least 1")
        self.task, self.rows, self.batch_size, self.seed = task, rows, batch_size, seed
        self.out_of = rows if out_of is None else out_of
        self.shuffle, self.sample = shuffle, sample
        self.count = batch_count(rows, batch_size)
        self._key, self._order = None, None

    def __call__(self, epoch, index):
        """Row numbers [<= batch_size] of batch `index` in `epoch` (both from 0); at `count` the set starts again."""
        key = (epoch, index // self.count)
        if key != self._key:
            self._key, self._order = key, self._order_of(*key)
        start = index % self.count * self.batch_size
        return self._order[start : start + self.batch_size]

    def _order_of(self, epoch, one_pass):
        """[rows]: the whole set in its order, and of it the rows of this epoch's sample."""
        key = (0, 0) if self.shuffle == "once" else (epoch, one_pass)
        order = generator(self.seed, self.task, *key).permutation(self.out_of)
        if self.rows == self.out_of:
            return order
        sample_epoch = 0 if self.sample == "once" else epoch
        chosen = generator(self.seed, self.task, "sample", sample_epoch).permutation(self.out_of)[: self.rows]
        return order[np.isin(order, chosen)]


def generator(seed, *names_and_numbers):
    """A random generator of its own for each use, so that no draw depends on what was drawn before it."""
    words = (int.from_bytes(w.encode(), "little") if isinstance(w, str) else w for w in names_and_numbers)
    return np.random.default_rng([seed, *words])


def _preset(name):
    _one_of("schedule", name, SCHEDULES)
    return SCHEDULES[name]


def _one_of(what, value, choices):
    if value not in choices:
        raise ValueError(f"{what} {value!r} is unknown; one of {', '.join(choices)}")
