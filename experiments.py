"""Tables of experiments: run what is missing, show what is there.

    python experiments.py list
    python experiments.py run minbert --seeds 3
    python experiments.py show minbert

A table's rows are data (tables.py). Row x seed is one call of multitask_classifier.py with a run folder of its own under
runs/experiments/, and what it came to is one small JSON file under results/, which says exactly what was computed: flags,
seed, model, data, versions, machine, scores. A result is used again only if the same would be computed now. A sweep that
was killed goes on where it was when the same command is given again.
"""

import argparse
import contextlib
import functools
import json
import shutil
import signal
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import options as command_line
from files import UserError, complain, sha256, write_json
from tables import TABLES, Row, Table

HERE = Path(__file__).parent
RUNS, RESULTS = HERE / "runs" / "experiments", HERE / "results"
FIRST_SEED = 11711  # the course's
WEIGHTS = ("state.pt", "*.safetensors", "bert")  # of a run folder: not kept once the result is saved
# Flags that do not decide what is computed. Model and data do, and are compared by their content, not by their path.
NOT_COMPARED = {*command_line.NOT_SAVED, *command_line.MAY_CHANGE, "model", "data_dir", "glue_dir"}
NOT_COMPARED |= {"use_gpu", "precision", "compile"}  # nor the machine's: a result from a GPU counts everywhere


class Busy(Exception):
    """Another process is running this row."""


# ------------------------------------------------------------------------------------------------- rows and flags


def flags_of(table, row):
    """The flags of a row: the table's, then those of the sibling it is based on, then its own."""
    if row.base is None:
        flags = {**table.flags, **row.flags}
    else:
        flags = {**flags_of(table, find_row(table, row.base)), **row.flags}
    return {name: value for name, value in flags.items() if value is not None}


def find_row(table, name):
    for row in table.rows:
        if row.name == name:
            return row
    raise UserError(f"table {table.name} has no row {name}; its rows: {', '.join(row.name for row in table.rows)}")


def find_table(name):
    if name not in TABLES:
        raise UserError(f"no table {name}; there are: {', '.join(TABLES)}")
    return TABLES[name]


def command(flags):
    """Flags as a list of command-line arguments."""
    words = [[f"--{name}"] if value is True else [f"--{name}", str(value)] for name, value in flags.items()]
    return [word for pair in words for word in pair]


def resolve(flags):
    """Every flag that decides what a run computes, defaults filled in. Raises UserError as the command line would."""
    return command_line.to_saved(command_line.check(command_line.parse(command(flags))))


def check(table):
    """Raise UserError unless the names are unique, every row is a valid command, every figure of a paper has a column,
    and every row with a base differs from it in exactly the flags it lists."""
    names = [row.name for row in table.rows]
    if len(set(names)) < len(names):
        raise UserError(f"table {table.name} names a row twice: {', '.join(names)}")
    for row in table.rows:
        where = f"table {table.name}, row {row.name}"
        if unknown := set(row.paper) - set(table.columns):
            raise UserError(f"{where}: the table has no column {', '.join(sorted(unknown))}")
        try:
            resolved = resolve(flags_of(table, row))
        except UserError as error:
            raise UserError(f"{where}: {error}") from None
        if row.base is None:
            continue
        base = resolve(flags_of(table, find_row(table, row.base)))
        differing = {name for name in resolved if name != "run_dir" and resolved[name] != base[name]}
        if differing != set(row.flags):
            raise UserError(
                f"{where}: says it varies {', '.join(sorted(row.flags))} of {row.base}, "
                f"but differs from it in {', '.join(sorted(differing)) or 'nothing'}"
            )


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
    def result(self):
        return RESULTS / self.table.name / self.row.name / f"{self.name}.json"

    @property
    def flags(self):
        """The row's flags with the seed, and with --limit cutting each trained task to the fraction."""
        flags = {**flags_of(self.table, self.row), "seed": self.seed}
        if self.fraction < 1:
            resolved = resolve(flags)
            limits = {task: _part(resolved["limit"].get(task, 1.0), self.fraction) for task in resolved["tasks"]}
            flags["limit"] = ",".join(f"{task}={limit}" for task, limit in limits.items())
        return flags


