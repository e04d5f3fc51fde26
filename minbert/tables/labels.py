"""The pseudo-label experiments as rows of tables: the plain models and the eight schemes of one paper.

Karpov and Burtsev, "Data pseudo-labeling while adapting BERT for multitask approaches", Dialogue 2021: labels1 is its
Table 1, labels2 its Table 2, labels-a its Appendix A; labels-decode and labels-cfimdb go beyond it. The twin NAME-cpu
has the same rows on a few thousand examples. labels2 and labels-decode read other figures of labels1's runs, and the
attempts of labels-a are the learning rates that those tried: all are run once (standing.adopted).
"""

from dataclasses import replace

from minbert.tables.common import cpu_twin
from minbert.tables.rows import Row, Table

GRID = "2e-5,3e-5,4e-5,5e-5"  # attempts 1 to 4, section 6
RATES = GRID.split(",")
# Section 6 and, for the rest, UNSTATED. The plain models' rates are those of --lr where --plain_lr does not say others.
PROTOCOL = {
    "tasks": "rte,qqp,mnli,sst2",
    "option": "finetune",
    "epochs": 3,
    "batch_size": 32,
    "max_length": 128,
    "lr_schedule": "linear",
    "warmup": 0.1,
    "lr": GRID,
}
UNSTATED = (
    "The paper does not state its batch size, longest sequence, schedule or dropout: 32, 128 tokens, warm-up over a "
    "tenth of the updates and linear decay, 0.3 before the last layer here. RTE's dev set has 277 rows: one standard "
    "error of its accuracy is 3 points (0.03), so that one seed decides little."
)
FROM = "Karpov and Burtsev"

TITLES = {
    "plain": "Plain, a model for each task",
    "independent": "Independent labels",
    "soft_independent": "Soft independent labels",
    "augmented_independent": "Augmented independent labels",
    "soft_probability": "Soft probability assumption",
    "soft_predicted": "Soft predicted labels",
    "hard_predicted": "Hard predicted labels",
    "independent_frozen": "Independent labels frozen head",
    "soft_independent_frozen": "Soft independent labels frozen head",
}
FIVE_CLASSES = ("soft_probability", "soft_predicted", "hard_predicted")

ACCURACY = {
    "RTE": "dev.rte.accuracy",
    "QQP": "dev.qqp.accuracy",
    "MNLI": "dev.mnli.accuracy",
    "SST-2": "dev.sst2.accuracy",
}
AVERAGE = {"average": "selection_score"}

