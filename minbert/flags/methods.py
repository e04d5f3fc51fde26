"""Flags of the methods beside plain supervised training: regularizers, unlabelled text, pseudo-labels. See flags.py."""

from minbert.flags import types

LABEL_SCHEMES = (
    "plain",
    "independent",
    "soft_independent",
    "augmented_independent",
    "soft_probability",
    "soft_predicted",
    "hard_predicted",
    "independent_frozen",
    "soft_independent_frozen",
)


def add_regularizers(group):
    add = group.add_argument
    add(
        "--pcgrad",
        action="store_true",
        help="gradient surgery: project conflicting task gradients (needs summed steps)",
    )
    add(
        "--smart",
        type=types.positive(float),
        metavar="WEIGHT",
        help="SMART's smoothness term: outputs may not change under a small perturbation of the embeddings",
    )
    add(
        "--smart_radius",
        type=types.positive(float),
        default=1e-5,
        metavar="R",
        help="the largest change of an embedding that --smart tries (default: %(default)s, the paper's)",
    )
    add(
        "--r_drop",
        type=types.positive(float),
        metavar="WEIGHT",
        help="R-Drop: two passes of each example with different dropout must agree",
    )
    add(
        "--layer_decay",
        type=types.factor,
        default=1.0,
        metavar="F",
        help="multiply the learning rate by F for each layer further down (default: 1, the same for all)",
    )


def add_pseudo_labels(group):
    add = group.add_argument
    add(
        "--label_scheme",
        choices=LABEL_SCHEMES,
        metavar="NAME",
        help="train one head for several classification tasks (default: rte,qqp,mnli,sst2) on pseudo-labels: "
        f"{', '.join(LABEL_SCHEMES[1:])}, or plain, the single-task models that these are compared with",
    )
    add(
        "--plain_dir",
        metavar="DIR",
        default="runs/plain",
        help="where the plain single-task models and their predictions are kept (default: %(default)s)",
    )
    add(
        "--plain_lr",
        type=types.one_or_several(types.positive(float)),
        metavar="X,...",
        help="learning rates tried for each plain model (default: those of --lr)",
    )
    add("--literal_eq20", action="store_true", help="hard_predicted: leave eq. 20 unrounded, as printed")


def add_semi_supervised(group):
    add = group.add_argument
    add(
        "--tsa",
        choices=("linear", "log", "exp"),
        help="training signal annealing: leave out labelled examples already known too well, less and less of them",
    )
    add(
        "--uda",
        type=types.per_task(str),
        default={},
        metavar="T=FILE,...",
        help="UDA: changed texts (augmentation.py writes them) must be predicted as their originals are",
    )
    add(
        "--unlabeled",
        type=types.per_task(str),
        default={},
        metavar="T=FILE,...",
        help="text without labels for --uda and --mean_teacher (default: the task's own training text)",
    )
    add(
        "--unlabeled_batch_size",
        type=types.positive(int),
        metavar="N",
        help="unlabelled examples of each task in a step (default: as many as labelled ones)",
    )
    add("--uda_weight", type=types.positive(float), default=1.0, metavar="X", help="weight of UDA's loss (default: 1)")
    add(
        "--uda_temperature",
        type=types.positive(float),
        default=0.4,
        metavar="T",
        help="sharpens what the original predicts (default: %(default)s)",
    )
    add(
        "--uda_threshold",
        type=types.share,
        default=0.8,
        metavar="P",
        help="only originals predicted with more than this count (default: %(default)s)",
    )
    add(
        "--uda_mean",
        choices=("batch", "kept"),
        default="batch",
        help="mean over the whole unlabelled batch, or over those that count (default: %(default)s)",
    )
    add(
        "--mean_teacher",
        choices=("kl", "mse", "mse_prob", "bregman"),
        help="agree with a moving average of past weights: symmetric KL, squared error of logits or of probabilities; "
        "bregman: the proximal point method's settings",
    )
    add("--ema_decay", type=types.share, default=0.999, metavar="D", help="the teacher's decay (default: %(default)s)")
    add(
        "--consistency_weight",
        type=types.positive(float),
        default=1.0,
        metavar="X",
        help="weight of the agreement (default: 1)",
    )
    add(
        "--ramp_up",
        type=types.share,
        default=0.2,
        metavar="SHARE",
        help="share of training over which that weight grows (default: %(default)s)",
    )
    add(
        "--teacher_mode",
        choices=("train", "eval"),
        default="train",
        help="the teacher with its own dropout, or without (default: %(default)s)",
    )
