"""What a model's heads say of texts that somebody types or keeps in a file: lines in, lines out, in three forms.

A line is one sentence, or a pair of sentences with one tab between them. A sentence goes to the head of every task on
single texts, a pair to the head of every task on pairs; the trunk reads each text once, whatever the number of heads.

text   for reading: the line, and below it what each head says
json   a JSON object a line: {"line", "texts", "answers": {task: answers.Answers.of}}, or {"line", "note"}
tsv    a header, then a row a line: its number, its texts, each head's answer and the probability of that
"""

import json
import sys
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from minbert.files import UserError, check_replaceable, written_whole
from minbert.readers import lines_of
from minbert.training.answers import KINDS, answer, digits, heads_by_kind

BATCH = 256  # lines answered together: a large file runs at full speed, and no more of it is held in memory
TABLES = (".csv", ".csv.gz", ".jsonl", ".jsonl.gz", ".json")  # a .tsv may well hold pairs of sentences
MOST_NAMED = 5  # up to so many classes each is printed with its probability; of more, the first TOP
TOP = 3


# ---------------------------------------------------------------------------------------------------------- lines


def read_lines(path=None):
    """The lines of a UTF-8 file, or of standard input (path None), as they come.

    At a terminal one line on standard error says what to type. UserError, now for a file that cannot be opened or has a
    table's name, and later for a line that is no text, with its number.
    """
    if path is None:
        if interactive(path):
            print("type a sentence, or two with a tab between them; Ctrl-D ends", file=sys.stderr)
        return _without_ends(sys.stdin.buffer, "standard input")
    if str(path).endswith(TABLES):  # its header and labels would be answered too
        raise UserError(
            f"{path}: a table; expected lines, a sentence each or a pair with a tab between: write its column of texts "
            "into a .txt, or ask from Python (minbert.load)"
        )
    try:
        return _without_ends(Path(path).open("rb"), path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); expected a file of sentences or pairs") from None


def interactive(path=None):
    """Whether somebody types the lines and waits for each answer (then `answer_lines` wants batch=1)."""
    return path is None and sys.stdin.isatty()


def _without_ends(stream, name):
    return (line.rstrip("\r\n") for _, line in lines_of(stream, name))


# -------------------------------------------------------------------------------------------------------- answers


@dataclass(frozen=True)
class Line:
    """A line and what became of it: `said`, {task: Answers} of the batch that it is `row` of, or a `note` on why it was
    not answered."""

    number: int
    texts: tuple
    said: dict = field(default_factory=dict)
    row: int = 0
    note: str = ""


def answer_lines(model, tokenizer, lines, max_length, batch=BATCH):
    """Yield a `Line` for each line that is not empty; they are read and answered `batch` at a time. One that cannot be
    answered (two tabs, nothing beside its tab, no head for its kind) has a note. UserError, at the end, where none
    was answered."""
    heads = heads_by_kind(model)
    numbered, answered = ((i, line) for i, line in enumerate(lines, start=1) if line.strip()), 0
    while group := list(islice(numbered, batch)):
        texts = [tuple(part.strip() for part in line.split("\t")) for _, line in group]
        notes = [_objection(parts, heads) for parts in texts]
        done = {}  # {row of the group: (answers, row of these)}
        for count, names in heads.items():
            rows = [row for row, parts in enumerate(texts) if len(parts) == count and not notes[row]]
            if rows:
                said = answer(model, tokenizer, names, [texts[row] for row in rows], max_length)
                done |= {row: (said, place) for place, row in enumerate(rows)}
        answered += len(done)
        for row, (number, _) in enumerate(group):
            yield Line(number, texts[row], *done.get(row, ()), note=notes[row])
    if not answered:
        raise UserError(
            f"nothing to predict: no line held {' or '.join(KINDS[count] for count in KINDS if heads[count])} that "
            f"the heads of {', '.join(model.tasks)} could answer"
        )


def _objection(parts, heads):
    """Why the texts of a line cannot be answered, or ""."""
    if len(parts) not in KINDS:
        return f"{len(parts) - 1} tabs; a sentence has none, a pair one: not answered"
    if not all(parts):
        return "no text on one side of the tab: not answered"
    if not heads[len(parts)]:
        return f"{KINDS[len(parts)]}, and this model has no head for one: not answered"
    return ""


