"""Task heads: from the embeddings of an example to logits, and what a task makes of them (loss, prediction, classes).

Losses and outputs are the course's (CS224N default project) and those of
- Yan, "BERT Multitask Learning in a Semi-Supervised Learning Setup", sections 3.2 and 4.3;
- Qin and Tran, "BERT's Mean Teacher and Multitask Fine-Tuning";
- Kalicki, "Multiple Strategies to Improve minBERT Multitask Learning", sections 4.4 and 5.6;
- Cao, Mirjalili and Raschka (2020), "Rank consistent ordinal regression for neural networks with application to age
  estimation", Pattern Recognition Letters 140 (CORAL).

Every head offers `losses` (one an example), `loss` (their mean), `predict` and `classes`: how many classes it tells
apart, or None. A head with classes also has `log_probabilities`, `probabilities` and `class_of` (labels -> classes).

Legend: B examples, P sequences of an example (1, or 2 for a pair encoded separately), H hidden size, J width of the
joint vector, K classes, z a logit.
"""

import torch
import torch.nn.functional as F
from torch import nn

from minbert import choices
from minbert.layers.dropout import Dropout
from minbert.layers.pairs import JOINS, width
from minbert.layers.pairs import join as join_pair

SLACK = 1e-5  # of a step: float32 has no 4.7, only 4.6999998, which is halfway between two classes all the same
CHOICES = {  # make_head's
    "pairs": choices.PAIRS,
    "sts_head": choices.STS_HEADS,
    "sts_cosine": choices.STS_COSINES,
    "sts_predict": choices.STS_PREDICTIONS,
    "sst_head": choices.SST_HEADS,
}


class Head(nn.Module):
    """Dropout on each embedding, the join of a pair, one linear layer: embeddings [B, P, H] -> logits [B, outputs].

    join     None for P = 1; the name of one of `pairs.JOINS` for P = 2
    outputs  None for no linear layer: the joint vector is the logits
    """

    classes = None

    def __init__(self, hidden_size, outputs, dropout, join=None):
        super().__init__()
        self.join = join
        self.dropout = Dropout(dropout if join is None or JOINS[join].dropout else 0.0)
        inputs = hidden_size if join is None else width(join, hidden_size)
        self.linear = nn.Identity() if outputs is None else nn.Linear(inputs, outputs)

    def forward(self, embeddings):
        return self.linear(self.joint(embeddings))

    def joint(self, embeddings):
        """[B, P, H] -> [B, J]. Raises ValueError where P is not what the join needs."""
        embeddings = self.dropout(embeddings)
        if self.join is None:
            (only,) = embeddings.unbind(1)
            return only
        u, v = embeddings.unbind(1)
        return join_pair(self.join, u, v)

    def losses(self, logits, labels):
        """logits [B, outputs], labels [B] -> [B]."""
        raise NotImplementedError

    def predict(self, logits):
        """logits [B, outputs] -> [B]: class indices or scores."""
        raise NotImplementedError

    def prior_bias(self, labels):
        """labels [n] of all training examples -> the bias [outputs] that fits them best where embeddings say nothing.
        Classes are counted with one more example of each, so that none is impossible."""
        raise NotImplementedError

    @torch.no_grad()
    def start_from_prior(self, labels):
        """Set the last layer's bias to `prior_bias`."""
        self.linear.bias.copy_(self.prior_bias(labels))

    def loss(self, logits, labels):
        """The mean of `losses` over the examples there are, however many a full batch would have: scalar."""
        return self.losses(logits, labels).mean()


# ------------------------------------------------------------------------------------------------ heads with classes


class ClassifierHead(Head):
    """A head that tells `classes` classes apart, with as many logits as it needs for that."""

    def __init__(self, hidden_size, outputs, classes, dropout, join=None):
        super().__init__(hidden_size, outputs, dropout, join)
        self.classes = classes

    def log_probabilities(self, logits):
        """logits [B, outputs] -> [B, K], finite where a probability itself would round to 0."""
        raise NotImplementedError

    def probabilities(self, logits):
        """logits [B, outputs] -> [B, K], each row with sum 1."""
        return self.log_probabilities(logits).exp()

    def class_of(self, labels):
        """labels [B] -> [B] class indices."""
        return labels.long()

    def shares(self, labels):
        """labels [n] -> [K]: each class's share of them."""
        counts = torch.bincount(self.class_of(labels), minlength=self.classes) + 1
        return counts / counts.sum()


class SoftmaxHead(ClassifierHead):
    """K logits: p = softmax(z), loss = -log p[label]; predicts the largest."""

    def __init__(self, hidden_size, classes, dropout, join=None):
        super().__init__(hidden_size, classes, classes, dropout, join)

    def losses(self, logits, labels):
        return F.cross_entropy(logits, self.class_of(labels), reduction="none")

    def predict(self, logits):
        return logits.argmax(dim=-1)

    def log_probabilities(self, logits):
        return logits.log_softmax(dim=-1)

    def prior_bias(self, labels):
        return self.shares(labels).log()  # softmax(log p) = p


