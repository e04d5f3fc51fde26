"""Every supervised training strategy of the sources as rows of tables: pairs, heads, schedules, regularizers.

A table carries its paper's name and number (yan1 is Yan's Table 1). Its twin yan1-cpu has the same rows on a few
thousand examples, for a machine without a GPU. Where a paper does not state a setting, the row's or table's note says
what was chosen. Rows of two tables that come to the same flags are run once (jobs.adopt).

Sources (CS224N reports):
    Yan, "BERT Multitask Learning in a Semi-Supervised Learning Setup"
    Qin and Tran, "BERT's Mean Teacher and Multitask Fine-Tuning"
    Kalicki, "Multiple Strategies to Improve minBERT Multitask Learning"
"""

from dataclasses import replace

from minbert.tables.rows import Row, Table, flags_of

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
    return replace(
        table,
        name=f"{table.name}-cpu",
        title=f"{table.title}, at a CPU's size",
        budget=budget,
        note=f"{table.note} {note}".strip(),
    )


# ------------------------------------------------------------------------------------------------------------- Yan

YAN = {**ALL, "epochs": 10, "batch_size": 8, "clip": 0.1, "weight_decay": 0.01}
YAN_COLUMNS = {**DEV, "score": "score"}
LAST_LAYER = "the paper states 1e-5 for all models; the last layer alone learns at the course's 1e-3"


def yan(name, number, how, flags, baseline, concat, absdiff, cosine, dot_attention, fused):
    """Tables 1 and A1 have the same rows; of each its figures."""

    def row(name, title, flags, values, **more):
        return Row(name, title, flags, paper=figures(YAN_COLUMNS, *values), **more)

    return Table(
        name=name,
        title=f"Two sentences as one vector, three tasks trained {how}",
        source=f"Yan, {number}",
        columns=YAN_COLUMNS,
        flags={**YAN, "limit": "quora=14057", **flags},
        rows=(
            row("baseline", "Baseline (last layer only)", HEADS, baseline, base="concat", note=LAST_LAYER),
            row("concat", "Separate, concatenated", {"pairs": "concat"}, concat),
            row("absdiff", "Separate, absolute difference", {"pairs": "absdiff"}, absdiff, base="concat"),
            row("cosine", "Separate, cosine similarity", {"pairs": "cosine"}, cosine, base="concat"),
            row("dot_attention", "Separate, attention", {"pairs": "dot_attention"}, dot_attention, base="concat"),
            row("fused", "Fused", {"pairs": "fused"}, fused, base="concat"),
        ),
    )


YAN1 = yan(
    "yan1",
    "Table 1",
    "simultaneously",
    {},
    baseline=(0.309, 0.667, 0.209, 0.527),
    concat=(0.479, 0.738, 0.369, 0.634),
    absdiff=(0.510, 0.733, 0.532, 0.670),
    cosine=(0.482, 0.533, 0.436, 0.578),
    dot_attention=(0.514, 0.737, 0.486, 0.665),
    fused=(0.501, 0.829, 0.852, 0.752),
)
YAN_A1 = yan(
    "yan-a1",
    "Table A1",
    "sequentially",
    {"schedule": "sequential"},
    baseline=(0.309, 0.667, 0.209, 0.527),
    concat=(0.476, 0.732, 0.363, 0.630),
    absdiff=(0.509, 0.712, 0.530, 0.662),
    cosine=(0.486, 0.503, 0.495, 0.579),
    dot_attention=(0.473, 0.728, 0.420, 0.637),
    fused=(0.486, 0.823, 0.832, 0.742),
)
YAN_STS = Table(
    name="yan-sts",
    title="STS alone: a score or 26 classes",
    source="Yan, section 4.6",
    columns={"STS": STS},
    # SST and Quora are scored beside STS, which trains neither: a part of their dev sets is enough.
    flags={**YAN, "tasks": "sts", "dev_limit": "sst=250,quora=500"},
    rows=(
        Row("regression", "Regression", {}, paper={"STS": 0.868}),
        Row("classes", "26 classes", {"sts_head": "classification"}, base="regression", paper={"STS": 0.864}),
    ),
)

# ---------------------------------------------------------------------------------------------------- Qin and Tran

