"""Every flag of multitask_classifier.py and its help. Imports no torch: `--help` is instant.

Names and meanings are those of the course's starter (CS224N default project) where it has them.
"""

import argparse

from minbert.files import UserError
from minbert.flags import methods as method_flags
from minbert.flags import types

COURSE_NAMES = {"sst": "sst", "para": "quora", "sts": "sts"}  # the course's flag prefixes -> our task names
INPUTS = [f"{prefix}_{split}" for prefix in COURSE_NAMES for split in ("train", "dev", "test")]
SCHEDULES = (
    "simultaneous",
    "sequential",
    "round_robin",
    "balanced_round_robin",
    "in_turn",
    "mtdnn_upsample",
    "mtdnn",
    "annealed",
)
OUTPUTS = [f"{prefix}_{split}_out" for prefix in COURSE_NAMES for split in ("dev", "test")]

EPILOG = """examples:
  python multitask_classifier.py --option finetune --use_gpu
  python multitask_classifier.py --option finetune --model minilm --lr 5e-5 --batch_size 16 --epochs 3 \\
      --lr_schedule linear --warmup 0.1 --clip 1 --weight_decay 0.01 --limit quora=14057
  python multitask_classifier.py --option finetune --schedule in_turn --pairs concat --init runs/HEADS
  python multitask_classifier.py --resume runs/NAME
  python multitask_classifier.py --evaluate runs/NAME
  echo "A fine film." | python multitask_classifier.py --predict runs/NAME
"""


class Parser(argparse.ArgumentParser):
    def error(self, message):
        """One line instead of the whole usage."""
        raise UserError(f"{message} (see --help)")


