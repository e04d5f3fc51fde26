"""Tables of experiments: run what is missing, show what is there, tell what differs.

    python experiments.py list
    python experiments.py run minbert --seeds 3
    python experiments.py show minbert
    python experiments.py compare yan1-cpu fused concat

A table's rows are data (tables.py, strategy_tables.py, label_tables.py, semi_tables.py). Row x seed is one call of
multitask_classifier.py with a run folder of its own under runs/experiments/; what it came to is one small JSON file
under results/ (jobs.py), and report.py shows those. A sweep that was killed goes on where it was when the same command
is given again. Plain models that label schemes learn from stay in runs/experiments/plain/.
"""

import argparse
import contextlib
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from minbert.files import UserError, complain
from minbert.hub import pretraining_scores
from minbert.tables.jobs import (
    HERE,
    Job,
    adopt,
    can_continue,
    check,
    checkpoint,
    command,
    figure,
    load,
    placed,
    results_folder,
    why_stale,
    write_result,
)
from minbert.tables.labels import LABEL_TABLES
from minbert.tables.rows import MINBERT, RECIPE, find_row, flags_of
from minbert.tables.semi import SEMI_TABLES
from minbert.tables.strategies import STRATEGY_TABLES

TABLES = {table.name: table for table in (MINBERT, RECIPE, *STRATEGY_TABLES, *LABEL_TABLES, *SEMI_TABLES)}
FIRST_SEED = 11711  # the course's
WEIGHTS = ("state.pt", "*.safetensors", "bert")  # of a run folder: deleted once the result is saved


class Busy(Exception):
    """Another process is running this job."""


def run_all(jobs, extra, keep_weights=False):
    """Run what is missing of the jobs; returns how many did not end well.

    extra: {flag: value} besides the rows' own (which win): model, folders, use_gpu.
    """
    started, ran, failed = time.monotonic(), 0, 0
    for number, job in enumerate(jobs, 1):
        print(f"[{number}/{len(jobs)}] {job.row.name}, {job.name}: ", end="", flush=True)
        try:
            did = run(job, extra, keep_weights)
            print(f"{'done' if did else 'is there'}: {figures(job)}", flush=True)
            ran += did
        except (UserError, Busy, OSError) as error:
            print(f"FAILED: {error}", flush=True)
            failed += 1
    minutes = (time.monotonic() - started) / 60
    print(f"{ran} run in {minutes:.1f} minutes, {len(jobs) - ran - failed} were there, {failed} failed")
    return failed


def run(job, extra, keep_weights=False, for_weights=False):
    """Bring the job's result up to date; returns whether that took a run. Raises UserError if it fails, or Busy.

    A result that another table has already is taken from there. for_weights: a row is about to start from this one's
    weights, so a result without them does not do.
    """
    with locked(job.log) as log:
        saved = load(job.result)
        reason = saved and why_stale(job, saved, extra)
        if saved and not reason:
            if not for_weights or has_weights(job, extra):
                return False
            reason = "its weights are gone"
        ran_as = None if for_weights else adopt(job, extra)
        if ran_as:
            print(f"the same as {ran_as}, which ", end="")
        else:
            train(job, extra, log, reason)
    if not keep_weights:
        for finished in filter(None, (job, job.start)):
            drop_weights(finished, extra)
    return not ran_as


def train(job, extra, log, reason):
    """Run the job, and before it the one it starts from, if that is not there; then write its result. `reason`: why
    the result that is there does not do; None if there is none."""
    flags, start = {**extra, **job.flags}, {}
    if reason:
        print(f"again ({reason}) ", end="")
    if job.start:
        print(f"from {job.start.row.name} ", end="")
        run(job.start, extra, for_weights=True)
        start = {"init": job.start.folder, "model": None}  # that run brings its own model
    if reason or not can_continue(job, flags):
        shutil.rmtree(job.folder, ignore_errors=True)
    for follower in job.followers:  # what began with earlier weights is not to be continued
        shutil.rmtree(follower.folder, ignore_errors=True)
    print("... ", end="", flush=True)
    log.truncate(0)  # what an earlier try said is not this one's
    flags_here = {**placed(flags), **start, "run_dir": job.folder, "resume": True}  # --resume: continue, or begin
    code = launch([sys.executable, "-u", str(HERE / "multitask_classifier.py"), *command(flags_here)], log)
    if code:
        raise UserError(f"{last_words(job.log)} (exit code {code}; its output: {job.log})")
    write_result(job, flags)