def _part(limit, fraction):
    """A fraction of a --limit, which is a number of rows (int) or a share of them (float)."""
    return max(1, round(limit * fraction)) if isinstance(limit, int) else f"{limit * fraction:.9f}".rstrip("0")


# ------------------------------------------------------------------------------------------------- running a table


@dataclass(frozen=True)
class Setting:
    """What the rows of a sweep share: the default model, where the data is, and flags of this machine."""

    model: str | None
    folders: dict  # "data_dir" and "glue_dir" -> folder
    machine: dict  # flags: use_gpu
    keep_weights: bool = False

    def flags(self, job):
        """The whole command of a job (all but --run_dir)."""
        return {"model": self.model, **job.flags, **self.folders, **self.machine}


def run(table, rows, seeds, fraction, setting):
    """Run what is missing of rows x seeds; returns the number of jobs that did not end well."""
    # Every row once before any row twice: the first figures say most.
    jobs = [Job(table, row, FIRST_SEED + i, fraction) for i in range(seeds) for row in rows]
    failed, started, ran = 0, time.monotonic(), 0
    for number, job in enumerate(jobs, 1):
        print(f"[{number}/{len(jobs)}] {job.row.name}, {job.name}: ", end="", flush=True)
        try:
            did = run_job(job, setting)
            ran += did
            print(f"{'done' if did else 'there already'}: {summary(job)}")
        except (UserError, Busy, OSError) as error:
            failed += 1
            print(f"FAILED: {error}")
    minutes = (time.monotonic() - started) / 60
    print(f"{ran} of {len(jobs)} run in {minutes:.1f} minutes, {failed} failed; python experiments.py show {table.name}")
    return failed


def run_job(job, setting):
    """Bring one job's result up to date; returns whether that took a run. Raises UserError or Busy."""
    with locked(log_path(job)) as log:
        wanted = setting.flags(job)
        saved = load(job.result)
        if saved is not None:
            reason = why_stale(saved, wanted)
            if reason is None:
                return False
            print(f"again, since {reason}; ", end="", flush=True)
        if saved is not None or not _can_continue(job.folder, wanted):
            shutil.rmtree(job.folder, ignore_errors=True)
        print("running ... ", end="", flush=True)
        arguments = [*command(wanted), "--run_dir", str(job.folder), "--resume"]
        code = launch([sys.executable, "-u", str(HERE / "multitask_classifier.py"), *arguments], log)
        if code:
            raise UserError(f"{_last_words(log_path(job))} (exit code {code}; log: {log_path(job)})")
        write_result(job, setting)
    if not setting.keep_weights:
        for path in [path for pattern in WEIGHTS for path in job.folder.glob(pattern)]:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    return True


def log_path(job):
    return job.folder.with_name(f"{job.folder.name}.log")


@contextlib.contextmanager
def locked(path):
    """An open log that one process and its child may hold at a time. The lock ends with the last of the two, so a
    sweep that was killed leaves no stale lock, and its orphaned run no second one beside it."""
    import fcntl  # POSIX only, and only `run` needs it

    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "ab") as log:
        try:
            fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Busy(f"another process is running it (log: {path})") from None
        yield log


def launch(arguments, log):
    """Run a command with its output in `log`; returns its exit code. When we are stopped, it may save its state."""
    child = subprocess.Popen(
        arguments, cwd=HERE, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
    )
    try:
        return child.wait()
    except KeyboardInterrupt:
        child.terminate()
        child.wait()
        raise


def _last_words(log):
    """The last thing a failed run said, its error line if there is one."""
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines[-20:] if line.startswith("error:")]
    return (errors or lines or ["it said nothing"])[-1]


def _can_continue(folder, wanted):
    """Whether the folder holds a run of these very flags and this model."""
    config = load(folder / "config.json")
    return config is not None and why_stale({**config, "data": {}}, wanted) is None


# -------------------------------------------------------------------------------------------------------- results


