"""What a model's heads say of texts that somebody types or keeps in a file, in lines for reading.

A line is one sentence, or a pair of sentences with one tab between them. A sentence goes to the head of every task on
single texts, a pair to the head of every task on pairs; the trunk reads each text once, whatever the number of heads.
"""

import sys
from itertools import islice
from pathlib import Path

import numpy as np

import evaluation
from minbert.files import UserError
from minbert.readers import lines_of

BATCH = 64  # lines answered together: a large file runs at full speed, and no more of it is held in memory
MOST_NAMED = 5  # up to so many classes each is printed with its probability; of more, the first TOP
TOP = 3
KINDS = {1: "a sentence", 2: "a pair of sentences"}


# ---------------------------------------------------------------------------------------------------------- lines


def read_lines(path=None):
    """The lines of a UTF-8 file, or of standard input (path None), as they come.

    At a terminal one line on standard error says what to type. UserError, now for a file that cannot be opened and
    later for a line that is no text, with its number.
    """
    if path is None:
        if interactive(path):
            print("type a sentence, or two with a tab between them; Ctrl-D ends", file=sys.stderr)
        return _without_ends(sys.stdin.buffer, "standard input")
    try:
        return _without_ends(Path(path).open("rb"), path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); expected a file of sentences or pairs") from None


def interactive(path=None):
    """Whether somebody types the lines and waits for each answer (then `predict_texts` wants batch=1)."""
    return path is None and sys.stdin.isatty()


def _without_ends(stream, name):
    return (line.rstrip("\r\n") for _, line in lines_of(stream, name))


# -------------------------------------------------------------------------------------------------------- answers


def predict_texts(model, tokenizer, lines, max_length, fused, batch=BATCH):
    """Yield, for each line that is not empty, the text to print: the line and below it what each head says.

    A line that cannot be answered (two tabs, nothing beside its tab, no head for its kind) yields a note with its
    number instead. Lines are read and answered `batch` at a time. UserError, at the end, where none was answered.
    """
    heads = {  # texts of a line -> the tasks it goes to
        count: [name for name, task in model.tasks.items() if len(task.text) == count] for count in KINDS
    }
    numbered, answered = ((i, line) for i, line in enumerate(lines, start=1) if line.strip()), 0
    while group := list(islice(numbered, batch)):
        texts = [tuple(part.strip() for part in line.split("\t")) for _, line in group]
        notes = [_objection(parts, heads) for parts in texts]
        answers = {}
        for count, names in heads.items():
            rows = [row for row, parts in enumerate(texts) if len(parts) == count and not notes[row]]
            if rows:
                told = _answers(model, tokenizer, names, [texts[row] for row in rows], max_length, fused)
                answers |= dict(zip(rows, told, strict=True))
        answered += len(answers)
        for row, (number, _) in enumerate(group):
            yield answers.get(row) or f"line {number}: {notes[row]}"
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


def _answers(model, tokenizer, names, texts, max_length, fused):
    """One printed answer for each of `texts`, all of the kind that the heads `names` read."""
    sequences = tokenizer.encode(texts, max_length, fused=fused)
    embedded = evaluation.embeddings(model, names[0], sequences)  # the same for every head
    said = {name: evaluation.read_out(model, name, embedded) for name in names}
    tasks = [model.tasks[name] for name in names]
    name_width = max(len(name) for name in names)
    says_width = max((len(label) for task in tasks for label in task.labels), default=0)
    for row, parts in enumerate(texts):
        lines = [" | ".join(parts)]
        for task in tasks:
            opinion = _opinion(task, said[task.name], row, says_width)
            lines.append(f"    {task.name:{name_width}}  {opinion}")
        yield "\n".join(lines)


def _opinion(task, predictions, row, width):
    """`positive 0.91 (neutral 0.06, ...)`, the first word `width` wide; or a score, `2.83 (from 0 to 5)`, where it has
    classes with the likeliest of them, `2.80 (from 0 to 5: 2.8 0.31, ...)`."""
    value = predictions.values[row]
    probabilities = predictions.probabilities[row] if predictions.probabilities is not None else None  # [K]
    if task.kind == "regression":
        low, high = task.score_range
        told = f"{value:.2f} (from {low:g} to {high:g}"
        if probabilities is not None:  # of a score's classes
            scores = np.linspace(low, high, len(probabilities))
            likeliest = (-probabilities).argsort(kind="stable")[:TOP]
            told += ": " + ", ".join(f"{scores[c]:.1f} {probabilities[c]:.2f}" for c in likeliest)
        return f"{told})"
    others = [c for c in (-probabilities).argsort(kind="stable") if c != value]
    if len(task.labels) > MOST_NAMED:
        others = others[: TOP - 1]
    rest = ", ".join(f"{task.labels[c]} {probabilities[c]:.2f}" for c in others)
    return f"{task.labels[value]:{width}} {probabilities[value]:.2f} ({rest})"
