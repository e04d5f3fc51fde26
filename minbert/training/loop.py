"""The training loop: steps, epochs and checkpoints, for whatever trains (several tasks at once, or a masked LM).

`Loop.run` is the whole of it, `Loop.step` one update. What is particular to a training is given to the loop: how the
gradients of a step come about, and who examines the model after an epoch. A run that was killed and resumed ends with
the same bits as one that was not.
"""

import contextlib
import json
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch.nn.utils import clip_grad_norm_, get_total_norm

from minbert import processes
from minbert.files import UserError, write_text
from minbert.script import Stopped, stop_signals
from minbert.training.checkpoint import load_state, save_state
from minbert.training.loss_record import LossRecord
from minbert.training.plan import STEPS_TO_ESTIMATE
from minbert.training.screen import say, steps_with_bar
from optimizer import learning_rate_factor, set_learning_rate


@dataclass
class Progress:
    """Where a run stands. Everything here is saved with a checkpoint."""

    epoch: int = 0  # epochs completed
    step: int = 0  # updates done in the current epoch
    update: int = 0  # optimizer updates in all
    tokens: int = 0  # real tokens trained on
    train_seconds: float = 0.0
    eval_seconds: float = 0.0
    best: float | None = None  # best selection score so far; None before the first evaluation
    best_epoch: int = 0
    best_teacher: dict | None = None  # scores of the teacher's best epoch (--mean_teacher)
    epochs_without_gain: int = 0
    stopped_early: bool = False
    history: list = field(default_factory=list)  # one record an epoch

    @property
    def tokens_per_second(self):
        return self.tokens / max(self.train_seconds, 1e-9)