QIN = {**ALL, "epochs": 10, "batch_size": 8, "pairs": "concat", "eval_train": True}
EVEN = {"schedule": "balanced_round_robin", "step": "per_task", "sts_head": "linear"}
CONCAT = "The paper does not say how a pair becomes one vector: concatenated here."
QIN_COLUMNS = {**DEV, "mean": "mean"}
QIN1 = Table(
    name="qin1",
    title="Round robin over uneven and even sets",
    source="Qin and Tran, Table 1, supervised rows",
    columns=QIN_COLUMNS,
    flags=QIN,
    note=CONCAT,
    rows=(
        Row("sst", "Only SST", {"tasks": "sst"}, paper=figures(QIN_COLUMNS, 0.516, 0.463, 0.248, 0.409)),
        Row(
            "uneven",
            "Round robin, uneven sets",
            {"schedule": "round_robin", "batch_size": "sst=32,quora=64,sts=8", "sts_head": "linear"},
            paper=figures(QIN_COLUMNS, 0.305, 0.455, 0.019, 0.260),
            note="the paper's batch sizes are 8, 32 and 64 without saying of which set; here by the size of the set",
        ),
        Row(
            "even",
            "Round robin, even sets, one big step, STS as six classes",
            {**EVEN, "step": "summed", "sts_head": "ordinal6"},
            paper=figures(QIN_COLUMNS, 0.490, 0.748, 0.613, 0.617),
        ),
        Row(
            "specialised",
            "Round robin, even sets, three small steps, STS by squared error",
            {"step": "per_task", "sts_head": "linear"},
            base="even",
            paper=figures(QIN_COLUMNS, 0.493, 0.748, 0.654, 0.632),
            note="the paper does not state its batch size: 8 here",
        ),
    ),
)
QIN2 = Table(
    name="qin2",
    title="The best model's test scores",
    source="Qin and Tran, Table 2",
    columns={**DEV, **TEST, "mean test": "test.mean"},
    flags={**QIN, **EVEN},
    note=f"{NO_TEST_LABELS} {CONCAT}",
    rows=(
        Row(
            "specialised",
            "Even sets, three small steps",
            {},
            paper=figures([*TEST, "mean test"], 0.529, 0.744, 0.677, 0.650),
            note="the paper's best model has a mean teacher besides",
        ),
    ),
)
QIN_FIGURES = Table(
    name="qin-figures",
    title="Even sets: batch size, loss, step and decay",
    source="Qin and Tran, Figures 3, 4 and 6, section 4.3 and the appendix",
    columns={**QIN_COLUMNS, **TRAIN},
    flags={**QIN, **EVEN},
    note=f"Every row sees the same number of examples. Figure 6 is train beside dev. {CONCAT}",
    rows=(
        Row("base", "Batch 8, squared error, three steps", {}),
        Row("batch-32", "Batch 32 (Figure 3)", {"batch_size": 32}, base="base"),
        Row("batch-64", "Batch 64 (Figure 3)", {"batch_size": 64}, base="base"),
        Row("classes", "STS as six classes (Figure 4)", {"sts_head": "ordinal6"}, base="base"),
        Row("one-step", "One step", {"step": "summed"}, base="base"),
        Row("decay-0.01", "Decay 0.01", {"weight_decay": 0.01}, base="base"),
        Row("decay-0.1", "Decay 0.1", {"weight_decay": 0.1}, base="base", note='"gradient decay" read as weight decay'),
    ),
)

# --------------------------------------------------------------------------------------------------------- Kalicki

KALICKI = {"epochs": 10, "pairs": "concat", "sts_head": "linear", "eval_train": True}
SHUFFLED = {"shuffle": "once"}  # Algorithms 1 and 2 shuffle before the first epoch
EPOCHS = "The paper does not state its epochs: the course's 10 here."
FIRST = "the best of the paper starts from a masked-LM checkpoint of its own (Table 2), this row from the published one"


def two_phases(name, title, flags, heads_batch=32):
    """Heads first on a frozen trunk, then everything from there: section 5.3 as two rows, so two commands."""
    everything = ALL if heads_batch == 32 else {**ALL, "batch_size": 32}
    return (
        Row(f"{name}-heads", f"{title}: heads first", {**flags, **HEADS, "batch_size": heads_batch}),
        Row(name, title, everything, base=f"{name}-heads", init=f"{name}-heads"),
    )


def with_figures(rows, columns, *values):
    """The rows of `two_phases` with a paper's figures on the last."""
    return (*rows[:-1], replace(rows[-1], paper=figures(columns, *values)))


