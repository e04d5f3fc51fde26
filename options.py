"""Every flag of multitask_classifier.py, its help, and the checks across flags. Imports no torch: `--help` is instant.

Names and meanings are those of the course's starter (CS224N default project) where it has them.
"""

import argparse
import time
from pathlib import Path

from files import UserError

COURSE_NAMES = {"sst": "sst", "para": "quora", "sts": "sts"}  # the course's flag prefixes -> our task names
INPUTS = [f"{prefix}_{split}" for prefix in COURSE_NAMES for split in ("train", "dev", "test")]
OUTPUTS = [f"{prefix}_{split}_out" for prefix in COURSE_NAMES for split in ("dev", "test")]
LEARNING_RATES = {"pretrain": 1e-3, "finetune": 1e-5}
NOT_SAVED = ("resume",)  # how a run is continued is not part of what it computes
MAY_CHANGE = ("run_dir", "tensorboard", "checkpoint_minutes")  # these do not decide what a run computes either

EPILOG = """examples:
  python multitask_classifier.py --option finetune --use_gpu
  python multitask_classifier.py --option finetune --model minilm --lr 5e-5 --batch_size 16 --epochs 3 \\
      --lr_schedule linear --warmup 0.1 --clip 1 --weight_decay 0.01 --limit quora=14057
  python multitask_classifier.py --option pretrain --tasks cfimdb
  python multitask_classifier.py --resume runs/NAME
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
    _add_what_is_trained(parser.add_argument_group("what is trained"))
    _add_training(parser.add_argument_group("training"))
    _add_data(parser.add_argument_group("data"))
    _add_run(parser.add_argument_group("the run"))
    return parser


def _add_what_is_trained(group):
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
        type=_fine_tune_mode,
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
        type=_names,
        metavar="T,...",
        default=["sst", "quora", "sts"],
        help="tasks to train on: sst, quora, sts, cfimdb, rte, qqp, mnli, sst2, or one of your own in datasets.TASKS "
        "(default: sst,quora,sts). Training any of the first three scores all three",
    )
    add(
        "--attention",
        choices=("plain", "fused"),
        default="plain",
        help="plain: attention written out; fused: torch's kernel, the same function (default: %(default)s)",
    )
    add(
        "--max_length",
        type=_max_length,
        default=512,
        metavar="N",
        help="longest sequence in tokens (default: 512, or as many as the model has positions)",
    )


def _add_training(group):
    add = group.add_argument
    add("--epochs", type=_positive(int), default=10, metavar="N", help="epochs (default: %(default)s)")
    add(
        "--lr",
        type=_positive(float),
        metavar="X",
        help="learning rate (default: 1e-3 for pretrain, 1e-5 for finetune)",
    )
    add(
        "--batch_size",
        type=_one_or_per_task(_positive(int)),
        default=8,
        metavar="N",
        help="examples of each task in a batch: one number, or per task as sst=64,quora=32 (default: %(default)s)",
    )
    add("--hidden_dropout_prob", type=_share, default=0.3, metavar="P", help="dropout of the heads (default: 0.3)")
    add("--seed", type=_seed, default=11711, metavar="N", help="random seed (default: %(default)s)")
    add(
        "--schedule",
        choices=("simultaneous", "sequential"),
        default="simultaneous",
        help="simultaneous: a batch of every task a step, losses summed; sequential: an update after each batch "
        "(default: %(default)s)",
    )
    add(
        "--lr_schedule",
        choices=("constant", "linear"),
        default="constant",
        help="linear: warm-up, then linear decay to 0 (default: %(default)s)",
    )
    add(
        "--warmup",
        type=_share,
        default=0.0,
        metavar="SHARE",
        help="share of all updates in which the rate rises from 0; needs --lr_schedule linear (default: 0)",
    )
    add("--clip", type=_positive(float), metavar="NORM", help="clip the gradient's norm to this (default: off)")
    add("--weight_decay", type=_not_negative(float), default=0.0, metavar="X", help="decoupled decay (default: 0)")
    add(
        "--no_decay_bias_norm",
        action="store_true",
        help="leave biases and LayerNorm out of the weight decay (default: decay everything, as the course)",
    )
    add(
        "--patience", type=_positive(int), metavar="N", help="stop after N epochs without a better score (default: off)"
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
    add(
        "--limit",
        type=_per_task(_rows_or_share),
        default={},
        metavar="T=N,...",
        help="train on a fixed subset of a task: rows (quora=14057) or a share (quora=0.1)",
    )
    add(
        "--dev_limit",
        type=_per_task(_rows_or_share),
        default={},
        metavar="T=N,...",
        help="score a fixed part of a task's dev set, for sweeps",
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
        type=_positive(float),
        default=10.0,
        metavar="M",
        help="save the state this often besides at the end of each epoch (default: 10)",
    )
    add("--tensorboard", action="store_true", help="also write TensorBoard event files into the run")


def parse(argv=None):
    """The command line as a namespace with every flag resolved, plus `given`: the names that were on the line."""
    parser = build_parser()
    options = parser.parse_args(argv)
    silent = build_parser()
    for action in silent._actions:
        action.default = argparse.SUPPRESS
    options.given = sorted(vars(silent.parse_args(argv)))
    if options.resume is True and options.run_dir is None:
        raise UserError("--resume: which run? Give its folder, as --resume DIR or with --run_dir DIR")
    return options


def check(options):
    """Fill in what depends on other flags, and refuse combinations that make no sense. Raises UserError."""
    if options.lr is None:
        options.lr = LEARNING_RATES[options.option]
    if options.precision is None:
        options.precision = "bf16" if options.use_gpu else "fp32"
    if options.precision == "bf16" and not options.use_gpu:
        raise UserError("--precision bf16 needs --use_gpu: on most CPUs bf16 is many times slower than fp32")
    if options.warmup and options.lr_schedule == "constant":
        raise UserError("--warmup needs --lr_schedule linear (a constant rate has no warm-up)")
    if options.no_decay_bias_norm and not options.weight_decay:
        raise UserError("--no_decay_bias_norm does nothing without --weight_decay")
    _check_tasks(options)
    outputs = {}
    for flag in OUTPUTS:
        if (path := getattr(options, flag)) and (other := outputs.setdefault(Path(path), flag)) != flag:
            raise UserError(f"--{flag} {path}: --{other} is written there; give each its own file")
    if options.run_dir is None:
        options.run_dir = str(Path("runs") / time.strftime("%Y-%m-%d_%H-%M-%S"))
    return options


def _check_tasks(options):
    """Refuse a flag about a task that the run does not train or score."""
    scored, trained = scored_tasks(options), ",".join(options.tasks)
    for flag, tasks in (("limit", options.tasks), ("batch_size", options.tasks), ("dev_limit", scored)):
        value = getattr(options, flag)
        if unknown := sorted(set(value) - set(tasks)) if isinstance(value, dict) else []:
            raise UserError(f"--{flag} names {', '.join(unknown)}: no use in a run with --tasks {trained}")
    for flag in (*INPUTS, *OUTPUTS):
        prefix, split, *_ = flag.split("_")
        if getattr(options, flag) and COURSE_NAMES[prefix] not in (options.tasks if split == "train" else scored):
            raise UserError(f"--{flag} is of no use in a run with --tasks {trained}")
    if isinstance(options.batch_size, dict) and (missing := [t for t in options.tasks if t not in options.batch_size]):
        raise UserError(f"--batch_size gives no size for {', '.join(missing)}: name every task, or give one number")


def scored_tasks(options):
    """Every task with a head: those trained, and all of the course's three once one of them is trained."""
    three = [*COURSE_NAMES.values()] if set(COURSE_NAMES.values()) & set(options.tasks) else []
    return options.tasks + [task for task in three if task not in options.tasks]


