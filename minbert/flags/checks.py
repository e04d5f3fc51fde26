"""The command line of multitask_classifier.py: parsing, the checks across flags, and flags saved and resumed.

The flags themselves are in parser.py and methods.py. What is not checked yet is a namespace; `check` makes of it the
frozen groups of `Options`, and nobody else changes a flag. Imports no torch: a mistake is answered at once.
"""

import argparse
import hashlib
import json
import secrets
import sys
import time
from dataclasses import fields
from pathlib import Path

from datasets import GLUE_TASKS, TASKS
from minbert.choices import CLASS_STEPS, LR_SCHEDULES
from minbert.files import UserError, short
from minbert.flags import own_task, types
from minbert.flags.config_file import with_config
from minbert.flags.extension import GROW, extension
from minbert.flags.fields import needs_of, take
from minbert.flags.groups import COURSE_NAMES, INPUTS, MODES, ONLY_OUTPUTS, OUTPUTS, Heads
from minbert.flags.methods import FROM_COPIES, Regularizers, SemiSupervised
from minbert.flags.parser import DEFAULTS, GROUPS, Options, also_scored_once, build_parser
from minbert.methods.schedules import SCHEDULES

LEARNING_RATES = {"pretrain": 1e-3, "finetune": 1e-5}
NOT_SAVED = ("resume", "config", "evaluate", "predict", "input", "output", "format", "export")  # not what a run is
MAY_CHANGE = ("run_dir", "tensorboard", "checkpoint_minutes", "skip_test", "keep_state", "log_every")
PREDICTIONS = (*OUTPUTS, *ONLY_OUTPUTS, "predictions_dir")  # flags that say where predictions go
WRITTEN = (*PREDICTIONS, "plain_dir")  # where a run writes besides its own folder, which decides nothing either
# Where files are, which decides nothing: what is in them is held by the record of model and data
ELSEWHERE = (*MAY_CHANGE, *WRITTEN, "data_dir", "glue_dir", "imdb_dir", "text", *INPUTS, "train", "dev", "test")
OF_METHODS = [one.name for group in (Heads, Regularizers, SemiSupervised) for one in fields(group)]
NOT_WITH_SCHEMES = (
    *(name for name in OF_METHODS if name not in ("pooling", "head_bias")),
    *("schedule", "step", "task_order", "balanced_sample", "init", "eval_train"),
    *("labels_per_class", "train_on_augmented", "also_score"),
)
NEEDS = needs_of(GROUPS.values())
OF_BREGMAN = ("ema_decay", "consistency_weight", "ramp_up")  # what that preset settles itself
WITH_PREDICT = ("predict", "input", "output", "format", "use_gpu", "device", "precision")
WITH_EVALUATE = (
    *(
        "evaluate",
        "data_dir",
        "glue_dir",
        "imdb_dir",
        "dev_limit",
        "run_dir",
        "use_gpu",
        "precision",
        "dev",
        "test",
        "device",
    ),
    *INPUTS,
)


def parse(argv=None):
    """The command line as a namespace, not yet checked, plus `given`: the names that were on the line."""
    parser = build_parser()
    argv = with_config(sys.argv[1:] if argv is None else argv, parser, _flags_typed)
    options = parser.parse_with_given(argv)
    for flag, useful in (("evaluate", WITH_EVALUATE), ("predict", WITH_PREDICT), ("export", ("export",))):
        useless = [name for name in options.given if name not in useful]
        if getattr(options, flag) and useless:
            raise UserError(f"--{useless[0]} is of no use with --{flag}: the saved run says how it was made")
    for flag in ("input", "output", "format"):
        if flag in options.given and not options.predict:
            raise UserError(f"--{flag} is of no use without --predict: give --predict RUN too")
    settle_device(options)
    check_resume(options)
    return options


