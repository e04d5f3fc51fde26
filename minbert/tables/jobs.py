"""A row of a table made concrete: its flags, its files, and whether the result that is there still stands.

A result is one small JSON file, results/TABLE/ROW/seed-N.json, that says exactly what was computed: flags, seed, model,
data, versions, machine, scores, history. It stands as long as the same would be computed now: the same flags, a model
and data files with the same content, wherever they lie, and, where the row starts from another's weights, the result
of that one as it was.
"""

import functools
import hashlib
import json
import time
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

from minbert.files import UserError, sha256, write_json
from minbert.flags import checks as command_line
from minbert.hub import pretraining_scores
from minbert.tables import text_files
from minbert.tables.rows import Row, Table, find_row, flags_of
from minbert.tables.text_files import FOLDERS

GRID = "grid.json"

HERE = Path(__file__).parents[2]
RUNS, RESULTS = HERE / "runs" / "experiments", HERE / "results"
PATHS = ("run_dir", "model", "init", "plain_dir", *FOLDERS)  # flags that a result does not repeat: where, not what
# Flags that say on what machine and where. A result from a GPU stands on every other machine; model and data are
# compared by their content, a start by its result.
MACHINE = {"use_gpu", "precision", "compile"}
NOT_OF_THE_SCRIPT = {"unlabelled_dir", text_files.MASKED_LM}  # they stand in the names of files only
CHECKPOINT = f"{{{text_files.MASKED_LM}}}"  # a row's --model: the result of pretraining.py
SOURCES = {"file": "sha256", "labels_file": "labels_sha256"}  # of a split: a file -> its digest
NOT_COMPARED = {*command_line.NOT_SAVED, *command_line.MAY_CHANGE, *MACHINE, *PATHS}

# ---------------------------------------------------------------------------------------------------------- flags


def command(flags):
    """{flag: value} as command-line arguments; a flag of value None is left out, one of value True stands alone."""
    given = {name: value for name, value in flags.items() if value is not None and name not in NOT_OF_THE_SCRIPT}
    return [word for name, value in given.items() for word in ([f"--{name}"] + ([] if value is True else [str(value)]))]


def on_this_machine(text, flags):
    """A file that a row or a result names, or a flag's value with such names, as this machine has it: text_files.py."""
    return text_files.local(text, flags, RUNS / "augmented")


def placed(flags):
    """{flag: value} with the files and the checkpoint that rows name as this machine has them."""
    here = {name: on_this_machine(flags[name], flags) for name in text_files.FLAGS if name in flags}
    return flags | here | ({"model": _model(flags)} if "model" in flags else {})


def _model(flags):
    """The checkpoint as this machine has it."""
    return on_this_machine(CHECKPOINT, flags) if flags["model"] == CHECKPOINT else flags["model"]


def resolve(flags):
    """{flag: value} with every default filled in, as a run's config.json has it. Raises UserError as the command line
    would."""
    resolved = command_line.to_saved(command_line.check(command_line.parse(command(flags))))
    return json.loads(json.dumps(resolved))


def check(table):
    """Raise UserError unless the table says what it seems to say.

    The names are unique; every row is a valid command; every figure of a paper has a column; a row that starts from
    another's weights stands below it; every row with a base differs from it in exactly the flags it lists. All that
    without the budget, which leaves different any two rows that are.
    """
    names = [row.name for row in table.rows]
    if len(set(names)) < len(names):
        raise UserError(f"table {table.name} names a row twice: {', '.join(names)}")
    if unknown := set(table.budget) - set(names):
        raise UserError(f"table {table.name}, budget: there is no row {', '.join(sorted(unknown))}")
    full = {row.name: _resolved(replace(table, budget={}), row) for row in table.rows}
    for row in table.rows:
        where = f"table {table.name}, row {row.name}"
        if unknown := set(row.paper) - set(table.columns):
            raise UserError(f"{where}: the table has no column {', '.join(sorted(unknown))}")
        if row.init is not None and row.init not in names[: names.index(row.name)]:
            raise UserError(f"{where}: starts from {row.init}, which is no row above it")
        if row.base is None:
            continue
        differing = _differing(full[row.name], full[find_row(table, row.base).name])
        if differing != set(row.flags):
            raise UserError(
                f"{where}: says it varies {', '.join(sorted(row.flags))} of {row.base}, "
                f"but differs from it in {', '.join(sorted(differing)) or 'nothing'}"
            )
    cut = {row.name: _resolved(table, row) for row in table.rows}
    for one, other in combinations(names, 2):
        if _differing(full[one], full[other]) and not _differing(cut[one], cut[other]):
            raise UserError(f"table {table.name}: its budget makes {one} and {other} the same")


def _resolved(table, row):
    try:
        return resolve(flags_of(table, row))
    except UserError as error:
        raise UserError(f"table {table.name}, row {row.name}: {error}") from None


