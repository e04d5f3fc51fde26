"""Learning from unlabelled text as rows of tables: TSA, UDA and mean teacher, each beside the same run without it.

few-*          a few labels a class and fresh text without labels, which Yan names as what was missing (section 4.6.3)
yan2, yan-f2, yan3     the figures of Yan's sections 4.6 and 4.7, with the training text as the unlabelled one
yan-a2         Yan's Table A2: changed copies of the training text alone, with the labels of their originals
qin-teacher, qin2-teacher     the mean-teacher rows of Qin and Tran's Tables 1 and 2 and Figure 5

Files of text have names that hold everywhere (text_files.py); NAME-cpu is the table of NAME on a few thousand examples.

Sources (CS224N reports):
    Yan, "BERT Multitask Learning in a Semi-Supervised Learning Setup"
    Qin and Tran, "BERT's Mean Teacher and Multitask Fine-Tuning"
"""

from minbert.tables.common import DEV, NO_TEST_LABELS, TEST, UNEVEN, cpu_twin, figures, on_cpu
from minbert.tables.rows import Row, Table, alone, split_and_task
from minbert.tables.strategies import CONCAT, EVEN, QIN, QIN_COLUMNS, YAN, YAN_COLUMNS


def copies(method, files):
    """The value of --uda or --train_on_augmented: {task: file} -> "task=method(file),..."."""
    return ",".join(f"{task}={method}({file})" for task, file in files.items())


# ---------------------------------------------------------------------------------------------------- a few labels

# 300 steps: an epoch of 100, the dev set scored after each. The rate warms up and falls, since so few labels are soon
# known by heart. A teacher of decay 0.99 remembers 100 updates; 0.999 would be the plain mean of all 300.
FEW = {
    "option": "finetune",
    "lr": 5e-5,
    "lr_schedule": "linear",
    "warmup": 0.1,
    "batch_size": 8,
    "epochs": 3,
    "epoch_steps": 100,
}
FEW_NOTE = (
    "Each run: 300 steps of 8 labelled examples, with UDA or a mean teacher 8 unlabelled ones beside them. The seed "
    "draws which labels are kept, the same for every row. The best of three epochs is chosen on the dev set, which has "
    "more labels than training: that flatters all rows alike. Kept: the share of examples that TSA, or UDA's threshold "
    "of 0.8, lets count in the last epoch."
)


def few_labels(task, title, metric, counts, text, methods=("tsa", "uda", "teacher"), note="", **flags):
    """The table few-TASK: at each of `counts` labels a class the supervised run, then each of `methods`. `text`: the
    file of fresh text."""
    unlabelled = {"unlabeled": f"{task}={text}"}
    arms = {  # what a row is called, what it changes, what its table shows besides
        "tsa": ("linear TSA", {"tsa": "linear"}, {"TSA kept": f"last_epoch.kept.{task} TSA kept"}),
        "uda": (
            "UDA, TF-IDF word replacement",
            {**unlabelled, "uda": copies("tfidf", {task: text})},
            {"UDA kept": f"last_epoch.kept.{task} UDA kept"},
        ),
        "teacher": (
            "mean teacher, symmetric KL",
            {**unlabelled, "mean_teacher": "kl", "ema_decay": 0.99},
            {f"{title} of the teacher": f"teacher.dev.{task}.{metric}"},
        ),
    }
    rows, columns = [], {title: f"dev.{task}.{metric}"}
    for count in counts:
        base = f"supervised-{count}"
        rows.append(Row(base, f"{count} a class, supervised", {"labels_per_class": count}))
        for method in methods:
            how, changes, shows = arms[method]
            rows.append(Row(f"{method}-{count}", f"{count} a class, {how}", changes, base=base))
            columns |= shows
    return Table(
        name=f"few-{task}",
        title=f"{title} from a few labels and fresh text",
        source="not in the reports",
        columns=columns,
        flags={**FEW, **alone(task), **flags},
        rows=tuple(rows),
        note=f"{FEW_NOTE} {note}".strip(),
    )


# The other tasks are scored beside the one that is trained: 100 rows of each are enough.
FEW_SST = few_labels("sst", "SST", "accuracy", (10, 100), "{unlabelled_dir}/sst.tsv", dev_limit="quora=100,sts=100")
FEW_QUORA = few_labels(
    "quora", "Quora", "accuracy", (10, 100), "{unlabelled_dir}/quora.tsv", dev_limit="quora=2000,sst=100,sts=100"
)
FEW_STS = few_labels(
    "sts",
    "STS",
    "pearson",
    (4, 10),
    "{unlabelled_dir}/sts.tsv",
    note="STS has 26 classes, 0.0 to 5.0 in steps of 0.2; a class with fewer examples keeps all of them.",
    sts_head="classification",
    dev_limit="sst=100,quora=100",
)
FEW_IMDB = few_labels(
    "imdb",
    "IMDB",
    "accuracy",
    (10,),
    "{imdb_dir}/unsup.jsonl.gz",
    methods=("uda",),
    note="20 labels are the setting of Xie et al. 2020, who train longer and on larger batches.",
    max_length=128,
    dev_limit="imdb=1000",
)

