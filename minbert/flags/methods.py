"""Flags of methods beside plain supervised training: regularizers, unlabelled text, pseudo-labels. See fields.py."""

from dataclasses import dataclass

from labeling import SCHEMES
from minbert import choices
from minbert.choices import told
from minbert.flags import types
from minbert.flags.fields import flag

PLAIN = "plain"  # not a scheme: the single-task models that schemes are compared with


@dataclass(frozen=True)
class Regularizers:
    """regularizers and gradients"""

    pcgrad: bool = flag(False, help="gradient surgery: project conflicting task gradients (needs summed steps)")
    smart: float | None = flag(
        type=types.positive(float),
        metavar="WEIGHT",
        help="SMART's smoothness term: outputs may not change under a small perturbation of the embeddings",
    )
    smart_radius: float = flag(
        1e-5,
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
        help="training signal annealing: leave out labelled examples already known too well, less and less of them",
    )
    uda: dict = flag(
        {},
        type=types.per_task(str),
        metavar="T=FILE,...",
        help="UDA: changed texts (augmentation.py writes them) must be predicted as their originals are",
    )
    unlabeled: dict = flag(
        {},
        type=types.per_task(str),
        metavar="T=FILE,...",
        help="text without labels for --uda and --mean_teacher (default: the task's own training text)",
    )
    unlabeled_batch_size: int | None = flag(
        type=types.positive(int),
        metavar="N",
        help="unlabelled examples of each task in a step (default: as many as labelled ones)",
    )
    uda_weight: float = flag(1.0, type=types.positive(float), metavar="X", help="weight of UDA's loss (default: 1)")
    uda_temperature: float = flag(
        0.4, type=types.positive(float), metavar="T", help="sharpens what the original predicts (default: %(default)s)"
    )
    uda_threshold: float = flag(
        0.8,
        type=types.share,
        metavar="P",
        help="only originals predicted with more than this count (default: %(default)s)",
    )
    uda_mean: str = flag(
        "batch",
        choices=("batch", "kept"),
        help="mean over the whole unlabelled batch, or over those that count (default: %(default)s)",
    )
    mean_teacher: str | None = flag(
        choices=tuple(choices.CONSISTENCIES),
        help=f"agree with a moving average of past weights; {told(choices.CONSISTENCIES)}",
    )
    ema_decay: float = flag(0.999, type=types.share, metavar="D", help="the teacher's decay (default: %(default)s)")
    consistency_weight: float = flag(
        1.0, type=types.positive(float), metavar="X", help="weight of the agreement (default: 1)"
    )
    ramp_up: float = flag(
        0.2,
        type=types.share,
        metavar="SHARE",
        help="share of training over which that weight grows (default: %(default)s)",
    )
    teacher_mode: str = flag(
        "train",
        choices=("train", "eval"),
        help="the teacher with its own dropout, or without (default: %(default)s)",
    )


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
        metavar="DIR",
        help="where the plain single-task models and their predictions are kept (default: %(default)s)",
    )
    plain_lr: list | None = flag(
        type=types.one_or_several(types.positive(float)),
        metavar="X,...",
        help="learning rates tried for each plain model (default: those of --lr)",
    )
    literal_eq20: bool = flag(False, help="hard_predicted: leave eq. 20 unrounded, as printed")

    @property
    def scheme(self):
        """The name of the label scheme; None for runs without, and for `plain`."""
        return None if self.label_scheme == PLAIN else self.label_scheme