def settle_device(options):
    """--device cpu and cuda become what --use_gpu says, so that a run is the same by either name; auto becomes one of
    the others."""
    if options.device is None:
        return
    if options.device == "auto":
        from minbert.layers import devices  # imports torch

        options.device = devices.best()
    if options.use_gpu and options.device != "cuda":
        raise UserError(f"--use_gpu is --device cuda, not {options.device}: leave one of them out")
    if options.device != "mps":
        options.use_gpu, options.device = options.device == "cuda", None
        options.given = sorted({*options.given, "use_gpu"} - {"device"})


def _flags_typed(saved, where):
    """{flag: value} of a run's config.json that another run like it would be given: without places of its own."""
    flags = checked_flags(saved, build_parser(), where)
    own = (*NOT_SAVED, *PREDICTIONS, "run_dir")
    return {name: value for name, value in flags.items() if name not in own and value != DEFAULTS[name]}


def check_resume(options):
    if options.resume is True and options.run_dir is None:
        raise UserError("--resume: which run? Give its folder, as --resume DIR or with --run_dir DIR")


def folder_of(options):
    """The folder of the run to resume, or of the new one."""
    return Path(options.resume if isinstance(options.resume, str) else options.run_dir or "")


def check(options):
    """`Options` of a namespace: what depends on other flags is filled in, and combinations that make no sense are
    refused. Raises UserError."""
    options = argparse.Namespace(**vars(options))
    if options.fine_tune_mode:
        if "option" in options.given and options.option != MODES[options.fine_tune_mode]:
            mode = f"--fine_tune_mode {options.fine_tune_mode} is --option {MODES[options.fine_tune_mode]}"
            raise UserError(f"{mode}, not {options.option}: leave one of them out")
        options.option = MODES[options.fine_tune_mode]
    if options.lr is None:
        options.lr = LEARNING_RATES[options.option]
    own = own_task.checked(options)
    if options.tasks is None:
        options.tasks = list(own) or list(GLUE_TASKS if options.label_scheme else COURSE_NAMES.values())
    options.also_score = [task for task in options.also_score or () if task not in options.tasks] or None
    _check_rates(options)
    _check_pseudo_labels(options)
    _check_needs(options)
    options.precision = checked_precision(options.precision, options.use_gpu, options.smart)
    _check_mps(options)
    if options.warmup and options.lr_schedule == "constant":
        others = " or ".join(name for name in LR_SCHEDULES if name != "constant")
        raise UserError(f"--warmup needs --lr_schedule {others} (a constant rate has no warm-up)")
    if options.no_decay_bias_norm and not options.weight_decay:
        raise UserError("--no_decay_bias_norm does nothing without --weight_decay")
    if {"init", "model"} <= set(options.given):
        raise UserError("--init brings its run's model: leave --model out")
    _check_tasks(options)
    _check_heads(options)
    _check_schedule(options)
    _check_extras(options)
    _check_semi_supervised(options)
    _check_outputs(options)
    _check_kinds(options)
    options.run_dir = options.run_dir or new_run_dir()
    return Options.of(vars(options))


def new_run_dir():
    """Named by the time, and by chance: the jobs of an array begin in the same second."""
    return str(Path("runs") / f"{time.strftime('%Y-%m-%d_%H-%M-%S')}-{secrets.token_hex(4)}")


def checked_precision(precision, use_gpu, smart=0):
    """The precision asked for, or the device's own. Whether a CPU multiplies bf16 is asked of torch, later."""
    if precision == "bf16" and smart:
        raise UserError("--smart needs --precision fp32: its step of 1e-5 is lost among the three digits of bf16")
    return precision or ("bf16" if use_gpu and not smart else "fp32")


def _check_mps(options):
    """What torch cannot do on Apple's GPUs."""
    for flag, does in (
        ("compile", options.compile),
        ("precision", options.precision == "bf16"),
        ("smart", options.smart),
    ):
        if options.device == "mps" and does:
            raise UserError(f"--{flag} is not for --device mps yet: leave it out, or run with --device cpu")


