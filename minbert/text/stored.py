"""Sequences that stay on disk: memory-mapped files of token ids, of which a batch reads what it needs.

They answer as `tokenization.Sequences` do: how many there are, their lengths, and `take`, which brings some of them
into memory. Views of them leave rows out, or put them together by an index. NumPy only.
"""

import functools
import mmap
from itertools import count

import numpy as np

from minbert.files import UserError
from minbert.text.tokenization import SentencePairs, Sequences

AT_ONCE = 1 << 15  # rows looked at together where all are
FORGET = 250  # rows read before their pages are given back: the kernel brings 64 KB around each


class Lengths:
    """The lengths of `size` sequences, looked up as they are asked for. of: rows [n] -> their lengths [n]"""

    def __init__(self, size, of):
        self.size, self.of = size, of

    def __len__(self):
        return self.size

    def __getitem__(self, rows):
        return self.of(np.asarray(rows, dtype=np.int64))

    def mean(self):
        return sum(int(self[part].sum()) for part in portions(self.size)) / self.size


class _OneKind:
    """What `Sequences` and not `SentencePairs` answer."""

    truncated = 0

    @property
    def parts(self):
        return (self,)

    @functools.cached_property
    def lengths(self):
        return Lengths(len(self), self.lengths_of)


class StoredSequences(_OneKind):
    """B sequences in the files of a folder: token_cache.py makes and checks them.

    ids: of N tokens, types: theirs, or None where all are 0, offsets: of B + 1 places; each a numpy array over a
    `Mapped` file. vocab_size: no id may be larger. truncated: how many were cut.
    """

    def __init__(self, folder, ids, types, offsets, vocab_size, truncated=0):
        self.folder, self.ids, self.types, self.offsets = folder, ids, types, offsets
        self.vocab_size, self.truncated = vocab_size, truncated
        self._read = 0

    def __len__(self):
        return len(self.offsets.array) - 1

    def lengths_of(self, rows):
        """Rows [n] -> [n]"""
        offsets = self.offsets.array
        lengths = offsets[rows + 1] - offsets[rows]
        self._forget(len(rows))
        return lengths

    def take(self, rows):
        """The sequences of these rows, in the order asked for, in memory: `Sequences`."""
        rows = np.asarray(rows, dtype=np.int64)
        if len(rows) > FORGET:  # those of neighbours are together on few pages, those of others are not
            return Sequences.concatenate([self.take(rows[i : i + FORGET]) for i in range(0, len(rows), FORGET)])
        starts, lengths = self.offsets.array[rows], self.lengths_of(rows)
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        source = np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], lengths)  # [N'] as in Sequences.take
        ids = self.ids.array[source].astype(np.int32)
        types = np.zeros(len(ids), np.uint8) if self.types is None else self.types.array[source]
        if len(ids) and not 0 <= ids.min() <= ids.max() < self.vocab_size:
            raise UserError(
                f"{self.folder}: damaged, it has ids that are no tokens: delete the folder, and start again"
            )
        self._forget(len(rows))
        return Sequences(ids, types, offsets)

    def _forget(self, rows):
        """Pages that were read count as this process's memory until it says that it needs them no more."""
        self._read += rows
        if self._read >= FORGET:
            self._read = 0
            for file in filter(None, (self.ids, self.types, self.offsets)):
                file.forget()


class Mapped:
    """A file as an array that the kernel reads page by page. `file`: open for reading, and not empty."""

    def __init__(self, file, dtype):
        self._mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self.array = np.frombuffer(self._mapping, dtype)

    def forget(self):
        """Give its pages back: they stay in the kernel's own cache as long as there is room."""
        if hasattr(mmap, "MADV_DONTNEED"):  # not on Windows
            self._mapping.madvise(mmap.MADV_DONTNEED)


class Chosen(_OneKind):
    """A view of `size` of a source's sequences. place: rows [n] -> the rows of the source [n]"""

    def __init__(self, source, size, place):
        self.source, self.size, self.place, self.truncated = source, size, place, source.truncated

    def __len__(self):
        return self.size

    def lengths_of(self, rows):
        return self.source.lengths_of(self.place(rows))

    def take(self, rows):
        return self.source.take(self.place(np.asarray(rows, dtype=np.int64)))


def without(source, left_out):
    """All rows of a source but these (ascending), in order."""
    # Row i of the rest has moved past the k rows left out that come before it: left_out[k] - k <= i.
    before = left_out - np.arange(len(left_out))
    return Chosen(source, len(source) - len(left_out), lambda rows: rows + np.searchsorted(before, rows, side="right"))


def listed(source, index):
    """The rows of a source that `index` [n] names, in its order."""
    return Chosen(source, len(index), lambda rows: index[rows])


class StoredPairs(SentencePairs):
    """Pairs that the trunk reads apart: two views of one source."""

    @classmethod
    def of(cls, source, index=None):
        """Those whose sentences are rows 2 r and 2 r + 1 of a source, for every r or those that `index` names."""
        size = len(source) // 2 if index is None else len(index)
        rows_of = (lambda rows: rows) if index is None else (lambda rows: index[rows])
        return cls(*(Chosen(source, size, lambda rows, side=side: 2 * rows_of(rows) + side) for side in (0, 1)))

    @property
    def truncated(self):
        return self.first.truncated  # of all of the source

    @functools.cached_property
    def lengths(self):
        return Lengths(len(self), lambda rows: self.first.lengths_of(rows) + self.second.lengths_of(rows))


def portions(size):
    """The rows 0 to size - 1 in arrays of at most AT_ONCE."""
    for start in count(0, AT_ONCE):
        if start >= size:
            return
        yield np.arange(start, min(start + AT_ONCE, size))
