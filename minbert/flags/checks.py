"""The command line of multitask_classifier.py: parsing, the checks across flags, and flags saved and resumed.

The flags themselves are in flags.py. Imports no torch: a mistake is answered at once.
"""

import argparse
import time
from pathlib import Path

from minbert.files import UserError
from minbert.flags.parser import COURSE_NAMES, INPUTS, OUTPUTS, build_parser

LEARNING_RATES = {"pretrain": 1e-3, "finetune": 1e-5}
ONE_TASK_AT_A_TIME = ("in_turn", "mtdnn", "annealed")  # schedules whose steps cannot be summed over tasks
WITHOUT_ORDER = ("mtdnn", "annealed")  # schedules that mix the tasks at random
NOT_SAVED = ("resume", "evaluate", "predict", "input")  # not part of what a run computes
MAY_CHANGE = ("run_dir", "tensorboard", "checkpoint_minutes", "skip_test")  # these do not decide it either
PAPER_TASKS = ("rte", "qqp", "mnli", "sst2")  # of the pseudo-label paper
NOT_WITH_SCHEMES = (
    *("pairs", "schedule", "step", "task_order", "balanced_sample", "init", "eval_train"),
    *("pcgrad", "smart", "smart_radius", "r_drop", "tsa", "uda", "unlabeled", "mean_teacher", "labels_per_class"),
    *("train_on_augmented", "sts_head", "sts_cosine", "sts_predict", "sst_head"),
)
BY_LONGEST = ("simultaneous", "sequential", "mtdnn_upsample")  # schedules whose length may be set
OF_UDA = ("uda_weight", "uda_temperature", "uda_threshold", "uda_mean")
OF_TEACHER = ("ema_decay", "consistency_weight", "ramp_up", "teacher_mode")
OF_BREGMAN = ("ema_decay", "consistency_weight", "ramp_up")  # what that preset settles itself
WITH_EVALUATE = (
    "evaluate",
    "data_dir",
    "glue_dir",
    "imdb_dir",
    "dev_limit",
    "run_dir",
    "use_gpu",
    "precision",
    *INPUTS,
)
WITH_PREDICT = ("predict", "input", "use_gpu", "precision")


def parse(argv=None):
    """The command line as a namespace with every flag resolved, plus `given`: the names that were on the line."""
    parser = build_parser()
    options = parser.parse_args(argv)
    silent = build_parser()
    for action in silent._actions:
        action.default = argparse.SUPPRESS
    options.given = sorted(vars(silent.parse_args(argv)))
    for flag, useful in (("evaluate", WITH_EVALUATE), ("predict", WITH_PREDICT)):
        useless = [name for name in options.given if name not in useful]
        if getattr(options, flag) and useless:
            raise UserError(f"--{useless[0]} is of no use with --{flag}: the saved run says how it was made")
    if options.input and not options.predict:
        raise UserError("--input is what --predict reads: give --predict RUN too")
    if options.resume is True and options.run_dir is None:
        raise UserError("--resume: which run? Give its folder, as --resume DIR or with --run_dir DIR")
    return options


def check(options):
    """Fill in what depends on other flags, and refuse combinations that make no sense. Raises UserError."""
    if options.lr is None:
        options.lr = LEARNING_RATES[options.option]
    if options.tasks is None:
        options.tasks = list(PAPER_TASKS if options.label_scheme else COURSE_NAMES.values())
    _check_pseudo_labels(options)
    if options.precision is None:
        options.precision = "bf16" if options.use_gpu else "fp32"
    if options.precision == "bf16" and not options.use_gpu:
        raise UserError("--precision bf16 needs --use_gpu: on most CPUs bf16 is many times slower than fp32")
    if options.warmup and options.lr_schedule == "constant":
        raise UserError("--warmup needs --lr_schedule linear (a constant rate has no warm-up)")
    if options.no_decay_bias_norm and not options.weight_decay:
        raise UserError("--no_decay_bias_norm does nothing without --weight_decay")
    if {"init", "model"} <= set(options.given):
        raise UserError("--init brings its run's model: leave --model out")
    _check_tasks(options)
    _check_heads(options)
    _check_schedule(options)
    _check_extras(options)
    _check_semi_supervised(options)
    outputs = {}
    for flag in OUTPUTS:
        if (path := getattr(options, flag)) and (other := outputs.setdefault(Path(path), flag)) != flag:
            raise UserError(f"--{flag} {path}: --{other} is written there; give each its own file")
    if options.skip_test and (useless := [flag for flag in outputs.values() if flag.endswith("test_out")]):
        raise UserError(f"--{useless[0]} is of no use with --skip_test, which leaves the test predictions out")
    if options.run_dir is None:
        options.run_dir = str(Path("runs") / time.strftime("%Y-%m-%d_%H-%M-%S"))
    return options


