"""The run: the training loop in phases, checkpoints and resume, early stopping, logging.

A run's folder holds `metrics.jsonl` (one line an epoch), `model.safetensors` (the best epoch by dev score), `state.pt`
(everything needed to go on: weights, optimizer, random generators, position) and `predictions/`. Each is written whole
or not at all. A run that was killed and resumed ends with the same bits as one that was not.
"""

import contextlib
import json
import math
import os
import signal
import time
from dataclasses import asdict, dataclass, field
from functools import partial

import torch
from torch.nn.utils import clip_grad_norm_
from tqdm import tqdm

import evaluation
import gradient_surgery
import results
from files import UserError, write_json, write_text, written_whole
from objective import Objective
from optimizer import AdamW, learning_rate_factor, parameter_groups, set_learning_rate
from runs import load_weights, save_weights
from schedules import make_batches, steps_of_epoch

STEPS_TO_ESTIMATE = 20  # steps before the first word on how long the run will take
CHECK_EVERY = {"cpu": 1, "cuda": 20}  # steps between looks at the loss: on a GPU a look waits for the device


class Stopped(Exception):
    """The user asked the run to stop; its state is saved."""


@dataclass
class Progress:
    """Where a run stands. Everything here is saved with a checkpoint."""

    epoch: int = 0  # epochs completed
    step: int = 0  # steps done in the current epoch
    update: int = 0  # optimizer updates in all
    tokens: int = 0  # real tokens trained on
    train_seconds: float = 0.0
    eval_seconds: float = 0.0
    best: float | None = None  # best selection score so far; None before the first evaluation
    best_epoch: int = 0
    epochs_without_gain: int = 0
    stopped_early: bool = False
    history: list = field(default_factory=list)  # one record an epoch