def _check_rates(options):
    """Refuse rates of a grid whose attempts would have one folder, and a decay that overflows in the update."""
    rates, told = options.lr if isinstance(options.lr, list) else [options.lr], {}
    for rate in rates:
        if (other := told.setdefault(f"{rate:g}", rate)) != rate:
            raise UserError(f"--lr {other},{rate}: the attempts at both would be called lr-{rate:g}; leave one out")
    if options.weight_decay * max(rates) > types.FLOAT_MAX:
        raise UserError(
            f"--weight_decay {options.weight_decay:g} times --lr {max(rates):g} is more than a float holds; lower one"
        )


def _check_tasks(options):
    """Refuse a flag about a task that the run does not train or score."""
    scored, trained = [*options.tasks, *(options.also_score or ())], ",".join(options.tasks)
    for flag, tasks in (
        *((flag, options.tasks) for flag in ("limit", "batch_size", *FROM_COPIES, "unlabeled", "train_on_augmented")),
        ("loss_weight", options.tasks),
        ("dev_limit", scored),
    ):
        value = getattr(options, flag)
        if unknown := sorted(set(value) - set(tasks)) if isinstance(value, dict) else []:
            raise UserError(f"--{flag} names {', '.join(unknown)}: no use in a run with --tasks {trained}")
    for flag in (*INPUTS, *OUTPUTS):
        prefix, split, *_ = flag.split("_")
        if getattr(options, flag) and COURSE_NAMES[prefix] not in (options.tasks if split == "train" else scored):
            raise UserError(f"--{flag} is of no use in a run with --tasks {trained}")
    for flag in ONLY_OUTPUTS:
        if getattr(options, flag) and len(scored) > 1:
            raise UserError(f"--{flag} is for a run with one task, this has {', '.join(scored)}: use --predictions_dir")
        others = [other for other in OUTPUTS if other.endswith(flag) and getattr(options, other)]
        if getattr(options, flag) and others:
            raise UserError(f"--{flag} and --{others[0]} both say where the same predictions go: leave one out")
    if isinstance(options.batch_size, dict) and (missing := [t for t in options.tasks if t not in options.batch_size]):
        raise UserError(f"--batch_size gives no size for {', '.join(missing)}: name every task, or give one number")


def _check_kinds(options):
    """Unknown tasks, and what flags need of their kinds: --pairs a task on pairs, --sts_head one with a score,
    --sst_head one with ordered classes, TSA and what learns from copies probabilities."""
    names = [*options.tasks, *(options.also_score or ())]
    known = {**TASKS, **take(own_task.OwnTask, vars(options)).tasks}
    if unknown := [name for name in names if name not in known]:
        raise UserError(f"{', '.join(unknown)}: no such task; there are {', '.join(known)}, or your own with --train")
    tasks = {name: known[name] for name in names}
    for flag, of_use, none in (
        ("pairs", any(task.is_pair for task in tasks.values()), "no task reads pairs"),
        ("sts_head", any(task.kind == "regression" for task in tasks.values()), "no task has a score"),
        ("sst_head", any(task.ordered for task in tasks.values()), "no task has ordered classes"),
    ):
        if flag in options.given and not of_use:
            raise UserError(f"--{flag} is of no use in a run with --tasks {','.join(options.tasks)}: {none}")
    asked = {"tsa": options.tasks if options.tsa else (), **{flag: getattr(options, flag) for flag in FROM_COPIES}}
    for name, flag in ((name, flag) for name in tasks for flag in asked if name in asked[flag]):
        if tasks[name].kind == "regression" and options.sts_head not in CLASS_STEPS:
            raise UserError(f"--{flag} needs classes, but {name} has a regression head: add --sts_head classification")


def _check_heads(options):
    if options.sts_head == "cosine" and options.pairs == "fused":
        raise UserError("--sts_head cosine compares two embeddings, but --pairs fused has one: add --pairs concat")
    if options.sts_head == "cosine" and options.option == "pretrain":
        raise UserError("--sts_head cosine has nothing to train on a frozen trunk: use --option finetune")
    if options.head_bias != DEFAULTS["head_bias"] and (options.init or options.sts_head == "cosine"):
        why = "--init brings heads that are trained" if options.init else "--sts_head cosine has no layer"
        raise UserError(f"--head_bias {options.head_bias}: {why}")
    if options.sts_cosine != DEFAULTS["sts_cosine"] and options.sts_head != "cosine":
        raise UserError(f"--sts_cosine {options.sts_cosine} needs --sts_head cosine")
    if options.sts_predict != DEFAULTS["sts_predict"] and options.sts_head not in CLASS_STEPS:
        raise UserError(f"--sts_predict {options.sts_predict} needs --sts_head {' or '.join(CLASS_STEPS)}")