SST_ALONE = two_phases("sst", "Only SST", {**KALICKI, "tasks": "sst"}, heads_batch=64)
CFIMDB_ALONE = two_phases("cfimdb", "Only CFIMDB", {"epochs": 10, "tasks": "cfimdb"}, heads_batch=8)
IN_TURN = two_phases("in_turn", "In turn", {**KALICKI, **SHUFFLED, "schedule": "in_turn"})
MTDNN = two_phases("mtdnn", "MT-DNN with upsampling", {**KALICKI, **SHUFFLED, "schedule": "mtdnn_upsample"})

KALICKI0 = Table(
    name="kalicki0",
    title="Single tasks, heads first",
    source="Kalicki, Table 0",
    columns={"SST": SST, "CFIMDB": "dev.cfimdb.accuracy"},
    note=EPOCHS,
    rows=(
        *with_figures(SST_ALONE, ["SST"], 0.511),
        *with_figures(CFIMDB_ALONE, ["CFIMDB"], 0.963),
    ),
)
KALICKI1 = Table(
    name="kalicki1",
    title="One task after the other, or batch by batch",
    source="Kalicki, Table 1",
    columns={**DEV, **TRAIN},
    note=EPOCHS,
    rows=(
        *with_figures(SST_ALONE, DEV, 0.262, 0.375, 0.001),
        *with_figures(IN_TURN, [*DEV, *TRAIN], 0.478, 0.811, 0.403, 0.989, 0.933, 0.987),
        *with_figures(MTDNN, [*DEV, *TRAIN], 0.511, 0.522, 0.395, 0.993, 0.686, 0.986),
    ),
)
CLASS_F1 = {f"F1 of {label}": f"dev.sst.f1.{label}" for label in range(5)}
TABLES_2_AND_6 = {**DEV, **TRAIN, **CLASS_F1}
IN_DOMAIN = "the checkpoint of pretraining.py on the three tasks' training text; the paper's: 4 epochs, at 1e-3"
KALICKI2 = Table(
    name="kalicki2",
    title="With and without masked-LM on the tasks' text: train beside dev, and each sentiment's F1",
    source="Kalicki, Tables 2 and 6",
    columns=TABLES_2_AND_6,
    note=EPOCHS,
    rows=(
        *with_figures(
            IN_TURN, TABLES_2_AND_6,
            0.478, 0.811, 0.403, 0.962, 0.975, 0.943, 0.471, 0.513, 0.393, 0.528, 0.430,
        ),
        Row(
            "mlm-heads", "After masked-LM: heads first", {"model": "{masked_lm}"}, base="in_turn-heads", note=IN_DOMAIN
        ),
        Row(
            "mlm", "After masked-LM: in turn", ALL, base="mlm-heads", init="mlm-heads",
            paper=figures(
                TABLES_2_AND_6, 0.506, 0.806, 0.442, 0.984, 0.971, 0.957, 0.501, 0.551, 0.405, 0.553, 0.454
            ),
        ),
    ),
)  # fmt: skip
KALICKI3 = Table(
    name="kalicki3",
    title="STS from a linear layer, or as a cosine",
    source="Kalicki, Table 3",
    columns=DEV,
    note=f"{EPOCHS} The paper's rows start from its own masked-LM checkpoint, ours from the published one.",
    rows=(
        *with_figures(IN_TURN, DEV, 0.506, 0.806, 0.442),
        Row(
            "cosine",
            "In turn, STS as a cosine",
            {"sts_head": "cosine"},
            base="in_turn",
            init="in_turn-heads",
            paper=figures(DEV, 0.502, 0.807, 0.403),
            note="starts from the heads of the linear row; a cosine has none of its own",
        ),
    ),
)
KALICKI4 = Table(
    name="kalicki4",
    title="The best model's test scores",
    source="Kalicki, Table 4",
    columns={**DEV, **TEST},
    note=f"{NO_TEST_LABELS} {EPOCHS}",
    rows=with_figures((IN_TURN[0], replace(IN_TURN[1], note=FIRST)), TEST, 0.514, 0.811, 0.393),
)
QUORA_F1 = {"Quora F1": "dev.quora.f1.1"}
KALICKI5 = Table(
    name="kalicki5",
    title="Paraphrases: F1 of both algorithms",
    source="Kalicki, Table 5",
    columns={**QUORA_F1, "Quora": QUORA},
    note=EPOCHS,
    rows=(*with_figures(IN_TURN, QUORA_F1, 0.787), *with_figures(MTDNN, QUORA_F1, 0.601)),
)
ALGORITHMS = {"in_turn": ("In turn", "in_turn"), "mtdnn": ("MT-DNN with upsampling", "mtdnn_upsample")}
SHARES = {"full": (1, 1), "half": (2, 2), "quarter": (4, 3), "eighth": (8, 5)}  # Quora's divisor, epochs on a CPU
KALICKI_F1 = Table(
    name="kalicki-f1",
    title="How the two algorithms differ as Quora shrinks",
    source="Kalicki, Figure 1",
    columns={**QUORA_F1, "SST macro F1": "dev.sst.macro_f1", **DEV},
    flags={**KALICKI, **SHUFFLED, **ALL, "batch_size": 32, "epochs": 5},
    note="The figure shows in turn minus MT-DNN; it prints no numbers. Fine-tuned from the published weights at once.",
    rows=tuple(
        Row(f"{name}-{share}", f"{title}, Quora {share}", {"schedule": schedule, "limit": f"quora={1 / divisor}"})
        for share, (divisor, _) in SHARES.items()
        for name, (title, schedule) in ALGORITHMS.items()
    ),
)