def build_parser():
    parser = Parser(
        prog="multitask_classifier.py",
        description="Fine-tune a hand-written BERT on several tasks at once: sentiment (SST, CFIMDB), paraphrases "
        "(Quora), similarity (STS) and GLUE's RTE, QQP, MNLI, SST-2. A run is a folder: config, metrics, checkpoints, "
        "predictions.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_model(parser.add_argument_group("what is trained"))
    _add_heads(parser.add_argument_group("pairs and heads"))
    _add_schedule(parser.add_argument_group("which batches make a step"))
    _add_training(parser.add_argument_group("training"))
    method_flags.add_regularizers(parser.add_argument_group("regularizers and gradients"))
    method_flags.add_semi_supervised(parser.add_argument_group("learning from unlabelled text"))
    method_flags.add_pseudo_labels(parser.add_argument_group("pseudo-labels"))
    _add_data(parser.add_argument_group("data"))
    _add_run(parser.add_argument_group("the run"))
    _add_saved_runs(parser.add_argument_group("instead of training"))
    return parser


def _add_model(group):
    add = group.add_argument
    add(
        "--option",
        choices=("pretrain", "finetune"),
        default="pretrain",
        help="pretrain: freeze BERT, train the heads; finetune: train everything (default: %(default)s)",
    )
    add(
        "--fine-tune-mode",
        dest="option",
        metavar="{last-linear-layer,full-model}",
        type=types.fine_tune_mode,
        help="the later course's name for --option: last-linear-layer = pretrain, full-model = finetune",
        default=argparse.SUPPRESS,
    )
    add(
        "--model",
        metavar="NAME",
        help="a checkpoint: a folder, a Hugging Face hub id, or minilm (small, also installed by a package). "
        "Default: bert-base-uncased where it can be had, otherwise minilm",
    )
    add(
        "--tasks",
        type=types.names,
        metavar="T,...",
        help="tasks to train on: sst, quora, sts, cfimdb, imdb, rte, qqp, mnli, sst2, or your own in datasets.TASKS "
        "(default: sst,quora,sts). Training any of the first three scores all three",
    )
    add(
        "--init",
        metavar="RUN",
        help="start from the best weights of a finished run, trunk and heads (heads first, then all: two runs)",
    )
    add("--hidden_dropout_prob", type=types.share, default=0.3, metavar="P", help="dropout of the heads (default: 0.3)")
    add(
        "--attention",
        choices=("plain", "fused"),
        default="plain",
        help="plain: attention written out; fused: torch's kernel, the same function (default: %(default)s)",
    )
    add(
        "--max_length",
        type=types.max_length,
        default=512,
        metavar="N",
        help="longest sequence in tokens (default: 512, or as many as the model has positions)",
    )


def _add_heads(group):
    add = group.add_argument
    add(
        "--pairs",
        choices=("fused", "concat", "absdiff", "cosine", "dot_attention"),
        default="fused",
        help="fused: one sequence [CLS] A [SEP] B [SEP]; otherwise A and B are encoded separately as u and v, joined "
        "as [u; v], |u - v|, cos(u, v), or by attention between the two (default: %(default)s)",
    )
    add(
        "--pooling",
        choices=("cls", "mean"),
        default="cls",
        help="a sequence's embedding: the pooler over [CLS], or its mean hidden state (default: %(default)s)",
    )
    add(
        "--sts_head",
        choices=("regression", "linear", "cosine", "classification", "ordinal6"),
        default="regression",
        help="scores as 5 sigmoid(logit); the raw logit; 5 cos(u, v); 26 classes 0.0, 0.2 ... 5.0; 6 classes 0 ... 5 "
        "(default: %(default)s)",
    )
    add(
        "--sts_cosine",
        choices=("scaled", "shifted", "embedding"),
        default="scaled",
        help="the cosine head's score: 5 cos; 5 (cos + 1) / 2; that, trained with CosineEmbeddingLoss "
        "(default: %(default)s)",
    )
    add(
        "--sts_predict",
        choices=("argmax", "expectation"),
        default="argmax",
        help="the score that the 26 or 6 classes predict (default: %(default)s)",
    )
    add(
        "--sst_head",
        choices=("softmax", "coral"),
        default="softmax",
        help="coral: the five sentiments as ranks, CORAL ordinal regression (default: %(default)s)",
    )


def _add_schedule(group):
    add = group.add_argument
    add(
        "--schedule",
        choices=SCHEDULES,
        default="simultaneous",
        metavar="NAME",
        help="simultaneous: a batch of every task each step; sequential: the same, an update after each; round_robin: "
        "in turns until each set is used up; balanced_round_robin: sets cut to the smallest; in_turn: one task after "
        "the other; mtdnn_upsample: as sequential, tasks as given; mtdnn: every batch once, shuffled; annealed: tasks "
        "drawn by size, later evenly (default: %(default)s)",
    )
    add(
        "--step",
        choices=("summed", "per_task"),
        help="one update on the sum of the tasks' losses, or one after each task's batch (default: the schedule's own: "
        "summed for simultaneous, otherwise per_task)",
    )
    add(
        "--task_order",
        type=types.names,
        metavar="T,...",
        help="order of the tasks in a schedule that has one (default: the schedule's own)",
    )
    add(
        "--batch_size",
        type=types.one_or_per_task(types.positive(int)),
        default=8,
        metavar="N",
        help="examples of each task in a batch: one number, or per task as sst=64,quora=32 (default: %(default)s)",
    )
    add(
        "--epoch_steps",
        type=types.positive(int),
        metavar="N",
        help="an epoch has N batches of each task, sets starting again as needed (simultaneous, sequential, "
        "mtdnn_upsample; default: as many as the longest has)",
    )
    add(
        "--shuffle",
        choices=("epoch", "once"),
        default="epoch",
        help="shuffle each set anew every epoch, or once (default: %(default)s)",
    )
    add(
        "--balanced_sample",
        choices=("epoch", "once"),
        default="epoch",
        help="balanced_round_robin: draw the sample of the larger sets every epoch, or once (default: %(default)s)",
    )


def _add_training(group):
    add = group.add_argument
    add("--epochs", type=types.positive(int), default=10, metavar="N", help="epochs (default: %(default)s)")
    add(
        "--lr",
        type=types.one_or_more(types.positive(float)),
        metavar="X",
        help="learning rate; several, as 2e-5,3e-5, are tried in turn and the best on dev is kept (default: 1e-3 for "
        "pretrain, 1e-5 for finetune)",
    )
    add("--seed", type=types.seed, default=11711, metavar="N", help="random seed (default: %(default)s)")
    add(
        "--lr_schedule",
        choices=("constant", "linear"),
        default="constant",
        help="linear: warm-up, then linear decay to 0 (default: %(default)s)",
    )
    add(
        "--warmup",
        type=types.share,
        default=0.0,
        metavar="SHARE",
        help="share of all updates in which the rate rises from 0; needs --lr_schedule linear (default: 0)",
    )
    add("--clip", type=types.positive(float), metavar="NORM", help="clip the gradient's norm to this (default: off)")
    add("--weight_decay", type=types.not_negative(float), default=0.0, metavar="X", help="decoupled decay (default: 0)")
    add(
        "--no_decay_bias_norm",
        action="store_true",
        help="leave biases and LayerNorm out of the weight decay (default: decay everything, as the course)",
    )
    add(
        "--patience",
        type=types.positive(int),
        metavar="N",
        help="stop after N epochs without a better score (default: off)",
    )
    add("--use_gpu", action="store_true", help="train on the CUDA device")
    add(
        "--precision",
        choices=("fp32", "bf16"),
        help="bf16: autocast with fp32 weights, GPU only (default: bf16 with --use_gpu, otherwise fp32)",
    )
    add("--compile", action="store_true", help="compile the optimizer's update (needs a C++ compiler on a CPU)")


def _add_data(group):
    add = group.add_argument
    add("--data_dir", metavar="DIR", help="the course's files (default: data/cs224n if it exists, else data/sample)")
    add("--glue_dir", metavar="DIR", help="GLUE's folders (default: data/glue if it exists, else data/sample/glue)")
    add("--imdb_dir", metavar="DIR", help="IMDB's files, for --tasks imdb (default: data/imdb)")
    add(
        "--limit",
        type=types.per_task(types.rows_or_share),
        default={},
        metavar="T=N,...",
        help="train on a fixed subset of a task: rows (quora=14057) or a share (quora=0.1)",
    )
    add(
        "--dev_limit",
        type=types.per_task(types.rows_or_share),
        default={},
        metavar="T=N,...",
        help="score a fixed part of a task's dev set, for sweeps",
    )
    add(
        "--labels_per_class",
        type=types.positive(int),
        metavar="N",
        help="keep the labels of N training rows of each class (of STS: of its 26 scores), drawn by --seed; the rest "
        "is text without labels",
    )
    add(
        "--train_on_augmented",
        type=types.per_task(str),
        default={},
        metavar="T=FILE,...",
        help="train on changed texts (augmentation.py writes them) instead of a task's own: each has the label of its "
        "original, by id; rows without one are left out",
    )
    for flag in INPUTS:
        prefix, split = flag.split("_")
        add(f"--{flag}", metavar="FILE", help=f"{COURSE_NAMES[prefix]}: the {split} file (default: in --data_dir)")
    for flag in OUTPUTS:
        prefix, split, _ = flag.split("_")
        add(f"--{flag}", metavar="FILE", help=f"{COURSE_NAMES[prefix]}: {split} predictions (default: in the run)")


def _add_run(group):
    add = group.add_argument
    add("--run_dir", metavar="DIR", help="the run's folder, which must be new (default: runs/ and the time)")
    add(
        "--resume",
        nargs="?",
        const=True,
        metavar="DIR",
        help="continue a killed run, to the same result as if it had not been killed: the run in DIR, or in --run_dir",
    )
    add(
        "--checkpoint_minutes",
        type=types.positive(float),
        default=10.0,
        metavar="M",
        help="save the state this often besides at the end of each epoch (default: 10)",
    )
    add("--skip_test", action="store_true", help="no test predictions at the end, for sweeps")
    add("--eval_train", action="store_true", help="also score the best model on the training sets")
    add("--tensorboard", action="store_true", help="also write TensorBoard event files into the run")


def _add_saved_runs(group):
    add = group.add_argument
    add(
        "--evaluate",
        metavar="RUN",
        help="score a saved run on dev and write dev and test predictions into RUN/evaluation (or --run_dir)",
    )
    add(
        "--predict",
        metavar="RUN",
        help="read sentences, or pairs with a tab between, and print what each head of a saved run says",
    )
    add("--input", metavar="FILE", help="what --predict reads (default: standard input)")
