"""From rows of a file to token ids: tasks, readers of their files, the tokenizer. NumPy only, no torch.

The files are the course's (tab separated, double-quote quoting: SST-5, CFIMDB, Quora, STS) and those of GLUE (Wang et
al. 2018; tab separated, no quoting: RTE, QQP, MNLI, SST-2). Labels go by name, never by the number in somebody's file.
Tokens are WordPiece, and a pair is one fused sequence [CLS] A [SEP] B [SEP] with token types 0 and 1 (Devlin et al.
2019, section 3), built by the tokenizer from the two raw texts. A student's own task is one more entry of TASKS.

Legend: B sequences, N tokens of all of them together (there are no pads here).
"""

import contextlib
import csv
import functools
import hashlib
import importlib
import io
import json
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path

import numpy as np
import tokenizers

from files import UserError

HERE = Path(__file__).parent
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
    format       "csv": tab separated with double-quote quoting (course); "tsv": tab separated, no quoting (GLUE)
    spellings    what a file says -> label name, where the two differ; "" stands for a missing label
    id           the column with the example's id; a file without it counts its rows from 0
    score_range  smallest and largest score (regression)
    one_logit    two classes told apart by one logit and a sigmoid (as the course's Quora head), not by a softmax
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

    @property
    def is_pair(self):
        return len(self.text) == 2


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
         _course_files("ids-sst"), "csv", AS_DIGITS),
    Task("cfimdb", "classification", POLARITY, ("sentence",), "sentiment", "accuracy",
         _course_files("ids-cfimdb"), "csv", AS_DIGIT),
    Task("quora", "classification", DUPLICATE, PAIR, "is_duplicate", "accuracy",
         _course_files("quora"), "csv", DUPLICATE_DIGIT, one_logit=True),
    Task("sts", "regression", (), PAIR, "similarity", "pearson",
         _course_files("sts"), "csv"),
    Task("rte", "classification", ("entailment", "not_entailment"), PAIR, "label", "accuracy",
         _glue_files("RTE"), "tsv", id="index"),
    Task("qqp", "classification", DUPLICATE, ("question1", "question2"), "is_duplicate", "accuracy",
         _glue_files("QQP"), "tsv", DUPLICATE_DIGIT),
    Task("mnli", "classification", ("entailment", "contradiction", "neutral"), PAIR, "gold_label", "accuracy",
         {"train": "MNLI/train.tsv", "dev": "MNLI/dev_matched.tsv", "dev_mismatched": "MNLI/dev_mismatched.tsv",
          "test": "MNLI/test_matched.tsv", "test_mismatched": "MNLI/test_mismatched.tsv"},
         "tsv", {"-": ""}, id="index"),
    Task("sst2", "classification", POLARITY, ("sentence",), "label", "accuracy",
         _glue_files("SST-2"), "tsv", AS_DIGIT, id="index"),
]
# fmt: on
TASKS = {task.name: task for task in _TASKS}


def data_folder(explicit=None, real="cs224n", sample="sample"):
    """(folder, a sentence that says why): the one asked for, else data/`real` beside the code, else the sample.

    Raises UserError where the folder asked for does not exist.
    """
    if explicit is not None:
        if not Path(explicit).is_dir():
            raise UserError(f"{explicit}: no such folder of data; give one, or fetch one with data/download.py")
        return Path(explicit), f"data from {explicit}, as asked for"
    folder = HERE / "data" / real
    if folder.is_dir():
        return folder, f"data from {folder}: the real sets are here"
    return HERE / "data" / sample, f"data from the project's own small sample: there is no {folder}"


# -------------------------------------------------------------------------------------------------------- readers


@dataclass
class Examples:
    """One split of one task as read. `labels`: int64 class indices in the order of task.labels, float32 scores, or
    None for a test split. `skipped`: (line, reason) of each row left out."""

    task: Task
    split: str
    path: Path
    ids: list[str]
    texts: list[tuple[str, ...]]
    labels: np.ndarray | None
    skipped: list[tuple[int, str]] = field(default_factory=list)

    def __len__(self):
        return len(self.ids)


