"""The text of a masked LM where it is larger than memory: from a token cache, and in blocks."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from datasets import SUBSET_SEED
from minbert import processes
from minbert.files import UserError
from minbert.masked_lm.text import HELD_OUT, is_table
from minbert.methods.block_shuffle import BlockBatches
from minbert.text.stored import without
from minbert.text.stored_rows import StoredExamples
from minbert.text.token_writing import Source
from minbert.training.data import Split, token_cache
from minbert.training.plan import Plan

MOST_HELD_OUT = 5000  # texts: enough for a perplexity, and an exam of seconds


def open_text(files, columns, folder, tokenizer, max_length):
    """(the sequences of text.encode, data and notes of text.read_text), from the cache in `folder`."""
    sources = [Source(Path(name), "rows" if is_table(Path(name), columns) else "lines", columns) for name in files]
    with processes.here().first_goes_first():
        stored = token_cache(folder, tokenizer, max_length).open(sources, "sentences")
    if len(stored.sequences) < 2:
        raise UserError(f"{', '.join(files)}: fewer than two different texts, but one is to be held out")
    data, notes = {}, []
    for number, source in enumerate(sources):
        rows, skipped, first, broken = (
            getattr(stored, name)[number] for name in ("rows", "skipped", "first_skipped", "broken")
        )
        told = f"{source.path}: {rows:,} rows" + (f"; {skipped:,} skipped ({first})" if skipped else "")
        notes.append(told + (f"; {broken:,} row{'s' * (broken > 1)} over several lines" if broken else ""))
        sha = stored.contents[number][:16]
        data[files[number]] = {"train": Split(StoredExamples(None, "train", source.path, range(rows), sha, ()), None)}
    notes.append(f"tokens of {len(stored.sequences):,} different texts in {stored.sequences.folder}")
    return stored.sequences, data, notes


def hold_out(sequences):
    """As text.hold_out, the same texts where there are few; MOST_HELD_OUT of them at most."""
    count, random = len(sequences), np.random.RandomState(SUBSET_SEED)
    held_out = max(1, round(HELD_OUT * count))
    if held_out <= MOST_HELD_OUT:
        rows = random.permutation(count)[:held_out]
    else:
        drawn = random.randint(count, size=2 * MOST_HELD_OUT, dtype=np.int64)
        rows = np.array([*dict.fromkeys(drawn.tolist())][:MOST_HELD_OUT])
    rows = np.sort(rows)
    return without(sequences, rows), sequences.take(rows)


class LargePlan(Plan):
    """The plan of one set that is larger than memory: shuffled by blocks, and its steps no list."""

    def __init__(self, schedule, rows):
        super().__init__(schedule, rows)
        self.batches = {name: BlockBatches.of(batches) for name, batches in self.batches.items()}

    def steps_of(self, epoch):
        """As Plan.steps_of: one batch after the other."""
        ((name, batches),) = self.batches.items()
        return AsAsked(range(batches.count), lambda index: [(name, index)])

    def updates_of(self, epoch):
        """As Plan.updates_of: each update is one step."""
        steps = self.steps_of(epoch)
        return AsAsked(steps.of, lambda index: [steps.item(index)])


class AsAsked(Sequence):
    """[item(x) for x in of], made as they are asked for."""

    def __init__(self, of, item):
        self.of, self.item = of, item

    def __len__(self):
        return len(self.of)

    def __getitem__(self, place):
        return AsAsked(self.of[place], self.item) if isinstance(place, slice) else self.item(self.of[place])