# ------------------------------------------------------------------------------- what the paper prints, in per cent
# fmt: off
TABLE_1 = {  # average, RTE, QQP, MNLI, SST
    "plain": (81.3, 64.6, 90.8, 77.3, 92.7),
    "independent": (82.8, 78.3, 90.6, 75.8, 92.0),
    "soft_independent": (82.2, 69.7, 89.5, 75.9, 92.6),
    "augmented_independent": (81.4, 68.1, 90.5, 75.6, 92.4),
    "soft_probability": (84.2, 78.2, 90.7, 76.2, 91.9),
    "soft_predicted": (83.2, 76.3, 90.5, 76.0, 92.2),
    "hard_predicted": (82.9, 77.4, 90.6, 75.3, 90.7),
    "independent_frozen": (82.5, 76.1, 90.5, 75.7, 91.4),
    "soft_independent_frozen": (82.6, 74.4, 90.4, 76.7, 91.2),
}
TABLE_2 = {  # average, RTE, QQP's F1, MNLI matched and mismatched, SST
    "plain": (77.6, 62.7, 71.0, 83.1, 82.7, 93.5),
    "independent": (79.0, 71.5, 70.9, 82.7, 81.7, 91.3),
    "soft_independent": (78.9, 69.3, 71.3, 82.8, 82.1, 92.6),
    "augmented_independent": (77.6, 64.2, 71.8, 81.2, 80.7, 93.2),
    "soft_probability": (79.7, 72.7, 70.7, 83.4, 82.3, 92.5),
    "soft_predicted": (78.8, 70.3, 70.7, 81.7, 81.7, 92.5),
    "hard_predicted": (79.1, 71.3, 71.1, 81.7, 81.4, 92.6),
    "independent_frozen": (78.2, 66.9, 71.8, 82.6, 81.8, 91.9),
    "soft_independent_frozen": (79.1, 70.0, 71.5, 83.0, 82.3, 92.4),
}
APPENDIX_A = {  # attempts 1 to 4 on RTE, on QQP, on MNLI, on SST
    "plain": ((64.6, 57.8, 63.2, 62.7), (90.8, 90.5, 87.1, 89.8), (76.7, 77.3, 76.4, 72.7), (92.7, 92.1, 91.7, 89.3)),
    "independent":
        ((66.8, 68.2, 66.4, 74.0), (87.9, 89.1, 87.5, 90.4), (73.8, 75.0, 72.6, 76.3), (91.6, 91.1, 90.7, 90.4)),
    "soft_independent":
        ((71.1, 69.3, 65.0, 66.8), (90.4, 89.8, 86.0, 89.1), (76.5, 75.8, 72.62, 74.5), (90.8, 91.4, 91.5, 89.5)),
    "augmented_independent":
        ((67.5, 67.1, 64.6, 65.3), (90.3, 89.6, 90.4, 90.3), (75.5, 75.1, 75.3, 75.0), (92.3, 91.5, 91.5, 91.7)),
    "soft_probability":
        ((76.9, 76.9, 71.8, 71.1), (90.5, 90.3, 90.0, 89.6), (77.0, 76.4, 75.4, 75.3), (92.3, 91.6, 90.5, 90.4)),
    "soft_predicted":
        ((72.6, 74.4, 70.8, 73.3), (90.0, 90.4, 90.1, 90.0), (75.9, 76.0, 76.0, 75.5), (92.1, 91.9, 91.2, 90.5)),
    "hard_predicted":
        ((73.3, 71.8, 72.9, 72.5), (90.1, 89.9, 89.3, 89.9), (75.9, 75.4, 75.0, 74.5), (92.4, 91.4, 90.5, 90.8)),
    "independent_frozen":
        ((70.0, 72.9, 70.8, 69.3), (90.1, 90.5, 90.5, 89.6), (76.1, 76.0, 76.3, 73.6), (89.9, 90.6, 90.8, 91.9)),
    "soft_independent_frozen":
        ((71.8, 66.4, 65.0, 67.9), (90.2, 90.5, 89.9, 89.1), (76.8, 76.2, 75.0, 73.5), (91.6, 90.9, 89.1, 90.5)),
}
# fmt: on


def as_shares(columns, percents):
    """{heading: figure} of figures printed in per cent."""
    return {name: round(percent / 100, 4) for name, percent in zip(columns, percents, strict=True)}


def scheme_rows(schemes, columns=(), printed=None):
    """A row for each of the schemes, with the paper's figures where it prints some."""
    return tuple(
        Row(
            scheme,
            TITLES[scheme],
            {"label_scheme": scheme},
            paper=as_shares(columns, printed[scheme]) if printed else {},
        )
        for scheme in schemes
    )


# ----------------------------------------------------------------------------------------------------- the tables

TABLE_1_COLUMNS = {**AVERAGE, **ACCURACY}
LABELS_1 = Table(
    name="labels1",
    title="Four tasks in one model, by pseudo-labels",
    source=f"{FROM}, Table 1",
    columns=TABLE_1_COLUMNS,
    flags=PROTOCOL,
    rows=scheme_rows(TITLES, TABLE_1_COLUMNS, TABLE_1),
    note="A scheme's rate is the one with the best average. The paper's average is that of the best attempt in its "
    f"Appendix A, its other columns are averages of three runs, so it is not their mean. {UNSTATED}",
)

TABLE_2_COLUMNS = {
    "average": "glue",
    "RTE": "dev.rte.accuracy",
    "QQP F1": "dev.qqp.f1.1",
    "MNLI-m": "dev.mnli.accuracy",
    "MNLI-mm": "dev_mismatched.mnli.accuracy",
    "SST-2": "dev.sst2.accuracy",
}
LABELS_2 = Table(
    name="labels2",
    title="GLUE's own figures: ours on dev, the paper's on test",
    source=f"{FROM}, Table 2",
    columns=TABLE_2_COLUMNS,
    flags=PROTOCOL,
    rows=scheme_rows(TITLES, TABLE_2_COLUMNS, TABLE_2),
    note="The test labels are not public: our figures are of the dev sets, the paper's of the test sets, so the two "
    "do not compare. Average = (RTE + QQP's F1 + the mean of both MNLI + SST-2) / 4. On test the article that "
    "introduced BERT has 0.788: RTE 0.664, QQP 0.712, MNLI 0.846 and 0.834, SST-2 0.935; the paper's plain row is its "
    f"reproduction. {UNSTATED}",
)


