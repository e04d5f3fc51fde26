"""What one step minimises: a short list of terms, each a scalar with a name, to be summed without weights.

    supervised   each task's loss, the mean over its batch (heads.py), or with TSA over part of it (semi_supervised.py)
    R-Drop       the same examples twice through the trunk, with other dropout, must agree (regularizers.py)
    SMART        outputs must not change under a small perturbation of the embeddings (regularizers.py)
    UDA          changed texts must be predicted as their originals are (semi_supervised.py)
    consistency  the student must agree with its teacher, a moving average of itself (semi_supervised.py)

All sequences that need a gradient, of all tasks, labelled or not, both sentences of separate pairs, go through the
trunk in one pass; UDA's originals and the teacher's go through one without.

Of several processes each computes its part of every term, on its part of the rows (processes.py).

Shapes: B examples of a task, P sequences of an example (1, or 2 for a separately encoded pair), N real tokens of all
sequences, H hidden size.
"""

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from minbert import evaluation, processes
from minbert.layers.dropout import drawn_again
from minbert.layers.packing import to_device
from minbert.methods.regularizers import r_drop, smoothness
from minbert.methods.semi_supervised import (
    BREGMAN,
    consistency,
    ramp_up,
    true_class_probability,
    tsa_loss,
    tsa_threshold,
    uda_loss,
)
from minbert.processes import ALONE, counted_together, tokens_among_all

SMART_STEP = 1e-3  # the step size of the paper (Jiang et al. 2020, section 4)


def uda(head, original, copy, flags):
    """UDA's term with its weight, and which of the texts it counts."""
    term, kept = uda_loss(head, original, copy, flags.uda_temperature, flags.uda_threshold, flags.uda_mean)
    return flags.uda_weight * term, kept


# What learns from changed copies of texts (flags/methods.py has these names too): {flag: (its name in the log, function
# from a head, the logits [B, outputs] of the texts, those of their copies and the flags to (term, kept [B] of bool))}
FROM_COPIES = {"uda": ("UDA", uda)}
LEARNED_FROM = {"train", "unlabelled", "augmented"}  # splits


@dataclass
class Batch:
    """What a step takes of one task: row numbers of its training set, and of its unlabelled set or None."""

    task: str
    rows: np.ndarray
    unlabelled: np.ndarray | None = None


@dataclass
class Loss:
    """terms {(task, name): scalar} to be summed, a task's own loss under the name ""; shares {(task, name): scalar} to
    be watched (how much TSA and UDA keep); tokens that went through the trunk with a gradient, of all processes."""

    terms: dict
    shares: dict
    tokens: int

    @property
    def total(self):
        return sum(self.terms.values())

    def whole(self, these):
        """The same, detached, with the terms and shares of whole batches: each of `these` processes has a part."""
        values = iter(these.sum([value.detach() for value in (*self.terms.values(), *self.shares.values())]))
        terms, shares = ({key: next(values) for key in part} for part in (self.terms, self.shares))
        return Loss(terms, shares, self.tokens)