def deliver(lines, tasks, form="text", path=None):
    """Print each `Line` as it comes, in one of FORMS, or write them to a file, which is there whole or not at all.
    tasks: {name: Task} of the model. Returns a sentence on what was written, "" where it was printed."""
    header, told = FORMS[form]
    if path is None:
        for text in header(tasks):
            print(text, flush=True)
        for line in lines:
            print(told(line, tasks), flush=True)
        return ""
    notes, count = [], 0
    with written_whole(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        file.writelines(f"{text}\n" for text in header(tasks))
        for line in lines:
            file.write(told(line, tasks) + "\n")
            count += not line.note
            notes += [f"line {line.number}: {line.note}"] if line.note else []
    left_out = f"; {len(notes):,} not, the first: {notes[0]}" if notes else ""
    return f"{path}: {count:,} line{'s' * (count != 1)} answered{left_out}"


def check_output(path, source=None):
    """UserError, before a model is loaded, where `deliver` could not write the file, or it is the one that is read."""
    path = Path(path)
    check_replaceable(path)
    if not path.parent.is_dir():
        raise UserError(f"--output {path}: there is no folder {path.parent}")
    if source is not None and path.exists() and path.samefile(source):
        raise UserError(f"--output {path}: --input reads that file; choose another one to write")


# ---------------------------------------------------------------------------------------------------------- forms


def as_text(line, tasks):
    """The line, and below it a line for each head."""
    if line.note:
        return f"line {line.number}: {line.note}"
    name_width = max(map(len, line.said))
    says_width = max((len(label) for name in line.said for label in tasks[name].labels), default=0)
    lines = [" | ".join(line.texts)]
    for name, said in line.said.items():
        lines.append(f"    {name:{name_width}}  {_opinion(said, line.row, says_width)}")
    return "\n".join(lines)


def _opinion(said, row, width):
    """`positive 0.91 (neutral 0.06, ...)`, the first word `width` wide; or a score, `2.83 (from 0 to 5)`, where it has
    classes with the likeliest of them, `2.80 (from 0 to 5: 2.8 0.31, ...)`."""
    task, value = said.task, said.predictions.values[row]  # a class index or a score
    probabilities = None if said.probabilities is None else said.probabilities[row]  # [K]
    if task.kind == "regression":
        low, high = task.score_range
        told = f"{value:.2f} (from {low:g} to {high:g}"
        if probabilities is not None:  # of a score's classes
            likeliest = (-probabilities).argsort(kind="stable")[:TOP]
            told += ": " + ", ".join(f"{said.classes[c]:.1f} {probabilities[c]:.2f}" for c in likeliest)
        return f"{told})"
    others = [c for c in (-probabilities).argsort(kind="stable") if c != value]
    if len(task.labels) > MOST_NAMED:
        others = others[: TOP - 1]
    rest = ", ".join(f"{task.labels[c]} {probabilities[c]:.2f}" for c in others)
    return f"{task.labels[value]:{width}} {probabilities[value]:.2f} ({rest})"


def as_json(line, tasks):
    if line.note:
        told = {"line": line.number, "texts": line.texts, "note": line.note}
    else:
        answers = {name: said.of(line.row) for name, said in line.said.items()}
        told = {"line": line.number, "texts": line.texts, "answers": answers}
    return json.dumps(told, ensure_ascii=False, allow_nan=False)


def tsv_header(tasks):
    """`line`, the texts, for each task its answer and the probability of that (empty for a head without), and `note`
    on a line that was not answered."""
    texts = ["text", "text_pair"][: max(len(task.text) for task in tasks.values())]
    return ["\t".join(["line", *texts, *(name + end for name in tasks for end in ("", "_probability")), "note"])]


def as_tsv(line, tasks):
    most = max(len(task.text) for task in tasks.values())
    cells = [" ".join(text.split()) for text in line.texts] if len(line.texts) <= most else []
    cells = [str(line.number), *cells, *[""] * (most - len(cells))]
    for name in tasks:
        cells += _cells(line.said[name], line.row) if name in line.said else ["", ""]
    return "\t".join([*cells, line.note])


def _cells(said, row):
    """[the answer, its probability] of one head."""
    probability = "" if said.probabilities is None else f"{digits(said.probabilities[row].max())}"
    return [str(said.one(row)), probability]


def _no_header(tasks):
    return []


FORMS = {"text": (_no_header, as_text), "json": (_no_header, as_json), "tsv": (tsv_header, as_tsv)}
