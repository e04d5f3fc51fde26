"""Text without labels: which training rows keep theirs, the texts beside them, and the changed copies of these.

A task may have two more splits in a run's data: "unlabelled", and "augmented", row for row a changed copy of it, for
UDA (Xie et al. 2020). augmentation.py writes such copies; rows find their copy by id. Labelled rows find theirs in the
same way where a run trains on copies alone (--train_on_augmented).
"""

from dataclasses import replace

import numpy as np
import torch

from datasets import Examples
from minbert.files import UserError
from minbert.layers.heads import class_of_score
from minbert.text.rows import read_augmented, read_rows

SCORE_CLASSES = 26  # of a score from 0 to 5: steps of 0.2 (Yan, section 4.3)
ENOUGH = 100  # copies from which it can be told whether they are of these texts


def split_labels(examples, per_class, seed):
    """(examples that keep their label, the rest without): `per_class` rows of each class, drawn by `seed`, or all of a
    class that has fewer. The classes of a score are its SCORE_CLASSES. Raises UserError where
    nothing would be left without a label."""
    labels = examples.labels
    if examples.task.kind == "regression":
        labels = class_of_score(torch.from_numpy(labels).double(), examples.task.score_range, SCORE_CLASSES).numpy()
    order = np.random.RandomState(seed % 2**32).permutation(len(examples))
    kept = [row for label in np.unique(labels) for row in order[labels[order] == label][:per_class]]
    if len(kept) == len(examples):
        raise UserError(f"--labels_per_class {per_class}: {examples.task.name} has no more than that, nothing is left")
    rest = np.setdiff1d(np.arange(len(examples)), kept)
    return examples.take(np.sort(kept)), replace(examples.take(rest), labels=None, skipped=[], broken=[])


def read_unlabelled(task, path):
    """(the texts of --unlabeled as `Examples` without labels, the reason for each row left out)"""
    rows = read_rows(path, columns=task.text if task.own else ())
    check_form(task, rows, path)
    texts = [*rows.texts.values()]
    return Examples(task, "unlabelled", path, [*rows.texts], texts, None, broken=rows.broken), rows.skipped


def read_copies(task, path, originals, repeated=(), flag="uda", called="unlabelled"):
    """(the originals that have a changed copy in the flag's file, those copies, a sentence on how many there are).
    Copies keep their originals' labels, where these have some. `called`: what a reader calls the originals.

    repeated: ids that several rows of the originals' file have; which of them a copy is of, nobody can tell.
    Raises UserError where fewer than half of the originals have a copy, or copies are no more like their originals than
    like the next one's: then the file is of other texts.
    """
    rows = read_augmented(path)
    check_form(task, rows, path)
    where, of_others = f"--{flag} {task.name}={path}", "so it is of other texts: make it from the same file"
    found = [row for row, id in enumerate(originals.ids) if id in rows.texts and id not in repeated]
    if 2 * len(found) < len(originals):
        raise UserError(
            f"{where}: {len(found):,} of {len(originals):,} {called} texts have a copy there by id; fewer than half, "
            f"{of_others}"
        )
    kept = originals.take(found)
    texts = [rows.texts[id] for id in kept.ids]
    if len(texts) >= ENOUGH and _likeness(kept.texts, texts) < 1.2 * _likeness(kept.texts, texts[1:] + texts[:1]):
        raise UserError(
            f"{where}: the copies share no more words with the texts of their ids than with other texts, {of_others}"
        )
    labels_path = None if originals.labels is None else originals.path
    copies = replace(kept, split="augmented", path=path, texts=texts, skipped=[], broken=[], labels_path=labels_path)
    same = sum(a == b for a, b in zip(kept.texts, copies.texts, strict=True))
    said = f"{len(found):,} of {len(originals):,} {called} texts have a copy in {path}, {same:,} of them unchanged"
    if rows.skipped:
        said += f"; {len(rows.skipped):,} row{'s' * (len(rows.skipped) > 1)} there skipped ({rows.skipped[0]})"
    if kept.labels is not None and task.kind == "classification":
        lost = np.setdiff1d(originals.labels, kept.labels)
        said += f"; none of label {', '.join(task.labels[label] for label in lost)}" if len(lost) else ""
    return kept, copies, said


def _likeness(ones, others):
    """The mean share of words that two texts have in common, over pairs of them."""
    words = ([set(" ".join(texts).lower().split()) for texts in side] for side in (ones, others))
    return np.mean([len(a & b) / max(1, len(a | b)) for a, b in zip(*words, strict=True)])


def check_form(task, rows, path):
    """UserError where rows are pairs and the task reads sentences, or the other way round."""
    texts = next(iter(rows.texts.values()))
    if len(texts) != len(task.text):
        forms = {1: "single sentences", 2: "pairs"}
        raise UserError(f"{path}: {forms[len(texts)]}, but {task.name} reads {forms[len(task.text)]}")