def read(task, path, split):
    """Read one file of a task. A row without text or label is skipped and listed with its line number.

    Raises UserError, naming file, line, column and what was expected, for a file that is missing, empty, not UTF-8 or
    holds NUL bytes; a header without the task's columns; an unknown label; a score out of range; no usable row.
    """
    path = Path(path)
    labelled = not split.startswith("test")
    rows = _rows(path, _text_of(path), task.format)
    header_line, _, header = next(rows)
    header = [name.strip() for name in header]
    needed = [*task.text, task.label] if labelled else [*task.text]
    if missing := [name for name in needed if name not in header]:
        raise UserError(
            f"{path}, line {header_line}: no column {missing[0]!r} in the header {_short(header)}; "
            f"expected tab-separated columns, among them {', '.join(needed)}"
        )

    ids, texts, labels, skipped = [], [], [], []
    for number, (line, last_line, row) in enumerate(rows):
        if len(row) > len(header):
            skipped.append((line, f"{len(row)} cells under a header of {len(header)}"))
            continue
        cells = dict(zip(header, map(str.strip, row), strict=False))  # a short row lacks its last columns
        if labelled:
            label = cells.get(task.label, "")
            cells[task.label] = task.spellings.get(label, label)
        if empty := [name for name in needed if not cells.get(name)]:
            through = f" (the row runs to line {last_line}: a quote left open?)" if last_line > line else ""
            skipped.append((line, f"no value in column {empty[0]!r}{through}"))
            continue
        ids.append(cells.get(task.id) or str(number))
        texts.append(tuple(cells[name] for name in task.text))
        if labelled:
            labels.append(_label(task, cells[task.label], f"{path}, line {line}, column {task.label!r}"))
    if not ids:
        first = f"; line {skipped[0][0]}: {skipped[0][1]}" if skipped else ""
        raise UserError(f"{path}: no usable row (expected rows with {', '.join(needed)} under the header){first}")
    dtype = np.float32 if task.kind == "regression" else np.int64
    return Examples(task, split, path, ids, texts, np.array(labels, dtype) if labelled else None, skipped)


def _text_of(path):
    """The file as text, its line ends untouched (a byte order mark is dropped)."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    try:
        text = data.decode("utf-8-sig")
        bad, what = data.find(b"\0"), "a NUL byte"
    except UnicodeDecodeError as error:
        bad, what = error.start, "bytes that are not UTF-8"
    if bad >= 0:
        line = data.count(b"\n", 0, bad) + 1
        raise UserError(f"{path}, line {line}: {what}; expected a text file in UTF-8")
    if not text.strip():
        raise UserError(f"{path}: the file is empty; expected a header line and rows")
    return text


def _rows(path, text, format):
    """(first line, last line, cells) of each row that is not blank, the header's included; lines count from 1."""
    csv.field_size_limit(2**31 - 1)  # a cell may be long (default: 131,072 characters); the tokenizer cuts it
    quoting = csv.QUOTE_MINIMAL if format == "csv" else csv.QUOTE_NONE
    reader = csv.reader(io.StringIO(text, newline=""), delimiter="\t", quoting=quoting)
    line = 1
    try:
        for row in reader:
            if row:
                yield line, reader.line_num, row
            line = reader.line_num + 1
    except csv.Error as error:
        raise UserError(f"{path}, line {line}: {error}; expected tab-separated text") from None


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
    raise UserError(f"{where}: {_short(value)}; expected {expected}")


def _short(value, most=80):
    value = repr(value)
    return value if len(value) <= most else value[:most] + "..."


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
    return replace(
        examples,
        ids=[examples.ids[i] for i in kept],
        texts=[examples.texts[i] for i in kept],
        labels=None if examples.labels is None else examples.labels[kept],
    )


def fingerprint(examples):
    """16 hex digits of sha256 over ids, texts and labels: two runs with the same digits read the same data."""
    labels = None if examples.labels is None else examples.labels.tolist()
    content = json.dumps([examples.ids, examples.texts, labels])
    return hashlib.sha256(content.encode()).hexdigest()[:16]


# ------------------------------------------------------------------------------------------------------- tokenizer


@dataclass
class Sequences:
    """B sequences of token ids, laid end to end: sequence b is ids[offsets[b]:offsets[b + 1]].

    ids int32 [N], types uint8 [N] (0 for [CLS] A [SEP], 1 for B [SEP]), offsets int64 [B + 1];
    truncated: how many were cut to the longest length allowed (encode counts them; take does not know).
    """

    ids: np.ndarray
    types: np.ndarray
    offsets: np.ndarray
    truncated: int = 0

    def __len__(self):
        return len(self.offsets) - 1

    @functools.cached_property
    def lengths(self):
        """[B]"""
        return np.diff(self.offsets)

    def take(self, rows):
        """The sequences of these rows, in the order asked for."""
        rows = np.asarray(rows, dtype=np.int64)
        lengths = self.lengths[rows]
        offsets = _offsets(lengths)
        # token i of the result lies in the source where its sequence starts, plus its place within the sequence
        source = np.arange(offsets[-1]) + np.repeat(self.offsets[rows] - offsets[:-1], lengths)  # [N']
        return Sequences(self.ids[source], self.types[source], offsets)

    @staticmethod
    def concatenate(parts):
        """All sequences of the parts, one after the other."""
        return Sequences(
            np.concatenate([part.ids for part in parts]),
            np.concatenate([part.types for part in parts]),
            _offsets(np.concatenate([part.lengths for part in parts])),
            sum(part.truncated for part in parts),
        )