def load(path):
    """A JSON file, or None where there is none. Raises UserError where it is not one."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise UserError(f"{path}: not JSON ({error}); delete it, and its row runs again") from None


def write_result(job, setting):
    """The JSON file of a finished run."""
    config, scores = load(job.folder / "config.json"), load(job.folder / "scores.json")
    history = (job.folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    for split in (split for splits in config["data"].values() for split in splits.values()):
        path = split["file"]
        split["sha256"] = file_hash(path)
        # A path inside a data folder is written from there: the same files elsewhere are the same data.
        for name, folder in sorted(setting.folders.items(), key=lambda item: -len(item[1])):
            if Path(path).is_relative_to(folder):
                split["file"] = f"{{{name}}}/{Path(path).relative_to(folder).as_posix()}"
                break
    model = config["model"]
    if Path(model["name"]).is_dir():
        model = {**model, "name": Path(model["name"]).name, "source": "a folder"}
    result = {
        "table": job.table.name,
        "row": job.row.name,
        "seed": job.seed,
        "fraction": job.fraction,
        "flags": {name: value for name, value in config["flags"].items() if name not in ("run_dir", *setting.folders)},
        "model": model,
        "data": config["data"],
        "data_folder": _folder_name(setting, config["data"]),
        "versions": config["versions"],
        "machine": config["machine"],
        "finished": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        "scores": scores,
        "history": [json.loads(line) for line in history],
    }
    job.result.parent.mkdir(parents=True, exist_ok=True)
    write_json(job.result, result)


def _folder_name(setting, data):
    """What a reader calls the data: "cs224n", "sample", "glue", without the path of this machine."""
    used = {split["file"].split("}")[0].strip("{") for splits in data.values() for split in splits.values()}
    folders = [Path(setting.folders[name]) for name in setting.folders if name in used]
    inside = HERE / "data"
    return " + ".join(str(f.relative_to(inside)) if f.is_relative_to(inside) else f.name for f in folders)


def why_stale(saved, wanted):
    """Why a saved result or config is not what `wanted` flags would compute now, or None if it is."""
    if reason := changed_flags(saved, wanted):
        return reason
    name, digest = checkpoint(wanted.get("model"))
    if saved["model"]["sha256"] != digest:
        return f"the model was {saved['model']['name']}, now {name}"
    for split in (split for splits in saved["data"].values() for split in splits.values()):
        path = split["file"]
        for folder in ("data_dir", "glue_dir"):
            path = path.replace(f"{{{folder}}}", str(wanted[folder]))
        if file_hash(path) != split["sha256"]:
            return f"{path} is not the file it was"
    return None


def changed_flags(saved, wanted):
    """Which flags of a result are not those wanted now, in words; None if all are. A flag that did not exist then had
    what is its default now."""
    now = json.loads(json.dumps(resolve(wanted)))
    then = {**json.loads(json.dumps(resolve({}))), **saved["flags"]}
    changed = [name for name in now if name not in NOT_COMPARED and now[name] != then[name]]
    return ", ".join(f"{name} was {then[name]}, now {now[name]}" for name in changed) or None


@functools.cache
def checkpoint(name):
    """(name, sha256 of the weights) of a model by name; of the default one where there is no name."""
    import hub

    found = hub.resolve(name)
    weights = [found.folder / file for file in hub.WEIGHTS if (found.folder / file).is_file()]
    if not weights:
        raise UserError(f"model {found.name}: {found.folder} holds neither {' nor '.join(hub.WEIGHTS)}")
    return found.name, sha256(weights[0])


@functools.cache
def file_hash(path):
    """sha256 of a file, or None where there is none."""
    return sha256(path) if Path(path).is_file() else None


def value_at(scores, path):
    """The number at "dev.sst.accuracy" in nested dicts and lists, or None where there is none."""
    for key in path.split("."):
        if isinstance(scores, list):
            scores = scores[int(key)] if int(key) < len(scores) else None
        elif isinstance(scores, dict):
            scores = scores.get(key)
    return scores


def mean_and_deviation(values):
    """(mean, sample standard deviation); the deviation of one value is None, and so is the mean of none."""
    if not values:
        return None, None
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None


def summary(job):
    """One job's figures in a line."""
    scores = load(job.result)["scores"]
    figures = {heading: value_at(scores, path) for heading, path in job.table.columns.items()}
    return ", ".join(f"{heading} {value:.3f}" for heading, value in figures.items() if value is not None)