def _differing(one, other):
    return {name for name in one if name != "run_dir" and one[name] != other[name]}


# ----------------------------------------------------------------------------------------------------------- jobs


def results_folder(table):
    return RESULTS / table.name


@dataclass(frozen=True)
class Job:
    """One row at one seed, on one share of each task's training rows."""

    table: Table
    row: Row
    seed: int
    fraction: float = 1.0

    @property
    def name(self):
        return f"seed-{self.seed}" + (f"-fraction-{self.fraction:g}" if self.fraction < 1 else "")

    @property
    def folder(self):
        return RUNS / self.table.name / self.row.name / self.name

    @property
    def log(self):
        return self.folder.with_name(f"{self.name}.log")  # beside the folder, which the run wants to make itself

    @property
    def result(self):
        return results_folder(self.table) / self.row.name / f"{self.name}.json"

    @property
    def start(self):
        """The job whose weights this one starts from; None if it starts from the checkpoint."""
        return None if self.row.init is None else replace(self, row=find_row(self.table, self.row.init))

    @property
    def followers(self):
        """The jobs that start from this one's weights."""
        return [replace(self, row=row) for row in self.table.rows if row.init == self.row.name]

    @property
    def flags(self):
        """The row's flags with the seed, and with a --limit that cuts each trained task to the fraction. Plain models
        are kept where every row of every table finds them."""
        flags = {**flags_of(self.table, self.row), "seed": self.seed}
        if "label_scheme" in flags:
            flags["plain_dir"] = str(RUNS / "plain")
        if self.fraction < 1:
            resolved = resolve(flags)
            parts = {task: _part(resolved["limit"].get(task, 1.0), self.fraction) for task in resolved["tasks"]}
            flags["limit"] = ",".join(f"{task}={part}" for task, part in parts.items())
        return flags


def _part(limit, fraction):
    """A fraction of a --limit, which is a number of rows (int) or a share of them (float)."""
    return max(1, round(limit * fraction)) if isinstance(limit, int) else f"{limit * fraction:.9f}".rstrip("0")


# -------------------------------------------------------------------------------------------------------- results


def load(path):
    """A JSON file, or None where there is none. Raises UserError where it is not one."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise UserError(f"{path}: not JSON ({error}); delete it, and its row runs again") from None


def write_result(job, flags):
    """Write the result of the run in job.folder, which was made with `flags`."""
    named = resolve(flags)
    files = [name for flag in text_files.FLAGS for name in named[flag].values() if text_files.COPIES.fullmatch(name)]
    copies = {on_this_machine(name, flags): name for name in files}
    config = load(job.folder / "config.json")
    tried = (load(job.folder / GRID) or {}).get("attempts", {})
    used = set()
    for splits in config["data"].values():
        for name, split in splits.items():
            for kind, digest in SOURCES.items():
                if kind not in split:
                    continue
                file = split[kind]
                split[digest] = content(file)
                if file in copies:
                    split[kind] = copies[file]
                    continue
                split[kind], folder = _relative(file, flags)
                if name != "unlabelled":  # that stands in the flags
                    used |= {folder}
    start = job.start and load(job.start.result)
    model = start["model"] if start else config["model"]  # the checkpoint that the first run began with
    if Path(model["name"]).is_dir():
        model = {**model, "name": Path(model["name"]).name, "source": "a folder"}
    result = {
        "table": job.table.name,
        "row": job.row.name,
        "seed": job.seed,
        "fraction": job.fraction,
        "flags": {name: value for name, value in config["flags"].items() if name not in PATHS}
        | {name: named[name] for name in text_files.FLAGS},
        "model": model,
        "data_from": " + ".join(sorted(used)),
        "data": config["data"],
        "versions": config["versions"],
        "machine": config["machine"],
        "finished": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        **_outcome(job.folder),
        **({"attempts": {rate: _outcome(job.folder / f"lr-{rate}") for rate in tried}} if tried else {}),
        **({"start": fingerprint(start)} if start else {}),
        **({text_files.MASKED_LM: _pretraining(flags)} if text_files.needs_masked_lm(flags) else {}),
    }
    job.result.parent.mkdir(parents=True, exist_ok=True)
    write_json(job.result, result)


def _pretraining(flags):
    """What the run of pretraining.py came to whose checkpoint a row needed."""
    folder = flags[text_files.MASKED_LM]
    return {"sha256": checkpoint(folder)[1], "scores": pretraining_scores(folder)}


def _outcome(folder):
    """What a run came to: its scores, and its history by epoch."""
    history = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return {"scores": load(folder / "scores.json"), "history": [json.loads(line) for line in history]}


def _relative(file, flags):
    """(a data file as seen from its folder, what a reader calls that folder), so that a result says nothing of where
    on this machine the data lies: "{data_dir}/quora-dev.csv", "cs224n"."""
    known = [name for name in FOLDERS if name in flags]
    for name in sorted(known, key=lambda name: -len(flags[name])):  # one may lie inside the other
        folder = Path(flags[name])
        if Path(file).is_relative_to(folder):
            short = folder.relative_to(HERE / "data") if folder.is_relative_to(HERE / "data") else folder.name
            return f"{{{name}}}/{Path(file).relative_to(folder).as_posix()}", str(short)
    return file, Path(file).name


def fingerprint(result):
    """What tells a result from any other: a digest of its flags and dev scores (times and places left out)."""
    told = {"seed": result["seed"], "flags": result["flags"], "dev": result["scores"]["dev"]}
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def adopt(job, extra):
    """Take over the result of another row that computed the very same, or did so as one of the learning rates it tried,
    if there is one: returns "TABLE/ROW" or None. A result so taken names that row as `ran_as`."""
    for path in sorted(RESULTS.glob(f"*/*/{job.result.name}")):
        saved = load(path)
        for found in [] if path == job.result else [saved, *_attempts(saved)]:
            if why_stale(job, found, extra) is None:
                ran_as = found.get("ran_as", _place(found))
                job.result.parent.mkdir(parents=True, exist_ok=True)
                write_json(job.result, {**found, "table": job.table.name, "row": job.row.name, "ran_as": ran_as})
                return ran_as
    return None


def _attempts(saved):
    """Each learning rate that a result's run tried, as the result of a run at that rate alone."""
    rest = {name: value for name, value in saved.items() if name != "attempts"}
    return [
        {
            **rest,
            **outcome,
            "flags": {**saved["flags"], "lr": float(rate)},
            "ran_as": f"{saved.get('ran_as', _place(saved))} at {rate}",
        }
        for rate, outcome in saved.get("attempts", {}).items()
    ]


