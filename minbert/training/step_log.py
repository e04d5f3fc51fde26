"""A run's log by update: log.jsonl, a line every so many updates, behind the curves of report.html.

    {"update": 20, "epoch": 1, "loss": {"sst": 1.5}, "kept": {"sst UDA kept": 0.4}, "rate": 2e-05, "gradient_norm": 3.1}

`loss` and `kept` are means over the steps since the line before, for a step need not have every task; rate and
gradient norm (before any clipping) are those of the update itself. What is not finite is null.

A line is appended as it comes about, and a checkpoint knows how long the file was: a resumed run cuts off what came
after it, so a line is there once, with the same bits. On a GPU, values wait on the device until a line is due.
"""

import json
import math
import os

import torch

from minbert import processes
from minbert.files import UserError, short
from minbert.training.loss_record import label
from minbert.training.saved import LOG

SETTLE = 100  # updates after which values are fetched from the device, however rarely a line is due


def log_of(folder, every, writer=None):
    """The log of a run in `folder`; nothing in a process that is not the first of several."""
    return StepLog(folder / LOG, every, writer) if processes.here().first else NoLog()


class NoLog:
    """Does all that a StepLog does, but for writing."""

    def is_due(self, update):
        return False

    def add(self, losses):
        pass

    def updated(self, update, epoch, rate, norm):
        pass

    def load_state_dict(self, state):
        pass

    def begin(self):
        pass


class StepLog:
    """Appends to the file at `path` every `every` updates. writer: TensorBoard's, or None."""

    def __init__(self, path, every, writer=None):
        self.path, self.every, self.writer = path, every, writer
        self._window = {}  # {("loss" or "kept", label): [value of an update since the last line: tensor or float]}

    def is_due(self, update):
        return update % self.every == 0

    def add(self, losses):
        """The [objective.Loss] of a step."""
        for loss in losses:
            for part, values in (("loss", loss.terms), ("kept", loss.shares)):
                for key, value in values.items():
                    self._window.setdefault((part, label(*key)), []).append(value.detach())

    def updated(self, update, epoch, rate, norm):
        """The steps added made an update, from 1. norm: of its gradient, a tensor; any where no line is due."""
        if self.is_due(update):
            self._append(update, epoch, rate, norm)
        elif update % SETTLE == 0:
            self._settle()

    def _append(self, update, epoch, rate, norm):
        self._window[None, None] = [norm]  # one wait for the device brings all
        self._settle()
        (norm,) = self._window.pop((None, None))
        line = {"update": update, "epoch": epoch, "loss": {}}
        for (part, name), values in self._window.items():
            line.setdefault(part, {})[name] = _finite(sum(values) / len(values))
        line |= {"rate": rate, "gradient_norm": _finite(norm)}
        self._window = {}
        with self._opened() as f:
            f.write(json.dumps(line).encode() + b"\n")
        if self.writer:
            self._show(line)

    def _settle(self):
        """Make numbers of the values that are still on the device: exactly the same ones, as doubles."""
        waiting = [(values, i) for values in self._window.values() for i, v in enumerate(values) if torch.is_tensor(v)]
        numbers = torch.stack([values[i].float() for values, i in waiting]).tolist() if waiting else []
        for (values, i), number in zip(waiting, numbers, strict=True):
            values[i] = number

    def _show(self, line):
        scalars = {f"{part}/{name}": value for part in ("loss", "kept") for name, value in line.get(part, {}).items()}
        for name, value in {**scalars, "rate": line["rate"], "gradient_norm": line["gradient_norm"]}.items():
            if value is not None:
                self.writer.add_scalar(f"step/{name}", value, line["update"])

    # --------------------------------------------------------------------------------------------- stop and resume

    def state_dict(self):
        """What a checkpoint needs: how long the file is, safe on the disk, and the updates since its last line."""
        self._settle()
        with self._opened() as f:
            os.fsync(f.fileno())
            length = os.fstat(f.fileno()).st_size
        return {"bytes": length, "window": [[part, name, values] for (part, name), values in self._window.items()]}

    def load_state_dict(self, state):
        """Go back to where the log was. One that is shorter now, or gone, goes on after its last whole line."""
        self._window = {(part, name): list(values) for part, name, values in state["window"]}
        for (part, name), values in self._window.items():
            if part not in ("loss", "kept") or not isinstance(name, str) or any(type(v) is not float for v in values):
                raise ValueError(f"no values of the log: {short((part, name, values))}")
        with self._opened("r+b") as f:
            length = state["bytes"]
            f.seek(max(0, length - 1))
            if length and f.read(1) != b"\n":
                print(f"warning: lines are gone from {self.path}; the curves of report.html will have a gap")
                f.seek(0)
                length = f.read(length).rfind(b"\n") + 1
            f.truncate(length)

    def begin(self):
        """The log of a run that has done nothing yet: what another try left is of no use."""
        if self.path.exists():
            with self._opened("r+b") as f:
                f.truncate(0)

    def _opened(self, mode="ab"):
        """The file itself. A run from elsewhere may come with a link in its place, to any file of the user's."""
        if self.path.is_symlink():
            raise UserError(f"{self.path}: a link, and a log is not written through one; take it away")
        if mode != "ab":
            self.path.touch()
        return open(self.path, mode)


def _finite(value):
    return value if math.isfinite(value) else None
