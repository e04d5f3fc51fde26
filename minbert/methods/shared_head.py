"""One head for several tasks: a linear layer with a sigmoid for each class of a label scheme, trained on soft targets.

Karpov and Burtsev, "Data pseudo-labeling while adapting BERT for multitask approaches", Dialogue 2021, section 5; the
targets and what the outputs mean for each task are in labeling.py.

Shapes: B examples, P sequences of an example (always 1: pairs are fused), H hidden size, K classes of the scheme, C
labels of a task.
"""

import numpy as np
import torch
import torch.nn.functional as F

import labeling
from minbert.layers.devices import double
from minbert.layers.heads import Head

UNION = "union"  # the name of the one training set and head of all tasks of a scheme


def merging_of(scheme, tasks):
    """The merging of a scheme for {name: Task}: the paper's table for the tasks it has, CFIMDB sharing SST-2's labels,
    and labels of their own for any other task."""
    merging = labeling.SCHEMES[scheme].merging
    known = merging.plus("cfimdb", merging.tasks["sst2"]) if "sst2" in tasks else merging
    table = {name: labels for name, labels in known.tasks.items() if name in tasks}
    used = {name for labels in table.values() for names in labels.values() for name in names}
    merging = labeling.Merging(tuple(name for name in known.classes if name in used), table)
    for name in sorted(tasks.keys() - table.keys()):
        merging = merging.plus(name, labeling.unmerged({name: tasks[name].labels}).tasks[name])
    return merging


class SharedHead(Head):
    """K logits; the loss of an example is the binary cross-entropy with its target t, the mean over the K classes
    (settled: the paper does not say): -1/K sum_k t_k log p_k + (1 - t_k) log(1 - p_k), p = sigmoid(logits).

    In a scheme with a frozen head the layer keeps its random initial weights (sections 5.7 and 5.8).
    """

    classes = None  # the outputs are no distribution over classes

    def __init__(self, hidden_size, scheme, merging, dropout):
        super().__init__(hidden_size, len(merging.classes), dropout)
        self.scheme, self.merging = scheme, merging
        self.linear.requires_grad_(not labeling.SCHEMES[scheme].frozen_head)

    def losses(self, logits, targets):
        """logits [B, K], targets [B, K] -> [B]."""
        return F.binary_cross_entropy_with_logits(logits, targets, reduction="none").mean(dim=-1)

    def prior_bias(self, targets):
        """targets [n, K] -> [K]: logit of each class's mean target. From 0 on, all K logits must first fall to about
        -log K, which the trunk does sooner than so slow a bias."""
        return ((targets.sum(0) + 1) / (len(targets) + 2)).logit()

    def view(self, task, rule="settled"):
        """This head as the head of one task (`datasets.Task`), decoding by `rule`."""
        return TaskView(self, task, rule)


class TaskView:
    """What a shared head says of one of its tasks."""

    def __init__(self, head, task, rule):
        self.head, self.task, self.rule = head, task, rule
        self.classes = len(task.labels)

    @property
    def may_differ(self):
        """Whether the decoding rule matters: some label of the task stands for several classes."""
        return any(len(names) > 1 for names in self.head.merging.labels(self.task.name).values())

    def __call__(self, embeddings):
        """[B, 1, H] -> logits [B, K]."""
        return self.head(embeddings)

    def predict(self, logits):
        """-> [B] class indices in the order of the task's labels."""
        outputs = double(logits.sigmoid()).cpu().numpy()
        names = labeling.decode(self.head.scheme, self.task.name, outputs, self.rule, self.head.merging)
        return torch.from_numpy(np.array([self.task.labels.index(name) for name in names], dtype=np.int64))

    def probabilities(self, logits):
        """-> [B, C]: the summed outputs of each label's classes, as shares of the sum over the task's labels."""
        outputs, classes = logits.sigmoid(), self.head.merging.labels(self.task.name)
        sums = [outputs[:, self.head.merging.columns(classes[label])].sum(dim=-1) for label in self.task.labels]
        sums = torch.stack(sums, dim=-1)  # [B, C]
        return sums / sums.sum(dim=-1, keepdim=True).clamp_min(torch.finfo(sums.dtype).tiny)