def _place(saved):
    return f"{saved['table']}/{saved['row']}"


def why_stale(job, saved, extra):
    """In a few words, why a result is not what the job would give now; None if it is. `extra`: model and folders."""
    flags = {**extra, **job.flags}
    if changed := why_changed(job, saved, extra):
        return changed
    if saved["flags"].get("skip_test") and not flags.get("skip_test"):
        return "it made no test predictions"
    name, digest = checkpoint(_model(flags))
    if saved["model"]["sha256"] != digest:
        return f"the model was {saved['model']['name']}, now {name}"
    for split in (split for splits in saved["data"].values() for split in splits.values()):
        for kind in SOURCES.keys() & split.keys():
            path = on_this_machine(split[kind], flags)
            if content(path) != split[SOURCES[kind]]:
                return f"{path} is not the file it was"
    return None


def why_changed(job, saved, extra=None):
    """As `why_stale`, but of the flags and the start alone, which can be told without the model and the data."""
    if changed := changed_flags(saved, {**(extra or {}), **job.flags}):
        return changed
    if job.start is None:
        return "it started from another row" if "start" in saved else None
    first = load(job.start.result)
    if first is None or why_changed(job.start, first, extra) or saved.get("start") != fingerprint(first):
        return f"{job.row.init}, which it starts from, changed"
    return None


def changed_flags(saved, flags):
    """Which flags of a result (or a run's config) are others now, in words; None if none. A flag that did not exist
    then had the value that is its default now."""
    now, then = resolve(flags), {**resolve({}), **saved["flags"]}
    changed = [name for name in now if name not in NOT_COMPARED and now[name] != then[name]]
    return ", ".join(f"{name} was {then[name]}, now {now[name]}" for name in changed) or None


def can_continue(job, flags):
    """Whether job.folder holds a run of these very flags and this model (for a row that starts from another's weights,
    those: when that one runs, what followed it goes)."""
    config = load(job.folder / "config.json") or load(job.folder / GRID)  # a half-done grid has only the latter
    flags = placed(flags)
    if config is None or (job.start is None and config["model"]["sha256"] != checkpoint(flags["model"])[1]):
        return False
    now = resolve(flags)
    return changed_flags(config, flags) is None and all(config["flags"][name] == now[name] for name in MACHINE)


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


def figure(result, path):
    """The number at a path in a result's scores; a kept share ("kept.sst UDA kept") is that of its last epoch."""
    if path.startswith("kept."):
        return value_at(result["history"][-1], path)
    return value_at(result["scores"], path)


def value_at(scores, path):
    """The number at "dev.sst.accuracy" in nested dicts and lists, or None where there is none."""
    for key in path.split("."):
        if isinstance(scores, list):
            scores = scores[int(key)] if int(key) < len(scores) else None
        else:
            scores = scores.get(key) if isinstance(scores, dict) else None
    return scores
