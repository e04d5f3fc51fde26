"""The groups of flags of multitask_classifier.py, but for those of the methods (methods.py): see fields.py.

Names and meanings are those of the course's starter (CS224N default project) where it has them. Imports no torch.
"""

from dataclasses import dataclass
from pathlib import Path

from datasets import TASKS
from minbert import choices
from minbert.flags import types
from minbert.flags.fields import flag, one_flag_each
from minbert.methods.schedules import SCHEDULES, STEPS

COURSE_NAMES = {task.course_name: task.name for task in TASKS.values() if task.course_name}  # its prefixes -> our names
INPUTS = [f"{prefix}_{split}" for prefix in COURSE_NAMES for split in ("train", "dev", "test")]
OUTPUTS = [f"{prefix}_{split}_out" for prefix in COURSE_NAMES for split in ("dev", "test")]
ONLY_OUTPUTS = ["dev_out", "test_out"]  # of a run with one task, as in CMU's course
MODES = {"last-linear-layer": "pretrain", "full-model": "finetune"}  # the later course's names -> those of --option


@dataclass(frozen=True)
class Model:
    """what is trained"""

    option: str = flag(
        "pretrain",
        choices=("pretrain", "finetune"),
        help="pretrain: freeze BERT, train the heads; finetune: train everything",
    )
    fine_tune_mode: str | None = flag(
        choices=tuple(MODES),
        help="the later course's name for --option, also spelled --fine-tune-mode: last-linear-layer = pretrain, "
        "full-model = finetune; prediction files of a single task are named by it then",
    )
    model: str | None = flag(
        metavar="NAME",
        help="a checkpoint: a folder, a Hugging Face hub id, or minilm (small, also installed by a package). "
        "Default: bert-base-uncased where it can be had, otherwise minilm",
    )
    tasks: list | None = flag(
        type=types.names,
        metavar="T,...",
        help=f"tasks to train on: {', '.join(TASKS)}, or your own in datasets.TASKS (default: "
        f"{','.join(COURSE_NAMES.values())})",
    )
    also_score: list | None = flag(
        type=types.names,
        metavar="T,...",
        help="tasks to score too, though nothing trains their heads: what an untrained head comes to",
    )
    init: str | None = flag(
        metavar="RUN",
        help="start from the best weights of a finished run, trunk and heads (heads first, then all: two runs)",
    )
    hidden_dropout_prob: float = flag(0.3, type=types.share, metavar="P", help="dropout of the heads")
    attention: str = flag("plain", choices=choices.ATTENTION)
    max_length: int = flag(
        512,
        type=types.max_length,
        metavar="N",
        help="longest sequence in tokens (default: %(default)s, or as many as the model has positions)",
    )
    truncate: str = flag(
        "head", choices=("head", "tail"), help="which end is kept of a text that is longer (default: %(default)s)"
    )
    use_gpu: bool = flag(False, help="train on the CUDA device")
    device: str | None = flag(
        choices=("auto", "cpu", "cuda", "mps"),
        help="where to train: cuda is --use_gpu, mps is Apple's GPU (not run yet), auto the best that is here "
        "(default: cpu, or cuda with --use_gpu)",
    )
    precision: str | None = flag(
        choices=("fp32", "bf16"),
        help="bf16: matrix products in bf16, weights in fp32; on a GPU, or a CPU with AMX or AVX512-BF16 (default: "
        "bf16 with --use_gpu but without --smart, otherwise fp32)",
    )

    @property
    def mode(self):
        """What the course calls the way of training, as it was asked for: in names of files."""
        return self.fine_tune_mode or self.option

    @property
    def frozen(self):
        """Whether the trunk stays as it is."""
        return self.option == "pretrain"

    @property
    def runs_on(self):
        return self.device or ("cuda" if self.use_gpu else "cpu")


@dataclass(frozen=True)
class Heads:
    """pairs and heads"""

    pairs: str = flag(
        "fused", choices=choices.PAIRS, help="one sequence, or A and B encoded separately as u and v, and joined; "
    )
    pooling: str = flag("cls", choices=choices.POOLING, help="a sequence's embedding: ")
    sts_head: str = flag("regression", choices=choices.STS_HEADS, help="how a score is told: ")
    sts_cosine: str = flag("scaled", choices=choices.STS_COSINES, help="the cosine head's score: ")
    sts_predict: str = flag(
        "argmax", choices=choices.STS_PREDICTIONS, help="the score that the 26 or 6 classes predict: "
    )
    sst_head: str = flag("softmax", choices=choices.SST_HEADS)
    head_bias: str = flag("default", choices=choices.HEAD_BIASES, help="the bias of a head's layer at the start: ")