def _check_tasks(options):
    """Refuse a flag about a task that the run does not train or score."""
    scored, trained = scored_tasks(options), ",".join(options.tasks)
    for flag, tasks in (
        *((flag, options.tasks) for flag in ("limit", "batch_size", "uda", "unlabeled", "train_on_augmented")),
        ("dev_limit", scored),
    ):
        value = getattr(options, flag)
        if unknown := sorted(set(value) - set(tasks)) if isinstance(value, dict) else []:
            raise UserError(f"--{flag} names {', '.join(unknown)}: no use in a run with --tasks {trained}")
    for flag in (*INPUTS, *OUTPUTS):
        prefix, split, *_ = flag.split("_")
        if getattr(options, flag) and COURSE_NAMES[prefix] not in (options.tasks if split == "train" else scored):
            raise UserError(f"--{flag} is of no use in a run with --tasks {trained}")
    if isinstance(options.batch_size, dict) and (missing := [t for t in options.tasks if t not in options.batch_size]):
        raise UserError(f"--batch_size gives no size for {', '.join(missing)}: name every task, or give one number")


def _check_heads(options):
    if options.sts_head == "cosine" and options.pairs == "fused":
        raise UserError("--sts_head cosine compares two embeddings, but --pairs fused has one: add --pairs concat")
    if options.sts_head == "cosine" and options.option == "pretrain":
        raise UserError("--sts_head cosine has nothing to train on a frozen trunk: use --option finetune")
    if options.sts_cosine != "scaled" and options.sts_head != "cosine":
        raise UserError(f"--sts_cosine {options.sts_cosine} needs --sts_head cosine")
    if options.sts_predict != "argmax" and options.sts_head not in ("classification", "ordinal6"):
        raise UserError(f"--sts_predict {options.sts_predict} needs --sts_head classification or ordinal6")
    for flag, task in (("sts_head", "sts"), ("sst_head", "sst")):
        if flag in options.given and task not in scored_tasks(options):
            raise UserError(f"--{flag} is of no use in a run with --tasks {','.join(options.tasks)}")


def _check_schedule(options):
    schedule = options.schedule
    if options.step == "summed" and schedule in ONE_TASK_AT_A_TIME:
        raise UserError(f"--step summed: a step of --schedule {schedule} has one task only, so there is nothing to sum")
    if options.task_order is not None:
        if schedule in WITHOUT_ORDER:
            raise UserError(f"--task_order: --schedule {schedule} mixes the tasks at random")
        if unknown := [task for task in options.task_order if task not in options.tasks]:
            raise UserError(f"--task_order names {', '.join(unknown)}, not among --tasks {','.join(options.tasks)}")
    if options.epoch_steps and schedule not in BY_LONGEST:
        raise UserError(f"--epoch_steps: an epoch of --schedule {schedule} has a length of its own")
    if options.balanced_sample != "epoch" and schedule != "balanced_round_robin":
        raise UserError("--balanced_sample needs --schedule balanced_round_robin")


def _check_extras(options):
    for flag in ("pcgrad", "smart", "r_drop"):
        if getattr(options, flag) and options.option == "pretrain":
            raise UserError(f"--{flag} works on the trunk, which --option pretrain freezes: use --option finetune")
    if options.layer_decay != 1 and options.option == "pretrain":
        raise UserError("--layer_decay is about the trunk, which --option pretrain freezes: use --option finetune")
    if options.smart is None and "smart_radius" in options.given:
        raise UserError("--smart_radius is of no use without --smart")
    if options.pcgrad:
        summed = options.step == "summed" or (options.step is None and options.schedule == "simultaneous")
        if not summed or len(options.tasks) < 2:
            raise UserError("--pcgrad needs steps with several tasks: --schedule simultaneous, or --step summed")


