"""Tasks and the readers of their files. NumPy only, no torch.

The files are the course's (tab separated, double-quote quoting: SST-5, CFIMDB, Quora, STS), those of GLUE (Wang et al.
2018; tab separated, no quoting: RTE, QQP, MNLI, SST-2), and IMDB's (Maas et al. 2011) as JSON lines. Labels go by name,
never by the number in somebody's file. A student's own task is one more entry of TASKS.
"""

import contextlib
import csv
import hashlib
import importlib
import io
import json
import os
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from minbert.files import UserError, short
from minbert.readers import MOST_LINE, lines_of, misfit, parse_json

HERE = Path(__file__).parent
CELL = (str, int, float, bool, type(None))  # what a value of a JSON line may be
BARS = ("label", "text")  # what the columns of a file in CMU's form are called
DELIMITER = {"csv": "\t", "tsv": "\t", "comma": ","}
SUBSET_SEED = 11711  # of --limit alone: which rows it keeps does not depend on the run's own seed


# ---------------------------------------------------------------------------------------------------------- tasks


@dataclass(frozen=True)
class Task:
    """What a task's files look like and how it is scored.

    name         "sst"
    kind         "classification" or "regression"
    labels       label names in the order of the head's outputs; () for regression
    text         the column with the text, or the two columns of a pair
    label        the column with the label (a test file has none)
    metric       "accuracy" or "pearson"
    files        split -> file name inside the data folder
    format       "csv": tab separated with double-quote quoting (course); "tsv": tab separated, no quoting (GLUE);
                 "jsonl": a JSON object a line (IMDB); "comma": commas, double-quote quoting; "bars": `label ||| text`
                 without a header (CMU's course); "": whatever each file has (minbert/text/own_files.py)
    spellings    what a file says -> label name, where the two differ; "" stands for a missing label
    id           the column with the example's id; a file without it counts its rows from 0
    score_range  smallest and largest score (regression)
    one_logit    two classes told apart by one logit and a sigmoid (as the course's Quora head), not by a softmax
    ordered      the classes have an order, as five sentiments do (--sst_head coral)
    course_name  what the course's flags and file names call one of its three tasks: "sst", "para", "sts"
    heading      the column of a prediction file in the course's form, in its spelling, which graders expect
    submission   split -> file name of a GLUE submission
    own          told on the command line: `files` are whole paths, `labels` are those of the training file, so that a
                 row with another one is left out, and prediction files say labels by name
    """

    name: str
    kind: str
    labels: tuple[str, ...]
    text: tuple[str, ...]
    label: str
    metric: str
    files: dict[str, str]
    format: str
    spellings: dict[str, str] = field(default_factory=dict)
    id: str = "id"
    score_range: tuple[float, float] = (0.0, 5.0)
    one_logit: bool = False
    ordered: bool = False
    course_name: str = ""
    heading: str = "Prediction"
    submission: dict[str, str] = field(default_factory=dict)
    own: bool = False

    @property
    def is_pair(self):
        return len(self.text) == 2

    @property
    def file_name(self):
        """What prediction files and flags call the task."""
        return self.course_name or self.name


def _course_files(name):
    return {"train": f"{name}-train.csv", "dev": f"{name}-dev.csv", "test": f"{name}-test-student.csv"}


def _glue_files(folder):
    return {split: f"{folder}/{split}.tsv" for split in ("train", "dev", "test")}


PAIR = ("sentence1", "sentence2")
POLARITY = ("negative", "positive")
FIVE_STARS = ("negative", "somewhat negative", "neutral", "somewhat positive", "positive")
DUPLICATE = ("not_duplicate", "duplicate")
AS_DIGITS = {str(i): label for i, label in enumerate(FIVE_STARS)}
AS_DIGIT = {"0": "negative", "1": "positive"}
DUPLICATE_DIGIT = {"0": "not_duplicate", "0.0": "not_duplicate", "1": "duplicate", "1.0": "duplicate"}

