"""The tables of one report: Kalicki, "Multiple Strategies to Improve minBERT Multitask Learning" (CS224N).

kalicki0 to kalicki5 are its Tables 0 to 5 (6 is in kalicki2), kalicki-f1 its Figure 1. Its runs have two phases, so
most rows start from the weights of another.
"""

from dataclasses import replace

from minbert.tables.common import (
    ALL,
    DEV,
    HEADS,
    NO_TEST_LABELS,
    QUORA,
    SST,
    TEST,
    THOUSANDS,
    TRAIN,
    UNEVEN,
    figures,
    on_cpu,
)
from minbert.tables.rows import Row, Table, alone

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


SST_ALONE = two_phases("sst", "Only SST", {**KALICKI, **alone("sst")}, heads_batch=64)
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

# ------------------------------------------------------------------------------------------------------ the tables

KALICKI_TABLES = (KALICKI0, KALICKI1, KALICKI2, KALICKI3, KALICKI4, KALICKI5, KALICKI_F1)
KALICKI_ON_CPU = (
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
