"""Text without labels, and changed copies of it, out of a token cache: what unlabelled.py reads where it is small."""

from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from datasets import Task
from minbert import processes
from minbert.files import UserError
from minbert.text.rows import Rows
from minbert.text.stored import StoredPairs, listed
from minbert.text.token_writing import Source
from minbert.text.unlabelled import ENOUGH, check_form

SAMPLED = 2000  # texts and copies whose words are compared


@dataclass
class StoredExamples:
    """What stands for `datasets.Examples` where the texts are in a cache: no texts, but `sequences`, their tokens. sha:
    of the file's content. row_ids: 8 bytes for each row's id, to find its copy by."""

    task: Task
    split: str
    path: Path
    sequences: object
    sha: str
    row_ids: np.ndarray
    skipped: tuple = ()
    broken: tuple = ()
    labels: None = None
    labels_path: None = None

    def __len__(self):
        return len(self.sequences)


def stored_text(cache, task, path, fused):
    """(the texts of --unlabeled, sentences on the rows left out): unlabelled.read_unlabelled, from `cache`
    (token_cache.TokenCache). fused: whether the trunk reads a pair as one sequence."""
    source = Source(path, "rows", task.text if task.own else ())
    return _read(cache, task, source, "unlabelled", fused)


def stored_copies(cache, task, path, originals, flag):
    """(the originals that have a changed copy in the flag's file, those copies, sentences on them):
    unlabelled.read_copies, from a cache. Raises UserError as that does."""
    fused = len(originals.sequences.parts) == 1
    copies, notes = _read(cache, task, Source(path, "copies"), "augmented", fused)
    order = np.argsort(copies.row_ids, kind="stable")
    place = np.searchsorted(copies.row_ids, originals.row_ids, sorter=order)  # of the first id that is not smaller
    nearest = order[np.minimum(place, len(order) - 1)]
    found = np.flatnonzero(copies.row_ids[nearest] == originals.row_ids)
    where, of_others = f"--{flag} {task.name}={path}", "so it is of other texts: make it from the same file"
    said = f"{len(found):,} of {len(originals):,} unlabelled texts have a copy"
    if 2 * len(found) < len(originals):
        raise UserError(f"{where}: {said} there by id; fewer than half, {of_others}")
    kept, changed = _listed(originals, found), _listed(copies, nearest[found])
    rows = np.arange(min(SAMPLED, len(found)))
    texts, theirs = (side.sequences.parts[0].take(rows) for side in (kept, changed))
    if len(rows) >= ENOUGH and _likeness(texts, theirs) < 1.2 * _likeness(texts, theirs.take(np.roll(rows, -1))):
        raise UserError(
            f"{where}: the copies share no more words with the texts of their ids than with other texts, {of_others}"
        )
    return kept, changed, [f"{task.name}: {said} in {path}", *notes]


def _read(cache, task, source, split, fused):
    """(`StoredExamples` of a file, sentences on its rows)"""
    check_form(task, Rows(dict([next(source.rows([], []))]), []), source.path)  # a file without a row says so itself
    pairs = task.is_pair and not fused
    with processes.here().first_goes_first():
        stored = cache.open([source], "separate" if pairs else "fused")
    sequences = StoredPairs.of(stored.sequences) if pairs else stored.sequences
    row_ids = stored.row_ids[::2] if pairs else stored.row_ids
    examples = StoredExamples(task, split, source.path, sequences, stored.contents[0][:16], row_ids)
    return examples, _notes(f"{task.name} {split}", source.path, stored)


def _notes(name, path, stored):
    notes, (skipped,), (first,), (broken,) = [], stored.skipped, stored.first_skipped, stored.broken
    if skipped:
        notes.append(f"{name}: {skipped:,} rows of {path} left out, the first: {first}")
    if stored.repeated:
        notes.append(f"{name}: {stored.repeated:,} rows of {path} left out, whose id came before")
    if broken:
        notes.append(f"{name}: {broken:,} row{'s' * (broken > 1)} over several lines")
    return notes


def _listed(examples, rows):
    """These rows of stored examples."""
    parts = examples.sequences.parts
    chosen = StoredPairs.of(parts[0].source, rows) if len(parts) == 2 else listed(examples.sequences, rows)
    return replace(examples, sequences=chosen, row_ids=examples.row_ids[rows])


def _likeness(ones, others):
    """The mean share of tokens that two texts have in common, over pairs of them (Sequences)."""
    words = ([{*s.ids[a + 1 : b - 1].tolist()} for a, b in pairwise(s.offsets)] for s in (ones, others))
    return np.mean([len(a & b) / max(1, len(a | b)) for a, b in zip(*words, strict=True)])