# ---------------------------------------------------------------------------------------------------------- extras

RADIUS = "the paper's radius of 1e-5 changes no output of MiniLM that dropout would not drown; 0.1 does"
EXTRAS = Table(
    name="extras",
    title="Each extra against the same run without it",
    source="not in the three reports; the recipe is Yan's, fused pairs trained simultaneously",
    columns=YAN_COLUMNS,
    flags={**YAN, "limit": "quora=14057"},
    rows=(
        Row("base", "Fused, simultaneous", {}),
        Row("pcgrad", "Gradient surgery (Yu et al. 2020)", {"pcgrad": True}, base="base"),
        Row("smart", "SMART, smoothness (Jiang et al. 2020)", {"smart": 1}, base="base"),
        Row("smart-0.1", "SMART, radius 0.1", {"smart": 1, "smart_radius": 0.1}, base="base", note=RADIUS),
        Row("r_drop", "R-Drop (Wu et al. 2021)", {"r_drop": 1}, base="base"),
        Row("layer_decay", "Layer-wise rates, 0.9 a layer down", {"layer_decay": 0.9}, base="base"),
        Row("coral", "SST as ranks, CORAL (Cao et al. 2020)", {"sst_head": "coral"}, base="base"),
        Row("mean", "Mean pooling", {"pooling": "mean"}, base="base"),
        Row("sequential", "Sequential", {"schedule": "sequential"}, base="base"),
        Row("annealed", "Annealed sampling", {"schedule": "annealed"}, base="base"),
        Row("mtdnn", "MT-DNN, every batch once", {"schedule": "mtdnn"}, base="base"),
        Row("in_turn", "In turn", {"schedule": "in_turn"}, base="base"),
        Row("concat", "Separate, concatenated", {"pairs": "concat"}, base="base"),
        Row("concat-cosine", "Separate, STS as a cosine", {"sts_head": "cosine"}, base="concat"),
    ),
)

# ------------------------------------------------------------------------------------------------------ the tables

FULL = (
    *(YAN1, YAN_A1, YAN_STS),
    *(QIN1, QIN2, QIN_FIGURES),
    *(KALICKI0, KALICKI1, KALICKI2, KALICKI3, KALICKI4, KALICKI5, KALICKI_F1),
    EXTRAS,
)
# Batches of 8 throughout: at 32, 500 updates would be four times the work. Qin and Tran's and Kalicki's tables compare
# schedules over sets of unequal size, so theirs stay unequal; 8 epochs of even sets are as many updates as 1 of uneven.
ON_CPU = (
    *map(on_cpu, (YAN1, YAN_A1, YAN_STS, QIN_FIGURES, EXTRAS)),
    on_cpu(QIN1, UNEVEN, {"uneven": {"batch_size": 8}, "even": {"epochs": 23}, "specialised": {"epochs": 8}}),
    on_cpu(KALICKI2, batch_size=8),
    on_cpu(KALICKI0, THOUSANDS, {"cfimdb-heads": {"epochs": 10}, "cfimdb": {"epochs": 10}}, batch_size=8),
    *(on_cpu(table, UNEVEN, batch_size=8) for table in (KALICKI1, KALICKI3, KALICKI5)),
    on_cpu(
        KALICKI_F1,
        UNEVEN,
        {
            f"{name}-{share}": {"limit": f"sst=240,quora={4000 // divisor},sts=170", "epochs": epochs}
            for share, (divisor, epochs) in SHARES.items()
            for name in ALGORITHMS
        },
        batch_size=8,
    ),
)
STRATEGY_TABLES = (*FULL, *ON_CPU)
