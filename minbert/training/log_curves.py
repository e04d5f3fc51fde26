"""The curves of a run: by epoch from metrics.jsonl, and by update from log.jsonl, which may have a million lines."""

import json

from minbert.files import UserError
from minbert.readers import lines_of
from minbert.report import charts
from minbert.report.thinning import MinMax
from minbert.training.saved import LOG

LEARNING = {"rate": "Learning rate", "gradient_norm": "Gradient norm"}
PARTS = {"loss": "Loss", "kept": "Kept shares"}


def dev_curves(history, task, metric):
    """{name: [(epoch, score)]} of a task, and of the teacher's where there is one."""
    found = {}
    for name, record, epoch in _with_teacher(history):
        if task in record.get("dev", {}):
            found.setdefault(name, []).append((epoch, record["dev"][task][metric]))
    return found


def _with_teacher(history):
    for record in history:
        yield "student" if "teacher" in record else "dev", record, record["epoch"]
        if "teacher" in record:
            yield "teacher", record["teacher"], record["epoch"]


def epoch_losses(history):
    """{name of a term: [(epoch, its mean)]}"""
    found = {}
    for record in history:
        for name, value in (record.get("loss") or {}).items():
            found.setdefault(name, []).append((record["epoch"], value))
    return found


def step_charts(folder):
    """Charts by update: each task's own loss, the other terms, kept shares, learning rate, gradient norm."""
    curves = read_log(folder / LOG)
    loss = {name: points for (part, name), points in curves.items() if part == "loss"}
    own = {name: points for name, points in loss.items() if " " not in name}
    drawn = [
        charts.lines(f"{name}, loss", {name: points}, "update", "means between lines") for name, points in own.items()
    ]
    for name, points in loss.items():
        if name not in own:
            drawn.append(charts.lines(name, {name: points}, "update", "means between lines, with its weight"))
    kept = {name: points for (part, name), points in curves.items() if part == "kept"}
    drawn.append(charts.lines("Kept shares", kept, "update", "of the examples of a step"))
    for part, title in LEARNING.items():
        told = "before any clipping" if part == "gradient_norm" else "the highest of all groups"
        series = {title: curves[part, ""]} if (part, "") in curves else {}
        drawn.append(charts.lines(title, series, "update", told, logarithmic=part == "gradient_norm"))
    return [chart for chart in drawn if chart]


def read_log(path):
    """{(part, name): [(update, value)]} of a log, thinned; {} where there is none. Raises UserError for a damaged line.

    The plain reader of JSON is enough here: what is no number is refused one by one.
    """
    curves = {}
    for number, line in lines_of(path) if path.is_file() else ():
        try:
            record = json.loads(line)
            update = record["update"]
            for part in PARTS:
                for name, value in record.get(part, {}).items():
                    _add(curves, (part, name), update, value)
            for part in LEARNING:
                _add(curves, (part, ""), update, record[part])
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise UserError(f"{path}, line {number}: not a line of a log ({error!r}); delete the line") from None
    return {key: curve.points for key, curve in curves.items()}


def _add(curves, key, update, value):
    if value is not None:  # of what was not finite
        if key not in curves:
            curves[key] = MinMax()
        curves[key].add(update + 0, float(value))
