"""What several tables share: where the figures of the course's tasks are, common flags, and a table's twin on a CPU."""

from dataclasses import replace

from minbert.tables.rows import flags_of

SST, QUORA, STS = "dev.sst.accuracy", "dev.quora.accuracy", "dev.sts.pearson"
DEV = {"SST": SST, "Quora": QUORA, "STS": STS}
TRAIN = {f"{task} train": path.replace("dev.", "train.") for task, path in DEV.items()}
TEST = {f"{task} test": path.replace("dev.", "test.") for task, path in DEV.items()}
HEADS = {"option": "pretrain", "lr": 1e-3}  # the trunk frozen
ALL = {"option": "finetune", "lr": 1e-5}
NO_TEST_LABELS = (
    "The sets' test labels are not public: each run writes its test predictions into its run folder, predictions/."
)


def figures(columns, *values):
    """{heading: figure} of a paper's row."""
    return dict(zip(columns, values, strict=True))


# ------------------------------------------------------------------------------------------------- at a CPU's size

THOUSANDS = {"sst": 4000, "quora": 4000, "sts": 4000, "cfimdb": 400}
UNEVEN = {"sst": 240, "quora": 4000, "sts": 170}  # the sets' own proportions


def cpu_twin(table, budget, note):
    """The table's twin NAME-cpu: its rows, cut to a budget. `note` in place of the table's own."""
    return replace(table, name=f"{table.name}-cpu", title=f"{table.title}, at a CPU's size", budget=budget, note=note)


def on_cpu(table, limits=THOUSANDS, rows=None, **flags):
    """The table's twin NAME-cpu: the same rows on few examples.

    limits  task -> training rows, where a row trains several tasks; a task alone has its THOUSANDS
    rows    row -> its own further budget, such as the epochs that make 500 updates (default: 1)
    flags   further budget of every row
    """
    budget, used = {}, {}
    for row in table.rows:
        full = flags_of(table, row)
        tasks = full.get("tasks", "sst,quora,sts").split(",")
        used |= {task: limits[task] for task in tasks}
        sizes = limits if len(tasks) > 1 else THOUSANDS
        budget[row.name] = {"limit": ",".join(f"{task}={sizes[task]}" for task in tasks), "epochs": 1}
        if "dev_limit" not in full and tasks != ["cfimdb"]:
            budget[row.name]["dev_limit"] = "quora=2000"
        if full["option"] == "finetune":
            budget[row.name]["lr"] = 5e-5
        budget[row.name] |= {**flags, **(rows or {}).get(row.name, {})}
    sizes = ", ".join(f"{task} {count:,}" for task, count in used.items())
    note = (
        f"Training rows: {sizes} (SST or STS alone: 4,000); of Quora's dev set 2,000 rows. Epochs for 500 updates or "
        "more, except where batch sizes are compared. The full model trains at 5e-5: at the papers' 1e-5 a small model "
        "hardly moves in 500 updates. The papers' figures are those of BERT-base on everything."
    )
    return cpu_twin(table, budget, f"{table.note} {note}".strip())
