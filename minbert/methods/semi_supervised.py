"""Learning from unlabelled text beside the labelled: pure functions of a head's outputs, and one small class.

    TSA            training signal annealing: labelled examples that are known too well wait
    UDA            unsupervised data augmentation: a text and its augmented copy must get the same prediction
    mean teacher   the model must agree with the moving average of itself

- Xie, Dai, Hovy, Luong and Le, "Unsupervised Data Augmentation for Consistency Training", NeurIPS 2020 (arXiv
  1904.12848), section 2 for UDA; TSA in section 2.3 of the first version, the appendix of the last;
- Tarvainen and Valpola 2017, "Mean teachers are better role models" (NeurIPS), section 2;
- Yan, "BERT Multitask Learning in a Semi-Supervised Learning Setup", section 3.4, which uses TSA and UDA;
- Qin and Tran, "BERT's Mean Teacher and Multitask Fine-Tuning", section 4.4, which uses mean teacher;
- Jiang et al. 2020, "SMART" (ACL), section 3.2: Bregman proximal point optimisation, a mean teacher in other words.

`import ssl` from the project's root offers these names too (see ssl.py); inside the project, import this file.

Shapes: B examples, K classes, t updates done, p = updates done / updates planned.
"""

import copy
import math

import torch
import torch.nn.functional as F

from minbert.methods.regularizers import divergence

# ------------------------------------------------------------------------------------------------------------ TSA

# How the share of training already done, p, releases the signal of the labelled examples: each s rises to s(1) = 1
# (log: 1 - exp(-5) = 0.993). log releases most of it early (much labelled data), exp late (little, soon overfitted).
TSA_SCHEDULES = {
    "linear": lambda p: p,
    "log": lambda p: 1 - math.exp(-5 * p),
    "exp": lambda p: math.exp(5 * (p - 1)),
}


def tsa_threshold(progress, num_classes, schedule):
    """The probability above which a labelled example is too well known to teach in this step.

        eta(p) = s(p) * (1 - 1/K) + 1/K,    s linear: p,    log: 1 - exp(-5 p),    exp: exp(5 (p - 1))

    It rises from chance, 1/K (exp starts exp(-5) (1 - 1/K) above it), to certainty, 1 (log ends exp(-5) (1 - 1/K)
    below it). An example whose probability of its true class is above eta(p) is left out of the step's loss.

    progress: p, updates done / updates planned, from 0 to 1. num_classes: K, at least 2.
    schedule: "linear", "log" or "exp". Returns a float in [1/K, 1].
    Raises ValueError on another schedule, or on a p or K out of its range.
    Source: Xie et al. 2020, the equation of eta_t and the figure of its three schedules.
    """
    if schedule not in TSA_SCHEDULES:
        raise ValueError(f"unknown TSA schedule {schedule!r}: choose one of {', '.join(TSA_SCHEDULES)}")
    if not 0 <= progress <= 1:
        raise ValueError(f"progress must be from 0 to 1 (updates done / updates planned), got {progress}")
    if num_classes < 2:
        raise ValueError(f"TSA needs at least 2 classes, got {num_classes}: chance, 1/K, is where it starts")
    chance = 1 / num_classes
    return TSA_SCHEDULES[schedule](progress) * (1 - chance) + chance


def true_class_probability(head, logits, labels):
    """The probability p(y | x) of each example's own label: logits [B, outputs], labels [B] -> [B], no gradient.

    Not the largest probability: an example that the model is sure of and wrong about is just the one to learn from.
    """
    classes = head.class_of(labels).unsqueeze(-1)  # [B, 1]
    return head.log_probabilities(logits.detach()).gather(-1, classes).squeeze(-1).exp()


def tsa_loss(losses, probability, threshold):
    """Training signal annealing: the mean loss of the examples not yet known too well, (scalar, kept [B] of bool).

        L = sum of losses[i] over kept i / max(number of kept, 1),    kept: p(y_i | x_i) <= eta

    losses [B]; probability [B], of each example's true class; threshold: eta, see tsa_threshold.
    Where none is kept the loss is 0 and has no gradient.
    Source: Xie et al. 2020, the loss beside the equation of eta_t; Yan, section 3.4.3.
    """
    kept = probability <= threshold
    return (losses * kept).sum() / kept.sum().clamp(min=1), kept


# ------------------------------------------------------------------------------------------------------------ UDA


def sharpen(log_probabilities, temperature):
    """log of p_k^(1/T) / sum_j p_j^(1/T): [B, K] -> [B, K], more certain for T < 1.

    That is log softmax(z / T) for the logits z of a softmax head (log p and z differ by a constant), and for the two
    classes of a head with one logit log(1 - sigmoid(z / T)), log sigmoid(z / T).
    Source: Xie et al. 2020, section 2 (training techniques); Yan, section 3.4.4.
    """
    return F.log_softmax(log_probabilities / temperature, dim=-1)


