"""What the steps of an epoch came to: means of the loss's terms and of the shares beside them, and a look for NaN."""

import math

import torch

from minbert.layers.devices import double

RUNNING = 20
CHECK_EVERY = {"cpu": 1, "cuda": 20}  # steps between looks at the loss: on a GPU a look waits for the device


class LossRecord:
    """Sums of the terms and shares of an epoch's steps (objective.Loss), kept on the device until they are wanted.

    `terms`, `shares`: {(task, name): [sum of its values, their number]}.
    """

    def __init__(self, device):
        self.device = device
        self.terms, self.shares = {}, {}
        self.running = math.nan  # of the whole loss: a mean over about the last RUNNING looks
        self._unchecked = []  # (update, {(task, name): value}) since the last look

    def add(self, losses, update):
        """Add a step's losses. Returns what `look` returns if it is time for one, otherwise None."""
        terms = {key: term.detach() for loss in losses for key, term in loss.terms.items()}
        _add_up(self.terms, terms)
        _add_up(self.shares, {key: share for loss in losses for key, share in loss.shares.items()})
        self._unchecked.append((update, terms))
        return self.look() if len(self._unchecked) >= CHECK_EVERY.get(self.device.type, 20) else None

    @property
    def looked(self):
        """Whether the last step added has been looked at."""
        return not self._unchecked

    def look(self):
        """The first term since the last look that is not finite, in words; None where all are."""
        steps, self._unchecked = self._unchecked, []
        pending = [(update, key, term) for update, terms in steps for key, term in terms.items()]
        values = torch.stack([term for _, _, term in pending]).tolist() if pending else []  # one wait for the device
        if steps:
            last = sum(values[-len(steps[-1][1]) :])
            self.running = last if math.isnan(self.running) else self.running + (last - self.running) / RUNNING
        for (update, key, _), value in zip(pending, values, strict=True):
            if not math.isfinite(value):
                return f"the loss of {label(*key)} is {value} at update {update}"
        return None

    def means(self, tasks):
        """({label: mean of a term}, {label: mean of a share}) of the epoch, task by task; then start anew."""
        means = _means(self.terms, tasks), _means(self.shares, tasks)
        self.terms, self.shares = {}, {}
        return means

    def state_dict(self):
        return {"terms": self.terms, "shares": self.shares}

    def load_state_dict(self, state):
        self.terms, self.shares = state["terms"], state["shares"]


def label(task, name):
    """How a term or share is called where somebody reads it: the task alone for its own loss (name "")."""
    return f"{task} {name}" if name else task


def _means(sums, tasks):
    ordered = sorted(sums, key=lambda key: tasks.index(key[0]))
    return {label(*key): total / count for key in ordered for total, count in [sums[key].tolist()]}


def _add_up(sums, values):
    for key, value in values.items():
        wide = double(value)
        one = torch.stack([wide, torch.ones_like(wide)])
        sums[key] = sums[key] + one if key in sums else one
