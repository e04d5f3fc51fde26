"""report.html: what a run came to, to be read in a browser; made of the files that the run has left in its folder.

So it can be made again at any time, by --resume of the finished run, and every number in it stands in one of them:
config.json, scores.json, metrics.jsonl, log.jsonl, analysis.json.
"""

from minbert.files import UserError, one_line
from minbert.flags.command import changed, command
from minbert.flags.parser import DEFAULTS
from minbert.report import charts, page
from minbert.training import log_curves
from minbert.training.examples import MOST_CLASSES
from minbert.training.run_folder import RUN
from minbert.training.saved import saved_analysis, saved_history, saved_record, saved_scores

REPORT = "report.html"
SCRIPT = "multitask_classifier.py"
MOST_EPOCHS = 200  # rows of the table of epochs
WORST = 10  # errors of a task
PARTS = {
    **{"curves": "Curves", "steps": "Step by step", "tasks": "Dev set", "scores": "Scores"},
    **{"flags": "Flags", "data": "Data", "again": "Make it again"},
}
ELSEWHERE = ("run_dir", "resume")  # flags that say where a run is, not what it is


def write_report(folder, scores=None):
    """Write report.html into the folder of a finished run, or of one whose `scores` are about to be written. Returns a
    sentence on it."""

    def values():
        config, history = saved_record(folder / RUN), saved_history(folder)
        found = scores or saved_scores(folder)
        return {
            **_summary(config, found),
            **_curves(folder, config, found, history),
            **_tasks(saved_analysis(folder), found),
            **made_with(config, SCRIPT, DEFAULTS),
            "scores": list(flattened(found)),
        }

    return written(folder, values)


def written(folder, values):
    """Write report.html with what values() returns for the template. Returns a sentence on it, or on what is wrong with
    the files: a run is no worse for it."""
    path = folder / REPORT
    if not page.can_render():
        return f"no {REPORT} was written: {page.MISSING}; then --resume {folder} writes it"
    try:
        found = values()
        parts = [(id, title) for id, title in PARTS.items() if found.get(id, True)]
        page.write(path, "run.html", name=folder.resolve().name, parts=parts, **found)
    except UserError as error:
        return f"no {REPORT} was written: {error}"
    except (LookupError, TypeError, ValueError, ArithmeticError) as error:
        return f"no {REPORT} was written: the files in {folder} do not fit each other ({one_line(repr(error))})"
    return f"report: {path}"


# ----------------------------------------------------------------------------------------------------- its parts


def _summary(config, scores):
    cards = [_card(task, of, scores["baseline"].get(task)) for task, of in scores["dev"].items()]
    for path, name, what in (
        ("mean", "mean of the three", "of SST, Quora and STS"),
        ("score", "score", "STS counted as (r + 1) / 2"),
        ("glue", "GLUE", "mean of four"),
    ):
        if path in scores:
            cards.append({"name": name, "path": path, "value": scores[path], "metric": what, "baseline": None})
    about = (
        f"Dev scores of the best epoch, {scores['best_epoch']} of {scores['epochs']}. {scores['updates']:,} updates, "
        f"{scores['train_seconds']:,.0f} s of training and {scores['eval_seconds']:,.0f} s of scoring, "
        f"from {config['model']['name']}."
    )
    return {"cards": cards, "about": about}


def _card(task, scores, baseline):
    metric = "pearson" if "pearson" in scores else "accuracy"
    return {
        "name": task,
        "path": f"dev.{task}.{metric}",
        "value": scores[metric],
        "metric": metric,
        "baseline": baseline,
        "baseline_path": f"baseline.{task}",
    }


def _curves(folder, config, scores, history):
    """Charts by epoch and by update, and the former as a table."""
    best = scores["best_epoch"]
    drawn = []
    for task in scores["dev"]:
        metric = _card(task, scores["dev"][task], None)["metric"]
        drawn.append(
            charts.lines(
                f"{task}, dev {metric}",
                log_curves.dev_curves(history, task, metric),
                "epoch",
                "by epoch",
                baseline=scores["baseline"].get(task),
                best=best,
                dots=True,
                told=f"The best epoch is {best}.",
            )
        )
    losses = log_curves.epoch_losses(history)
    drawn.append(charts.lines("Loss", losses, "epoch", "mean of each term over the epoch", dots=True))
    return {
        "curves": [chart for chart in drawn if chart],
        "epochs": _epochs(history, scores),
        **step_by_step(folder, config),
    }


