"""What a run leaves behind as JSON, read back and checked: config.json or grid.json, scores.json, metrics.jsonl.

Somebody may have edited these files, a disk may have damaged them, and a folder may be that of another program. Who
reads them here is told in one line; nobody else has to expect a wrong type. Imports no torch.
"""

from minbert.files import UserError
from minbert.readers import NUMBER, lines_of, misfit, parse_json, read_json

RUN, GRID = "config.json", "grid.json"  # the records of a run, and of a grid of runs
LOG = "log.jsonl"  # a line every so many updates: step_log.py
MODEL = {"name": str, "sha256": str}
SPLIT = {"file": str, "sha": str, "labels_file?": str}
OF_RUN = {
    "flags": {},
    "model": MODEL,
    "data": {...: {...: SPLIT}},
    "versions": {},
    "machine": {"device": str, "threads?": int, "processes?": int},
    "went_on_from?": [{}],
}
RECORDS = {  # file -> (what it is, its shape)
    RUN: ("the config of a run", OF_RUN),
    GRID: (
        "the record of a grid",
        {"flags": {"lr": list}, "model": MODEL, "attempts?": {}, "versions?": {}, "machine?": {"threads?": int}},
    ),
}
SECONDS = {"train_seconds": NUMBER, "eval_seconds": NUMBER}
SCORES = {"dev": {...: {}}, "epochs": int, **SECONDS}
SCORES_OF_ONE = {  # of a run that has a best epoch
    **SCORES,
    "selection_score": NUMBER,
    "best_epoch": int,
    "dev": {...: {"accuracy?": NUMBER, "f1?": [NUMBER]}},
    "dev_mismatched?": {...: {"accuracy": NUMBER}},
    "baseline": {...: NUMBER},
    "updates": int,
    "tokens": int,
}
SCORES_OF_MASKED_LM = {
    **dict.fromkeys(("perplexity_before", "perplexity"), NUMBER),
    **dict.fromkeys(("texts", "epochs", "updates", "tokens"), int),
    **SECONDS,
}
ANALYSIS = {
    ...: {
        "task": str,
        "kind": str,
        "examples": int,
        "scores": {},
        "worst_errors": [{"texts": [str]}],
        "labels?": [str],
        "confusion?": [[int]],
        "per_class?": {...: {}},
        "calibration?": {
            "ece": NUMBER,
            "bins": [dict.fromkeys(("from", "to", "examples", "confidence", "accuracy"), NUMBER)],
        },
        "cells?": [{"label": str, "prediction": str, "count": int, "examples": [{"texts": [str]}]}],
        "score_range?": [NUMBER],
        "points?": [[NUMBER]],
        "point_examples?": [{"row": int, "texts": [str]}],
    }
}


def saved_record(path):
    """config.json of a run, or grid.json of a grid."""
    what, shape = RECORDS[path.name]
    return read_json(path, what, "nothing can go on from it: start a new one", shape)


def saved_scores(folder, shape=SCORES_OF_ONE):
    """scores.json of a finished run."""
    return read_json(folder / "scores.json", "the scores of a finished run", "delete it, and the run goes on", shape)


def saved_analysis(folder):
    """analysis.json of a finished run, or {} where it has none, as plain models."""
    path = folder / "analysis.json"
    if not path.is_file():
        return {}
    return read_json(path, "the analysis of a finished run", "delete it, and the run's report goes without", ANALYSIS)


def saved_history(folder):
    """The records of metrics.jsonl, one an epoch."""
    path = folder / "metrics.jsonl"
    try:
        records = [parse_json(line) for _, line in lines_of(path)]
        problem = misfit(records, [{"epoch": int}])
    except ValueError as error:
        problem = error
    if problem:
        raise UserError(f"{path}: not the history of a run ({problem}); delete the run's folder, and it runs again")
    return records
