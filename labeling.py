"""Pseudo-labels: one classifier for several tasks, whose targets say something about every task for every example.

Follows Karpov and Burtsev, "Data pseudo-labeling while adapting BERT for multitask approaches", Dialogue 2021, whose
equation and section numbers stand in the docstrings. An example carries the label of its own task only; each of the
eight schemes is a way to fill in the rest of its target, a vector of K numbers from 0 to 1, one for each output of
a single linear layer with sigmoids, trained with binary cross-entropy.

All eight are two choices. The merging: which label of which task is which shared class (`Merging`, a table). And what
an example gets where its own label says nothing: zeros, equal shares, or what plain models, each trained on one task
alone, predict. The paper's tables are NINE (nothing merged) and FIVE; any other does as well.

Labels and classes go by name here, never by index. Legend: n examples, K classes, G classes of a group, C labels.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from minbert.files import UserError

SUM_TOLERANCE = 1e-3  # how far from 1 a prediction may sum: probabilities stored in half precision are off by 5e-4


@dataclass(frozen=True)
class Merging:
    """Which label of which task is which shared class.

    classes  the K classes in the order of the outputs
    tasks    task -> {label: the classes it stands for}. A label of two classes says "one of these, I do not know
             which". The labels of one task share no class; two tasks share a class by both naming it.

    Classes that a task tells apart, or that a shared class connects, form a group: one question, to which exactly
    one class is the answer. A label answers its task's group; the other groups are unknown to it. UserError where the
    table contradicts itself.
    """

    classes: tuple[str, ...]
    tasks: Mapping[str, Mapping[str, tuple[str, ...]]]

    def __post_init__(self):
        if len(set(self.classes)) < len(self.classes):
            raise UserError(f"merging: a class is listed twice in {self.classes}")
        for task, labels in self.tasks.items():
            named = [name for names in labels.values() for name in names]
            if len(labels) < 2 or not all(labels.values()):
                raise UserError(f"merging: {task} needs two labels or more, each with at least one class")
            if len(set(named)) < len(named):
                raise UserError(f"merging: two labels of {task} stand for the same class, so nothing tells them apart")
            if strangers := sorted(set(named) - set(self.classes)):
                raise UserError(f"merging: {task} names {', '.join(strangers)}, not among the classes {self.classes}")
        if idle := set(self.classes) - {name for group in self.groups for name in group}:
            raise UserError(f"merging: no task names {', '.join(sorted(idle))}; leave it out of the classes")

    @property
    def groups(self):
        """The groups, each a tuple of its classes, all in the order of `classes`."""
        groups = []
        for labels in self.tasks.values():
            joined = {name for names in labels.values() for name in names}
            touched = [group for group in groups if group & joined]
            groups = [*(group for group in groups if not group & joined), joined.union(*touched)]
        ordered = [tuple(name for name in self.classes if name in group) for group in groups]
        return sorted(ordered, key=lambda group: self.classes.index(group[0]))

    def labels(self, task):
        """{label: its classes} of a task; UserError for a task that the table does not have."""
        if task not in self.tasks:
            raise UserError(f"no task {task!r} in this merging; it has {', '.join(self.tasks)}")
        return self.tasks[task]

    def group_of(self, task):
        """The group that a task's labels answer."""
        some = next(iter(self.labels(task).values()))[0]
        return next(group for group in self.groups if some in group)

    def columns(self, names):
        """Where in a target the named classes stand."""
        return [self.classes.index(name) for name in names]

    def teacher(self, group):
        """The task whose plain model predicts a group: the first of the table that names each of its classes alone."""
        for task, labels in self.tasks.items():
            if sorted(labels.values()) == sorted((name,) for name in group):
                return task
        raise UserError(f"no task tells {', '.join(group)} apart, so no plain model predicts them; try another scheme")

    def plus(self, task, labels):
        """This merging with one task more; classes that are new to it go last."""
        new = [name for names in labels.values() for name in names if name not in self.classes]
        return Merging((*self.classes, *new), {**self.tasks, task: labels})


def unmerged(tasks):
    """The merging of {task: labels} that shares nothing: every label is a class of its own, "task label"."""
    table = {task: {label: (f"{task} {label}",) for label in labels} for task, labels in tasks.items()}
    return Merging(tuple(name for labels in table.values() for (name,) in labels.values()), table)