def step_by_step(folder, config):
    """The charts by update."""
    told = (
        f"From log.jsonl, a line every {config['flags'].get('log_every', 10)} updates; of a long run the lowest and "
        "the highest of each stretch are drawn."
    )
    return {"steps": log_curves.step_charts(folder), "steps_told": told}


def _epochs(history, scores):
    names = {f"dev {task}": (task, _card(task, of, None)["metric"]) for task, of in scores["dev"].items()}
    losses = list(dict.fromkeys(name for record in history for name in record.get("loss") or {}))
    rows = [
        {
            "epoch": record["epoch"],
            "best": record["epoch"] == scores["best_epoch"],
            "values": [
                *(record["dev"][task][metric] for task, metric in names.values()),
                *((record.get("loss") or {}).get(name) for name in losses),
            ],
        }
        for record in history
    ]
    cut = f", the last {MOST_EPOCHS}" if len(rows) > MOST_EPOCHS else ""
    return {
        "names": [*names, *(f"loss {name}" for name in losses)],
        "rows": rows[-MOST_EPOCHS:],
        "caption": f"Dev scores and losses by epoch{cut}",
    }


def _tasks(analyses, scores):
    """A block for each task, and what stands behind its cells and points."""
    tasks, behind = [], {}
    for name, analysis in analyses.items():
        if not {"cells", "point_examples"} & analysis.keys():
            continue  # of before there were reports
        metric = _card(name, scores["dev"][name], None)["metric"]
        about = {
            "name": name,
            "metric": metric,
            "scores": analysis["scores"],
            "examples": analysis["examples"],
            "worst": analysis["worst_errors"][:WORST],
            "matrix": None,
            "per_class": None,
        }
        if analysis["kind"] == "regression":
            shown = analysis["point_examples"]
            about |= {"fit": charts.fit(analysis), "shown": len(shown)}
            points = [(one, analysis["points"][one["row"]]) for one in shown]
            behind[name] = {"point": [{**one, "label": x, "prediction": y} for one, (x, y) in points]}
        else:
            about |= {
                "labels": analysis["labels"],
                "whole": len(analysis["labels"]) <= MOST_CLASSES,
                "matrix": charts.matrix(analysis),
                "cells": analysis["cells"],
                "per_class": analysis["per_class"],
                "reliability": charts.reliability(analysis),
                "ece": analysis["calibration"]["ece"],
            }
            behind[name] = {"cell": analysis["cells"]}
        tasks.append(about)
    return {"tasks": tasks, "behind": behind}


def made_with(config, script, defaults):
    """Flags, data, model, machine, and the command that makes the run again."""
    flags = {name: value for name, value in config["flags"].items() if name not in ELSEWHERE}
    code, machine = config.get("code", {}), config["machine"]
    state = " and changes to it" if code.get("changed") else ""
    return {
        "changed": [
            (name, _told(value), _told(defaults.get(name))) for name, value in changed(flags, defaults).items()
        ],
        "flags": [(name, _told(value)) for name, value in flags.items()],
        "data": [
            {"task": task, "split": split, "rows": part.get("rows"), "sha": part["sha"], "file": part["file"]}
            for task, splits in config["data"].items()
            for split, part in splits.items()
        ],
        "made_with": [
            ("Model", f"{config['model']['name']} ({config['model'].get('source', '')})"),
            ("sha256 of its weights", config["model"]["sha256"]),
            ("Commit", code["commit"] + state if code else "not known: the project was no clone of a repository"),
            ("Machine", f"{machine['device']}, {machine.get('threads', '?')} threads"),
            *((name, version) for name, version in config["versions"].items()),
        ],
        "notes": config.get("data_notes", []),
        "command": _command(script, flags, defaults, machine),
        "again": "On a machine like this one, with these versions, data and threads, to the last bit.",
    }


def _command(script, flags, defaults, machine):
    threads = f"OMP_NUM_THREADS={machine['threads']} " if "threads" in machine and not flags.get("use_gpu") else ""
    return threads + command(script, flags, defaults)


def _told(value):
    if isinstance(value, dict):
        return ", ".join(f"{name}={one}" for name, one in value.items()) or "–"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if isinstance(value, bool):  # before numbers: to Python 1 is True
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    return "–" if value is None else str(value)


def flattened(value, path=""):
    """(path, number or text) of all that nested dicts and lists hold: ("dev.sst.f1.0", 0.4)."""
    if isinstance(value, (dict, list)):
        for key, one in value.items() if isinstance(value, dict) else enumerate(value):
            yield from flattened(one, f"{path}.{key}" if path else str(key))
    else:
        yield path, value
