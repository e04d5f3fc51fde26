"""What the steps of an epoch came to: means of the loss's terms and of the shares beside them, and a look for NaN."""

import math

import torch

CHECK_EVERY = {"cpu": 1, "cuda": 20}  # steps between looks at the loss: on a GPU a look waits for the device


class LossRecord:
    """Sums of the terms and shares of an epoch's steps (objective.Loss), kept on the device until they are wanted.

    `sums` {name: [sum of its values, their number]} is what a checkpoint needs.
    """

    def __init__(self, device):
        self.device = device
        self.sums = {}
        self.last = math.nan  # the whole loss at the last look
        self._unchecked = []  # (update, {term: value}) since then

    def add(self, losses, update):
        """Add a step's losses. Returns what `look` returns if it is time for one, otherwise None."""
        terms = {name: term.detach() for loss in losses for name, term in loss.terms.items()}
        for name, value in [*terms.items(), *(share for loss in losses for share in loss.shares.items())]:
            one = torch.stack([value.double(), torch.ones_like(value, dtype=torch.float64)])
            self.sums[name] = self.sums[name] + one if name in self.sums else one
        self._unchecked.append((update, terms))
        return self.look() if len(self._unchecked) >= CHECK_EVERY[self.device.type] else None

    @property
    def looked(self):
        """Whether the last step added has been looked at."""
        return not self._unchecked

    def look(self):
        """The first term since the last look that is not finite, in words; None where all are."""
        steps, self._unchecked = self._unchecked, []
        pending = [(update, name, term) for update, terms in steps for name, term in terms.items()]
        values = torch.stack([term for _, _, term in pending]).tolist() if pending else []  # one wait for the device
        if steps:
            self.last = sum(values[-len(steps[-1][1]) :])
        for (update, name, _), value in zip(pending, values, strict=True):
            if not math.isfinite(value):
                return f"the loss of {name} is {value} at update {update}"
        return None

    def means(self, tasks):
        """(terms {name: mean}, kept shares {name: mean}) of the epoch, in the order of `tasks`; then start anew."""
        names = sorted(self.sums, key=lambda name: tasks.index(name.split()[0]))
        means = {name: total / count for name in names for total, count in [self.sums[name].tolist()]}
        self.sums = {}
        kept = {name: mean for name, mean in means.items() if name.endswith("kept")}
        return {name: mean for name, mean in means.items() if name not in kept}, kept