class Trainer:
    """Trains `model` on `data` {task: {split: Split}} as `options` say, keeping its files in `folder`."""

    def __init__(self, model, data, options, folder, writer=None):
        self.model, self.data, self.options, self.folder, self.writer = model, data, options, folder, writer
        self.device = model.device
        self.frozen = options.option == "pretrain"
        self.trained = [model.tasks[name] for name in options.tasks]
        rows = {name: len(splits["train"].sequences) for name, splits in data.items() if "train" in splits}
        self.batches = make_batches(
            options.schedule, rows, options.batch_size, options.seed, options.shuffle, options.balanced_sample
        )
        self.updates = len(self.steps_of(0)) * options.epochs

        model.bert.requires_grad_(not self.frozen)
        groups = parameter_groups(
            model, options.weight_decay, not options.no_decay_bias_norm, options.lr, options.layer_decay
        )
        self.optimizer = AdamW(groups, lr=options.lr, compiled=options.compile)
        self.objective = Objective(model, data, options)

        self.progress = Progress()
        self.best_dev = None  # {task: Predictions} of the best epoch, if this process has seen it
        self.loss_sums = {}  # {term: sum of its values and their number}, of the current epoch, for its record
        self.unchecked = []  # (update, {term: value}) since the last look
        self.stop_requested = False

    def steps_of(self, epoch):
        """The steps of an epoch (from 0), each a list of (task, index of its batch)."""
        options, counts = self.options, {name: b.count for name, b in self.batches.items()}
        return steps_of_epoch(
            options.schedule, counts, epoch, options.epochs, options.seed, options.step, options.task_order
        )

    def describe_plan(self):
        """What this run will do: updates, and the batches of each task in the first epoch."""
        steps = self.steps_of(0)
        counts = {name: sum(task == name for step in steps for task, _ in step) for name in self.batches}
        sizes = ", ".join(f"{name} {counts[name]:,} of {b.batch_size}" for name, b in self.batches.items())
        what = "the heads on a frozen trunk" if self.frozen else "everything"
        epochs = self.options.epochs
        length = f"{epochs} epoch{'s' * (epochs > 1)} of {len(steps):,} steps, {self.updates:,} updates"
        return f"plan: train {what}, {self.options.schedule}, {length}; batches an epoch: {sizes}"

    # ---------------------------------------------------------------------------------------------------- the loop

    def fit(self):
        """Train to the end, from wherever `progress` stands. Raises Stopped after SIGINT or SIGTERM."""
        with self._stop_on_signals():
            while self.progress.epoch < self.options.epochs and not self.progress.stopped_early:
                self._train_epoch()
                self._finish_epoch()

    def _train_epoch(self):
        options, progress = self.options, self.progress
        self.model.train()
        started, last_saved, seconds_before = time.monotonic(), time.monotonic(), progress.train_seconds
        steps, done = self.steps_of(progress.epoch), progress.step
        name = f"epoch {progress.epoch + 1}/{options.epochs}"
        with tqdm(steps[done:], name, len(steps), initial=done, unit="step", dynamic_ncols=True) as bar:
            for step in bar:
                self._train_step(step)
                progress.train_seconds = seconds_before + time.monotonic() - started
                if progress.update == STEPS_TO_ESTIMATE:
                    self._estimate()
                if not self.unchecked:
                    speed = "" if self.frozen else f", {self._tokens_per_second():,.0f} tokens/s"
                    bar.set_postfix_str(f"loss {self.last_loss:.3f}{speed}", refresh=False)
                if self.stop_requested:
                    self._stop()
                if time.monotonic() - last_saved > 60 * options.checkpoint_minutes:
                    self.save_state()
                    last_saved = time.monotonic()
        self._look_at({}, force=True)

    def _train_step(self, step):
        """One update. `step` is a list of (task, index of its batch)."""
        options, progress = self.options, self.progress
        # 1. the examples of this step
        batches = [(name, self.batches[name](progress.epoch, index)) for name, index in step]
        # 2. the terms of the loss, and the gradient of their sum
        self.optimizer.zero_grad(set_to_none=True)
        terms = self._task_by_task(batches) if options.pcgrad else self.objective(batches)
        if not options.pcgrad:
            sum(terms.values()).backward()
        self._look_at(terms, force=False)
        # 3. the update
        factor = learning_rate_factor(options.lr_schedule, progress.update, self.updates, options.warmup)
        set_learning_rate(self.optimizer, factor)
        if options.clip:
            clip_grad_norm_(self.model.parameters(), options.clip)
        self.optimizer.step()
        # 4. what the log and the checkpoint need to know
        progress.step += 1
        progress.update += 1
        if not self.frozen:
            progress.tokens += sum(int(self.data[name]["train"].sequences.lengths[r].sum()) for name, r in batches)

    def _task_by_task(self, batches):
        """Gradient surgery: each task's gradient on its own, then combined. Returns the terms of the loss."""
        terms = {}

        def loss_of(batch):
            of_task = self.objective([batch])
            terms.update(of_task)
            return sum(of_task.values())

        gradient_surgery.backward([partial(loss_of, batch) for batch in batches], list(self.model.parameters()))
        return terms

    def _tokens_per_second(self):
        return self.progress.tokens / max(self.progress.train_seconds, 1e-9)

    def _estimate(self):
        """After the first steps: how long all of them will take. Texts differ in length, so tokens are what counts."""
        seconds, epochs = self.progress.train_seconds, self.options.epochs
        if self.frozen:
            total = seconds / self.progress.update * self.updates
        else:
            means = {name: self.data[name]["train"].sequences.lengths.mean() for name in self.batches}
            steps = [batch for step in self.steps_of(0) for batch in step]
            tokens = sum(len(self.batches[name](0, index)) * means[name] for name, index in steps)
            total = tokens * epochs / self._tokens_per_second()
        tqdm.write(
            f"{self.progress.update} updates took {seconds:.0f} s: about {max(total / 60, 0.1):.1f} minutes of "
            f"training for {epochs} epoch{'s' * (epochs > 1)}, and the dev scoring after each"
        )

    def _look_at(self, losses, force):
        """Add the step's terms to the record; every CHECK_EVERY steps look whether all of them are finite."""
        detached = {name: loss.detach() for name, loss in losses.items()}
        for name, loss in detached.items():
            one = torch.stack([loss.double(), torch.ones_like(loss, dtype=torch.float64)])
            self.loss_sums[name] = self.loss_sums[name] + one if name in self.loss_sums else one
        self.unchecked.append((self.progress.update + 1, detached))
        if len(self.unchecked) < CHECK_EVERY[self.device.type] and not force:
            return
        pending = [(update, name, loss) for update, step in self.unchecked for name, loss in step.items()]
        values = torch.stack([loss for _, _, loss in pending]).tolist() if pending else []  # one wait for the device
        for (update, name, _), value in zip(pending, values, strict=True):
            if not math.isfinite(value):
                self._diverged(f"the loss of {name} is {value} at update {update}")
        if losses:
            self.last_loss = sum(values[-len(losses) :])
        self.unchecked = []

    def _check_weights(self):
        """A finite loss may still have had a gradient that was not: never save or score such weights."""
        for name, parameter in self.model.named_parameters():
            if not torch.isfinite(parameter).all():
                self._diverged(f"{name} is not finite after update {self.progress.update}")

    def _diverged(self, what):
        raise UserError(
            f"{what} (epoch {self.progress.epoch + 1}); nothing was saved since it went wrong. Try a lower --lr or "
            f"--clip 1. The last good state, if there is one, is in {self.folder}"
        )

    # ---------------------------------------------------------------------------------------------- end of an epoch

    def _finish_epoch(self):
        progress, started = self.progress, time.monotonic()
        self._check_weights()
        predictions, scores = self._score_dev()
        averages = evaluation.averages(scores)
        score = evaluation.selection_score(self.trained, scores)
        if not math.isfinite(score):
            self._diverged(f"the dev score is {score}")
        progress.epoch += 1
        progress.step = 0
        progress.eval_seconds += time.monotonic() - started
        by_task = sorted(self.loss_sums, key=lambda term: list(self.batches).index(term.split()[0]))
        sums = {term: self.loss_sums[term].tolist() for term in by_task}
        progress.history.append(
            {
                "epoch": progress.epoch,
                "update": progress.update,
                "loss": {name: total / max(count, 1) for name, (total, count) in sums.items()},
                "dev": scores,
                **averages,
                "selection_score": score,
                "seconds": round(progress.train_seconds + progress.eval_seconds, 2),
                "tokens": progress.tokens,
            }
        )
        self.loss_sums = {}
        improved = progress.best is None or score > progress.best
        if improved:
            progress.best, progress.best_epoch, progress.epochs_without_gain = score, progress.epoch, 0
            self.best_dev = predictions
            save_weights(self.model, self.folder / "model.safetensors")
            results.write_predictions(self.folder, self.model.tasks, self.data, "dev", predictions, self.options)
        else:
            progress.epochs_without_gain += 1
            progress.stopped_early = progress.epochs_without_gain == self.options.patience
        write_text(self.folder / "metrics.jsonl", "".join(json.dumps(line) + "\n" for line in progress.history))
        self.save_state()
        self._log(progress.history[-1], improved)
        if self.stop_requested and progress.epoch < self.options.epochs:
            self._stop()

    def _score_dev(self):
        predictions = self._predict_dev()
        return predictions, results.scores_of(self.model.tasks, self.data, "dev", predictions)

    def _predict_dev(self):
        if not self.frozen:
            return results.predict_all(self.model, self.data, "dev")
        return {
            name: evaluation.read_out(self.model, name, self.objective.frozen_embeddings(name, "dev"))
            for name in self.model.tasks
        }

    def finish(self):
        """After training: keep the last weights, go back to the best, and write what they come to. Returns that."""
        progress = self.progress
        save_weights(self.model, self.folder / "last.safetensors")
        load_weights(self.model, self.folder / "model.safetensors")
        best = self.best_dev or self._predict_dev()
        scores = {
            "selection_score": progress.best,
            "best_epoch": progress.best_epoch,
            "epochs": progress.epoch,
            **results.write_results(self.folder, self.model, self.data, best, self.options),
            "updates": progress.update,
            "tokens": progress.tokens,
            "train_seconds": round(progress.train_seconds, 2),
            "eval_seconds": round(progress.eval_seconds, 2),
        }
        write_json(self.folder / "scores.json", scores)
        return scores

    def _log(self, record, improved):
        loss = ", ".join(f"{name} {value:.3f}" for name, value in record["loss"].items())
        tasks = self.model.tasks
        dev = ", ".join(f"{name} {scores[tasks[name].metric]:.3f}" for name, scores in record["dev"].items())
        stop = f"; no gain for {self.options.patience} epochs, stopping" if self.progress.stopped_early else ""
        tqdm.write(f"epoch {record['epoch']}: loss {loss}; dev {dev}{' (best so far)' if improved else ''}{stop}")
        if self.writer:
            for name, value in record["loss"].items():
                self.writer.add_scalar(f"loss/{name}", value, record["update"])
            for name, scores in record["dev"].items():
                self.writer.add_scalar(f"dev/{name}", scores[tasks[name].metric], record["update"])
            self.writer.add_scalar("dev/selection_score", record["selection_score"], record["update"])
            self.writer.flush()

    # ------------------------------------------------------------------------------------- files, resume, stopping

    def save_state(self):
        self._look_at({}, force=True)  # a loss tells more than the weights it spoilt
        self._check_weights()
        state = {
            "progress": asdict(self.progress),
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "loss_sums": self.loss_sums,
            "rng": torch.get_rng_state(),
            "cuda_rng": torch.cuda.get_rng_state_all() if self.device.type == "cuda" else [],
        }
        with written_whole(self.folder / "state.pt") as temporary, open(temporary, "wb") as f:
            torch.save(state, f)

    def load_state(self):
        """Go back to where the last checkpoint stood. Raises UserError for a file that is no state of such a run."""
        path = self.folder / "state.pt"
        try:
            state = torch.load(path, map_location=self.device, weights_only=True)
            self.progress = Progress(**state["progress"])
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.loss_sums = state["loss_sums"]
            torch.set_rng_state(state["rng"].cpu())
            if self.device.type == "cuda":
                torch.cuda.set_rng_state_all([rng.cpu() for rng in state["cuda_rng"]])
        except OSError:
            raise
        except Exception as error:  # torch.load and load_state_dict raise many kinds
            reason = (str(error) or type(error).__name__).splitlines()[0][:200]
            raise UserError(f"{path}: not a state of this run ({reason}); start anew with another --run_dir") from None

    @contextlib.contextmanager
    def _stop_on_signals(self):
        """SIGINT and SIGTERM let the current step finish and save; a second one ends at once."""

        def request(number, frame):
            self.stop_requested = True
            signal.signal(number, signal.SIG_DFL)

        before = {number: signal.signal(number, request) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _stop(self):
        self.save_state()
        raise Stopped(
            f"stopped in epoch {self.progress.epoch + 1} after {self.progress.step} of "
            f"{len(self.steps_of(self.progress.epoch))} steps; continue with --resume {os.path.relpath(self.folder)}"
        )