def _check_semi_supervised(options):
    for needed, flags in (("uda", OF_UDA), ("mean_teacher", OF_TEACHER)):
        if useless := [flag for flag in flags if flag in options.given and not getattr(options, needed)]:
            raise UserError(f"--{useless[0]} is of no use without --{needed}")
    if options.mean_teacher == "bregman" and (settled := [flag for flag in OF_BREGMAN if flag in options.given]):
        raise UserError(f"--{settled[0]}: --mean_teacher bregman settles that itself")
    if not options.uda and not options.mean_teacher:
        if useless := [flag for flag in ("unlabeled", "unlabeled_batch_size") if flag in options.given]:
            raise UserError(f"--{useless[0]} is of no use without --uda or --mean_teacher")
    elif not options.mean_teacher and (useless := [task for task in options.unlabeled if task not in options.uda]):
        raise UserError(f"--unlabeled names {', '.join(useless)}, which --uda does not: add it there, or leave it out")
    elif options.unlabeled_batch_size and not (options.uda or options.unlabeled or options.labels_per_class):
        raise UserError("--unlabeled_batch_size: there is no unlabelled text; add --unlabeled or --labels_per_class")


def _check_pseudo_labels(options):
    """Also settles at which rates a scheme's plain models are tried."""
    if options.label_scheme is None:
        for flag in ("plain_dir", "plain_lr", "literal_eq20"):
            if flag in options.given:
                raise UserError(f"--{flag} is of no use without --label_scheme")
        return
    if options.plain_lr is None:
        options.plain_lr = options.lr if isinstance(options.lr, list) else [options.lr]
    if course := [task for task in options.tasks if task in COURSE_NAMES.values()]:
        raise UserError(f"--label_scheme cannot have {course[0]} in --tasks: it comes with STS, which has no labels")
    if options.literal_eq20 and options.label_scheme != "hard_predicted":
        raise UserError("--literal_eq20 changes hard_predicted alone")
    if options.label_scheme.endswith("_frozen") and options.option == "pretrain":
        raise UserError(
            f"--label_scheme {options.label_scheme} freezes the head: use --option finetune to train at all"
        )
    for flag in NOT_WITH_SCHEMES:
        if flag in options.given:
            raise UserError(f"--{flag} is of no use with --label_scheme: one set, one head, fused pairs")
    if isinstance(options.batch_size, dict):
        raise UserError("--batch_size: with --label_scheme all tasks are one set, so give one number")


def scored_tasks(options):
    """Every task with a head: those trained, and all of the course's three once one of them is trained."""
    three = [*COURSE_NAMES.values()] if set(COURSE_NAMES.values()) & set(options.tasks) else []
    return options.tasks + [task for task in three if task not in options.tasks]


def to_saved(options):
    """The flags that decide what a run computes, for its config.json."""
    return {name: value for name, value in sorted(vars(options).items()) if name not in (*NOT_SAVED, "given")}


def resumed(options, saved):
    """The flags of the run being continued; a flag given now must agree with them. Raises UserError."""
    defaults = vars(build_parser().parse_args([]))  # of flags that did not exist when the run began
    saved = {**defaults, **saved}
    for name in options.given:
        if name not in (*NOT_SAVED, *MAY_CHANGE) and getattr(options, name) != saved[name]:
            raise UserError(
                f"--{name} {getattr(options, name)}: the run to resume has {saved[name]}; leave the flag out"
            )
    keep = {name: getattr(options, name) for name in (*NOT_SAVED, *MAY_CHANGE, "given")}
    return argparse.Namespace(**{**saved, **keep})


def of_saved_run(options, saved):
    """The flags of a saved run that is not to be trained on, with those that were given now. What it began with
    (--init) is past, its own prediction files (--sst_dev_out and its kin) stay as they are, and --skip_test was for
    its end."""
    defaults = vars(build_parser().parse_args([]))
    now = {name: getattr(options, name) for name in ("use_gpu", "precision", "given")}
    now |= dict.fromkeys(("init", "skip_test", *OUTPUTS))
    given = {name: getattr(options, name) for name in options.given}
    return argparse.Namespace(**{**defaults, **saved, **now, **given})
