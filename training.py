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

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch.nn.utils import clip_grad_norm_
from tqdm import tqdm

import evaluation
from datasets import Examples, Sequences
from files import UserError, write_text, written_whole
from optimizer import AdamW, learning_rate_factor, parameter_groups, set_learning_rate
from packing import to_device
from schedules import SCHEDULES, Batches

CHECK_EVERY = {"cpu": 1, "cuda": 20}  # steps between looks at the loss: on a GPU a look waits for the device


class Stopped(Exception):
    """The user asked the run to stop; its state is saved."""


@dataclass
class Split:
    """One file of one task, read and encoded."""

    examples: Examples
    sequences: Sequences


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
        self.batches = {
            name: Batches(name, len(data[name]["train"].sequences), self._batch_size(name), options.seed)
            for name in options.tasks
        }
        self.steps = list(SCHEDULES[options.schedule]({name: b.count for name, b in self.batches.items()}))
        self.updates = len(self.steps) * options.epochs
        self.labels = {name: to_device(data[name]["train"].examples.labels, self.device) for name in options.tasks}

        model.bert.requires_grad_(not self.frozen)
        groups = parameter_groups(model, options.weight_decay, decay_everything=not options.no_decay_bias_norm)
        self.optimizer = AdamW(groups, lr=options.lr, compiled=options.compile)
        self.autocast = torch.autocast("cuda", torch.bfloat16, enabled=options.precision == "bf16")
        self.features = {}  # frozen trunk: {(task, split): joint vectors [n, H]}, computed once a run

        self.progress = Progress()
        self.loss_sums = self._zero_sums()  # of the current epoch, for its record
        self.unchecked = []  # (update, {task: loss}) since the last look
        self.stop_requested = False

    def _batch_size(self, name):
        size = self.options.batch_size
        return size[name] if isinstance(size, dict) else size

    def _zero_sums(self):
        """{task: [sum of losses, number of batches]}"""
        return {task.name: torch.zeros(2, dtype=torch.float64, device=self.device) for task in self.trained}

    def describe_plan(self):
        """One line: what this run will do."""
        sizes = ", ".join(f"{name} {b.count} batches of {b.batch_size}" for name, b in self.batches.items())
        what = "the heads on a frozen trunk" if self.frozen else "everything"
        epochs = self.options.epochs
        length = f"{epochs} epoch{'s' * (epochs > 1)} of {len(self.steps):,} updates"
        return f"train {what} for {length}, {self.options.schedule}: {sizes}"

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
        steps = self.steps[progress.step :]
        name = f"epoch {progress.epoch + 1}/{options.epochs}"
        with tqdm(steps, name, len(self.steps), initial=progress.step, unit="step", dynamic_ncols=True) as bar:
            for step in bar:
                self._train_step(step)
                progress.train_seconds = seconds_before + time.monotonic() - started
                if not self.unchecked:
                    rate = progress.tokens / max(progress.train_seconds, 1e-9)
                    speed = "" if self.frozen else f", {rate:,.0f} tokens/s"
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
        # 1. the examples of this step, and one pass of the trunk over all of them
        rows = [(name, self.batches[name](progress.epoch, index)) for name, index in step]
        with self.autocast:
            logits = self.model.classify(self._joint_vectors(rows))
        # 2. one loss a task, summed without weights
        losses = {
            name: self.model.heads[name].loss(logits[name].float(), self.labels[name][self._index(r)])
            for name, r in rows
        }
        self._look_at(losses, force=False)
        # 3. the gradient and the update
        factor = learning_rate_factor(options.lr_schedule, progress.update, self.updates, options.warmup)
        set_learning_rate(self.optimizer, factor)
        self.optimizer.zero_grad(set_to_none=True)
        sum(losses.values()).backward()
        if options.clip:
            clip_grad_norm_(self.model.parameters(), options.clip)
        self.optimizer.step()
        # 4. what the log and the checkpoint need to know
        progress.step += 1
        progress.update += 1
        if not self.frozen:
            progress.tokens += sum(int(self.data[name]["train"].sequences.lengths[r].sum()) for name, r in rows)

    def _joint_vectors(self, rows):
        """[(task, row numbers)] -> {task: [B, H]}."""
        if self.frozen:
            return {name: self._frozen(name, "train")[self._index(r)] for name, r in rows}
        return self.model.join({name: self.data[name]["train"].sequences.take(r) for name, r in rows})

    def _index(self, rows):
        return to_device(rows, self.device)

    def _frozen(self, name, split):
        """The joint vectors [n, H] of a split under the frozen trunk, in eval mode: they never change."""
        if (name, split) not in self.features:
            with self.autocast:
                vectors = evaluation.joint_vectors(self.model, name, self.data[name][split].sequences)
            self.features[name, split] = vectors
        return self.features[name, split]

    def _look_at(self, losses, force):
        """Add the step's losses to the record; every CHECK_EVERY steps look whether all of them are finite."""
        detached = {name: loss.detach() for name, loss in losses.items()}
        for name, loss in detached.items():
            self.loss_sums[name] += torch.stack([loss.double(), torch.ones_like(loss, dtype=torch.float64)])
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
        sums = {name: total.tolist() for name, total in self.loss_sums.items()}
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
        self.loss_sums = self._zero_sums()
        improved = progress.best is None or score > progress.best
        if improved:
            progress.best, progress.best_epoch, progress.epochs_without_gain = score, progress.epoch, 0
            self.save_model("model.safetensors")
            self.write_predictions("dev", predictions)
        else:
            progress.epochs_without_gain += 1
            progress.stopped_early = progress.epochs_without_gain == self.options.patience
        write_text(self.folder / "metrics.jsonl", "".join(json.dumps(line) + "\n" for line in progress.history))
        self.save_state()
        self._log(progress.history[-1], improved)
        if self.stop_requested and progress.epoch < self.options.epochs:
            self._stop()

    def _score_dev(self):
        predictions, scores = {}, {}
        for name, task in self.model.tasks.items():
            dev = self.data[name]["dev"]
            if self.frozen:
                predictions[name] = evaluation.read_out(self.model, name, self._frozen(name, "dev"))
            else:
                with self.autocast:
                    predictions[name] = evaluation.predict(self.model, name, dev.sequences)
            scores[name] = evaluation.task_scores(task, predictions[name], dev.examples.labels)
        return predictions, scores

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

    def write_predictions(self, split, predictions):
        """The prediction files of one split: in the run's folder, or where --sst_dev_out and its kin say."""
        alone = len(self.trained) == 1
        for name, values in predictions.items():
            task, examples = self.model.tasks[name], self.data[name][split].examples
            explicit = getattr(self.options, f"{evaluation.FILE_NAMES.get(name, name)}_{split}_out", None)
            paths = evaluation.prediction_files(
                self.folder / "predictions", task, split, self.options.option, alone and task in self.trained
            )
            for path in [explicit, *paths[1:]] if explicit else paths:
                evaluation.write_predictions(path, task, examples.ids, values)

    def save_model(self, name):
        tensors = {key: value.detach().cpu().contiguous() for key, value in self.model.state_dict().items()}
        with written_whole(self.folder / name) as temporary:
            temporary.write_bytes(save(tensors, metadata={"format": "pt"}))

    def load_model(self, name):
        try:
            self.model.load_state_dict(load_file(self.folder / name))
        except (SafetensorError, RuntimeError):
            raise UserError(f"{self.folder / name}: damaged, or not of this run; start a new one") from None

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
            f"stopped in epoch {self.progress.epoch + 1} after {self.progress.step} of {len(self.steps)} steps; "
            f"continue with --resume {os.path.relpath(self.folder)}"
        )
