"""Tables of experiments: run what is missing, show what is there, tell what differs.

    python experiments.py list
    python experiments.py run minbert --seeds 3 --jobs 2
    python experiments.py show minbert
    python experiments.py report minbert
    python experiments.py compare yan1-cpu fused concat

A table's rows are data (minbert/tables/: rows.py, strategies.py, labels.py, semi.py). Row x seed is one call of
multitask_classifier.py with a run folder of its own under runs/experiments/ (sweep.py); what it came to is one line of
runs/results/TABLE.jsonl (store.py). The project's own results are in results/; report.py shows both.
"""

from minbert.script import begin, carry_out, stop_signals

if __name__ == "__main__":
    begin()

import signal
import sys
from collections import Counter
from pathlib import Path

from minbert.files import UserError
from minbert.flags import types
from minbert.flags.fields import Parser
from minbert.hub import pretraining_scores
from minbert.tables import comparison, places, report, store
from minbert.tables.catalogue import TABLES, find_table
from minbert.tables.jobs import Job, command
from minbert.tables.processes import Processes
from minbert.tables.record import checkpoint
from minbert.tables.rows import find_row, flags_of, split_and_task
from minbert.tables.sweep import Sweep, shard
from minbert.tables.table_page import write_tables

FIRST_SEED = 11711  # the course's


def build_parser():
    parser = Parser(prog="experiments.py", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True, metavar="{list,run,show,report,compare}")
    sub = commands.add_parser("list", help="the tables, or the rows of one")
    sub.add_argument("table", metavar="TABLE", nargs="?", help="its rows: their flags, and how many results they have")
    # No abbreviations: --seed 3 would be three seeds
    add_run(commands.add_parser("run", help="run what is missing of a table", allow_abbrev=False))

    sub = commands.add_parser("show", help="print a table in Markdown, ours beside the paper's, and draw its PNGs")
    sub.add_argument("table", metavar="TABLE")
    sub.add_argument("--out", type=Path, metavar="DIR", help="where the PNGs go (default: runs/pictures/TABLE)")

    sub = commands.add_parser("report", help="tables as a page for the browser, with filters (needs jinja2)")
    sub.add_argument("tables", metavar="TABLE", nargs="*", help="default: all")
    sub.add_argument("--out", type=Path, metavar="FILE", help="default: runs/report.html")

    sub = commands.add_parser(
        "compare",
        help="two rows over the seeds that both have",
        description="Means and sample standard deviations of two rows over the seeds that both have, their difference "
        "seed by seed with its 95 % interval, and the smallest difference that would probably have been seen. Fewer "
        "than 3 seeds (5 where the seed draws the labels): no claim.",
    )
    sub.add_argument("table", metavar="TABLE")
    sub.add_argument("rows", metavar="ROW", nargs=2)
    sub.add_argument("--column", metavar="HEADING", nargs="+", help="only these columns of the table")
    return parser


def add_run(sub):
    """The flags of `run`."""
    sub.add_argument("table", metavar="TABLE")
    sub.add_argument(
        "--seeds", type=types.positive(int), default=1, metavar="N", help="seeds 11711, 11712, ... (default: 1)"
    )
    sub.add_argument(
        "--fraction", type=types.factor, default=1.0, metavar="F", help="train on this share of every task"
    )
    sub.add_argument("--only", nargs="+", metavar="ROW", help="only these rows")
    sub.add_argument("--model", metavar="NAME", help="for rows that name none; as in multitask_classifier.py")
    sub.add_argument("--data_dir", metavar="DIR", help="as in multitask_classifier.py")
    sub.add_argument("--glue_dir", metavar="DIR", help="as in multitask_classifier.py")
    sub.add_argument("--imdb_dir", metavar="DIR", help="as in multitask_classifier.py")
    sub.add_argument("--unlabelled_dir", metavar="DIR", help="text without labels (default: data/unlabelled)")
    sub.add_argument("--masked_lm", metavar="DIR", help="RUN/bert of pretraining.py, for rows that start from one")
    sub.add_argument("--use_gpu", action="store_true", help="train on the CUDA device")
    sub.add_argument(
        "--jobs",
        type=types.positive(int),
        default=1,
        metavar="N",
        help="N runs at a time, each with its share of the threads; rows that start from another's weights follow it "
        "(default: 1)",
    )
    sub.add_argument(
        "--shard",
        type=types.shard,
        metavar="I/N",
        help="only the I-th of N shares of the rows, for the jobs of a cluster's array; all give the same flags",
    )
    sub.add_argument(
        "--minutes",
        type=types.positive(float),
        metavar="M",
        help="end within M minutes: runs save their state shortly before, and the same command goes on from there",
    )
    sub.add_argument("--keep_weights", action="store_true", help="leave the weights in the run folders")
    sub.add_argument(
        "--publish",
        action="store_true",
        help="put the results among the project's own, results/TABLE.jsonl (otherwise they are yours: "
        "runs/results/TABLE.jsonl, which git ignores and which counts where both have the same)",
    )