@dataclass
class Loop:
    """Trains `model` to the end of `plan` (plan.Plan), from wherever `progress` stands, in the run's `folder`.

    settings   how an update is made (flags.groups.Optimisation): rate, warm-up, clipping
    backward   step -> [Loss]: adds the gradient of a step's losses, added up, to that in the parameters
    exam       asked after each epoch: score(loop) -> a dict, what the epoch came to; then keep(loop, record) what is
               worth keeping, and say(loop, record) what a reader wants to know
    minutes    between checkpoints within an epoch
    log        the log of updates (step_log.StepLog)
    teacher    a moving average of the model (EmaTeacher), updated after each update
    prepare    called before each epoch
    estimate   called once, after STEPS_TO_ESTIMATE updates: a line on the time to come
    status     beside the loss on the bar
    examine_first  whether the model is examined before training too, as epoch 0
    identity   a digest of the flags (checks.digest), kept with the state: it goes on with no others...
    earlier    ...but those of the run before it was extended
    sums       whether the gradient that `backward` leaves is still to be summed over the processes
    """

    model: torch.nn.Module
    optimizer: torch.optim.Optimizer
    settings: object
    plan: object
    backward: Callable
    exam: object
    folder: object
    minutes: float
    log: object
    teacher: object = None
    prepare: Callable = lambda: None
    estimate: Callable | None = None
    status: Callable = lambda: ""
    examine_first: bool = False
    identity: str = ""
    earlier: tuple = ()
    sums: bool = True

    def __post_init__(self):
        self.device = next(self.model.parameters()).device
        self.progress, self.record = Progress(), LossRecord(self.device)
        self.stop_requested = False
        self.processes = processes.here()
        self.processes.set_random_state(torch.get_rng_state())

    def run(self):
        """Train to the end. Raises Stopped after one of script.stop_signals."""
        with self._stop_on_signals():
            if self.examine_first and not self.progress.history:
                self._finish_epoch(trained=False)
            while self.progress.epoch < self.plan.epochs and not self.progress.stopped_early:
                self._train_epoch()
                self._finish_epoch()

    def _train_epoch(self):
        progress = self.progress
        self.prepare()
        self.model.train()
        started, last_saved, seconds_before = time.monotonic(), time.monotonic(), progress.train_seconds
        updates, done = self.plan.updates_of(progress.epoch), progress.step
        name = f"epoch {progress.epoch + 1}/{self.plan.epochs}"
        with steps_with_bar(updates[done:], name, len(updates), done) as bar:
            for steps in bar:
                self.step(*steps)
                progress.train_seconds = seconds_before + time.monotonic() - started
                if self.estimate and progress.update == STEPS_TO_ESTIMATE:
                    say(self.estimate())
                if self.record.looked:
                    bar.set_postfix_str(f"loss {self.record.running:.3f}{self.status()}", refresh=False)
                if self.processes.agree(self.stop_requested):
                    self._stop()
                if time.monotonic() - last_saved > 60 * self.minutes:
                    self.save()
                    last_saved = time.monotonic()
        self._look()

    def step(self, *steps):
        """One update, on the mean over `steps` (more than one: --accumulate), each a list of (task, index of its
        batch)."""
        progress, settings, tokens = self.progress, self.settings, 0
        # 1. the gradient of the steps' losses
        self.optimizer.zero_grad(set_to_none=True)
        self.processes.begin_update(progress.update)
        for step in steps:
            losses = self.backward(step)
            tokens += sum(loss.tokens for loss in losses)
            if bad := self.record.add(losses, progress.update + 1):
                self.diverged(bad)
            self.log.add(losses)
        with_gradient = [parameter for parameter in self.model.parameters() if parameter.grad is not None]
        if self.sums:
            self.processes.sum_gradients(with_gradient)
        if len(steps) > 1:
            torch._foreach_div_([parameter.grad for parameter in with_gradient], len(steps))
        # 2. the update
        factor = learning_rate_factor(settings.lr_schedule, progress.update, self.plan.updates, settings.warmup)
        set_learning_rate(self.optimizer, factor)
        norm = self._gradient_norm()
        self.optimizer.step()
        if self.teacher:
            self.teacher.update()
        # 3. what the log and the checkpoint need to know
        progress.step += 1
        progress.update += 1
        progress.tokens += tokens
        rate = max(group["lr"] for group in self.optimizer.param_groups)
        self.log.updated(progress.update, progress.epoch + 1, rate, norm)

    def _gradient_norm(self):
        """The norm of the whole gradient, a tensor, which --clip then holds down. Without --clip the log alone wants to
        know: None where it has no line for this update."""
        parameters = list(self.model.parameters())
        if self.settings.clip:
            return clip_grad_norm_(parameters, self.settings.clip)
        if self.log.is_due(self.progress.update + 1):
            return get_total_norm([p.grad for p in parameters if p.grad is not None])
        return None

    def _finish_epoch(self, trained=True):
        """Have the model examined and write what came out. Not `trained`: before the first epoch, as number 0."""
        progress, started = self.progress, time.monotonic()
        self._look()
        self._check_weights()
        scored = self.exam.score(self)
        progress.epoch, progress.step = progress.epoch + trained, 0
        progress.eval_seconds += time.monotonic() - started
        record = {
            "epoch": progress.epoch,
            "update": progress.update,
            **scored,
            "seconds": round(progress.train_seconds + progress.eval_seconds, 2),
            "tokens": progress.tokens,
        }
        progress.history.append(record)
        self.exam.keep(self, record)
        self._write_metrics()
        self.save()
        self.exam.say(self, record)
        self.processes.meet()  # what is written now can be read by all
        if progress.epoch < self.plan.epochs and self.processes.agree(self.stop_requested):
            self._stop()

    def _write_metrics(self):
        if self.progress.history:
            lines = "".join(json.dumps(line) + "\n" for line in self.progress.history)
            write_text(self.folder / "metrics.jsonl", lines)

    # ------------------------------------------------------------------------------------------ what may go wrong

    def _look(self):
        """A loss tells more than the weights it spoilt: look at it first."""
        if bad := self.record.look():
            self.diverged(bad)

    def _check_weights(self):
        """A finite loss may still have had a gradient that was not: never save or score such weights."""
        for name, parameter in self.model.named_parameters():
            if not torch.isfinite(parameter).all():
                self.diverged(f"{name} is not finite after update {self.progress.update}")

    def diverged(self, what):
        raise UserError(
            f"{what} (epoch {self.progress.epoch + 1}); nothing was saved since it went wrong. Try a lower --lr or "
            f"--clip 1. The last good state, if there is one, is in {self.folder}"
        )

    # ---------------------------------------------------------------------------------------- resume and stopping

    def save(self):
        self._look()
        self._check_weights()
        if self.processes.first:
            save_state(self, self.folder / "state.pt")

    def resume(self):
        """Go back to where the last checkpoint stood, if there is one."""
        if (self.folder / "state.pt").is_file():
            load_state(self, self.folder / "state.pt")
            self._write_metrics()  # they may be gone, or one epoch ahead
            print(f"resuming after {self.progress.epoch} epochs and {self.progress.step} steps")
        else:
            self.log.begin()

    @contextlib.contextmanager
    def _stop_on_signals(self):
        """A signal lets the current step finish and save; a second one ends at once."""

        def request(number, frame):
            self.stop_requested = True
            signal.signal(number, signal.SIG_DFL)

        before = {number: signal.signal(number, request) for number in stop_signals()}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _stop(self):
        self.save()
        self.processes.meet()
        progress = self.progress
        steps = len(self.plan.updates_of(progress.epoch))
        raise Stopped(f"stopped in epoch {progress.epoch + 1} after {progress.step} of {steps} steps", self.folder)