# ------------------------------------------------------------------------------------------------------------- Yan

TRAINING_TEXT = {
    "sst": "{data_dir}/ids-sst-train.csv",
    "quora": "{data_dir}/quora-train.csv",
    "sts": "{data_dir}/sts-train.csv",
}
CLASSES = {**YAN, "limit": "quora=14057", "sts_head": "classification"}
TSA = {"tsa": "linear", "epochs": 50, "patience": 10}  # section 4.3: 50 epochs, patience 10
CHAT = {  # augmentations by a chat model: title, figures
    "back_translation": ("back translation", 0.520, 0.821, 0.862, 0.758),
    "sentence_completion": ("sentence completion", 0.506, 0.820, 0.853, 0.751),
    "random_mask": ("random-mask completion", 0.520, 0.808, 0.827, 0.747),
}
CHAT_NOTE = "the copies come from a chat model; the row stays open until they lie where the run looks for them"
UDA_KEPT = {f"{title} UDA kept": f"last_epoch.kept.{split_and_task(path)[1]} UDA kept" for title, path in DEV.items()}

YAN2 = Table(
    name="yan2",
    title="TSA and UDA, the training text without labels",
    source="Yan, Table 2",
    columns={**YAN_COLUMNS, **UDA_KEPT},
    flags=CLASSES,
    rows=(
        Row(
            "baseline",
            "No TSA",
            {},
            paper=figures(YAN_COLUMNS, 0.501, 0.829, 0.852, 0.752),
            note="the paper's figures are those of its Table 1, where STS is a regression; here 26 classes, as below",
        ),
        Row(
            "tsa",
            "Linear TSA",
            TSA,
            base="baseline",
            paper=figures(YAN_COLUMNS, 0.520, 0.836, 0.861, 0.762),
        ),
        Row(
            "uda",
            "Linear TSA + UDA, TF-IDF word replacement",
            {"uda": copies("tfidf", TRAINING_TEXT)},
            base="tsa",
            note="not in the paper: the augmentation of Xie et al. 2020 that needs no other model",
        ),
        *(
            Row(
                method,
                f"Linear TSA + UDA, {title}",
                {"uda": copies(method, TRAINING_TEXT)},
                base="tsa",
                paper=figures(YAN_COLUMNS, *values),
                note=CHAT_NOTE,
            )
            for method, (title, *values) in CHAT.items()
        ),
    ),
)
YAN_F2 = Table(
    name="yan-f2",
    title="Three ways to release the training signal",
    source="Yan, Figure 2",
    columns=YAN_COLUMNS,
    flags=CLASSES,
    note="The figure prints no numbers; it shows dev scores by epoch, as the curves here.",
    rows=(
        Row("none", "No TSA", {}),
        *(Row(schedule, f"{schedule} TSA", {"tsa": schedule}, base="none") for schedule in ("linear", "log", "exp")),
    ),
)
YAN3 = Table(
    name="yan3",
    title="The final model, dev and test",
    source="Yan, Table 3",
    columns={**YAN_COLUMNS, **TEST, "score test": "test.score"},
    flags=CLASSES,
    note=NO_TEST_LABELS,
    rows=(
        Row(
            "final",
            "Fused, simultaneous, linear TSA",
            TSA,
            paper=figures(YAN_COLUMNS, 0.520, 0.836, 0.861, 0.762)
            | figures([*TEST, "score test"], 0.517, 0.839, 0.866, 0.763),
        ),
    ),
)

AUGMENTED = {"back_translation": (0.510, 0.826, 0.802, 0.746), "random_mask": (0.470, 0.781, 0.723, 0.704)}
AUGMENTED |= {"sentence_completion": (0.411, 0.728, 0.630, 0.651)}
OFFLINE = {
    "tfidf": "TF-IDF word replacement",
    "eda": "random deletion and swap",
    "mlm": "words filled in by a masked LM",
}
YAN_A2 = Table(
    name="yan-a2",
    title="Changed copies in place of the training text",
    source="Yan, Table A2",
    columns=YAN_COLUMNS,
    flags={**YAN, "limit": "quora=14057"},
    rows=(
        Row(
            "original",
            "The text itself",
            {},
            paper=figures(YAN_COLUMNS, 0.501, 0.829, 0.852, 0.752),
            note="the paper's Table 1",
        ),
        *(
            Row(method, title, {"train_on_augmented": copies(method, TRAINING_TEXT)}, base="original")
            for method, title in OFFLINE.items()
        ),
        *(
            Row(
                method,
                CHAT[method][0],
                {"train_on_augmented": copies(method, TRAINING_TEXT)},
                base="original",
                paper=figures(YAN_COLUMNS, *values),
                note=CHAT_NOTE,
            )
            for method, values in AUGMENTED.items()
        ),
    ),
)


