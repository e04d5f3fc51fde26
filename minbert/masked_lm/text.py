"""The text that a masked LM learns from: what the flags name, each sentence once, a part of it held out."""

from itertools import chain, pairwise
from pathlib import Path

import numpy as np

from datasets import SUBSET_SEED, TASKS, Examples, data_folder, read, subset, told_of_broken
from minbert.files import UserError
from minbert.text.rows import read_rows
from minbert.training.data import Split
from minbert.training.inference import read_lines

HELD_OUT = 0.02  # share of the texts; which ones is drawn by SUBSET_SEED, whatever the run's own seed


def read_text(files, columns, tasks, data):
    """({task or file: {"train": Split of its Examples}}, notes): `files` (their `columns`, where these are named), or
    where there are none the training sets of `tasks` as the group of flags `data` says."""
    if files:
        found, notes = {name: _read_file(Path(name), columns) for name in files}, []
    else:
        folder, why = data_folder(data.data_dir)
        found, notes = {name: _read_task(name, folder, data.limit.get(name)) for name in tasks}, [why]
    for name, examples in found.items():
        skipped = f"; {len(examples.skipped)} skipped" if examples.skipped else ""
        skipped += told_of_broken(examples.broken)
        notes.append(f"{name}: {len(examples):,} rows of {examples.path}{skipped}")
    return {name: {"train": Split(examples, None)} for name, examples in found.items()}, notes


def _read_task(name, folder, limit):
    task = TASKS.get(name)
    if task is None or task.format != "csv":
        raise UserError(f"--tasks {name}: no task with files in --data_dir; name a file of text with --text")
    examples = read(task, folder / task.files["train"], "train")
    return subset(examples, limit) if limit else examples


def _read_file(path, columns):
    if is_table(path, columns):
        texts, skipped, broken = read_rows(path, columns=columns)
    else:
        texts = {str(i): (line,) for i, line in enumerate(read_lines(path), start=1) if line.strip()}
        skipped, broken = [], []
    if not texts:
        raise UserError(f"{path}: no text in it; expected one text a line")
    return Examples(None, "train", path, [*texts], [*texts.values()], None, skipped, broken=broken)


def is_table(path, columns):
    """Whether a file has rows with columns or names, not a text in each line."""
    return bool(columns) or path.name.endswith((".csv", ".tsv", ".jsonl", ".jsonl.gz"))


def encode(data, tokenizer, max_length):
    """Every sentence of `data` once, as Sequences [CLS] a [SEP], cut to `max_length`. A sentence that equals an earlier
    one to the tokenizer, or has no token to predict, is left out."""
    texts = (chain.from_iterable(splits["train"].examples.texts) for splits in data.values())
    sequences = tokenizer.encode([(text,) for text in dict.fromkeys(chain.from_iterable(texts))], max_length)
    rows = {}  # the token ids of a sentence -> its row
    for row, (start, stop) in enumerate(pairwise(sequences.offsets)):
        if stop - start > 2:
            rows.setdefault(sequences.ids[start:stop].tobytes(), row)
    if len(rows) < 2:
        raise UserError(f"{', '.join(data)}: fewer than two different texts, but one is to be held out")
    return sequences.take([*rows.values()])


def hold_out(sequences):
    """(sequences to train on, held-out ones): the same in every run on the same text."""
    order = np.random.RandomState(SUBSET_SEED).permutation(len(sequences))
    held_out = max(1, round(HELD_OUT * len(sequences)))
    return sequences.take(np.sort(order[held_out:])), sequences.take(np.sort(order[:held_out]))