# Nine classes (sections 5.1 to 5.3), in the order of eq. 3. The paper's epsilon is e_RTE.
NINE = Merging(
    ("e_RTE", "!e_RTE", "e", "c", "n", "d", "!d", "+", "-"),
    {
        "rte": {"entailment": ("e_RTE",), "not_entailment": ("!e_RTE",)},
        "mnli": {"entailment": ("e",), "contradiction": ("c",), "neutral": ("n",)},
        "qqp": {"not_duplicate": ("!d",), "duplicate": ("d",)},
        "sst2": {"negative": ("-",), "positive": ("+",)},
    },
)

# Five classes (section 5.4), in the order of eq. 9: RTE and QQP answer MNLI's question, their "no" being "c or n".
FIVE = Merging(
    ("e", "c", "n", "+", "-"),
    {
        "rte": {"entailment": ("e",), "not_entailment": ("c", "n")},
        "mnli": {"entailment": ("e",), "contradiction": ("c",), "neutral": ("n",)},
        "qqp": {"not_duplicate": ("c", "n"), "duplicate": ("e",)},
        "sst2": {"negative": ("-",), "positive": ("+",)},
    },
)

# Beyond the paper: a fifth task, CFIMDB, answers SST-2's question. (SST-2, the earlier in the table, teaches it.)
NINE_CFIMDB = NINE.plus("cfimdb", NINE.tasks["sst2"])
FIVE_CFIMDB = FIVE.plus("cfimdb", FIVE.tasks["sst2"])


@dataclass(frozen=True)
class Scheme:
    """One of the paper's eight settings.

    title        its row of Table 1
    equations    their numbers in the paper
    merging      the paper's table for it; `targets` and `decode` take another one too
    unknown      what the groups get that an example's label does not answer: "zero"; "equal" shares; "predicted" (the
                 plain model's probabilities) or "rounded" (the same, the largest made 1 and the rest 0)
    frozen_head  the last linear layer is random and never trained, everything else is (sections 5.7 and 5.8)
    """

    title: str
    equations: str
    merging: Merging
    unknown: str
    frozen_head: bool = False

    @property
    def predicts(self):
        return self.unknown in ("predicted", "rounded")


SCHEMES = {
    "independent": Scheme("Independent labels", "3-4", NINE, "zero"),
    "soft_independent": Scheme("Soft independent labels", "5-6", NINE, "equal"),
    "augmented_independent": Scheme("Augmented independent labels", "7-8", NINE, "predicted"),
    "soft_probability": Scheme("Soft probability assumption", "9-13", FIVE, "equal"),
    "soft_predicted": Scheme("Soft predicted labels", "14-17", FIVE, "predicted"),
    "hard_predicted": Scheme("Hard predicted labels", "18-20", FIVE, "rounded"),
    "independent_frozen": Scheme("Independent labels frozen head", "3-4", NINE, "zero", frozen_head=True),
    "soft_independent_frozen": Scheme("Soft independent labels frozen head", "5-6", NINE, "equal", frozen_head=True),
}


def teachers_needed(scheme, merging=None, task=None):
    """The tasks, in the table's order, whose plain models' predictions `targets` reads on a task's examples.

    task: None for those that any task's examples need. None are needed by a scheme that uses no predictions.
    """
    scheme, merging = _chosen(scheme, merging)
    if not scheme.predicts:
        return ()
    needed = {
        merging.teacher(group)
        for one in (merging.tasks if task is None else [task])
        for group in merging.groups
        if group != merging.group_of(one) or _leaves_open(merging, one)
    }
    return tuple(name for name in merging.tasks if name in needed)


def defaults(scheme, n, predictions=None, merging=None):
    """float64 [n, K]: the paper's "default" vectors, what a scheme says of an example before its label is looked at.

    Independent (eq. 3): zeros. Soft independent (eq. 5), soft probability (eq. 9): 1/G in a group of G classes.
    Augmented independent (eq. 7), soft predicted (eq. 14): the plain models' probabilities; hard predicted (eq. 18):
    those, rounded.
    """
    scheme, merging = _chosen(scheme, merging)
    vectors = np.empty((n, len(merging.classes)))
    for group in merging.groups:
        vectors[:, merging.columns(group)] = _rounded_if(scheme, _guess(scheme, merging, group, predictions, n))
    return vectors


