"""Which batches make up each optimizer step: schedules over task names and batch counts, knowing nothing of models.

A schedule takes {task: number of batches} and yields the steps of one epoch; a step is a list of (task, index), and
one step is one trunk pass and one update. An index at or beyond a task's count means that its set has been used up
and starts again, in a new order.

    simultaneous   one batch of every task a step, losses summed   [Yan, "BERT Multitask Learning in a Semi-Supervised
    sequential     the same batches, an update after each           Learning Setup", section 3.3 and appendix A.1]
"""

import numpy as np

QUEUE = ("quora", "sts", "sst")  # the order of `sequential` (Yan, section 3.3); other tasks follow as given


def simultaneous(counts):
    """As many steps as the longest task has batches; each takes one batch of every task, shorter tasks start again."""
    for index in range(max(counts.values())):
        yield [(task, index) for task in counts]


def sequential(counts):
    """The batches of `simultaneous`, one step each, in the order Quora, STS, SST."""
    queue = sorted(counts, key=lambda task: QUEUE.index(task) if task in QUEUE else len(QUEUE))
    for index in range(max(counts.values())):
        for task in queue:
            yield [(task, index)]


SCHEDULES = {"simultaneous": simultaneous, "sequential": sequential}


def batch_count(rows, batch_size):
    """How many batches a set of `rows` rows makes; the last one may be short."""
    return -(-rows // batch_size)


class Batches:
    """The rows of each batch of one task: a new order for every epoch and for every pass over the set within it.

    The order is a function of (seed, task, epoch, pass) alone, so a resumed run needs no memory of the past.
    """

    def __init__(self, task, rows, batch_size, seed):
        self.task, self.rows, self.batch_size, self.seed = task, rows, batch_size, seed
        self.count = batch_count(rows, batch_size)
        self._key, self._order = None, None

    def __call__(self, epoch, index):
        """Row numbers [<= batch_size] of batch `index` in `epoch` (both from 0)."""
        key = (epoch, index // self.count)
        if key != self._key:
            name = int.from_bytes(self.task.encode(), "little")
            self._key, self._order = key, np.random.default_rng([self.seed, name, *key]).permutation(self.rows)
        start = index % self.count * self.batch_size
        return self._order[start : start + self.batch_size]