class BinaryHead(ClassifierHead):
    """One logit z for two classes: p = sigmoid(z) is the probability of class 1.

    loss = -y log p - (1 - y) log(1 - p); predicts 1 iff p > 0.5, that is z > 0. The same model as a softmax over
    the two logits (0, z).
    """

    def __init__(self, hidden_size, dropout, join=None):
        super().__init__(hidden_size, 1, 2, dropout, join)

    def losses(self, logits, labels):
        return F.binary_cross_entropy_with_logits(logits.squeeze(-1), labels.to(logits.dtype), reduction="none")

    def predict(self, logits):
        return (logits.squeeze(-1) > 0).long()

    def log_probabilities(self, logits):
        # 1 - sigmoid(z) = sigmoid(-z). A softmax over the one logit would be 1 whatever z is.
        return torch.cat([F.logsigmoid(-logits), F.logsigmoid(logits)], dim=-1)

    def prior_bias(self, labels):
        return self.shares(labels)[1:].logit()


class CoralHead(ClassifierHead):
    """Ordered classes (Cao, Mirjalili and Raschka 2020): K - 1 logits z_k = w.x + b_k that share one weight vector w.

    P(y > k) = sigmoid(z_k) for k = 0 .. K - 2; loss = sum over k of the binary cross-entropy of z_k against [y > k]
    (the paper's importance weights are 1); predicts the number of k with P(y > k) > 1/2.
    """

    def __init__(self, hidden_size, classes, dropout, join=None):
        super().__init__(hidden_size, 1, classes, dropout, join)
        # At w.x = 0 every class has probability 1 / K. From equal biases, where the authors' code starts, the inner
        # classes would have probability 0, and a divergence between two such predictions no value.
        above = 1 - torch.arange(1, classes) / classes  # P(y > k)
        self.linear.bias = nn.Parameter(above.logit())  # [K - 1]

    def forward(self, embeddings):
        return F.linear(self.joint(embeddings), self.linear.weight) + self.linear.bias  # [B, 1] + [K - 1]

    def losses(self, logits, labels):
        above = labels.unsqueeze(-1) > torch.arange(self.classes - 1, device=labels.device)  # [B, K - 1]
        return F.binary_cross_entropy_with_logits(logits, above.to(logits.dtype), reduction="none").sum(dim=-1)

    def predict(self, logits):
        return (logits > 0).sum(dim=-1)

    def log_probabilities(self, logits):
        """P(y = k) = P(y > k - 1) - P(y > k), with P(y > -1) = 1 and P(y > K - 1) = 0: logits [B, K - 1] -> [B, K].

        At the loss's minimum the biases fall with k (the paper's theorem 1), but on the way there a step may leave two
        of them out of order, and the difference between them negative. It then counts as 0 and the rest is divided
        by its sum.
        """
        # sigmoid(a) - sigmoid(b) = sigmoid(a) sigmoid(-b) (1 - exp(b - a)), which keeps its digits in both tails.
        gap = (logits[:, :-1] - logits[:, 1:]).clamp(min=torch.finfo(logits.dtype).eps)  # a - b [B, K - 2]; no log 0
        below, above = F.logsigmoid(-logits), F.logsigmoid(logits)
        inner = above[:, :-1] + below[:, 1:] + (-torch.expm1(-gap)).log()
        unnormalised = torch.cat([below[:, :1], inner, above[:, -1:]], dim=-1)
        return unnormalised.log_softmax(dim=-1)

    def prior_bias(self, labels):
        return (1 - self.shares(labels).cumsum(0)[:-1]).logit()  # P(y > k)


def class_of_score(scores, score_range, classes):
    """Scores [B] told as one of `classes` equal steps over their range: floor((y - low) / step + 0.5), [B] long."""
    low, high = score_range
    steps = (scores - low) * ((classes - 1) / (high - low))
    return (steps + (0.5 + SLACK)).floor().long()


class ClassesHead(SoftmaxHead):
    """A score told as one of K classes low, low + step, ... high: softmax, cross-entropy.

    class = floor((y - low) / step + 0.5), so a score halfway between two classes goes to the upper one. Predicts the
    score of the likeliest class (by="argmax") or the mean of the classes' scores under p (by="expectation").
    For 0 to 5, step 0.2 makes the 26 classes of Yan, section 4.3, and step 1 the six of Qin and Tran's first attempt.
    """

    def __init__(self, hidden_size, score_range, dropout, join=None, step=0.2, by="argmax"):
        self.low, self.high = score_range
        steps = (self.high - self.low) / step
        if abs(steps - round(steps)) > SLACK:
            raise ValueError(f"scores from {self.low:g} to {self.high:g} are not a whole number of steps of {step:g}")
        super().__init__(hidden_size, round(steps) + 1, dropout, join)
        self.by = by

    def class_of(self, labels):
        return class_of_score(labels, (self.low, self.high), self.classes)

    def predict(self, logits):
        if self.by == "argmax":
            place = logits.argmax(dim=-1).to(logits.dtype)
        else:
            place = self.probabilities(logits) @ torch.arange(self.classes, dtype=logits.dtype, device=logits.device)
        score = self.low + (self.high - self.low) * place / (self.classes - 1)
        return score.clamp(self.low, self.high)  # rounded probabilities may have a sum of 1.0000001