@dataclass(frozen=True)
class Schedule:
    """which batches make a step"""

    schedule: str = flag(
        "simultaneous", choices={name: schedule.told for name, schedule in SCHEDULES.items()}, metavar="NAME"
    )
    step: str | None = flag(
        choices=STEPS,
        help="one update on the sum of the tasks' losses, or one after each task's batch (default: the schedule's own: "
        "summed for simultaneous, otherwise per_task)",
    )
    task_order: list | None = flag(
        type=types.names,
        metavar="T,...",
        help="order of the tasks in a schedule that has one (default: the schedule's own)",
    )
    batch_size: int | dict = flag(
        8,
        type=types.one_or_per_task(types.positive(int)),
        metavar="N",
        help="examples of each task in a batch: one number, or per task as sst=64,quora=32",
    )
    epochs: int = flag(10, type=types.positive(int), metavar="N", help="epochs")
    max_steps: int | None = flag(
        type=types.positive(int), metavar="N", help="end after N updates, with the epoch they end in (default: off)"
    )
    accumulate: int = flag(
        1,
        type=types.positive(int),
        metavar="N",
        help="an update follows the mean gradient of N steps: batches N times as large in the memory of one",
    )
    epoch_steps: int | None = flag(
        type=types.steps,
        metavar="N",
        help="an epoch has N batches of each task, sets starting again as needed (simultaneous, sequential, "
        "mtdnn_upsample; default: as many as the longest has)",
    )
    shuffle: str = flag("epoch", choices=("epoch", "once"), help="shuffle each set anew every epoch, or once")
    balanced_sample: str = flag(
        "epoch",
        choices=("epoch", "once"),
        help="balanced_round_robin: draw the sample of the larger sets every epoch, or once",
    )
    seed: int = flag(11711, type=types.seed, metavar="N", help="random seed")


@dataclass(frozen=True)
class Optimisation:
    """how an update is made"""

    lr: float | list | None = flag(
        type=types.one_or_more(types.positive(float)),
        metavar="X",
        help="learning rate; several, as 2e-5,3e-5, are tried in turn and the best on dev is kept (default: 1e-3 for "
        "pretrain, 1e-5 for finetune)",
    )
    lr_schedule: str = flag("constant", choices=choices.LR_SCHEDULES)
    warmup: float = flag(
        0.0,
        type=types.share,
        metavar="SHARE",
        help="share of all updates in which the rate rises from 0; not with --lr_schedule constant",
    )
    clip: float | None = flag(
        type=types.positive(float), metavar="NORM", help="clip the gradient's norm to this (default: off)"
    )
    weight_decay: float = flag(0.0, type=types.not_negative(float), metavar="X", help="decoupled decay")
    no_decay_bias_norm: bool = flag(
        False, help="leave biases and LayerNorm out of the weight decay (default: decay everything, as the course)"
    )
    layer_decay: float = flag(
        1.0, type=types.factor, metavar="F", help="multiply the learning rate by F for each layer further down"
    )
    compile: bool = flag(False, help="compile the optimizer's update (needs a C++ compiler on a CPU)")