def to_saved(options):
    """The flags that decide what a run computes, for its config.json."""
    return {name: value for name, value in sorted(vars(options).items()) if name not in (*NOT_SAVED, "given")}


def resumed(options, saved):
    """The flags of the run being continued; a flag given now must agree with them. Raises UserError."""
    for name in options.given:
        if name in (*NOT_SAVED, *MAY_CHANGE) or name not in saved:
            continue
        if getattr(options, name) != saved[name]:
            raise UserError(
                f"--{name} {getattr(options, name)}: the run to resume has {saved[name]}; leave the flag out"
            )
    keep = {name: getattr(options, name) for name in (*NOT_SAVED, *MAY_CHANGE, "given")}
    defaults = vars(build_parser().parse_args([]))  # of flags that did not exist when the run began
    return argparse.Namespace(**{**defaults, **saved, **keep})


# ------------------------------------------------------------------------------------------------- types of values


def _fine_tune_mode(text):
    modes = {"last-linear-layer": "pretrain", "full-model": "finetune"}
    if text not in modes:
        raise argparse.ArgumentTypeError(f"{text!r}: choose last-linear-layer or full-model")
    return modes[text]


def _names(text):
    """Names of tasks. Whether there is such a task is for datasets.py to say."""
    names = [name.strip() for name in text.split(",")]
    if "" in names:
        raise argparse.ArgumentTypeError(f"{text!r}: expected names with commas between them")
    if len(set(names)) < len(names):
        raise argparse.ArgumentTypeError(f"{text!r} names a task twice")
    return names


def _number(kind, text, least, strictly, most=float("inf")):
    try:
        value = kind(text)
    except ValueError:
        value = None
    if value is None or not (value > least if strictly else value >= least) or not value < most:
        bound = f"{'above' if strictly else 'at least'} {least}" + (
            "" if most == float("inf") else f" and below {most}"
        )
        noun = "a whole number" if kind is int else "a number"
        raise argparse.ArgumentTypeError(f"{text!r}: expected {noun} {bound}")
    return value


def _positive(kind):
    return lambda text: _number(kind, text, 0, strictly=True)


def _not_negative(kind):
    return lambda text: _number(kind, text, 0, strictly=False)


def _seed(text):
    return _number(int, text, 0, strictly=False, most=2**63)  # torch takes no larger one


def _max_length(text):
    return _number(int, text, 5, strictly=False)  # room for [CLS] a [SEP] b [SEP]


def _share(text):
    return _number(float, text, 0, strictly=False, most=1)


def _rows_or_share(text):
    """14057 is a number of rows, 0.1 a share of them."""
    if "." not in text:
        return _number(int, text, 0, strictly=True)
    value = _number(float, text, 0, strictly=True)
    if value > 1:
        raise argparse.ArgumentTypeError(f"{text!r}: a share is at most 1.0; rows are whole numbers")
    return value


def _per_task(value_type):
    def parse_pairs(text):
        values = {}
        for part in text.split(","):
            name, equals, value = part.partition("=")
            if not equals:
                raise argparse.ArgumentTypeError(f"{part!r}: expected task=value,...")
            values[_names(name)[0]] = value_type(value)
        return values

    return parse_pairs


def _one_or_per_task(value_type):
    return lambda text: _per_task(value_type)(text) if "=" in text else value_type(text)
