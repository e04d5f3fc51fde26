"""Flags of methods beside plain supervised training: regularizers, unlabelled text, pseudo-labels. See fields.py."""

from dataclasses import dataclass

from labeling import SCHEMES
from minbert import choices
from minbert.flags import types
from minbert.flags.fields import flag

PLAIN = "plain"  # not a scheme: the single-task models that schemes are compared with

# What learns from text without labels, by the flag that asks for it.
FROM_COPIES = ("uda",)  # from changed copies of the text, T=FILE,...: each has its function in methods/objective.py
FROM_TEXT = ("mean_teacher",)  # from the text as it is
FROM_EITHER = (*FROM_COPIES, *FROM_TEXT)


@dataclass(frozen=True)
class Regularizers:
    """regularizers and gradients"""

    loss_weight: dict = flag(
        {},
        type=types.per_task(types.positive(float)),
        metavar="T=X,...",
        help="multiply a task's own loss by X (default: 1 for each)",
    )
    pcgrad: bool = flag(False, help="gradient surgery: project conflicting task gradients (needs summed steps)")
    smart: float | None = flag(
        type=types.positive(float),
        metavar="WEIGHT",
        help="SMART's smoothness term: outputs may not change under a small perturbation of the embeddings",
    )
    smart_radius: float = flag(
        1e-5,
        needs="smart",
        type=types.positive(float),
        metavar="R",
        help="the largest change of an embedding that --smart tries (default: %(default)s, the paper's)",
    )
    r_drop: float | None = flag(
        type=types.positive(float),
        metavar="WEIGHT",
        help="R-Drop: two passes of each example with different dropout must agree",
    )


@dataclass(frozen=True)
class SemiSupervised:
    """learning from unlabelled text"""

    tsa: str | None = flag(
        choices=choices.TSA_SCHEDULES,
        help="training signal annealing: leave out labelled examples already known too well, less and less of them; ",
    )
    uda: dict = flag(
        {},
        type=types.per_task(str),
        metavar="T=FILE,...",
        help="UDA: changed texts (augmentation.py writes them) must be predicted as their originals are",
    )
    unlabeled: dict = flag(
        {},
        needs=FROM_EITHER,
        type=types.per_task(str),
        metavar="T=FILE,...",
        help=f"text without labels for {' and '.join(f'--{name}' for name in FROM_EITHER)} (default: the task's own "
        "training text)",
    )
    unlabeled_batch_size: int | None = flag(
        needs=FROM_EITHER,
        type=types.positive(int),
        metavar="N",
        help="unlabelled examples of each task in a step (default: as many as labelled ones)",
    )
    uda_weight: float = flag(1.0, needs="uda", type=types.positive(float), metavar="X", help="weight of UDA's loss")
    uda_temperature: float = flag(
        0.4, needs="uda", type=types.positive(float), metavar="T", help="sharpens what the original predicts"
    )
    uda_threshold: float = flag(
        0.8, needs="uda", type=types.share, metavar="P", help="only originals predicted with more than this count"
    )
    uda_mean: str = flag(
        "batch",
        needs="uda",
        choices=("batch", "kept"),
        help="mean over the whole unlabelled batch, or over those that count",
    )
    mean_teacher: str | None = flag(choices=choices.CONSISTENCIES, help="agree with a moving average of past weights; ")
    ema_decay: float = flag(0.999, needs="mean_teacher", type=types.share, metavar="D", help="the teacher's decay")
    consistency_weight: float = flag(
        1.0, needs="mean_teacher", type=types.positive(float), metavar="X", help="weight of the agreement"
    )
    ramp_up: float = flag(
        0.2,
        needs="mean_teacher",
        type=types.share,
        metavar="SHARE",
        help="share of training over which that weight grows",
    )
    teacher_mode: str = flag(
        "train",
        needs="mean_teacher",
        choices=("train", "eval"),
        help="the teacher with its own dropout, or without",
    )

    @property
    def copies(self):
        """{task: (the flag that names them, their file)} of the changed copies to learn from."""
        return {task: (name, path) for name in FROM_COPIES for task, path in getattr(self, name).items()}

    @property
    def reads_text(self):
        """Whether something learns from the text as it is."""
        return any(getattr(self, name) for name in FROM_TEXT)


@dataclass(frozen=True)
class PseudoLabels:
    """pseudo-labels"""

    label_scheme: str | None = flag(
        choices=(PLAIN, *SCHEMES),
        metavar="NAME",
        help="train one head for several classification tasks (default: rte,qqp,mnli,sst2) on pseudo-labels: "
        f"{', '.join(SCHEMES)}, or plain, the single-task models that these are compared with",
    )
    plain_dir: str = flag(
        "runs/plain",
        needs="label_scheme",
        metavar="DIR",
        help="where the plain single-task models and their predictions are kept",
    )
    plain_lr: list | None = flag(
        needs="label_scheme",
        type=types.one_or_several(types.positive(float)),
        metavar="X,...",
        help="learning rates tried for each plain model (default: those of --lr)",
    )
    literal_eq20: bool = flag(False, needs="label_scheme", help="hard_predicted: leave eq. 20 unrounded, as printed")

    @property
    def scheme(self):
        """The name of the label scheme; None for runs without, and for `plain`."""
        return None if self.label_scheme == PLAIN else self.label_scheme