def _offsets(lengths):
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


class Tokenizer:
    """A BERT checkpoint's WordPiece tokenizer (Hugging Face's Rust one). `cls`, `sep`, `pad`, `mask` are token ids."""

    def __init__(self, rust):
        # Saved tokenizers may carry a truncation and a padding of their own.
        rust.no_truncation()
        rust.no_padding()
        self._rust = rust
        self.vocab_size = rust.get_vocab_size()
        self.cls, self.sep, self.pad, self.mask = map(rust.token_to_id, ("[CLS]", "[SEP]", "[PAD]", "[MASK]"))

    @classmethod
    def from_folder(cls, folder):
        """From `tokenizer.json`, else from `vocab.txt` (lower-casing, as bert-base-uncased). Raises UserError where
        neither can be read or BERT's special tokens are not in it."""
        whole, vocabulary = Path(folder) / "tokenizer.json", Path(folder) / "vocab.txt"
        path = whole if whole.is_file() else vocabulary
        if not path.is_file():
            raise UserError(f"{folder}: neither tokenizer.json nor vocab.txt; expected a BERT checkpoint's folder")
        try:
            if path == whole:
                tokenizer = cls(tokenizers.Tokenizer.from_file(str(path)))
            else:
                built = tokenizers.BertWordPieceTokenizer(str(path), lowercase=True)
                tokenizer = cls(tokenizers.Tokenizer.from_str(built.to_str()))
        except Exception as error:  # the Rust side raises bare Exception
            raise UserError(f"{path}: not a tokenizer of BERT ({_short(str(error))})") from None
        if None in (tokenizer.cls, tokenizer.sep, tokenizer.pad, tokenizer.mask):
            raise UserError(f"{path}: not a tokenizer of BERT: [CLS], [SEP], [PAD] or [MASK] is missing")
        return tokenizer

    def encode(self, texts, max_length):
        """Encode single texts (a,) as [CLS] a [SEP] and pairs (a, b) as [CLS] a [SEP] b [SEP] of at most `max_length`
        tokens, special ones included.

        What is too long loses its last tokens; of a pair, the longer text loses its tokens first ("longest first").
        Raises UserError for a max_length without room for any text.
        """
        if max_length < 5:
            raise UserError(f"a maximum length of {max_length} tokens; a pair needs at least 5")
        encoded = self._rust.encode_batch_fast([text if len(text) == 2 else text[0] for text in texts])
        ids, types = [e.ids for e in encoded], [e.type_ids for e in encoded]
        too_long = [row for row, tokens in enumerate(ids) if len(tokens) > max_length]
        for row in too_long:
            # Cut here and not by the Rust side, which would also build every overflowing piece of two long texts.
            kept = places_kept(len(ids[row]), sum(types[row]), max_length)
            ids[row] = [ids[row][i] for i in kept]
            types[row] = [types[row][i] for i in kept]
        offsets = _offsets([len(tokens) for tokens in ids])
        return Sequences(
            np.fromiter(chain.from_iterable(ids), np.int32, offsets[-1]),
            np.fromiter(chain.from_iterable(types), np.uint8, offsets[-1]),
            offsets,
            len(too_long),
        )


def places_kept(length, of_type_1, max_length):
    """Places that stay of [CLS] A [SEP], or of [CLS] A [SEP] B [SEP] with B [SEP] of token type 1.

    Taking tokens one by one from the longer of A and B leaves the shorter one whole up to half the room; an odd token
    over stays with the longer one (with B if they are equal), as in the `tokenizers` library.
    """
    if not of_type_1:
        return [*range(max_length - 1), length - 1]
    a, b, room = length - of_type_1 - 2, of_type_1 - 1, max_length - 3
    shorter = min(a, b, room // 2)
    a, b = (room - shorter, shorter) if a > b else (shorter, room - shorter)
    start_b = length - of_type_1
    return [*range(1 + a), start_b - 1, *range(start_b, start_b + b), length - 1]


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
    """The names that the course's evaluation.py imports from here live in course.py, which needs torch."""
    if name in COURSE_NAMES:
        return getattr(importlib.import_module("course"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