def has_weights(job, extra):
    """Whether the job's folder holds the finished run of its result, with the weights to start from."""
    finished = (job.folder / "scores.json").is_file() and (job.folder / "model.safetensors").is_file()
    return finished and can_continue(job, {**extra, **job.flags})


def drop_weights(job, extra):
    """Delete a finished run's weights, unless a row that starts from them lacks a result."""
    for follower in job.followers:
        saved = load(follower.result)
        if saved is None or why_stale(follower, saved, extra):
            return
    folders = (job.folder, *job.folder.glob("lr-*"))  # and those of the learning rates it tried
    for path in [path for folder in folders for pattern in WEIGHTS for path in folder.glob(pattern)]:
        shutil.rmtree(path) if path.is_dir() else path.unlink()


@contextlib.contextmanager
def locked(path):
    """An open log that one process and its child hold together. The lock ends with the last of the two: a sweep that
    was killed leaves none behind, and a run that outlives its sweep gets no second one beside it."""
    import fcntl  # not on Windows, where `list` and `show` still work

    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "ab") as log:
        try:
            fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Busy(f"another process is running it (its output: {path})") from None
        yield log


def launch(arguments, log):
    """Run a command with its output in `log`; returns its exit code. When we are stopped, it saves its state first."""
    child = subprocess.Popen(
        arguments, cwd=HERE, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
    )
    try:
        return child.wait()
    except KeyboardInterrupt:
        child.terminate()
        child.wait()
        raise


def last_words(log):
    """The last line of a failed run, its error line if there is one."""
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines[-20:] if line.startswith("error:")]
    return (errors or lines or ["it said nothing"])[-1]


def figures(job):
    """The job's figures in a line."""
    result = load(job.result)
    values = {heading: figure(result, path) for heading, path in job.table.columns.items()}
    return ", ".join(f"{heading} {value:.3f}" for heading, value in values.items() if value is not None)


# ----------------------------------------------------------------------------------------------- the command line


def build_parser():
    parser = argparse.ArgumentParser(prog="experiments.py", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True, metavar="{list,run,show,compare}")
    commands.add_parser("list", help="the tables and their rows")

    sub = commands.add_parser("run", help="run what is missing of a table")
    sub.add_argument("table", metavar="TABLE")
    sub.add_argument("--seeds", type=int, default=1, metavar="N", help="seeds 11711, 11712, ... (default: 1)")
    sub.add_argument("--fraction", type=float, default=1.0, metavar="F", help="train on this share of every task")
    sub.add_argument("--only", nargs="+", metavar="ROW", help="only these rows")
    sub.add_argument("--model", metavar="NAME", help="for rows that name none; as in multitask_classifier.py")
    sub.add_argument("--data_dir", metavar="DIR", help="as in multitask_classifier.py")
    sub.add_argument("--glue_dir", metavar="DIR", help="as in multitask_classifier.py")
    sub.add_argument("--imdb_dir", metavar="DIR", help="as in multitask_classifier.py")
    sub.add_argument("--unlabelled_dir", metavar="DIR", help="text without labels (default: data/unlabelled)")
    sub.add_argument("--masked_lm", metavar="DIR", help="RUN/bert of pretraining.py, for rows that start from one")
    sub.add_argument("--use_gpu", action="store_true", help="train on the CUDA device")
    sub.add_argument("--keep_weights", action="store_true", help="leave the weights in the run folders")

    sub = commands.add_parser("show", help="print a table in Markdown, ours beside the paper's, and draw its PNGs")
    sub.add_argument("table", metavar="TABLE")
    sub.add_argument("--out", type=Path, metavar="DIR", help="where the PNGs go (default: results/TABLE)")
    sub = commands.add_parser(
        "compare",
        help="two rows over the seeds that both have",
        description="Mean and sample standard deviation of two rows over the seeds that both have, and the difference "
        "of the means: beyond two deviations if larger than 2 sqrt(s1^2 + s2^2), s1 and s2 the deviations of the two "
        "rows. Fewer than 3 seeds: no claim.",
    )
    sub.add_argument("table", metavar="TABLE")
    sub.add_argument("rows", metavar="ROW", nargs=2)
    sub.add_argument("--column", metavar="HEADING", nargs="+", help="only these columns of the table")
    return parser