def targets(scheme, task, labels, predictions=None, merging=None, literal_eq20=False):
    """float64 [n, K]: the target of each of n examples of one task.

    Groups that the label does not answer keep their default (see `defaults`). In the one that it answers, a label of
    one class sets that class to 1 and the others to 0 (eq. 4, 6, 8, 10, 11, 12, 15, 16, 19). A label of several (FIVE's
    not_entailment and not_duplicate, "c or n") shares 1 among them: equally (eq. 13), or as the plain model does once
    the other classes are ruled out (eq. 1, 2 and 17), that rounded in the hard scheme (eq. 20, but see below).

    scheme: a name in SCHEMES. task, labels: names, one label per example. merging: None for the scheme's own.
    predictions: teacher -> (the label names of its columns in any order, probabilities [n, C] on these examples); see
    `teachers_needed`, others are not looked at.
    literal_eq20: leave the pair of eq. 20 unrounded, as printed; section 5.6's text, our default, rounds it too.

    Raises UserError for a wrong scheme, task or label, for missing predictions, and for one that is no distribution.
    """
    scheme, merging = _chosen(scheme, merging)
    if literal_eq20 and scheme.unknown != "rounded":
        raise UserError("eq. 20 is hard_predicted's: literal_eq20 changes nothing in the other schemes; leave it out")
    n, own = len(labels), merging.group_of(task)
    vectors = np.empty((n, len(merging.classes)))
    for group in merging.groups:
        asked = group != own or _leaves_open(merging, task)  # a label of one class needs no teacher beside it
        values = _guess(scheme, merging, group, predictions, n) if asked else np.zeros((n, len(group)))
        if group == own:
            values = _restricted(values, _answers(merging, task, labels))
        if group != own or not literal_eq20:
            values = _rounded_if(scheme, values)
        vectors[:, merging.columns(group)] = values
    return vectors


def _chosen(scheme, merging):
    if scheme not in SCHEMES:
        raise UserError(f"no label scheme {scheme!r}: choose one of {', '.join(SCHEMES)}")
    return SCHEMES[scheme], SCHEMES[scheme].merging if merging is None else merging


def _leaves_open(merging, task):
    """Whether some label of the task stands for several classes, so that a teacher may say which."""
    return any(len(names) > 1 for names in merging.labels(task).values())


def _answers(merging, task, labels):
    """bool [n, G]: which classes of the task's group each example's label stands for."""
    group = merging.group_of(task)
    rows = {label: [name in names for name in group] for label, names in merging.labels(task).items()}
    for i, label in enumerate(labels):
        if label not in rows:
            raise UserError(f"example {i} (from 0) of {task}: {label!r} is no label of it; those are {', '.join(rows)}")
    return np.array([rows[label] for label in labels], dtype=bool).reshape(len(labels), len(group))


def _restricted(guess, answers):
    """[n, G]: the guess with the classes ruled out set to 0 and the rest scaled to sum to 1; eq. 1 and 2:

        MNLIpred^{!e}_n = MNLIpred_n / (MNLIpred_n + MNLIpred_c)        and c likewise

    Equal shares where the guess leaves nothing to scale (both 0, which the paper does not speak of).
    """
    kept = np.where(answers, guess, 0.0)  # [n, G]
    total = kept.sum(1, keepdims=True)  # [n, 1]
    equal = answers / answers.sum(1, keepdims=True)
    return np.divide(kept, total, out=equal, where=total > 0)


def _rounded_if(scheme, values):
    """[n, G]: the paper's I (section 4) in the scheme that rounds: the largest, the first on a tie, 1, the rest 0."""
    return np.eye(values.shape[1])[values.argmax(1)] if scheme.unknown == "rounded" else values