def two_epochs(table):
    """The table's twin NAME-cpu: 6,040 rows of each task, 2 epochs."""
    small = {"limit": "sst=6040,quora=6040,sts=6040", "dev_limit": "quora=2000", "epochs": 2, "patience": None}
    note = (
        "Training rows: 6,040 of each task; of Quora's dev set 2,000 rows. 2 epochs at 5e-5: at the paper's 1e-5 a "
        "small model hardly moves in so few updates. The paper's figures are those of BERT-base on everything."
    )
    return cpu_twin(table, {row.name: {**small, "lr": 5e-5} for row in table.rows}, f"{table.note} {note}".strip())


# ---------------------------------------------------------------------------------------------------- Qin and Tran

OF_TEACHER = {f"{title} teacher": f"teacher.{path}" for title, path in DEV.items()} | {"teacher's mean": "teacher.mean"}
WHO = "The paper does not say whether its figures are the student's or the teacher's: they stand beside the student's."
QIN_TEACHER = Table(
    name="qin-teacher",
    title="With a mean teacher and without",
    source="Qin and Tran, the last rows of Table 1, and Figure 5",
    columns={**QIN_COLUMNS, **OF_TEACHER},
    flags=QIN,
    note=f"{WHO} Its consistency is symmetric KL where it says no more. {CONCAT}",
    rows=(
        Row("sst", "Only SST", alone("sst"), paper=figures(QIN_COLUMNS, 0.516, 0.463, 0.248, 0.409)),
        Row(
            "sst-teacher",
            "Only SST, mean teacher",
            {"mean_teacher": "kl"},
            base="sst",
            paper=figures(QIN_COLUMNS, 0.515, 0.475, 0.245, 0.417),
        ),
        Row(
            "quora-teacher",
            "Only Quora, mean teacher",
            {**alone("quora"), "mean_teacher": "kl"},
            paper=figures(QIN_COLUMNS, 0.197, 0.823, 0.388, 0.469),
        ),
        Row(
            "sts-teacher",
            "Only STS, squared error, mean teacher",
            {**alone("sts"), "sts_head": "linear", "mean_teacher": "kl"},
            paper=figures(QIN_COLUMNS, 0.203, 0.594, 0.722, 0.506),
        ),
        Row(
            "specialised",
            "Round robin, even sets, three small steps",
            EVEN,
            paper=figures(QIN_COLUMNS, 0.493, 0.748, 0.654, 0.632),
        ),
        Row(
            "teacher-kl",
            "The same, mean teacher by symmetric KL",
            {"mean_teacher": "kl"},
            base="specialised",
            paper=figures(QIN_COLUMNS, 0.519, 0.746, 0.727, 0.664),
        ),
        Row(
            "teacher-mse",
            "The same, mean teacher by squared error",
            {"mean_teacher": "mse"},
            base="specialised",
            note="differs from KL on SST alone: Quora's one logit and STS's score have one measure of agreement each",
        ),
    ),
)
QIN2_TEACHER = Table(
    name="qin2-teacher",
    title="The best model's test scores, mean teacher and all",
    source="Qin and Tran, Table 2",
    columns={**DEV, **TEST, "mean test": "test.mean"},
    flags={**QIN, **EVEN},
    note=f"{NO_TEST_LABELS} {WHO} {CONCAT}",
    rows=(
        Row(
            "teacher-kl",
            "Even sets, three small steps, mean teacher",
            {"mean_teacher": "kl"},
            paper=figures([*TEST, "mean test"], 0.529, 0.744, 0.677, 0.650),
        ),
    ),
)

# ------------------------------------------------------------------------------------------------------ the tables

EIGHT = {name: {"epochs": 8} for name in ("specialised", "teacher-kl", "teacher-mse")}  # as qin1-cpu
SEMI_TABLES = (
    *(FEW_SST, FEW_QUORA, FEW_STS, FEW_IMDB),
    *(YAN2, YAN_F2, YAN3, YAN_A2, QIN_TEACHER, QIN2_TEACHER),
    on_cpu(YAN_A2),
    *map(two_epochs, (YAN2, YAN_F2, YAN3)),
    on_cpu(QIN_TEACHER, UNEVEN, EIGHT),
)
