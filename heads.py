"""Task heads: dropout, one linear layer, and what a task makes of its outputs (loss, prediction, probabilities).

The joint vector of an example is the pooled embedding of its fused sequence. Losses and outputs are the course's
(CS224N default project) and those of Yan, "BERT Multitask Learning in a Semi-Supervised Learning Setup", section 4.3.

Shapes: B examples, H hidden size, C classes.
"""

import torch
import torch.nn.functional as F
from torch import nn

from dropout import Dropout


class Head(nn.Module):
    """Dropout, then one linear layer: joint vectors [B, H] -> logits [B, outputs]."""

    def __init__(self, hidden_size, outputs, dropout):
        super().__init__()
        self.dropout = Dropout(dropout)
        self.linear = nn.Linear(hidden_size, outputs)

    def forward(self, joint):
        return self.linear(self.dropout(joint))


class SoftmaxHead(Head):
    """C classes: p = softmax(logits), loss = -log p[label], averaged over the batch; predicts the largest."""

    def __init__(self, hidden_size, task, dropout):
        super().__init__(hidden_size, len(task.labels), dropout)

    def loss(self, logits, labels):
        """logits [B, C], labels [B] class indices -> scalar."""
        return F.cross_entropy(logits, labels)

    def predict(self, logits):
        """-> [B] class indices."""
        return logits.argmax(dim=-1)

    def probabilities(self, logits):
        """-> [B, C]."""
        return logits.softmax(dim=-1)


class BinaryHead(Head):
    """One logit z for two classes: p = sigmoid(z) is the probability of class 1.

    loss = -y log p - (1 - y) log(1 - p), averaged over the batch; predicts 1 iff p > 0.5, that is z > 0.
    """

    def __init__(self, hidden_size, task, dropout):
        super().__init__(hidden_size, 1, dropout)

    def loss(self, logits, labels):
        """logits [B, 1], labels [B] of 0 and 1 -> scalar."""
        return F.binary_cross_entropy_with_logits(logits.squeeze(-1), labels.to(logits.dtype))

    def predict(self, logits):
        """-> [B] of 0 and 1."""
        return (logits.squeeze(-1) > 0).long()

    def probabilities(self, logits):
        """-> [B, 2]."""
        p = logits.sigmoid()
        return torch.cat([1 - p, p], dim=-1)


class RegressionHead(Head):
    """One score: s = low + (high - low) sigmoid(z), mean squared error (Yan, section 4.3: 5 sigmoid(z) for 0 to 5)."""

    def __init__(self, hidden_size, task, dropout):
        super().__init__(hidden_size, 1, dropout)
        self.low, self.high = task.score_range

    def loss(self, logits, labels):
        """logits [B, 1], labels [B] scores -> scalar."""
        return F.mse_loss(self.predict(logits), labels)

    def predict(self, logits):
        """-> [B] scores."""
        return self.low + (self.high - self.low) * logits.squeeze(-1).sigmoid()


def make_head(task, hidden_size, dropout):
    """The head that a task (`datasets.Task`) gets."""
    if task.kind == "regression":
        return RegressionHead(hidden_size, task, dropout)
    return (BinaryHead if task.one_logit else SoftmaxHead)(hidden_size, task, dropout)