# fmt: off
_TASKS = [
    Task("sst", "classification", FIVE_STARS, ("sentence",), "sentiment", "accuracy",
         _course_files("ids-sst"), "csv", AS_DIGITS, ordered=True, course_name="sst", heading="Predicted_Sentiment"),
    Task("cfimdb", "classification", POLARITY, ("sentence",), "sentiment", "accuracy",
         _course_files("ids-cfimdb"), "csv", AS_DIGIT, heading="Predicted_Sentiment"),
    Task("quora", "classification", DUPLICATE, PAIR, "is_duplicate", "accuracy",
         _course_files("quora"), "csv", DUPLICATE_DIGIT, one_logit=True, course_name="para",
         heading="Predicted_Is_Paraphrase"),
    Task("sts", "regression", (), PAIR, "similarity", "pearson",
         _course_files("sts"), "csv", course_name="sts", heading="Predicted_Similiary"),
    Task("rte", "classification", ("entailment", "not_entailment"), PAIR, "label", "accuracy",
         _glue_files("RTE"), "tsv", id="index", submission={"test": "RTE.tsv"}),
    Task("qqp", "classification", DUPLICATE, ("question1", "question2"), "is_duplicate", "accuracy",
         _glue_files("QQP"), "tsv", DUPLICATE_DIGIT, submission={"test": "QQP.tsv"}),
    Task("mnli", "classification", ("entailment", "contradiction", "neutral"), PAIR, "gold_label", "accuracy",
         {"train": "MNLI/train.tsv", "dev": "MNLI/dev_matched.tsv", "dev_mismatched": "MNLI/dev_mismatched.tsv",
          "test": "MNLI/test_matched.tsv", "test_mismatched": "MNLI/test_mismatched.tsv"},
         "tsv", {"-": ""}, id="index", submission={"test": "MNLI-m.tsv", "test_mismatched": "MNLI-mm.tsv"}),
    Task("sst2", "classification", POLARITY, ("sentence",), "label", "accuracy",
         _glue_files("SST-2"), "tsv", AS_DIGIT, id="index", submission={"test": "SST-2.tsv"}),
    Task("imdb", "classification", POLARITY, ("text",), "label", "accuracy",
         {split: f"{split}.jsonl.gz" for split in ("train", "dev")}, "jsonl", AS_DIGIT),
]
# fmt: on
TASKS = {task.name: task for task in _TASKS}
GLUE_TASKS = tuple(task.name for task in _TASKS if task.submission)  # also those of the pseudo-label paper


def real_folders(name):
    """Where real sets of this name may lie, in the order of looking: below the folder that the environment variable
    MINBERT_DATA names, where it is set, and in data/ beside the code."""
    homes = (os.environ.get("MINBERT_DATA"), HERE / "data")
    return [Path(home) / name for home in homes if home]


def data_folder(explicit=None, real="cs224n", sample="sample"):
    """(folder, a sentence that says why): the one asked for, else the first of real_folders(`real`) that is there and
    not empty, else the sample.

    Raises UserError where the folder asked for does not exist, or none is there and there is no sample.
    """
    if explicit is not None:
        if not Path(explicit).is_dir():
            raise UserError(f"{explicit}: no such folder of data; give one, or fetch one with data/download.py")
        return Path(explicit), f"data from {explicit}, as asked for"
    folders = real_folders(real)
    for folder in folders:
        if folder.is_dir() and any(folder.iterdir()):
            where = "here" if folder.parent == HERE / "data" else "where MINBERT_DATA says"
            return folder, f"data from {folder}: the real sets are {where}"
    absent = f"there is nothing in {' and nothing in '.join(map(str, folders))}"
    if sample is None:
        raise UserError(f"{absent}, and no sample of it: say where its files are with --{real}_dir")
    return HERE / "data" / sample, f"data from the project's own small sample: {absent}"


# -------------------------------------------------------------------------------------------------------- readers


@dataclass
class Examples:
    """One split of one task as read. `labels`: int64 class indices in the order of task.labels, float32 scores, or
    None for a test split. `skipped`: (line, reason) of each row left out. `broken`: (first line, last line) of each row
    kept whose text has line breaks. `labels_path`: where the labels are from, if not from `path`."""

    task: Task
    split: str
    path: Path
    ids: list[str]
    texts: list[tuple[str, ...]]
    labels: np.ndarray | None
    skipped: list[tuple[int, str]] = field(default_factory=list)
    labels_path: Path | None = None
    broken: list[tuple[int, int]] = field(default_factory=list)

    def __len__(self):
        return len(self.ids)

    def take(self, rows):
        """These rows alone, in this order."""
        return replace(
            self,
            ids=[self.ids[row] for row in rows],
            texts=[self.texts[row] for row in rows],
            labels=None if self.labels is None else self.labels[rows],
        )


def told_of_broken(broken):
    """Rows over several lines, as words to follow a number of rows: so many are fine text or a sign of a lost quote."""
    if not broken:
        return ""
    first, last = broken[0]
    return f"; {len(broken):,} row{'s' * (len(broken) > 1)} over several lines (the first: {first} to {last})"


