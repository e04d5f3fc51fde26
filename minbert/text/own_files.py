"""Files that somebody brings: which form they have, and which classes are in them.

A file has commas or tabs between its columns, or a JSON object a line, or is in CMU's form, `label ||| text`. Which of
them it is, its name and its first line tell: `.jsonl` and `.jsonl.gz`, else the sign that divides the header into the
columns asked for.
"""

import csv
import re
from pathlib import Path

import datasets
from minbert.files import UserError, short
from minbert.readers import lines_of

MOST_LABELS = 1000
FEW_LABELS = 20  # so many are always classes; of more, there must be two rows for each
LONGEST_LABEL = 100  # characters
BARS = re.compile(rf"[^|]{{1,{LONGEST_LABEL}}} \|\|\| ")  # how a line of CMU's form begins


def form_of(path, columns):
    """The form of a file (datasets.Task.format) that has these columns: "comma"; with tabs "csv" if its name ends so,
    else "tsv"; "jsonl"; "bars". Raises UserError for a file that is not there, is empty or has other columns."""
    name = str(path).removesuffix(".gz")
    line, first = next(((number, text) for number, text in lines_of(path) if text.strip()), (0, None))
    if first is None:
        raise UserError(f"{path}: the file is empty; expected a header line and rows")
    if name.endswith(".jsonl") or first.lstrip().startswith("{"):
        return "jsonl"
    if BARS.match(first) and set(columns) <= {*datasets.BARS}:
        return "bars"
    headers = {"csv" if name.endswith(".csv") else "tsv": _cells(first, "\t"), "comma": _cells(first, ",")}
    for form, header in headers.items():
        if set(columns) <= set(header):
            if twice := [column for column in columns if header.count(column) > 1]:
                raise UserError(f"{path}, line {line}: two columns {twice[0]!r} in the header; rename one")
            return form
    if set(columns) <= set(_cells(first, ";")):
        raise UserError(f"{path}, line {line}: semicolons between the columns; save it with commas or tabs")
    header = max(headers.values(), key=len)
    missing = next(column for column in columns if column not in header)
    raise UserError(f"{path}, line {line}: no column {missing!r} in the header; there are {short(', '.join(header))}")


def in_bars(path):
    """Whether there is a file at `path` whose first line is `label ||| text`."""
    return Path(path).is_file() and bool(BARS.match(next((text for _, text in lines_of(path)), "")))


def _cells(line, delimiter):
    return [cell.strip() for cell in next(csv.reader([line.strip("\r\n")], delimiter=delimiter), [])]


def read_own(task, path, split):
    """`datasets.read` of a file in whatever form it has."""
    columns = [*task.text] if split.startswith("test") else [*task.text, task.label]
    return datasets.read(datasets.replace(task, format=form_of(path, columns)), path, split)


def with_labels(options):
    """The `Options` of a run with the class names of its own task, if it has one without: those of its training file,
    by name (numbers by their size). Raises UserError where these cannot be classes."""
    for task in options.own.tasks.values():
        from torch import nn  # it takes a second, which augmentation.py does not need

        if hasattr(nn.ModuleDict(), task.name):
            raise UserError(f"--name {task.name}: a word that torch needs for itself; choose another")
        if task.kind == "classification" and not task.labels:
            return options.changed(labels=labels_in(task))
    return options


def labels_in(task):
    """The labels in the training file of a task, sorted."""
    path = task.files["train"]
    rows = datasets.replace(task, text=(*task.text, task.label), own=False)  # the label as one more text of each row
    found = [texts[-1] for texts in read_own(rows, path, "test").texts]
    labels = sorted(set(found), key=_by_size_or_name(set(found)))
    where = f"{path}, column {task.label!r}"
    if len(labels) < 2:
        raise UserError(f"{where}: every row says {short(labels[0], 40)}; a task needs two classes at least")
    if odd := [label for label in labels if len(label) > LONGEST_LABEL or not label.isprintable()]:
        raise UserError(f"{where}: {short(odd[0], 40)} is no name of a class; is it the column of the labels?")
    if len(labels) > MOST_LABELS or (len(labels) > FEW_LABELS and 2 * len(labels) > len(found)):
        raise UserError(
            f"{where}: {len(labels):,} different labels in {len(found):,} rows; is it the column of the labels? "
            "Scores are told with --regression LOW,HIGH"
        )
    return labels


def _by_size_or_name(labels):
    try:
        sizes = {label: float(label) for label in labels}
    except ValueError:
        return str
    return lambda label: (sizes[label], label)
