"""What one step minimises: a short list of terms, each a scalar with a name, to be summed without weights.

    supervised   each task's loss, the mean over its batch (heads.py), or with TSA over part of it (semi_supervised.py)
    R-Drop       the same examples twice through the trunk, with other dropout, must agree (regularizers.py)
    SMART        outputs must not change under a small perturbation of the embeddings (regularizers.py)
    UDA          changed texts must be predicted as their originals are (semi_supervised.py)
    consistency  the student must agree with its teacher, a moving average of itself (semi_supervised.py)

All sequences that need a gradient, of all tasks, labelled or not, both sentences of separate pairs, go through the
trunk in one pass; UDA's originals and the teacher's go through one without.

Shapes: B examples of a task, P sequences of an example (1, or 2 for a separately encoded pair), N real tokens of all
sequences, H hidden size.
"""

from dataclasses import dataclass

import numpy as np
import torch

import evaluation
from packing import to_device
from regularizers import r_drop, smoothness
from semi_supervised import (
    BREGMAN,
    consistency,
    ramp_up,
    true_class_probability,
    tsa_loss,
    tsa_threshold,
    uda_loss,
)

SMART_STEP = 1e-3  # the step size of the paper (Jiang et al. 2020, section 4)


@dataclass
class Batch:
    """What a step takes of one task: row numbers of its training set, and of its unlabelled set or None."""

    task: str
    rows: np.ndarray
    unlabelled: np.ndarray | None = None


@dataclass
class Loss:
    """terms {name: scalar} to be summed; shares {name: scalar}, to be watched (how much TSA and UDA keep); tokens that
    went through the trunk with a gradient. The names of a task's terms begin with its name."""

    terms: dict
    shares: dict
    tokens: int