def read(task, path, split):
    """Read one file of a task. A row without text or label is skipped and listed with its line number; a row whose text
    has line breaks is kept, and listed too.

    Raises UserError, naming file, line, column and what was expected, for a file that is missing, empty, not UTF-8 or
    holds NUL bytes; a header without the task's columns; an unknown label; a score out of range; no usable row.
    """
    skipped, broken = [], []
    ids, texts, labels = map(list, zip(*usable_rows(task, path, split, skipped, broken), strict=True))
    dtype = np.float32 if task.kind == "regression" else np.int64
    labels = None if split.startswith("test") else np.array(labels, dtype)
    return Examples(task, split, Path(path), ids, texts, labels, skipped, broken=broken)


def usable_rows(task, path, split, skipped, broken):
    """Yield (id, texts, label or None) of each row that `read` keeps, one after the other: of a file larger than memory
    too. (line, reason) of the others is appended to `skipped`, (first line, last line) of long rows to `broken`."""
    path = Path(path)
    labelled = not split.startswith("test")
    header, needed, rows = _header_and_rows(task, path, labelled)
    kept = 0
    for number, (line, last_line, row) in enumerate(rows):
        cells = dict(zip(header, map(str.strip, row), strict=False))  # a short row lacks its last columns
        id = cells.get(task.id) or str(number)
        if labelled:
            label = cells.get(task.label, "")
            cells[task.label] = label = task.spellings.get(label, label)
        reason = _why_skipped(row, header, [name for name in needed if not cells.get(name)], id)
        if not reason and labelled and task.own and task.kind == "classification" and label not in task.labels:
            reason = f"{short(label, 40)} is no label of the training file"
        if reason:
            through = f" (the row runs to line {last_line}: a quote left open?)" if last_line > line else ""
            skipped.append((line, reason + through))
            continue
        if last_line > line:
            broken.append((line, last_line))
        kept += 1
        where = f"{path}, line {line}, column {task.label!r}"
        yield id, tuple(cells[name] for name in task.text), _label(task, label, where) if labelled else None
    if not kept:
        first = f"; line {skipped[0][0]}: {skipped[0][1]}" if skipped else ""
        raise UserError(f"{path}: no usable row (expected rows with {', '.join(needed)} under the header){first}")


def _header_and_rows(task, path, labelled):
    """(the names of a file's columns, those that a row needs, an iterator over (first line, last line, cells) of the
    rows below)"""
    if task.format == "jsonl":
        header_line, header = 1, [task.id, *task.text, task.label]
        rows = json_rows(path, header)
    elif task.format == "bars":
        header_line, header = 1, [*BARS]
        rows = _bar_rows(path)
    else:
        rows = _delimited_rows(path, task.format)
        header_line, _, header = next((row for row in rows if "".join(row[2]).strip()), (0, 0, None))
        if header is None:
            raise UserError(f"{path}: the file is empty; expected a header line and rows")
    header = [name.strip() for name in header]
    needed = [*task.text, task.label] if labelled else [*task.text]
    if missing := [name for name in needed if name not in header]:
        raise UserError(
            f"{path}, line {header_line}: no column {missing[0]!r} in the header {short(header)}; "
            f"expected {_form(task.format)} columns, among them {', '.join(needed)}"
        )
    return header, needed, rows


def _why_skipped(row, header, empty, id):
    """What keeps a row from being an example, "" if nothing does. empty: the columns that it needs and has not."""
    if len(row) > len(header):
        return f"{len(row)} cells under a header of {len(header)}"
    if empty:
        return f"no value in column {empty[0]!r}"
    if len(id.splitlines()) > 1 or "\t" in id:  # a prediction file has one row for each id
        return f"a line break or tab in the id {short(id, 40)}"
    return ""


def _delimited_rows(path, format):
    """(first line, last line, cells) of each row that is not blank, the header's included; lines count from 1.

    Raises UserError also where a quote that was left open has made one row of several. Between commas a line of a text
    may well look like a row; there a quote inside a cell must be written twice, and one that is left open is found by
    what follows the next.
    """
    csv.field_size_limit(MOST_LINE)  # a cell may be long (default: 131,072 characters); the tokenizer cuts it
    quoting, commas = csv.QUOTE_NONE if format == "tsv" else csv.QUOTE_MINIMAL, format == "comma"
    lines = []  # those of the row that is being read

    def read_line():
        for _, line in lines_of(path):
            for part in io.StringIO(line, newline="") if "\r" in line else (line,):  # it may hold lines that end in \r
                lines.append(part)
                yield part

    reader = csv.reader(read_line(), delimiter=DELIMITER[format], quoting=quoting, strict=commas)
    line, tabs = 1, 0  # tabs of a whole row, known from the header
    try:
        for row in reader:
            tabs = 0 if commas else tabs or len(row) - 1
            rows = [line + i for i, text in enumerate(lines) if tabs and text.count("\t") == tabs]
            if len(rows) > 1 and rows[0] == line:
                raise UserError(
                    f'{path}, lines {line} to {reader.line_num}: a quote (") that is left open makes one row of these '
                    f"lines, but line {rows[1]} is a row too; close it, or write it twice if it is part of the text"
                )
            if row:
                yield line, reader.line_num, row
            line = reader.line_num + 1
            lines.clear()
    except csv.Error as error:
        mend = "; a quote in a cell is written twice, and the cell between quotes" if commas else ""
        raise UserError(f"{path}, line {line}: {error}; expected {_form(format)} text{mend}") from None


