"""Every supervised training strategy of the sources as rows of tables: pairs, heads, schedules, regularizers.

A table carries its paper's name and number (yan1 is Yan's Table 1). Its twin yan1-cpu has the same rows on a few
thousand examples, for a machine without a GPU. Where a paper does not state a setting, the row's or table's note says
what was chosen. Rows of two tables that come to the same flags are run once (standing.adopted).

Sources (CS224N reports):
    Yan, "BERT Multitask Learning in a Semi-Supervised Learning Setup"
    Qin and Tran, "BERT's Mean Teacher and Multitask Fine-Tuning"
    Kalicki, "Multiple Strategies to Improve minBERT Multitask Learning" (its tables are in kalicki.py)
"""

from minbert.tables.common import ALL, DEV, HEADS, NO_TEST_LABELS, STS, TEST, TRAIN, UNEVEN, figures, on_cpu
from minbert.tables.kalicki import KALICKI_ON_CPU, KALICKI_TABLES
from minbert.tables.rows import Row, Table, alone

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
    flags={**YAN, **alone("sts"), "dev_limit": "sst=250,quora=500"},
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
        Row("sst", "Only SST", alone("sst"), paper=figures(QIN_COLUMNS, 0.516, 0.463, 0.248, 0.409)),
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

FULL = (*(YAN1, YAN_A1, YAN_STS), *(QIN1, QIN2, QIN_FIGURES), *KALICKI_TABLES, EXTRAS)
# Batches of 8 throughout: at 32, 500 updates would be four times the work. Qin and Tran's and Kalicki's tables compare
# schedules over sets of unequal size, so theirs stay unequal; 8 epochs of even sets are as many updates as 1 of uneven.
ON_CPU = (
    *map(on_cpu, (YAN1, YAN_A1, YAN_STS, QIN_FIGURES, EXTRAS)),
    on_cpu(QIN1, UNEVEN, {"uneven": {"batch_size": 8}, "even": {"epochs": 23}, "specialised": {"epochs": 8}}),
    *KALICKI_ON_CPU,
)
STRATEGY_TABLES = (*FULL, *ON_CPU)
