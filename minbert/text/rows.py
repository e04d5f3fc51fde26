"""Files of text: texts by id, read from a task's file, a plain table or JSON lines; and the random numbers of a row.

augmentation.py reads and writes such files; --unlabeled, --uda and --train_on_augmented of multitask_classifier.py read
them.
"""

import hashlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

import datasets
from minbert.files import UserError, short
from minbert.readers import lines_of
from minbert.text.own_files import form_of


class Rows(NamedTuple):
    """Texts by id: {id: (sentence,)} or {id: (sentence1, sentence2)}, in the file's order, each text one line without
    tabs. `skipped`: the reason for each row left out. `broken`: (first line, last line) of rows over several lines."""

    texts: dict[str, tuple[str, ...]]
    skipped: list[str]
    broken: list[tuple[int, int]] = ()

    @property
    def are_pairs(self):
        return any(len(texts) == 2 for texts in self.texts.values())


COLUMNS = (datasets.PAIR, ("sentence",), ("question1", "question2"))  # of the texts, where no task names them


def read_rows(path, task=None, columns=()):
    """The Rows of a file of text: with `task` (a name of datasets.TASKS) one in that task's form, labelled or not; with
    `columns`, the names of one or two, one of any form that has them (own_files.form_of), its rows counted from 0 where
    it has no `id`; else JSON lines with `id` and `text` (.jsonl, .jsonl.gz), or a table under a header with `id` and
    the columns `sentence` or `sentence1`, `sentence2`, tab separated, with double-quote quoting if its name ends in
    .csv.

    Of rows with one id, the first counts. Raises UserError for what cannot be read.
    """
    path = Path(path)
    if columns:
        return _table(_text_task(columns, form_of(path, columns)), path)
    if task is not None:
        if task not in datasets.TASKS:
            raise UserError(f"no task named {task!r}: choose one of {', '.join(datasets.TASKS)}")
        return _table(datasets.TASKS[task], path)
    if path.name.endswith((".jsonl", ".jsonl.gz")):
        return _json_lines(path)
    return _plain_table(path, "csv" if path.suffix == ".csv" else "tsv")


def read_augmented(path):
    """The Rows of a file that augmentation.py wrote; a row with an empty text is skipped, and listed in `skipped`.

    Raises UserError for a file that is not there, or has not the columns of such a file or no text.
    """
    return _plain_table(Path(path), "tsv", ("id", "method"))


def _plain_table(path, form, others=()):
    return _table(_plain_task(path, form, others), path)


def _plain_task(path, form, others=()):
    """The task whose files look as this one does, by its header."""
    _, first = next(lines_of(path), (0, ""))
    header = [name.strip() for name in first.split("\t")]
    columns = next((columns for columns in COLUMNS if set(columns) <= set(header)), None)
    if columns is None or not set(others) <= set(header):
        raise UserError(
            f"{path}: expected a header with sentence, or sentence1 and sentence2{''.join(f', {o}' for o in others)}, "
            f"and tabs between them; got {short(header)}{'' if others else '. --help says how columns are named'}"
        )
    return _text_task(columns, form, "id" if "id" in header else "index")


def _text_task(columns, form, id="id"):
    return datasets.Task("text", "", (), tuple(columns), label="", metric="", files={}, format=form, id=id)


def stream(path, columns, augmented, skipped, broken):
    """Yield (id, texts) of each row that read_rows(path, columns=columns) keeps, or read_augmented(path), one after the
    other; but whether an id came before is not looked at. Others are appended to `skipped` and `broken`, as there."""
    path = Path(path)
    if not columns and not augmented and path.name.endswith((".jsonl", ".jsonl.gz")):
        rows = _json_texts(path, skipped)
    else:
        if columns:
            task = _text_task(columns, form_of(path, columns))
        else:
            form = "csv" if path.suffix == ".csv" and not augmented else "tsv"
            task = _plain_task(path, form, ("id", "method") if augmented else ())
        rows = ((id, texts) for id, texts, _ in datasets.usable_rows(task, path, "test", skipped, broken))
    for id, texts in rows:
        id, *texts = _in_a_line(id, *texts)
        yield id, tuple(texts)


def read_lines_as_rows(path):
    """The Rows of plain text, one a line, under their line numbers; lines without text do not count. UserError where
    there are none."""
    rows = _first_of_each_id(((str(number), (line,)) for number, line in lines_of(path) if line.strip()), [])
    if not rows.texts:
        raise UserError(f"{path}: no text in it; expected one text a line")
    return rows


def _table(task, path):
    examples = datasets.read(task, path, "test")  # a test split's labels are not looked at
    return _first_of_each_id(zip(examples.ids, examples.texts, strict=True), examples.skipped, examples.broken)


def _json_lines(path):
    skipped = []
    return _first_of_each_id([*_json_texts(path, skipped)], skipped)


def _json_texts(path, skipped):
    """Yield (id, (text,)) of each line that has a text; (line, reason) of others is appended to `skipped`."""
    found, line = 0, 0
    for line, _, (id, text) in datasets.json_rows(path, ("id", "text"), required=True):
        if text.strip():
            found += 1
            yield id, (text,)
        else:
            skipped.append((line, "no value in 'text'"))
    if not found:
        raise UserError(f"{path}, line {line}: 'no text in it'; expected an id and a text in each line")


def _first_of_each_id(pairs, skipped, broken=()):
    rows, reasons = {}, [f"line {line}: {reason}" for line, reason in skipped]
    for id, texts in pairs:
        id, *texts = _in_a_line(id, *texts)
        if id in rows:
            reasons.append(f"the id {short(id)} once more")
        else:
            rows[id] = tuple(texts)
    return Rows(rows, reasons, broken)


def _in_a_line(*cells):
    return (" ".join(cell.split()) for cell in cells)


def generator(seed, id):
    """The random numbers of one row: RandomState's are promised never to change with numpy's version."""
    digest = hashlib.sha256(f"{seed}\n{id}".encode()).digest()
    return np.random.RandomState(np.frombuffer(digest, dtype="<u4"))
