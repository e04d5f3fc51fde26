"""The order of a set that is larger than memory: blocks of neighbouring rows in a random order, and so many blocks at a
time as one buffer, whose rows are in a random order.

A set of up to BLOCK * BLOCKS rows fills one buffer, and has the very order of `schedules.Batches`. What is read of a
larger one within some time lies in a few hundred places, and no list of all its rows is ever made.
"""

import numpy as np

from minbert.methods.schedules import Batches, generator

BLOCK = 1024  # rows that lie side by side
BLOCKS = 256  # of a buffer


class BlockBatches(Batches):
    """As `Batches`, of the whole set and shuffled anew for every epoch and pass; only the order is another."""

    def __init__(self, task, rows, batch_size, seed):
        super().__init__(task, rows, batch_size, seed)
        self._kept = {}  # {(epoch, pass, buffer): its rows}: a batch may need two

    @classmethod
    def of(cls, batches):
        """The same set, in this order. ValueError where another shuffle, or a sample of the set, was asked for."""
        if batches.shuffle != "epoch" or batches.rows != batches.out_of:
            raise ValueError(f"{batches.task}: blocks are of a whole set that is shuffled every epoch")
        return cls(batches.task, batches.rows, batches.batch_size, batches.seed)

    def __call__(self, epoch, index):
        """Row numbers [<= batch_size] of batch `index` in `epoch`, as in `Batches`."""
        one_pass, index = divmod(index, self.count)
        start = index * self.batch_size
        return self._slice(epoch, one_pass, start, min(start + self.batch_size, self.rows))

    def _slice(self, epoch, one_pass, start, stop):
        """Rows [stop - start]: those at these places of the order."""
        blocks, ends = self._buffers(epoch, one_pass)
        found, buffer = [], int(np.searchsorted(ends, start, side="right"))
        while start < stop:
            before = ends[buffer - 1] if buffer else 0
            part = self._rows_of(epoch, one_pass, buffer, blocks)[start - before : stop - before]
            found.append(part)
            start, buffer = start + len(part), buffer + 1
        return np.concatenate(found)

    def _buffers(self, epoch, one_pass):
        """(the blocks in their order, the place in the order after each buffer's last row)"""
        if self._key != (epoch, one_pass):
            count = -(-self.rows // BLOCK)
            blocks = generator(self.seed, self.task, "blocks", epoch, one_pass).permutation(count)
            sizes = np.minimum(BLOCK, self.rows - blocks * BLOCK)  # the last one may be short
            self._key, self._order = (epoch, one_pass), (blocks, np.cumsum(np.add.reduceat(sizes, self._starts(count))))
        return self._order

    @staticmethod
    def _starts(count):
        return np.arange(0, count, BLOCKS)

    def _rows_of(self, epoch, one_pass, buffer, blocks):
        """All rows of a buffer, in their order."""
        key = (epoch, one_pass, buffer)
        if key not in self._kept:
            mine = np.sort(blocks[buffer * BLOCKS : (buffer + 1) * BLOCKS])
            rows = (mine[:, None] * BLOCK + np.arange(BLOCK)).ravel()
            rows = rows[rows < self.rows]
            # The first buffer's numbers are those of Batches, so that a set that fits into it has the same order.
            extra = (buffer,) if buffer else ()
            order = generator(self.seed, self.task, epoch, one_pass, *extra).permutation(len(rows))
            self._kept = {**dict([*self._kept.items()][-1:]), key: rows[order]}
        return self._kept[key]