def uda_loss(head, original_logits, augmented_logits, temperature=0.4, threshold=0.8, over="batch"):
    """The augmented texts must be predicted as the originals are: (scalar, kept [B] of bool).

        L = 1/B sum of KL(target_i || student_i) over kept i,    KL(t || s) = sum_k t_k (log t_k - log s_k)

    target     the original's prediction sharpened by the temperature; the same parameters, but no gradient
    student    the augmented text's prediction, as it is: sharpening this side would make the model *less* certain
    kept       where the original's largest probability, *before* sharpening, is above the threshold

    head: one with classes. Both logits [B, outputs]. over: "batch" divides by B (as in the authors' code, so that a
    batch of which little is kept counts for little), "kept" by the number of kept, at least 1.
    Source: Xie et al. 2020, section 2, equation 1 and training techniques; Yan, sections 3.4.2, 3.4.4 and 3.4.5. The
    last prints a minus sign before this loss, which would drive the predictions apart; it is added, as in 3.4.2.
    Raises ValueError on another `over`.
    """
    if over not in ("batch", "kept"):
        raise ValueError(f"over must be 'batch' or 'kept', got {over!r}")
    original = head.log_probabilities(original_logits.detach())  # [B, K]
    student = head.log_probabilities(augmented_logits)  # [B, K]
    target = sharpen(original, temperature)
    kept = original.amax(dim=-1).exp() > threshold
    losses = F.kl_div(student, target, log_target=True, reduction="none").sum(dim=-1)  # [B]
    count = max(len(kept), 1) if over == "batch" else kept.sum().clamp(min=1)
    return (losses * kept).sum() / count, kept


# --------------------------------------------------------------------------------------------------- mean teacher


def logits_apart(head, student_logits, teacher_logits):
    """mse of `consistency`: sum_k (z_k of s - z_k of t)^2, the mean over examples; [B, K] each -> scalar."""
    return (student_logits - teacher_logits).square().sum(dim=-1).mean()


def probabilities_apart(head, student_logits, teacher_logits):
    """mse_prob of `consistency`: sum_k (p_k of s - p_k of t)^2, the mean over examples; [B, K] each -> scalar."""
    return (head.probabilities(student_logits) - head.probabilities(teacher_logits)).square().sum(dim=-1).mean()


CONSISTENCIES = {"kl": divergence, "mse": logits_apart, "mse_prob": probabilities_apart}


def consistency(kind, head, student_logits, teacher_logits):
    """How far the student is from the teacher: a scalar, summed over classes, the mean over examples.

        kl         KL(t || s) + KL(s || t) on the probabilities (Qin and Tran's best)
        mse        sum_k (z_k of s - z_k of t)^2 on the logits (Qin and Tran)
        mse_prob   sum_k (p_k of s - p_k of t)^2 on the probabilities (Tarvainen and Valpola, section 2)

    A head with one logit takes kl between two Bernoulli distributions, whatever the kind (a softmax over one logit
    would always be 1), and a regression head the squared difference of the two scores.

    Both logits [B, outputs]. The teacher's get no gradient. Raises ValueError on another kind.
    Source: Qin and Tran, section 4.4.
    """
    if kind not in CONSISTENCIES:
        raise ValueError(f"unknown consistency {kind!r}: choose one of {', '.join(CONSISTENCIES)}")
    teacher_logits = teacher_logits.detach()
    one_output = student_logits.shape[-1] == 1
    apart = divergence if head.classes is None or one_output else CONSISTENCIES[kind]
    return apart(head, student_logits, teacher_logits)


def ramp_up(progress, share=0.2):
    """How much of its weight the consistency has: exp(-5 (1 - min(p / share, 1))^2), from 0.0067 at p = 0 to 1.

    An early teacher has nothing to teach. progress: p. share: of training, after which the weight is whole; 0 for the
    whole weight from the start.
    Source: Tarvainen and Valpola, appendix B, who count steps; the share of 0.2 is this project's choice.
    """
    done = min(progress / share, 1.0) if share else 1.0
    return math.exp(-5 * (1 - done) ** 2)


def mean_teacher_decay(t, most=0.999):
    """min(1 - 1 / (t + 1), most), with t = updates done, this one included: 1/2 at the first.

    Until `most` binds, the teacher is the plain mean of the start and all students so far.
    Source: Tarvainen and Valpola's published code (a low decay early, since the early students improve fast).
    """
    return min(1 - 1 / (t + 1), most)


def bregman_decay(t, planned):
    """0.99 for the first 10 % of the `planned` updates, 0.999 after: Jiang et al. 2020, section 4 (their beta)."""
    return 0.99 if t <= 0.1 * planned else 0.999


# The rest of Bregman proximal point optimisation, as settings of the mean teacher: symmetric KL, mu = 1, no ramp-up.
BREGMAN = {"kind": "kl", "weight": 1.0, "share": 0.0}


class EmaTeacher:
    """The exponential moving average of a student's parameters, theta' <- d theta' + (1 - d) theta, as a model.

    student   any nn.Module; the teacher starts as a copy of it
    decay     function from t, the number of updates with this one included, to d

    `teacher.model` is the copy: no parameter of it asks for a gradient. Whether it drops out is up to its mode, as of
    any model: train() as in Tarvainen and Valpola (section 2: both sides are noisy), or eval().
    """

    def __init__(self, student, decay=mean_teacher_decay):
        self.student, self.decay = student, decay
        self.model = copy.deepcopy(student).requires_grad_(False)
        self.t = 0

    @torch.no_grad()
    def update(self):
        """Take in the student as it is now: call this after each of its updates. Buffers are copied."""
        self.t += 1
        decay = self.decay(self.t)
        for mean, now in zip(self.model.parameters(), self.student.parameters(), strict=True):
            mean.lerp_(now, 1 - decay)
        for mean, now in zip(self.model.buffers(), self.student.buffers(), strict=True):
            mean.copy_(now)

    def state_dict(self):
        """What a checkpoint needs besides the student."""
        return {"t": self.t, "model": self.model.state_dict()}

    def load_state_dict(self, state):
        self.t = state["t"]
        self.model.load_state_dict(state["model"])