def _bar_rows(path):
    """(line, line, [label, text]) of each line `label ||| text` that is not blank; one without a text lacks it."""
    for line, content in lines_of(path):
        if content.strip():
            label, _, text = content.partition(" ||| ")
            yield line, line, [label, text]


def _form(format):
    return {"comma": "comma-separated", "bars": "`label ||| text`"}.get(format, "tab-separated")


def json_rows(path, names, required=False):
    """(line, line, cells) of each line of a file of JSON objects, compressed if its name ends in .gz. The cells are the
    values of `names` as text, "" where there is none; the line breaks of IMDB's HTML become spaces.

    Raises UserError, which names the line, for a file that is missing or damaged, a line that is no JSON object, a
    value that is neither text nor a number, and where all names are `required` for a line that lacks some.
    """
    for line, content in lines_of(path):
        try:
            row = parse_json(content)
            problem = misfit(row, {name if required else f"{name}?": CELL for name in names})
        except ValueError as error:
            problem = f"not JSON: {error}"
        if problem:
            expected = f'lines like {{"{names[0]}": "a1", "{names[1]}": "..."}}'
            raise UserError(f"{path}, line {line}: {problem}; expected {expected}")
        cells = [row.get(name) for name in names]
        yield line, line, [_as_text(cell).replace("<br />", " ") for cell in cells]


def _as_text(cell):
    """A value of a JSON line as text: "" for null, and true and false as JSON spells them."""
    return "" if cell is None else str(cell).lower() if isinstance(cell, bool) else str(cell)


def _label(task, value, where):
    """A label name as class index, or a score as float."""
    if task.kind == "regression":
        lowest, highest = task.score_range
        with contextlib.suppress(ValueError):
            if lowest <= (score := float(value)) <= highest:  # never true of nan
                return score
        expected = f"a score from {lowest:g} to {highest:g}"
    else:
        if value in task.labels:
            return task.labels.index(value)
        expected = "one of " + ", ".join([said for said, name in task.spellings.items() if name] or task.labels)
    raise UserError(f"{where}: {short(value)}; expected {expected}")


def subset(examples, n_or_share, seed=SUBSET_SEED):
    """A fixed random subset in the file's order: an int is a number of rows, a float in (0, 1] a share of them; asking
    for more than there are gives all.

    The same rows in every run, and a smaller subset lies inside a larger one. Raises UserError for other numbers.
    """
    share = isinstance(n_or_share, float)
    if not (0 < n_or_share <= 1 if share else n_or_share >= 1):
        raise UserError(
            f"{examples.task.name}: a limit of {n_or_share}; expected rows (1, 2, ...) or a share up to 1.0"
        )
    n = max(1, round(n_or_share * len(examples))) if share else min(n_or_share, len(examples))
    # RandomState's numbers are promised never to change with numpy's version; default_rng's are not.
    kept = np.sort(np.random.RandomState(seed).permutation(len(examples))[:n])
    return examples.take(kept)


def fingerprint(examples):
    """16 hex digits of sha256 over ids, texts and labels: two runs with the same digits read the same data."""
    labels = None if examples.labels is None else examples.labels.tolist()
    content = json.dumps([examples.ids, examples.texts, labels])
    return hashlib.sha256(content.encode()).hexdigest()[:16]


# --------------------------------------------------------------------------------------- the course's own six names

COURSE_NAMES = (
    "load_multitask_data",
    "load_multitask_test_data",
    "SentenceClassificationDataset",
    "SentenceClassificationTestDataset",
    "SentencePairDataset",
    "SentencePairTestDataset",
)


def __getattr__(name):
    """The names that the course's evaluation.py imports from here live in minbert/text/course.py, which needs torch."""
    if name in COURSE_NAMES:
        return getattr(importlib.import_module("minbert.text.course"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
