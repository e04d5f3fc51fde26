"""Controls: each takes apart two causes that another table leaves together, or gives a method the setting it asks for.

few-sst2       TSA and UDA together, as Xie et al. 2020 train them, and a mean teacher at a constant rate
steps-cpu      one update on the sum of the losses beside one after each task's batch: at equal updates and unclipped
labels-bias-cpu     independent labels with heads that start at the labels' shares, by [CLS] and by the mean
labels-updates-cpu  the plain models of the label schemes with as many updates as a scheme's trunk gets

Xie et al. 2020, "Unsupervised Data Augmentation for Consistency Training"; the reports are named in strategies.py.
"""

from minbert.tables.common import DEV, THOUSANDS
from minbert.tables.labels import PROTOCOL, SMALL, TABLE_1_COLUMNS
from minbert.tables.rows import Row, Table
from minbert.tables.semi import copies

TEXT = "{glue_dir}/SST-2/train.tsv"
BESIDE = {"unlabeled_batch_size": 24}
FEW_SST2 = Table(
    name="few-sst2",
    title="SST-2 from 50 labels a class, the rest of its training set as text",
    source="not in the reports; the settings are those of Xie et al. 2020 at base size, in fewer steps",
    columns={
        "SST-2": "dev.sst2.accuracy",
        "TSA kept": "last_epoch.kept.sst2 TSA kept",
        "UDA kept": "last_epoch.kept.sst2 UDA kept",
        "SST-2 of the teacher": "teacher.dev.sst2.accuracy",
    },
    flags={
        "option": "finetune",
        "tasks": "sst2",
        "labels_per_class": 50,
        "pooling": "mean",
        "hidden_dropout_prob": 0.1,
        "lr": 2e-5,
        "lr_schedule": "linear",
        "warmup": 0.1,
        "clip": 1,
        "batch_size": 8,
        "epochs": 5,
        "epoch_steps": 300,
    },
    note="1,500 steps of 8 labelled sentences, with UDA or a teacher 24 of the others beside them. Neither threshold "
    "nor sharpening where nothing else is said (temperature 0.85, threshold 0). The seed draws which labels are kept, "
    "the same for every row. Compare last epochs: the best of five is chosen on the dev set.",
    rows=(
        Row("supervised", "Supervised", {}),
        Row("tsa", "Linear TSA", {"tsa": "linear"}, base="supervised"),
        Row(
            "uda",
            "UDA, random deletion and swap",
            {"uda": copies("eda", {"sst2": TEXT}), "uda_threshold": 0, "uda_temperature": 0.85, **BESIDE},
            base="supervised",
        ),
        Row("tsa-uda", "Linear TSA + UDA", {"tsa": "linear"}, base="uda"),
        Row("tsa-uda-5", "The same, UDA's weight 5", {"uda_weight": 5}, base="tsa-uda"),
        Row("tsa-uda-log", "The same, log TSA", {"tsa": "log"}, base="tsa-uda"),
        Row(
            "tsa-uda-mlm",
            "The same, words filled in by a masked LM",
            {"uda": copies("mlm", {"sst2": TEXT})},
            base="tsa-uda",
        ),
        Row(
            "tsa-uda-same",
            "The same, copies equal to the originals",
            {"uda": copies("tfidf@0", {"sst2": TEXT})},
            base="tsa-uda",
            note="what dropout alone does",
        ),
        Row("tsa-uda-0.8", "The same, threshold 0.8", {"uda_threshold": 0.8}, base="tsa-uda"),
        Row(
            "supervised-constant",
            "Supervised, constant rate",
            {"lr_schedule": "constant", "warmup": None},
            base="supervised",
        ),
        Row(
            "teacher-constant",
            "Mean teacher, constant rate",
            {"mean_teacher": "mse_prob", "ema_decay": 0.99, "unlabeled": f"sst2={TEXT}", **BESIDE},
            base="supervised-constant",
        ),
    ),
)

STEPS = Table(
    name="steps-cpu",
    title="One update for all tasks, or one for each, unclipped",
    source="not in the reports; Yan's Tables 1 and A1 differ by steps, updates and, through clipping, scale at once",
    columns={**DEV, "score": "score"},
    flags={
        "option": "finetune",
        "lr": 5e-5,
        "batch_size": 8,
        "weight_decay": 0.01,
        "sts_head": "classification",
        "limit": ",".join(f"{task}={THOUSANDS[task]}" for task in ("sst", "quora", "sts")),
        "dev_limit": "quora=2000",
        "epochs": 1,
    },
    note="4,000 rows a task, fused pairs, STS as 26 classes, no clipping. An epoch has 500 batches of each task: 500 "
    "updates on sums, 1,500 on single losses.",
    rows=(
        Row("summed", "Sum of the losses, 500 updates", {}),
        Row("summed-1500", "Sum of the losses, 1,500 updates", {"epochs": 3}, base="summed"),
        Row("per-task", "After each task's batch, 1,500 updates", {"step": "per_task"}, base="summed"),
        Row("cosine", "STS as a cosine, 500 updates", {"pairs": "concat", "sts_head": "cosine"}, base="summed"),
    ),
)

FOUR_TASKS = "All of RTE, 4,000 rows each of QQP, MNLI and SST-2; of QQP's dev set 2,000 rows; 2 epochs at 5e-5."
PRIOR = {"head_bias": "prior"}
LABELS_BIAS = Table(
    name="labels-bias-cpu",
    title="Independent labels: where the head starts, and what it reads",
    source="not in the paper; Karpov and Burtsev's scheme",
    columns=TABLE_1_COLUMNS,
    flags={**PROTOCOL, **SMALL, "label_scheme": "independent"},
    note=f"{FOUR_TASKS} Each of the nine labels is true of few examples: with a bias near 0 the head must first learn "
    "that.",
    rows=(
        Row("cls", "[CLS], bias near 0", {}),
        Row("cls-prior", "[CLS], bias at logit(share)", PRIOR, base="cls"),
        Row("mean", "Mean pooling, bias near 0", {"pooling": "mean"}, base="cls"),
        Row("mean-prior", "Mean pooling, bias at logit(share)", PRIOR, base="mean"),
    ),
)

# A scheme's trunk has 906 updates in these two epochs; 12 epochs of RTE alone are 936.
MATCHED = {"epochs": 12, "max_steps": 906}
LABELS_UPDATES = Table(
    name="labels-updates-cpu",
    title="Plain models with as many updates as a scheme's trunk",
    source="not in the paper",
    columns=TABLE_1_COLUMNS,
    flags={**PROTOCOL, **SMALL},
    note=f"{FOUR_TASKS} Each plain model ends after 906 updates, as many as the schemes' one trunk has.",
    rows=(
        Row("plain", "Plain, 906 updates each", {"label_scheme": "plain", **MATCHED}),
        Row("plain-mean", "Plain, 906 updates each, mean pooling", {"pooling": "mean"}, base="plain"),
    ),
)

CONTROL_TABLES = (FEW_SST2, STEPS, LABELS_BIAS, LABELS_UPDATES)