def _guess(scheme, merging, group, predictions, n):
    """[n, G]: what a scheme says of a group that nothing is known about, not yet rounded."""
    if not scheme.predicts:
        return np.full((n, len(group)), 1 / len(group) if scheme.unknown == "equal" else 0.0)
    teacher = merging.teacher(group)
    if teacher not in (predictions or {}):
        raise UserError(f"predictions of the plain {teacher} model are missing; they stand in for {', '.join(group)}")
    columns, given = predictions[teacher]
    columns, given, names = list(columns), np.asarray(given, dtype=np.float64), merging.tasks[teacher]
    if sorted(columns) != sorted(names) or given.shape != (n, len(names)):
        raise UserError(f"predictions of the plain {teacher} model: expected {n} rows of {', '.join(names)}, "
                        f"got shape {given.shape} with columns {', '.join(map(str, columns))}")  # fmt: skip
    fine = (given >= 0).all(1) & (abs(np.where(given >= 0, given, 0.0).sum(1) - 1) <= SUM_TOLERANCE)  # false for NaN
    if not fine.all():
        i = int(fine.argmin())
        what = f"the plain {teacher} model's prediction {given[i].tolist()}"
        raise UserError(f"example {i} (from 0): {what} is no distribution (none negative, sum 1); predict again")
    columns_of = {name: columns.index(label) for label, (name,) in names.items()}
    return given[:, [columns_of[name] for name in group]]


def decode(scheme, task, outputs, rule="settled", merging=None):
    """The label of a task, a list of n names, that each example's outputs speak for.

    outputs: [n, K] after the sigmoid, from 0 to 1 (sums of logits would mean nothing).
    rule: "settled" takes the label whose classes' outputs sum highest; for FIVE's RTE and QQP: entailment iff
    e > c + n. "argmax" takes the label of the highest single class. They differ only where a label stands for several
    classes. Given P, the chance of entailment, soft_probability's cross-entropy is least at e = P, c = n = (1 - P)/2,
    so argmax says entailment from P > 1/3 and the sum from P > 1/2. The paper does not say which it used.
    A tie goes to the label whose first class comes first; of sums, to that of more classes (e = c + n is "no").

    Raises UserError for a wrong scheme, task, rule or shape, and for outputs that are no probabilities.
    """
    _, merging = _chosen(scheme, merging)
    if rule not in (reduce := {"settled": np.sum, "argmax": np.max}):
        raise UserError(f"no decoding rule {rule!r}: choose settled or argmax")
    where = {label: merging.columns(names) for label, names in merging.labels(task).items()}
    outputs = np.asarray(outputs, dtype=np.float64)
    if outputs.ndim != 2 or outputs.shape[1] != len(merging.classes):
        raise UserError(f"outputs for {task}: expected n rows of {len(merging.classes)}, got shape {outputs.shape}")
    fine = ((outputs >= 0) & (outputs <= 1)).all(1)
    if not fine.all():
        i = int(fine.argmin())
        raise UserError(f"example {i} (from 0) of {task}: {outputs[i].tolist()} is not from 0 to 1; apply the sigmoid")
    # argmax takes the first of equals, so whoever wins ties goes first
    order = sorted(where, key=lambda label: (-len(where[label]) * (rule == "settled"), min(where[label])))
    scores = np.stack([reduce[rule](outputs[:, where[label]], axis=1) for label in order], axis=1)  # [n, C]
    return [order[best] for best in scores.argmax(1)]


def best_attempt(accuracies):
    """(attempt, its mean): the attempt whose dev accuracies have the largest mean over the tasks; the first on a tie.

    accuracies: attempt (a learning rate, say) -> {task: dev accuracy}. Section 6: a scheme keeps the rate with the
    best average over the four tasks; a plain model, having one task, keeps that task's best.
    """
    tasks = {frozenset(scores) for scores in accuracies.values()}
    if len(tasks) != 1 or frozenset() in tasks:
        raise UserError("choosing an attempt needs one or more, all with dev accuracies on the same tasks")
    for attempt, scores in accuracies.items():
        if not all(map(math.isfinite, scores.values())):
            raise UserError(f"attempt {attempt}: {dict(scores)} are no dev accuracies; run it again")
    # fsum rounds once, whatever the order of the tasks: equal means compare as equal
    means = {attempt: math.fsum(scores.values()) / len(scores) for attempt, scores in accuracies.items()}
    best = max(means, key=means.get)
    return best, means[best]
