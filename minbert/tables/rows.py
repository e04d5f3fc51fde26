"""Tables of experiments as data: a row is a set of command-line flags and the figures a paper prints.

To add an experiment, add a `Row`; to repeat a table at another size, add `replace(TABLE, name=..., budget={...})`.
A row with a `base` starts from that sibling's flags and changes exactly the flags it lists (`catalogue.check` proves
it: flags that follow from one another, as --lr from --option, must be listed too). A row with an `init` starts from
that sibling's trained weights. The first tables are here, those of the training strategies in strategies.py.

Sources: Yan, "BERT Multitask Learning in a Semi-Supervised Learning Setup"; Qin and Tran, "BERT's Mean Teacher and
Multitask Fine-Tuning" (both CS224N reports).
"""

from dataclasses import dataclass, field

from minbert.files import UserError


@dataclass(frozen=True)
class Row:
    """One experiment.

    name    what the command line and the files call it
    title   what a reader calls it
    flags   flag of multitask_classifier.py -> its value as typed (True: a flag without value; None: take it away)
    base    the sibling row whose flags this one starts from
    init    the sibling row, listed above this one, whose best weights (same seed and fraction) this one starts from
    paper   column of the table -> the paper's figure
    note    what a reader should know besides
    """

    name: str
    title: str
    flags: dict
    base: str | None = None
    init: str | None = None
    paper: dict = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True)
class Table:
    """Rows to be read together.

    columns  heading -> where the figure is in a run's scores.json ("dev.sst.accuracy"; a list's items go by number), or
             in the last line of its metrics.jsonl ("last_epoch.kept.sst TSA kept")
    flags    what every row starts from
    budget   row -> flags that win over all of that row's: the same experiment at another size
    reference  whose figures stand beside ours
    note     what a reader should know besides
    """

    name: str
    title: str
    source: str
    columns: dict
    rows: tuple
    flags: dict = field(default_factory=dict)
    budget: dict = field(default_factory=dict)
    reference: str = "the paper"
    note: str = ""


def find_row(table, name):
    """The row of that name. Raises UserError where there is none."""
    for row in table.rows:
        if row.name == name:
            return row
    raise UserError(f"table {table.name} has no row {name}; its rows: {', '.join(row.name for row in table.rows)}")


def flags_of(table, row):
    """{flag: value} of a row: the table's, then those of the sibling it is based on, then its own, then its budget."""
    flags, lineage = dict(table.flags), [row]
    while lineage[0].base is not None:
        lineage.insert(0, find_row(table, lineage[0].base))
    for ancestor in lineage:
        flags |= ancestor.flags
    flags |= table.budget.get(row.name, {})
    return {name: value for name, value in flags.items() if value is not None}


def split_and_task(path):
    """What the figure at a column's path is measured on: ("dev", "sst") for "dev.sst.accuracy", and for the teacher's;
    ("dev", None) for an average over tasks, ("test", None) for one on the test sets."""
    first, *rest = path.removeprefix("teacher.").split(".")
    return (first, rest[0] if len(rest) > 1 else None) if rest else ("dev", None)


def alone(task):
    """The flags of a task trained alone: of the course's three with the untrained heads of the two others scored."""
    others = [other for other in ("sst", "quora", "sts") if other != task]
    return {"tasks": task, **({"also_score": ",".join(others)} if len(others) == 2 else {})}


MINBERT = Table(
    name="minbert",
    title="minBERT: single tasks, and three at once",
    source="single tasks Qin and Tran, section 4.1; three at once Yan, Table 1, whose average is our score",
    columns={
        "SST": "dev.sst.accuracy",
        "CFIMDB": "dev.cfimdb.accuracy",
        "Quora": "dev.quora.accuracy",
        "STS": "dev.sts.pearson",
        "score": "score",
    },
    flags={"epochs": 10, "batch_size": 8},
    rows=(
        Row(
            "sst-pretrain",
            "SST alone, last layer",
            # Quora and STS are scored beside SST, which trains neither: a part of their dev sets is enough.
            {**alone("sst"), "option": "pretrain", "lr": 1e-3, "dev_limit": "quora=500,sts=250"},
            paper={"SST": 0.392},
        ),
        Row(
            "sst-finetune",
            "SST alone, full model",
            {"option": "finetune", "lr": 1e-5},
            base="sst-pretrain",
            paper={"SST": 0.511},
        ),
        Row(
            "cfimdb-pretrain",
            "CFIMDB alone, last layer",
            {"tasks": "cfimdb", "option": "pretrain", "lr": 1e-3},
            paper={"CFIMDB": 0.788},
        ),
        Row(
            "cfimdb-finetune",
            "CFIMDB alone, full model",
            {"option": "finetune", "lr": 1e-5},
            base="cfimdb-pretrain",
            paper={"CFIMDB": 0.976},
        ),
        Row(
            "fused-simultaneous",
            "SST, Quora and STS at once, fused pairs",
            {"option": "finetune", "lr": 1e-5, "clip": 0.1, "weight_decay": 0.01, "limit": "quora=14057"},
            paper={"SST": 0.501, "Quora": 0.829, "STS": 0.852, "score": 0.752},
        ),
    ),
)

RECIPE = Table(
    name="recipe",
    title="A recipe that works well: three tasks at once",
    source="a plain training loop of the same recipe, one seed, all token types 0, another random part of Quora",
    reference="the plain loop",
    columns={
        "SST": "dev.sst.accuracy",
        "Quora": "dev.quora.accuracy",
        "STS": "dev.sts.pearson",
        "mean": "mean",
        "score": "score",
    },
    rows=(
        Row(
            "three-tasks",
            "SST, Quora and STS, fused pairs",
            {
                "option": "finetune",
                "limit": "quora=14057",
                "epochs": 3,
                "lr": 5e-5,
                "batch_size": 16,
                "lr_schedule": "linear",
                "warmup": 0.1,
                "clip": 1,
                "weight_decay": 0.01,
            },
            paper={"SST": 0.462, "Quora": 0.828, "STS": 0.843, "mean": 0.711, "score": 0.737},
        ),
    ),
)