def _check_schedule(options):
    name, schedule = options.schedule, SCHEDULES[options.schedule]
    if options.step == "summed" and not schedule.summed:
        raise UserError(f"--step summed: a step of --schedule {name} has one task only, so there is nothing to sum")
    if options.task_order is not None:
        if not schedule.ordered:
            raise UserError(f"--task_order: --schedule {name} mixes the tasks at random")
        if unknown := [task for task in options.task_order if task not in options.tasks]:
            raise UserError(f"--task_order names {', '.join(unknown)}, not among --tasks {','.join(options.tasks)}")
    if options.epoch_steps and not schedule.by_longest:
        raise UserError(f"--epoch_steps: an epoch of --schedule {name} has a length of its own")
    if options.balanced_sample != DEFAULTS["balanced_sample"] and not schedule.balanced:
        raise UserError("--balanced_sample needs --schedule balanced_round_robin")


def _check_extras(options):
    for flag in ("pcgrad", "smart", "r_drop"):
        if getattr(options, flag) and options.option == "pretrain":
            raise UserError(f"--{flag} works on the trunk, which --option pretrain freezes: use --option finetune")
    if options.layer_decay != 1 and options.option == "pretrain":
        raise UserError("--layer_decay is about the trunk, which --option pretrain freezes: use --option finetune")
    if options.pcgrad:
        step = options.step or SCHEDULES[options.schedule].step
        if step != "summed" or len(options.tasks) < 2:
            raise UserError("--pcgrad needs steps with several tasks: --schedule simultaneous, or --step summed")
        if options.accumulate > 1:
            raise UserError("--pcgrad projects the gradients of one step, so --accumulate has none to add up")


def _check_needs(options):
    """Refuse a flag of a method that the run does not use: see `needs` in fields.flag."""
    for flag, needed in NEEDS.items():
        if flag in options.given and not any(getattr(options, other) for other in needed):
            raise UserError(f"--{flag} is of no use without --{' or --'.join(needed)}")


def _check_semi_supervised(options):
    if options.token_cache and options.option == "pretrain":
        raise UserError(
            "--token_cache: on a frozen trunk what it makes of all text is kept in memory; leave it out, or add "
            "--option finetune"
        )
    if options.mean_teacher == "bregman" and (settled := [flag for flag in OF_BREGMAN if flag in options.given]):
        raise UserError(f"--{settled[0]}: --mean_teacher bregman settles that itself")
    flags = take(SemiSupervised, vars(options))
    for flag in FROM_COPIES:
        for task, path in getattr(flags, flag).items():
            if flags.copies[task][1] != path:
                raise UserError(f"--{flag} {task}={path}: --{flags.copies[task][0]} names other copies of these texts")
    if not flags.reads_text and (useless := [task for task in flags.unlabeled if task not in flags.copies]):
        others = " or --".join(FROM_COPIES)
        raise UserError(
            f"--unlabeled names {', '.join(useless)}, which --{others} does not: add it there, or leave it out"
        )
    if options.unlabeled_batch_size and not (flags.copies or flags.unlabeled or options.labels_per_class):
        raise UserError("--unlabeled_batch_size: there is no unlabelled text; add --unlabeled or --labels_per_class")


def _check_pseudo_labels(options):
    """Also settles at which rates a scheme's plain models are tried."""
    if options.label_scheme is None:
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