def find_table(name):
    """The table of that name, checked."""
    if name not in TABLES:
        raise UserError(f"no table {name}; there are {', '.join(TABLES)}")
    check(TABLES[name])
    return TABLES[name]


def list_command(arguments):
    for table in map(find_table, TABLES):
        print(f"{table.name}: {table.title} [{table.source}]")
        for row in table.rows:
            count = len(list((results_folder(table) / row.name).glob("seed-*.json")))
            start = f"  from the weights of {row.init}" if row.init else ""
            print(f"  {row.name:20} {count} results  {' '.join(command(flags_of(table, row)))}{start}")


def run_command(arguments):
    from datasets import data_folder

    table = find_table(arguments.table)
    if arguments.seeds < 1:
        raise UserError(f"--seeds {arguments.seeds}: expected 1 or more")
    if not 0 < arguments.fraction <= 1:
        raise UserError(f"--fraction {arguments.fraction}: expected a share above 0, up to 1")
    rows = [find_row(table, name) for name in arguments.only] if arguments.only else table.rows
    # Every row once before any row twice: the first figures say most.
    jobs = [Job(table, row, FIRST_SEED + i, arguments.fraction) for i in range(arguments.seeds) for row in rows]

    if arguments.masked_lm and pretraining_scores(arguments.masked_lm) is None:
        raise UserError(f"--masked_lm {arguments.masked_lm}: expected RUN/bert of a finished run of pretraining.py")
    model = arguments.model
    if model and Path(model).is_dir():
        model = str(Path(model).resolve())
    extra = {
        "model": checkpoint(model)[0],
        "data_dir": str(data_folder(arguments.data_dir)[0].resolve()),
        "glue_dir": str(data_folder(arguments.glue_dir, "glue", "sample/glue")[0].resolve()),
        **text_folders(arguments),
        **({"masked_lm": str(Path(arguments.masked_lm).resolve())} if arguments.masked_lm else {}),
        **({"use_gpu": True} if arguments.use_gpu else {}),
        **({} if any(path.startswith("test.") for path in table.columns.values()) else {"skip_test": True}),
    }
    print(f"model {extra['model']}, data {extra['data_dir']}")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: the run in progress saves its state
    return 1 if run_all(jobs, extra, arguments.keep_weights) else 0


def text_folders(arguments):
    """{flag: folder} of IMDB's files and of text without labels, as far as they are here: few rows need them."""
    from datasets import data_folder

    given = {"imdb": arguments.imdb_dir, "unlabelled": arguments.unlabelled_dir}
    return {
        f"{name}_dir": str(data_folder(folder, name, None)[0].resolve())
        for name, folder in given.items()
        if folder is not None or (HERE / "data" / name).is_dir()
    }


def show_command(arguments):
    from minbert.tables import report  # matplotlib takes a second

    table = find_table(arguments.table)
    lines = report.collect(table)
    print(report.markdown(table, lines))
    for path in report.draw(table, lines, arguments.out or results_folder(table)):
        print(f"drawn: {path}")


def compare_command(arguments):
    from minbert.tables import report

    print(report.compare(find_table(arguments.table), *arguments.rows, arguments.column))


def main(argv=None):
    """Exit code: 0 all well, 1 a job failed, 2 a mistake of the user's, 130 stopped."""
    arguments = build_parser().parse_args(argv)
    try:
        commands = {"list": list_command, "run": run_command, "show": show_command, "compare": compare_command}
        return commands[arguments.command](arguments) or 0
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on from here")
        return 130
    except (UserError, OSError) as error:
        return complain(error)


if __name__ == "__main__":
    sys.exit(main())
