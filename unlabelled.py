"""Text without labels: which training rows keep theirs, the texts beside them, and the changed copies of these.

A task may have two more splits in a run's data: "unlabelled", and "augmented", row for row a changed copy of it, for
UDA (Xie et al. 2020). augmentation.py writes such copies; rows find their copy by id. Labelled rows find theirs in the
same way where a run trains on copies alone (--train_on_augmented).
"""

from dataclasses import replace

import numpy as np

from datasets import Examples
from files import UserError
from text_rows import read_augmented, read_rows


def split_labels(examples, per_class, seed):
    """(examples that keep their label, the rest without): `per_class` rows of each class, drawn by `seed`, or all of a
    class that has fewer. The classes of a score are its 26 steps of 0.2 (Yan, section 4.3). Raises UserError where
    nothing would be left without a label."""
    labels = examples.labels
    if examples.task.kind == "regression":
        labels = np.floor(5 * labels.astype(np.float64) + 0.5 + 1e-4)  # float32 holds 0.7 as a little less
    order = np.random.RandomState(seed % 2**32).permutation(len(examples))
    kept = [row for label in np.unique(labels) for row in order[labels[order] == label][:per_class]]
    if len(kept) == len(examples):
        raise UserError(f"--labels_per_class {per_class}: {examples.task.name} has no more than that, nothing is left")
    rest = np.setdiff1d(np.arange(len(examples)), kept)
    return _rows(examples, np.sort(kept)), replace(_rows(examples, rest), labels=None, skipped=[])


def _rows(examples, rows):
    return replace(
        examples,
        ids=[examples.ids[row] for row in rows],
        texts=[examples.texts[row] for row in rows],
        labels=None if examples.labels is None else examples.labels[rows],
    )


def read_unlabelled(task, path):
    """(the texts of --unlabeled as `Examples` without labels, the reason for each row left out)"""
    rows = read_rows(path)
    _check_form(task, rows, path)
    return Examples(task, "unlabelled", path, [*rows.texts], [*rows.texts.values()], None), rows.skipped


def read_copies(task, path, originals, flag="uda", called="unlabelled"):
    """(the originals that have a changed copy in the flag's file, those copies, a sentence on how many there are).
    Copies keep their originals' labels, where these have some. `called`: what a reader calls the originals.

    Raises UserError where fewer than half of the originals have one: then the file is of other texts.
    """
    rows = read_augmented(path)
    _check_form(task, rows, path)
    first = {id: row for row, id in reversed([*enumerate(originals.ids)])}  # there too the first row of an id counts
    found = sorted(row for id, row in first.items() if id in rows.texts)
    if 2 * len(found) < len(originals):
        raise UserError(
            f"--{flag} {task.name}={path}: {len(found):,} of {len(originals):,} {called} texts have a copy there by "
            "id; fewer than half, so it is of other texts: make it from the same file"
        )
    kept = _rows(originals, found)
    copies = replace(kept, split="augmented", path=path, texts=[rows.texts[id] for id in kept.ids])
    same = sum(a == b for a, b in zip(kept.texts, copies.texts, strict=True))
    said = f"{len(found):,} of {len(originals):,} {called} texts have a copy in {path}, {same:,} of them unchanged"
    if rows.skipped:
        said += f"; {len(rows.skipped):,} row{'s' * (len(rows.skipped) > 1)} there skipped ({rows.skipped[0]})"
    return kept, copies, said


def _check_form(task, rows, path):
    texts = next(iter(rows.texts.values()))
    if len(texts) != len(task.text):
        forms = {1: "single sentences", 2: "pairs"}
        raise UserError(f"{path}: {forms[len(texts)]}, but {task.name} reads {forms[len(task.text)]}")