# ------------------------------------------------------------------------------------------------------- one score


class RegressionHead(Head):
    """One score s = low + (high - low) sigmoid(z), squared error (Yan, section 4.3: 5 sigmoid(z) for 0 to 5)."""

    def __init__(self, hidden_size, score_range, dropout, join=None, outputs=1):
        super().__init__(hidden_size, outputs, dropout, join)
        self.low, self.high = score_range

    def losses(self, logits, labels):
        return F.mse_loss(self.predict(logits), labels, reduction="none")

    def predict(self, logits):
        return self.low + (self.high - self.low) * logits.squeeze(-1).sigmoid()

    def prior_bias(self, labels):
        share = (labels.float().mean() - self.low) / (self.high - self.low)
        return share.clamp(0.01, 0.99).logit().view(1)


class LinearHead(RegressionHead):
    """The logit itself is the score, squared error (Qin and Tran); nothing keeps it between low and high."""

    def predict(self, logits):
        return logits.squeeze(-1)

    def prior_bias(self, labels):
        return labels.float().mean().view(1)


class CosineHead(RegressionHead):
    """The score is the cosine c of a pair's two embeddings: no linear layer, no dropout, logits = c [B, 1].

    scaled     s = low + (high - low) c, squared error (Kalicki, section 4.4: 5 c for 0 to 5)
    shifted    s = low + (high - low) (c + 1) / 2, squared error
    embedding  torch's CosineEmbeddingLoss (named in Kalicki, section 5.6): 1 - c for a similar pair, max(0, c) for
               another. The source does not say which are similar; here, those whose score is at least the middle
               of its range. Predicts the shifted score.
    """

    def __init__(self, hidden_size, score_range, variant="scaled"):
        super().__init__(hidden_size, score_range, dropout=0.0, join="cosine", outputs=None)
        self.variant = variant

    def losses(self, logits, labels):
        if self.variant != "embedding":
            return super().losses(logits, labels)
        c = logits.squeeze(-1)
        return torch.where(labels >= (self.low + self.high) / 2, 1 - c, c.clamp(min=0))

    def predict(self, logits):
        c = logits.squeeze(-1)
        share = c if self.variant == "scaled" else (c + 1) / 2
        return self.low + (self.high - self.low) * share


# ---------------------------------------------------------------------------------------------- which head for a task

SCORE_HEADS = {  # --sts_head; those with classes are in choices.CLASS_STEPS too
    "regression": RegressionHead,
    "linear": LinearHead,
    "cosine": CosineHead,
    "classification": ClassesHead,
    "ordinal6": ClassesHead,
}


def make_head(
    task,
    hidden_size,
    dropout,
    pairs="fused",
    sts_head="regression",
    sts_cosine="scaled",
    sts_predict="argmax",
    sst_head="softmax",
):
    """The head that a task (`datasets.Task`) gets. `CHOICES` lists what each name may be.

    pairs is for tasks of two texts, sts_* for tasks of kind "regression", sst_head for tasks whose classes are
    ordered. Raises ValueError for an unknown name, and for a cosine head without two embeddings.
    """
    chosen = {
        "pairs": pairs,
        "sts_head": sts_head,
        "sts_cosine": sts_cosine,
        "sts_predict": sts_predict,
        "sst_head": sst_head,
    }
    for name, value in chosen.items():
        if value not in CHOICES[name]:
            raise ValueError(f"{name} {value!r}: expected one of {', '.join(CHOICES[name])}")
    join = pairs if task.is_pair and pairs != "fused" else None

    if task.kind == "regression":
        kind = SCORE_HEADS[sts_head]
        if sts_head == "cosine":
            if join is None:
                raise ValueError(f"{task.name}: sts_head 'cosine' needs a pair encoded separately; pairs is {pairs!r}")
            return kind(hidden_size, task.score_range, sts_cosine)
        if sts_head in choices.CLASS_STEPS:
            step = choices.CLASS_STEPS[sts_head]
            return kind(hidden_size, task.score_range, dropout, join, step, sts_predict)
        return kind(hidden_size, task.score_range, dropout, join)
    if task.one_logit:
        return BinaryHead(hidden_size, dropout, join)
    kind = CoralHead if task.ordered and sst_head == "coral" else SoftmaxHead
    return kind(hidden_size, len(task.labels), dropout, join)