def list_command(arguments):
    if arguments.table:
        return list_rows(find_table(arguments.table))
    width = max(map(len, TABLES))
    for table in map(find_table, TABLES):
        print(f"{table.name:{width}}  {len(table.rows):2} rows  {len(store.load(table)):3} results  {table.title}")
    print("python experiments.py list TABLE has the rows of one, show TABLE its figures")


def list_rows(table):
    print(f"{table.name}: {table.title} [{table.source}]")
    counts = Counter(result["row"] for result in store.load(table))
    for row in table.rows:
        start = f"  from the weights of {row.init}" if row.init else ""
        flags = " ".join(command(flags_of(table, row)))
        print(f"  {row.name:20} {counts[row.name]} results  {flags}{start}")


def run_command(arguments):
    table = find_table(arguments.table)
    rows = [find_row(table, name) for name in arguments.only] if arguments.only else table.rows
    # Every row once before any row twice: the first figures say most.
    jobs = [Job(table, row, FIRST_SEED + i, arguments.fraction) for i in range(arguments.seeds) for row in rows]
    store.load_all()  # a damaged line is to be found now, not when a run is done
    if arguments.shard:
        jobs = shard(jobs, *arguments.shard)
        print(f"shard {arguments.shard[0]} of {arguments.shard[1]}: {len(jobs)} of the rows")
    processes = Processes(arguments.jobs, arguments.minutes)
    sweep = Sweep(extra_flags(arguments, table), arguments.keep_weights, arguments.publish, processes)
    folder = places.RESULTS if arguments.publish else places.user_results()
    print(f"model {sweep.extra['model']}, data {sweep.extra['data_dir']}, results into {folder / table.name}.jsonl")
    for number in stop_signals():  # all as Ctrl-C: the run in progress saves its state
        signal.signal(number, signal.default_int_handler)
    return 1 if sweep.run_all(jobs) else 0


def extra_flags(arguments, table):
    """{flag: value} that holds for every row which does not say otherwise: model, folders, machine."""
    from datasets import data_folder

    if arguments.masked_lm and pretraining_scores(arguments.masked_lm) is None:
        raise UserError(f"--masked_lm {arguments.masked_lm}: expected RUN/bert of a finished run of pretraining.py")
    model = arguments.model
    if model and Path(model).is_dir():
        model = str(Path(model).resolve())
    tested = any(split_and_task(path)[0] == "test" for path in table.columns.values())
    return {
        "model": checkpoint(model)[0],
        "data_dir": str(data_folder(arguments.data_dir)[0].resolve()),
        "glue_dir": str(data_folder(arguments.glue_dir, "glue", "sample/glue")[0].resolve()),
        **text_folders(arguments),
        **({"masked_lm": str(Path(arguments.masked_lm).resolve())} if arguments.masked_lm else {}),
        **({"use_gpu": True} if arguments.use_gpu else {}),
        **({} if tested else {"skip_test": True}),
    }


def text_folders(arguments):
    """{flag: folder} of IMDB's files and of text without labels, as far as they are here: few rows need them."""
    from datasets import data_folder

    given = {"imdb": arguments.imdb_dir, "unlabelled": arguments.unlabelled_dir}
    return {
        f"{name}_dir": str(data_folder(folder, name, None)[0].resolve())
        for name, folder in given.items()
        if folder is not None or (places.HERE / "data" / name).is_dir()
    }


def show_command(arguments):
    from minbert.tables import pictures  # matplotlib takes a second

    table = find_table(arguments.table)
    lines = report.collect(table)
    print(report.markdown(table, lines))
    for path in pictures.draw(table, lines, arguments.out or places.pictures(table)):
        print(f"drawn: {path}")


def report_command(arguments):
    print(write_tables([find_table(name) for name in arguments.tables or TABLES], arguments.out))


def compare_command(arguments):
    print(comparison.compare(find_table(arguments.table), *arguments.rows, arguments.column))


def main(argv=None):
    """Exit code: 0 all well, 1 a job failed, and those of carry_out."""
    return carry_out(work, argv, interrupted="\nstopped; the same command goes on from here")


def work(argv):
    arguments = build_parser().parse_args(argv)
    commands = {
        "list": list_command,
        "run": run_command,
        "show": show_command,
        "report": report_command,
        "compare": compare_command,
    }
    return commands[arguments.command](arguments)


if __name__ == "__main__":
    sys.exit(main())
