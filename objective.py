"""What one step minimises: a short list of terms, each a scalar with a name, to be summed without weights.

    supervised   each task's loss, the mean over its batch (heads.py)
    R-Drop       the same examples twice through the trunk, with other dropout, must agree (regularizers.py)
    SMART        outputs must not change under a small perturbation of the embeddings (regularizers.py)

All sequences of the step, both sentences of separate pairs included, go through the trunk in one pass.

Shapes: B examples of a task, P sequences of an example (1, or 2 for a separately encoded pair), N real tokens of all
sequences, H hidden size.
"""

import numpy as np

import evaluation
from packing import to_device
from regularizers import r_drop, smoothness


class Objective:
    """The terms of a step's loss for `model` on `data` {task: {split: Split}}, as `options` say."""

    def __init__(self, model, data, options):
        self.model, self.data, self.options = model, data, options
        self.device = model.device
        self.frozen = options.option == "pretrain"
        self.labels = {
            name: to_device(splits["train"].examples.labels, self.device)
            for name, splits in data.items()
            if "train" in splits
        }
        self._frozen_embeddings = {}

    def __call__(self, batches):
        """[(task, row numbers [B])] -> {term: scalar}; the terms of a task begin with its name."""
        options, heads = self.options, self.model.heads
        if options.r_drop:
            batches = [(name, np.concatenate([rows, rows])) for name, rows in batches]
        rows = {name: to_device(rows, self.device) for name, rows in batches}
        # 1. one pass of the trunk, then each task's head
        if self.frozen:
            logits = self.model.classify({name: self.frozen_embeddings(name, "train")[rows[name]] for name in rows})
        else:
            sequences = {name: self.data[name]["train"].sequences.take(r) for name, r in batches}
            with self.model.autocast:
                tokens = self.model.pack(sequences)
                embedded = self.model.bert.embed(tokens.ids, tokens.positions, tokens.types)  # [N, H]
            classify = self._after_the_embedding(tokens, sequences)
            logits = classify(embedded)
        # 2. the terms
        terms = {name: heads[name].loss(logits[name].float(), self.labels[name][rows[name]]) for name in rows}
        if options.r_drop:
            terms |= {f"{name} R-Drop": options.r_drop * r_drop(heads[name], logits[name].float()) for name in rows}
        if options.smart:
            penalties = smoothness(classify, embedded, logits, heads, radius=options.smart_radius)
            terms |= {f"{name} SMART": options.smart * penalty for name, penalty in penalties.items()}
        return terms

    def _after_the_embedding(self, tokens, sequences):
        """The rest of the model as a function: embedded tokens [N, H] -> {task: logits}."""

        def classify(embedded):
            with self.model.autocast:
                hidden = self.model.bert.encode(embedded, tokens.packing)
                return self.model.classify(self.model.pool(hidden, tokens, sequences))

        return classify

    def frozen_embeddings(self, name, split):
        """The embeddings [n, P, H] of a split under the frozen trunk, in eval mode: they never change, so they are
        computed once a run."""
        if (name, split) not in self._frozen_embeddings:
            vectors = evaluation.embeddings(self.model, name, self.data[name][split].sequences)
            self._frozen_embeddings[name, split] = vectors
        return self._frozen_embeddings[name, split]