@dataclass(frozen=True)
class Data:
    """data"""

    data_dir: str | None = flag(
        metavar="DIR", help="the course's files (default: data/cs224n if it exists, else data/sample)"
    )
    glue_dir: str | None = flag(
        metavar="DIR", help="GLUE's folders (default: data/glue if it exists, else data/sample/glue)"
    )
    imdb_dir: str | None = flag(metavar="DIR", help="IMDB's files, for --tasks imdb (default: data/imdb)")
    limit: dict = flag(
        {},
        type=types.per_task(types.rows_or_share),
        metavar="T=N,...",
        help="train on a fixed subset of a task: rows (quora=14057) or a share (quora=0.1)",
    )
    dev_limit: dict = flag(
        {},
        type=types.per_task(types.rows_or_share),
        metavar="T=N,...",
        help="score a fixed part of a task's dev set, for sweeps",
    )
    token_cache: str | None = flag(
        needs="unlabeled",
        metavar="DIR",
        help="for text larger than memory, that of --unlabeled and its changed copies: keep its tokens in files under "
        "DIR, which are read as they are needed, and found again by the next run (default: off)",
    )
    labels_per_class: int | None = flag(
        type=types.positive(int),
        metavar="N",
        help="keep the labels of N training rows of each class (of STS: of its 26 scores), drawn by --seed; the rest "
        "is text without labels",
    )
    train_on_augmented: dict = flag(
        {},
        type=types.per_task(str),
        metavar="T=FILE,...",
        help="train on changed texts (augmentation.py writes them) instead of a task's own: each has the label of its "
        "original, by id; rows without one are left out",
    )
    inputs: dict = one_flag_each(
        {
            name: {"metavar": "FILE", "help": f"{COURSE_NAMES[prefix]}: the {split} file (default: in --data_dir)"}
            for name in INPUTS
            for prefix, split in [name.split("_")]
        }
    )


@dataclass(frozen=True)
class Run:
    """the run"""

    run_dir: str | None = flag(metavar="DIR", help="the run's folder, which must be new (default: runs/ and the time)")
    config: str | None = flag(
        metavar="FILE",
        help="flags from a YAML or JSON file, or of a run by its config.json; those on the command line win",
    )
    resume: str | bool | None = flag(
        nargs="?",
        const=True,
        metavar="DIR",
        help="continue a killed run, to the same result as if it had not been killed: the run in DIR, or in --run_dir. "
        "Flags left out are as the run has them; --epochs may be more where the rate is constant",
    )
    patience: int | None = flag(
        type=types.positive(int), metavar="N", help="stop after N epochs without a better score (default: off)"
    )
    checkpoint_minutes: float = flag(
        10.0, type=types.positive(float), metavar="M", help="save the state this often besides at the end of each epoch"
    )
    log_every: int = flag(10, type=types.positive(int), metavar="N", help="write a line of log.jsonl every N updates")
    skip_test: bool = flag(False, help="no test predictions at the end, for sweeps")
    keep_state: bool = flag(
        False,
        help="keep state.pt and last.safetensors when the run is finished: --resume RUN --epochs M can then go on",
    )
    eval_train: bool = flag(False, help="also score the best model on the training sets")
    tensorboard: bool = flag(False, help="also write TensorBoard event files into the run")
    outputs: dict = one_flag_each(
        {
            name: {"metavar": "FILE", "help": f"{COURSE_NAMES[prefix]}: {split} predictions (default: in the run)"}
            for name in OUTPUTS
            for prefix, split, _ in [name.split("_")]
        }
        | {
            name: {
                "metavar": "FILE",
                "help": f"{name.removesuffix('_out')} predictions of the only task; as `label ||| text` where its file "
                "is (default: in the run)",
            }
            for name in ONLY_OUTPUTS
        }
    )
    predictions_dir: str | None = flag(
        metavar="DIR",
        help="copy the prediction files to DIR under the course's names: sst-dev-output.csv and its kin, or, of SST or "
        "CFIMDB trained alone, finetune-sst-dev-out.csv, by the value of --option or --fine_tune_mode",
    )

    @property
    def folder(self):
        """Where the run is: a folder to be made, or that of the run to resume."""
        return Path(self.resume if isinstance(self.resume, str) else self.run_dir)


@dataclass(frozen=True)
class SavedRun:
    """instead of training"""

    evaluate: str | None = flag(
        metavar="RUN",
        help="score a saved run on dev and write dev and test predictions into RUN/evaluation (or --run_dir)",
    )
    predict: str | None = flag(
        metavar="RUN", help="read sentences, or pairs with a tab between, and print what each head of a saved run says"
    )
    input: str | None = flag(metavar="FILE", help="what --predict reads (default: standard input)")
    output: str | None = flag(
        metavar="FILE", help="where --predict writes, whole or not at all (default: standard output)"
    )
    format: str = flag(
        "text",
        choices=("text", "json", "tsv"),
        help="what --predict prints: text for reading, a JSON object a line, or a table",
    )
    export: list | None = flag(
        nargs=2,
        metavar=("RUN", "FOLDER"),
        help="write each head of a saved run as FOLDER/TASK, a Hugging Face folder that transformers.pipeline runs",
    )