def attempts(scheme):
    """The rows of one scheme in Appendix A: a learning rate each. Its teachers are at the best of all rates."""
    for attempt, rate in enumerate(RATES):
        flags = {"label_scheme": scheme, "lr": rate} | ({} if scheme == "plain" else {"plain_lr": GRID})
        accuracies = [task[attempt] for task in APPENDIX_A[scheme]]
        yield Row(f"{scheme}-{rate}", f"{TITLES[scheme]}, {rate}", flags, paper=as_shares(ACCURACY, accuracies))


LABELS_A = Table(
    name="labels-a",
    title="Every learning rate by itself",
    source=f"{FROM}, Appendix A",
    columns=TABLE_1_COLUMNS,
    flags=PROTOCOL,
    rows=tuple(row for scheme in TITLES for row in attempts(scheme)),
    note=f"Attempts 1 to 4 of the paper, one run each: one seed here too. {UNSTATED}",
)

LABELS_DECODE = Table(
    name="labels-decode",
    title="Five classes: two ways to read RTE and QQP",
    source=f"beyond {FROM}, who do not say how they read them",
    columns={
        "RTE, e > c + n": "dev.rte.accuracy",
        "RTE, argmax": "dev_argmax.rte.accuracy",
        "QQP, e > c + n": "dev.qqp.accuracy",
        "QQP, argmax": "dev_argmax.qqp.accuracy",
    },
    flags=PROTOCOL,
    rows=scheme_rows(FIVE_CLASSES),
    note="Entailment, or duplicate, where e outweighs c and n together (as in the other tables), or where it is the "
    f"highest of the three. {UNSTATED}",
)

LABELS_CFIMDB = Table(
    name="labels-cfimdb",
    title="A fifth task, CFIMDB, that shares + and - with SST-2",
    source=f"beyond {FROM}",
    columns={"CFIMDB": "dev.cfimdb.accuracy", "average of five": "selection_score", **ACCURACY},
    flags={**PROTOCOL, "tasks": "rte,qqp,mnli,sst2,cfimdb"},
    rows=(
        *scheme_rows(("plain",)),
        replace(*scheme_rows(("independent",)), note="nine classes: + and - are SST-2's and CFIMDB's alike"),
        replace(*scheme_rows(("soft_predicted",)), note="five classes; the plain SST-2 model says + or - of a pair"),
    ),
    note=f"Reviews are cut to 128 tokens in every row, CFIMDB's plain model included. {UNSTATED}",
)

# ------------------------------------------------------------------------------------------------- at a CPU's size

SMALL = {"epochs": 2, "lr": 5e-5, "limit": "mnli=4000,qqp=4000,sst2=4000", "dev_limit": "qqp=2000"}


def few_of_each(table, rows=None, note=""):
    """The table's twin NAME-cpu on few examples: its rows, or `rows`. A row that names its own rate keeps it."""
    rows = table.rows if rows is None else rows
    small = f"Training rows: all of RTE, 4,000 each of QQP, MNLI and SST-2{note}; of QQP's dev set 2,000 rows. "
    small += "2 epochs, all models at 5e-5 where no other rate is named. The paper's figures are BERT-base's on all."
    budget = {row.name: SMALL | ({"lr": row.flags["lr"]} if "lr" in row.flags else {}) for row in rows}
    return cpu_twin(replace(table, rows=rows), budget, f"{small} {table.note}")


INDEPENDENT_GRID = Row(
    "grid", "Independent labels, the best of four rates", {"label_scheme": "independent", "lr": GRID}
)
# At this size independent labels stay at chance with the pooler over [CLS], and learn with mean pooling, which MiniLM
# was trained for. These rows compare schemes where they learn.
MEAN_POOLING = tuple(
    Row(f"{scheme}-mean", f"{TITLES[scheme]}, mean pooling", {"label_scheme": scheme, "pooling": "mean"})
    for scheme in ("plain", "independent", "augmented_independent", "soft_probability")
)

LABEL_TABLES = (
    *(LABELS_1, LABELS_2, LABELS_A, LABELS_DECODE, LABELS_CFIMDB),
    few_of_each(LABELS_1, rows=(*LABELS_1.rows, *MEAN_POOLING, INDEPENDENT_GRID)),
    few_of_each(LABELS_2),
    few_of_each(LABELS_A, rows=tuple(attempts("independent"))),
    few_of_each(LABELS_DECODE),
    few_of_each(LABELS_CFIMDB, note=", all 1,707 of CFIMDB"),
)
