"""What a finished run came to, as a result: one JSON object that says exactly what was computed (flags, seed, model,
data, versions, machine, scores, history), and nothing of where on this machine things lie."""

import functools
import hashlib
import json
import time
from pathlib import Path

from minbert.files import UserError, sha256
from minbert.hub import pretraining_scores
from minbert.readers import NUMBER
from minbert.tables import places, store, text_files
from minbert.tables.jobs import PATHS, on_this_machine, resolve
from minbert.tables.text_files import FOLDERS
from minbert.training.saved import GRID, RUN, SCORES, saved_history, saved_record, saved_scores

SOURCES = {"file": "sha256", "labels_file": "labels_sha256"}  # of a split: a file -> its digest

# --------------------------------------------------------------------------------------------------------- writing


def result_of(job, flags):
    """The result of the run in job.folder, which was made with `flags`."""
    named = {name: value for name, value in resolve(flags).items() if name in text_files.FLAGS}
    config, grid = (job.folder / name for name in (RUN, GRID))
    config, tried = saved_record(config), saved_record(grid).get("attempts", {}) if grid.is_file() else {}
    data, used = _portable(config["data"], named, flags)
    start = job.start and store.get(job.start)
    return {
        "table": job.table.name,
        "row": job.row.name,
        "seed": job.seed,
        "fraction": job.fraction,
        "flags": {name: value for name, value in config["flags"].items() if name not in PATHS} | named,
        "model": start["model"] if start else _model(config),  # the checkpoint that the first run began with
        "data_from": " + ".join(sorted(used)),
        "data": data,
        "versions": config["versions"],
        "machine": config["machine"],
        "finished": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        **_outcome(job.folder),
        **({"attempts": {rate: _outcome(job.folder / f"lr-{rate}") for rate in tried}} if tried else {}),
        **({"start": fingerprint(start)} if start else {}),
        **({text_files.MASKED_LM: _pretraining(flags)} if text_files.needs_masked_lm(flags) else {}),
    }


def _portable(data, named, flags):
    """(data of a config with its files under portable names and their digests, what a reader calls their folders).
    `named`: the flags of text files as the row has them."""
    files = [name for flag in named for name in named[flag].values() if text_files.COPIES.fullmatch(name)]
    copies = {on_this_machine(name, flags): name for name in files}
    portable, used = {}, set()
    for task, splits in data.items():
        portable[task] = {}
        for name, split in splits.items():
            portable[task][name], folders = _portable_split(split, copies, flags)
            used |= folders if name != "unlabelled" else set()  # that text stands in the flags
    return portable, used


def _portable_split(split, copies, flags):
    """As `_portable`, of one split. copies: {file of changed copies on this machine: what the table calls it}"""
    split, folders = dict(split), set()
    for kind, digest in SOURCES.items():
        if kind in split:
            file = split[kind]
            split[digest] = content(file)
            if file in copies:
                split[kind] = copies[file]
            else:
                split[kind], folder = _relative(file, flags)
                folders.add(folder)
    return split, folders


def _relative(file, flags):
    """(a data file as seen from its folder, what a reader calls that folder): "{data_dir}/quora-dev.csv", "cs224n"."""
    known = [name for name in FOLDERS if name in flags]
    for name in sorted(known, key=lambda name: -len(flags[name])):  # one may lie inside the other
        folder, data = Path(flags[name]), places.HERE / "data"
        if Path(file).is_relative_to(folder):
            short = folder.relative_to(data) if folder.is_relative_to(data) else folder.name
            return f"{{{name}}}/{Path(file).relative_to(folder).as_posix()}", str(short)
    return file, Path(file).name


def _model(config):
    """The checkpoint of a run; of one in a folder only the folder's last name."""
    model = config["model"]
    return {**model, "name": Path(model["name"]).name, "source": "a folder"} if Path(model["name"]).is_dir() else model


def _outcome(folder):
    """What a run came to: its scores, and its history by epoch."""
    return {"scores": saved_scores(folder, SCORES), "history": saved_history(folder)}


def _pretraining(flags):
    """What the run of pretraining.py came to whose checkpoint a row needed."""
    folder = flags[text_files.MASKED_LM]
    return {"sha256": checkpoint(folder)[1], "scores": pretraining_scores(folder)}


# --------------------------------------------------------------------------------------------------------- reading


def fingerprint(result):
    """What tells a result from any other: a digest of its flags and dev scores (times and places left out)."""
    told = {"seed": result["seed"], "flags": result["flags"], "dev": result["scores"]["dev"]}
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def figure(result, path):
    """The number at the path of a table's column, or None."""
    last = result["history"][-1] if result["history"] else {}  # a set of plain models has no history of its own
    return value_at({**result["scores"], "last_epoch": last}, path)


def value_at(scores, path):
    """The number at "dev.sst.accuracy" in nested dicts and lists, or None where there is none."""
    for key in path.split("."):
        if isinstance(scores, list):
            scores = dict(enumerate(scores)).get(int(key)) if key.isdigit() else None
        else:
            scores = scores.get(key) if isinstance(scores, dict) else None
    return scores if type(scores) in NUMBER else None


# --------------------------------------------------------------------------------------------------------- digests


@functools.cache
def checkpoint(name):
    """(name, sha256 of the weights) of a model; of the default one where the name is None."""
    from minbert import hub  # the model is of no interest to `list` and `show`

    found = hub.resolve(name)
    weights = [found.folder / file for file in hub.WEIGHTS if (found.folder / file).is_file()]
    if not weights:
        raise UserError(f"model {found.name}: {found.folder} holds neither {' nor '.join(hub.WEIGHTS)}")
    return found.name, sha256(weights[0])


@functools.cache
def content(path):
    """sha256 of a file, or None where there is none."""
    return sha256(path) if Path(path).is_file() else None