def _check_outputs(options):
    outputs = {}
    for flag in (*OUTPUTS, *ONLY_OUTPUTS):
        if (path := getattr(options, flag)) and (other := outputs.setdefault(Path(path), flag)) != flag:
            raise UserError(f"--{flag} {path}: --{other} is written there; give each its own file")
    if options.skip_test and (useless := [flag for flag in outputs.values() if flag.endswith("test_out")]):
        raise UserError(f"--{useless[0]} is of no use with --skip_test, which leaves the test predictions out")


# ---------------------------------------------------------------------------------------------- saved and resumed


def to_saved(options):
    """The flags that decide what a run computes, for its config.json."""
    return {name: value for name, value in sorted(options.flat().items()) if name not in NOT_SAVED}


def digest(saved):
    """16 hex digits of the flags of a config.json, but for those that decide nothing or that its record of model and
    data holds by content. One at its default is left out: a flag that is new some day changes no digest."""
    where = (*ELSEWHERE, "model", "init", "also_score")  # also_score: the state's own heads tell, older records lack it
    deciding = {name: value for name, value in saved.items() if name not in where and value != DEFAULTS.get(name)}
    return hashlib.sha256(json.dumps(deciding, sort_keys=True).encode()).hexdigest()[:16]


def resumed(options, saved):
    """The flags, as a namespace, of the run being continued; one given now must agree with them, or be one that may
    change. Raises UserError."""
    saved = checked_flags(saved, build_parser(), f"--resume {folder_of(options)}")
    refuse_other_flags(options, saved, (*MAY_CHANGE, *WRITTEN, *GROW))
    extension(options, saved)
    given = [name for name in (*MAY_CHANGE, *WRITTEN, *GROW) if name in options.given]
    keep = {name: getattr(options, name) for name in (*NOT_SAVED, "run_dir", *given, "given")}
    return argparse.Namespace(**{**saved, **keep})


def refuse_other_flags(options, saved, may_change):
    """UserError where a flag given now is not what a run to resume has."""
    for name in options.given:
        if name not in (*NOT_SAVED, *may_change) and (now := getattr(options, name)) != saved[name]:
            raise UserError(f"--{name} {now}: the run to resume has {saved[name]}; leave the flag out")


def of_saved_run(options, saved, folder):
    """The flags, as a namespace, of the run in a folder that is not to be trained on, with those given now. What it
    began with (--init) is past, its own prediction files (--sst_dev_out and its kin) stay as they are, and --skip_test
    was for its end."""
    saved = checked_flags(saved, build_parser(), folder)
    now = {name: getattr(options, name) for name in ("use_gpu", "device", "precision", "given")}
    if now["precision"] is None and now["use_gpu"] == saved["use_gpu"]:
        now["precision"] = saved["precision"]  # on its own device a run gives the answers that it was scored with
    now |= dict.fromkeys(("init", *PREDICTIONS))
    given = {name: getattr(options, name) for name in options.given}
    return argparse.Namespace(**{**saved, **now, "skip_test": False, **given})


def checked_flags(saved, parser, where):
    """{flag: value} of all flags of a parser: the saved ones, each of which some command line must have given, and the
    defaults of flags that did not exist when they were saved. Raises UserError, whose line begins with `where`."""
    found = vars(parser.parse_args([]))
    for name in found.keys() & saved.keys():
        if not _could_be_typed(parser, name, found[name], saved[name]):
            raise UserError(
                f"{where}: its record says --{name} {short(saved[name])}, which that flag cannot be: "
                "somebody changed it, or it is damaged; start a new run"
            )
        found[name] = saved[name]
    if "also_score" in found.keys() - saved.keys() and found["tasks"]:
        found["also_score"] = also_scored_once(found["tasks"])
    return found


def _could_be_typed(parser, name, default, value):
    """Whether some text on the command line would have given a flag this value."""
    if value == default and type(value) is type(default):
        return True
    if isinstance(default, bool):
        return isinstance(value, bool)
    try:
        text = types.as_typed(value)
        typed = parser.parse_args([f"--{name}={text}"])
    except (UserError, TypeError):
        return False
    return getattr(typed, name) == value and "\0" not in text  # which no argument of a process can hold
