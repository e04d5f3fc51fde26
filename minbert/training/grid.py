"""A grid of learning rates: the same run at each of them, of which the one with the best dev score is kept.

The folder of the grid becomes that of the best run: its files, and grid.json with the scores of every attempt. Each
attempt is an ordinary run in a folder of its own below, `lr-2e-05`, so a grid that was killed goes on where it was.
"""

import argparse
import json
import shutil
from pathlib import Path

from minbert.files import UNFINISHED, UserError, remove_unfinished, write_json, written_whole
from minbert.flags import checks as command_line

RECORD = "grid.json"


def is_grid(options):
    """Whether a command asks for a grid, or to resume one."""
    return isinstance(options.lr, list) or (bool(options.resume) and (_folder(options) / RECORD).is_file())


def search(options, train, find):
    """Train at every rate of options.lr and keep the best. `train` makes an ordinary run of options; `find` says of
    options which checkpoint it begins with, as grid.json records it."""
    folder = _folder(options)
    record = folder / RECORD
    saved = _read(record) if options.resume and record.is_file() else None
    if saved:
        options = command_line.resumed(options, saved["flags"])
        options.model = saved["model"]["name"]
    elif isinstance(options.resume, str):
        raise UserError(f"--resume {folder}: no {RECORD} there, so no grid to continue")
    elif folder.is_dir() and any(path.name != RECORD and path.suffix != UNFINISHED for path in folder.iterdir()):
        raise UserError(f"{folder} exists: choose another --run_dir, or continue that grid with --resume")
    command_line.check(options)
    model = find(options)
    if saved and saved["model"]["sha256"] != model["sha256"]:
        raise UserError(f"{folder}: the weights of {model['name']} are not what this grid began with; start a new one")
    folder.mkdir(parents=True, exist_ok=True)
    remove_unfinished(folder)
    known = saved or {"flags": command_line.to_saved(options), "model": model}
    if not saved:
        write_json(record, known)

    attempts = {}
    for rate in options.lr:
        attempt = folder / f"lr-{rate:g}"
        if not (attempt / "scores.json").is_file():
            print(f"attempt at rate {rate:g}: {attempt}")
            changed = {"lr": rate, "run_dir": str(attempt), "resume": True}
            train(argparse.Namespace(**{**vars(options), **changed}))
        attempts[rate] = json.loads((attempt / "scores.json").read_text(encoding="utf-8"))
    best = max(attempts, key=lambda rate: attempts[rate]["selection_score"])  # the first of equals
    _take_over(folder / f"lr-{best:g}", folder, known["flags"], best)
    write_json(record, {**known, "best": best, "attempts": {f"{rate:g}": said for rate, said in attempts.items()}})
    tried = ", ".join(f"{rate:g} {said['selection_score']:.3f}" for rate, said in attempts.items())
    print(f"best rate {best:g} (dev scores: {tried}); results in {folder}")


def _folder(options):
    return Path(options.resume if isinstance(options.resume, str) else options.run_dir or "")


def _read(record):
    try:
        saved = json.loads(record.read_text(encoding="utf-8"))
        if isinstance(saved["flags"]["lr"], list) and {"name", "sha256"} <= saved["model"].keys():
            return saved
    except (ValueError, KeyError, TypeError, AttributeError):
        pass
    raise UserError(f"{record}: not the record of a grid, so none to continue; start a new one")


def _take_over(source, folder, flags, rate):
    """Copy the best attempt's files into the grid's folder, config.json with the grid's flags last."""
    for path in sorted(source.rglob("*")):
        target = folder / path.relative_to(source)
        if path.is_dir():
            target.mkdir(exist_ok=True)
        elif path not in (source / "state.pt", source / "config.json"):
            with written_whole(target) as temporary:
                shutil.copyfile(path, temporary)
    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    write_json(folder / "config.json", {**config, "flags": flags, "rate": rate})