# -------------------------------------------------------------------------------------------------- the command line


def build_parser():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], prog="experiments.py")
    commands = parser.add_subparsers(dest="command", required=True, metavar="{list,run,show}")
    commands.add_parser("list", help="the tables, their rows, and how many results each has")
    add = (sub := commands.add_parser("run", help="run what is missing of a table")).add_argument
    sub.epilog = "The output of each run goes to runs/experiments/TABLE/ROW/seed-N.log."
    add("table", metavar="TABLE")
    add("--seeds", type=int, default=1, metavar="N", help=f"seeds {FIRST_SEED}, {FIRST_SEED + 1}, ... (default: 1)")
    add("--fraction", type=float, default=1.0, metavar="F", help="train on this fixed share of every training set")
    add("--only", nargs="+", metavar="ROW", help="only these rows")
    add("--model", metavar="NAME", help="for rows that name none; as in multitask_classifier.py")
    add("--data_dir", metavar="DIR", help="as in multitask_classifier.py")
    add("--glue_dir", metavar="DIR", help="as in multitask_classifier.py")
    add("--use_gpu", action="store_true", help="train on the CUDA device")
    add("--keep_weights", action="store_true", help="leave the weights in the run folders")
    add = commands.add_parser("show", help="a table in Markdown with the paper's figures, and its PNGs").add_argument
    add("table", metavar="TABLE")
    add("--out", metavar="DIR", help="where the PNGs go (default: results/TABLE)")
    return parser


def run_command(arguments):
    from datasets import data_folder

    table = find_table(arguments.table)
    check(table)
    if arguments.seeds < 1:
        raise UserError(f"--seeds {arguments.seeds}: expected 1 or more")
    if not 0 < arguments.fraction <= 1:
        raise UserError(f"--fraction {arguments.fraction}: expected a share above 0, up to 1")
    rows = [find_row(table, name) for name in arguments.only] if arguments.only else table.rows
    folders = {
        "data_dir": data_folder(arguments.data_dir)[0],
        "glue_dir": data_folder(arguments.glue_dir, "glue", "sample/glue")[0],
    }
    model = arguments.model
    if model and Path(model).is_dir():
        model = str(Path(model).resolve())
    setting = Setting(
        model=checkpoint(model)[0],
        folders={name: str(folder.resolve()) for name, folder in folders.items()},
        machine={"use_gpu": True} if arguments.use_gpu else {},
        keep_weights=arguments.keep_weights,
    )
    print(f"model {setting.model}, data {setting.folders['data_dir']}")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as Ctrl-C does: the run saves its state first
    return 1 if run(table, rows, arguments.seeds, arguments.fraction, setting) else 0


def list_command():
    for table in TABLES.values():
        check(table)
        print(f"{table.name}: {table.title}\n  {table.source}")
        for row in table.rows:
            results = len(list((RESULTS / table.name / row.name).glob("seed-*.json")))
            print(f"  {row.name:24}{results:2} results   {' '.join(command(flags_of(table, row)))}")
    return 0


def show_command(arguments):
    import report

    table = find_table(arguments.table)
    check(table)
    groups = report.collect(table)
    print(report.markdown(table, groups))
    for path in report.draw(table, groups, Path(arguments.out) if arguments.out else RESULTS / table.name):
        print(f"drawn: {path}")
    return 0


def main(argv=None):
    """Exit code: 0 all there, 1 a row failed, 2 a mistake of the user's, 130 stopped."""
    try:
        arguments = build_parser().parse_args(argv)
        if arguments.command == "list":
            return list_command()
        return run_command(arguments) if arguments.command == "run" else show_command(arguments)
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on from here")
        return 130
    except (UserError, OSError) as error:
        return complain(error)


if __name__ == "__main__":
    sys.exit(main())