class Objective:
    """The loss of a step for `model` on `data` {task: {split: Split}}.

    regularizers, unlabelled: those groups of flags. teacher: a model or None. frozen: the `FrozenEmbeddings` of a trunk
    that is not trained, otherwise None.
    """

    def __init__(self, model, data, regularizers, unlabelled, teacher=None, frozen=None):
        self.model, self.data, self.teacher, self.frozen = model, data, teacher, frozen
        self.regularizers, self.unlabelled = regularizers, unlabelled
        self.device, self.processes = model.device, processes.here()
        self.labels = {
            name: to_device(splits["train"].examples.labels, self.device)
            for name, splits in data.items()
            if "train" in splits
        }

    def __call__(self, batches, progress=0.0):
        """[Batch] -> Loss, whose terms are this process's part; progress: updates done / updates planned."""
        whole, _ = self._rows(batches, ALONE.share)
        parts, originals = self._rows(batches, self.processes.share)
        logits, embedded, after_embedding = self._student(_rows_of(parts))
        loss = Loss({}, {}, 0 if self.frozen else self._tokens(_rows_of(whole)))
        for batch in batches:
            self._add_supervised(loss, batch.task, parts[batch.task, "train"], logits, progress)
        if self.regularizers.smart:
            clean = {(batch.task, "train"): logits[batch.task, "train"] for batch in batches}
            self._add_smart(loss, after_embedding, embedded, clean, parts, whole)
        if originals:
            self._add_from_copies(loss, originals, logits)
        if self.teacher:
            self._add_consistency(loss, parts, logits, progress)
        return loss

    def _rows(self, batches, share):
        """({(task, split): Part} of what needs a gradient, the same of the texts that have changed copies). share: from
        row numbers to the Part of them."""
        parts, originals = {}, {}
        for batch in batches:
            task, labelled = batch.task, share(batch.rows)
            parts[task, "train"] = labelled.twice() if self.regularizers.r_drop else labelled
            beside = None if batch.unlabelled is None else share(batch.unlabelled)
            if beside is not None and task in self.unlabelled.copies:
                parts[task, "augmented"] = originals[task, "unlabelled"] = beside
            if beside is not None and self.unlabelled.reads_text:
                parts[task, "unlabelled"] = beside
        return parts, originals

    # -------------------------------------------------------------------------------------------------- terms

    def _add_supervised(self, loss, task, part, logits, progress):
        head, logits = self.model.heads[task], logits[task, "train"]
        labels = self.labels[task][to_device(part.rows, self.device)]
        if self.unlabelled.tsa:
            known = true_class_probability(head, logits, labels)
            threshold = tsa_threshold(progress, head.classes, self.unlabelled.tsa)
            mean, kept = tsa_loss(head.losses(logits, labels), known, threshold)
            loss.terms[task, ""] = self.processes.weigh_kept(mean, kept, part)
            loss.shares[task, "TSA kept"] = part.weigh(kept.float().mean())
        else:
            loss.terms[task, ""] = part.weigh(head.loss(logits, labels))
        if task in self.regularizers.loss_weight:
            loss.terms[task, ""] = self.regularizers.loss_weight[task] * loss.terms[task, ""]
        if self.regularizers.r_drop:
            loss.terms[task, "R-Drop"] = part.weigh(self.regularizers.r_drop * r_drop(head, logits))

    def _add_smart(self, loss, after_embedding, embedded, clean, parts, whole):
        heads = {key: self.model.heads[key[0]] for key in clean}
        radius = self.regularizers.smart_radius
        step_size = max(SMART_STEP, radius)  # a shorter step would never reach a wider ball's border

        def draw(shape, dtype, device):
            among_all = partial(tokens_among_all, parts, self._sequences(_rows_of(whole)))
            return self.processes.noise(shape, dtype, device, among_all)

        penalties = smoothness(after_embedding, embedded, clean, heads, step_size=step_size, radius=radius, draw=draw)
        for (task, split), penalty in penalties.items():
            loss.terms[task, "SMART"] = parts[task, split].weigh(self.regularizers.smart * penalty)

    def _add_from_copies(self, loss, originals, logits):
        """What looks at the texts as they are has read the originals already."""
        reads = self.unlabelled.reads_text
        targets = logits if reads else self._without_gradient(self.model, _rows_of(originals))
        for flag, (name, compare) in FROM_COPIES.items():
            for (task, _), part in originals.items():
                if task in getattr(self.unlabelled, flag):
                    pair = targets[task, "unlabelled"], logits[task, "augmented"]
                    mean, kept = compare(self.model.heads[task], *pair, self.unlabelled)
                    over_kept = flag == "uda" and self.unlabelled.uda_mean == "kept"
                    mine = self.processes.weigh_kept(mean, kept, part) if over_kept else part.weigh(mean)
                    loss.terms[task, name] = mine
                    loss.shares[task, f"{name} kept"] = part.weigh(kept.float().mean())

    def _add_consistency(self, loss, parts, logits, progress):
        """The student's logits against the teacher's, each task's labelled and unlabelled examples together (under
        R-Drop the labelled ones twice, as everywhere)."""
        flags = self.unlabelled
        kind, weight, share = flags.mean_teacher, flags.consistency_weight, flags.ramp_up
        if kind == "bregman":
            kind, weight, share = BREGMAN["kind"], BREGMAN["weight"], BREGMAN["share"]
        parts = {key: part for key, part in parts.items() if key[1] != "augmented"}
        theirs = self._without_gradient(self.teacher, _rows_of(parts))
        for task in dict.fromkeys(task for task, _ in parts):
            of_task = {key: part for key, part in parts.items() if key[0] == task}
            keys, whole = counted_together(of_task)
            ours_of_task, theirs_of_task = (torch.cat([side[key] for key in keys]) for side in (logits, theirs))
            apart = consistency(kind, self.model.heads[task], ours_of_task, theirs_of_task)
            loss.terms[task, "consistency"] = whole.weigh(weight * ramp_up(progress, share) * apart)

    # ------------------------------------------------------------------------------------------------- passes

    def _student(self, rows):
        """{(task, split): row numbers} -> (logits {(task, split): [B, outputs]}, embedded tokens [N, H], and the rest
        of the model as a function of these). On a frozen trunk the last two are None."""
        model = self.model
        if self.frozen:
            return self._logits(model, self.frozen.rows(rows)), None, None
        sequences = self._sequences(rows)
        with model.autocast:
            tokens = model.pack(sequences)
            embedded = model.bert.embed(tokens.ids, tokens.positions, tokens.types)  # [N, H]

        def after_embedding(embedded):
            with model.autocast:
                return self._logits(model, model.encode(embedded, tokens.packing, sequences))

        if self.regularizers.smart:
            after_embedding = drawn_again(after_embedding, self.device)
        return after_embedding(embedded), embedded, after_embedding

    @torch.no_grad()
    def _without_gradient(self, model, rows):
        """{(task, split): row numbers} -> {(task, split): logits}, in whatever mode the model is."""
        embeddings = self.frozen.rows(rows) if self.frozen else model.embed(self._sequences(rows))
        return self._logits(model, embeddings)

    def _logits(self, model, embeddings):
        with model.autocast:
            return {key: model.heads[key[0]](vectors).float() for key, vectors in embeddings.items()}

    def _sequences(self, rows):
        return {(task, split): self.data[task][split].sequences.take(chosen) for (task, split), chosen in rows.items()}

    def _tokens(self, rows):
        return sum(int(self.data[task][split].sequences.lengths[r].sum()) for (task, split), r in rows.items())


def _rows_of(parts):
    """{(task, split): row numbers} of {(task, split): Part}."""
    return {key: part.rows for key, part in parts.items()}


class FrozenEmbeddings:
    """The embeddings of `data` {task: {split: Split}} under a trunk that is not trained, in eval mode: they never
    change, so those of a split are computed once a run, when they are first asked for."""

    def __init__(self, model, data):
        self.model, self.data = model, data
        self._known = {}

    def of(self, task, split):
        """[n, P, H]: those of a whole split."""
        if (task, split) not in self._known:
            sequences = self.data[task][split].sequences
            self._known[task, split] = evaluation.embeddings(self.model, task, sequences, split in LEARNED_FROM)
        return self._known[task, split]

    def rows(self, rows):
        """{(task, split): row numbers} -> {(task, split): [B, P, H]}"""
        return {key: self.of(*key)[to_device(chosen, self.model.device)] for key, chosen in rows.items()}

    def of_training(self):
        """Compute all that the heads will learn from."""
        for task, splits in self.data.items():
            for split in splits.keys() & LEARNED_FROM:
                self.of(task, split)