class Objective:
    """The loss of a step for `model` on `data` {task: {split: Split}}, as `options` say. `teacher`: a model or None."""

    def __init__(self, model, data, options, teacher=None):
        self.model, self.data, self.options, self.teacher = model, data, options, teacher
        self.device = model.device
        self.frozen = options.option == "pretrain"
        self.labels = {
            name: to_device(splits["train"].examples.labels, self.device)
            for name, splits in data.items()
            if "train" in splits
        }
        self._frozen_embeddings = {}

    def __call__(self, batches, progress=0.0):
        """[Batch] -> Loss; progress: updates done / updates planned."""
        options = self.options
        # 1. one pass of the trunk over everything that needs a gradient, then the heads
        rows = {(batch.task, "train"): batch.rows for batch in batches}
        if options.r_drop:
            rows = {key: np.concatenate([chosen, chosen]) for key, chosen in rows.items()}
        labelled = [*rows]
        without_labels = {batch.task: batch.unlabelled for batch in batches if batch.unlabelled is not None}
        changed = {task: chosen for task, chosen in without_labels.items() if task in options.uda}
        rows |= {(task, "augmented"): chosen for task, chosen in changed.items()}
        if self.teacher:
            rows |= {(task, "unlabelled"): chosen for task, chosen in without_labels.items()}
        logits, embedded, after_embedding = self._student(rows)
        # 2. the supervised terms, and what keeps them smooth
        terms, shares = {}, {}
        for key in labelled:
            task, head = key[0], self.model.heads[key[0]]
            labels = self.labels[task][to_device(rows[key], self.device)]
            if options.tsa:
                known = true_class_probability(head, logits[key], labels)
                threshold = tsa_threshold(progress, head.classes, options.tsa)
                terms[task], kept = tsa_loss(head.losses(logits[key], labels), known, threshold)
                shares[f"{task} TSA kept"] = kept.float().mean()
            else:
                terms[task] = head.loss(logits[key], labels)
            if options.r_drop:
                terms[f"{task} R-Drop"] = options.r_drop * r_drop(head, logits[key])
        if options.smart:
            heads = {key: self.model.heads[key[0]] for key in labelled}
            clean = {key: logits[key] for key in labelled}
            radius = options.smart_radius
            step_size = max(SMART_STEP, radius)  # a shorter step would never reach a wider ball's border
            penalties = smoothness(after_embedding, embedded, clean, heads, step_size=step_size, radius=radius)
            terms |= {f"{task} SMART": options.smart * penalty for (task, _), penalty in penalties.items()}
        # 3. the terms of unlabelled text
        if changed:
            originals = {(task, "unlabelled"): chosen for task, chosen in changed.items()}
            targets = logits if self.teacher else self._without_gradient(self.model, originals)
            for task in changed:
                term, kept = uda_loss(
                    self.model.heads[task],
                    targets[task, "unlabelled"],
                    logits[task, "augmented"],
                    options.uda_temperature,
                    options.uda_threshold,
                    options.uda_mean,
                )
                terms[f"{task} UDA"] = options.uda_weight * term
                shares[f"{task} UDA kept"] = kept.float().mean()
        if self.teacher:
            terms |= self._consistency(
                logits, {key: chosen for key, chosen in rows.items() if key[1] != "augmented"}, progress
            )
        tokens = sum(int(self.data[task][split].sequences.lengths[r].sum()) for (task, split), r in rows.items())
        return Loss(terms, shares, 0 if self.frozen else tokens)

    def _consistency(self, logits, rows, progress):
        """The student's logits against the teacher's, each task's labelled and unlabelled examples together (under
        R-Drop the labelled ones twice, as everywhere)."""
        options = self.options
        kind, weight, share = options.mean_teacher, options.consistency_weight, options.ramp_up
        if kind == "bregman":
            kind, weight, share = BREGMAN["kind"], BREGMAN["weight"], BREGMAN["share"]
        theirs, terms = self._without_gradient(self.teacher, rows), {}
        for task in dict.fromkeys(task for task, _ in rows):
            keys = [key for key in rows if key[0] == task]
            ours_of_task, theirs_of_task = (torch.cat([side[key] for key in keys]) for side in (logits, theirs))
            apart = consistency(kind, self.model.heads[task], ours_of_task, theirs_of_task)
            terms[f"{task} consistency"] = weight * ramp_up(progress, share) * apart
        return terms

    # ------------------------------------------------------------------------------------------------- passes

    def _student(self, rows):
        """{(task, split): row numbers} -> (logits {(task, split): [B, outputs]}, embedded tokens [N, H], and the rest
        of the model as a function of these). On a frozen trunk the last two are None."""
        model = self.model
        if self.frozen:
            return self._logits(model, self._frozen(rows)), None, None
        sequences = self._sequences(rows)
        with model.autocast:
            tokens = model.pack(sequences)
            embedded = model.bert.embed(tokens.ids, tokens.positions, tokens.types)  # [N, H]

        def after_embedding(embedded):
            with model.autocast:
                hidden = model.bert.encode(embedded, tokens.packing)
                return self._logits(model, model.pool(hidden, tokens, sequences))

        return after_embedding(embedded), embedded, after_embedding

    @torch.no_grad()
    def _without_gradient(self, model, rows):
        """{(task, split): row numbers} -> {(task, split): logits}, in whatever mode the model is."""
        embeddings = self._frozen(rows) if self.frozen else model.embed(self._sequences(rows))
        return self._logits(model, embeddings)

    def _logits(self, model, embeddings):
        with model.autocast:
            return {key: model.heads[key[0]](vectors).float() for key, vectors in embeddings.items()}

    def _sequences(self, rows):
        return {(task, split): self.data[task][split].sequences.take(chosen) for (task, split), chosen in rows.items()}

    def _frozen(self, rows):
        return {key: self.frozen_embeddings(*key)[to_device(chosen, self.device)] for key, chosen in rows.items()}

    def frozen_embeddings(self, name, split):
        """The embeddings [n, P, H] of a split under the frozen trunk, in eval mode: they never change, so they are
        computed once a run."""
        if (name, split) not in self._frozen_embeddings:
            vectors = evaluation.embeddings(self.model, name, self.data[name][split].sequences)
            self._frozen_embeddings[name, split] = vectors
        return self._frozen_embeddings[name, split]
