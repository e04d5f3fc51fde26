"""The run: the training loop in phases, checkpoints and resume, early stopping, logging.

A run's folder holds `metrics.jsonl` (one line an epoch), `model.safetensors` (the best epoch by dev score), `state.pt`
(everything needed to go on: weights, optimizer, random generators, position) and `predictions/`. Each is written whole
or not at all. A run that was killed and resumed ends with the same bits as one that was not.
"""

import contextlib
import json
import math
import signal
import sys
import time
from dataclasses import asdict, dataclass, field
from functools import partial

import torch
from torch.nn.utils import clip_grad_norm_
from tqdm import tqdm

import evaluation
from minbert.files import UserError, complain, write_text, written_whole
from minbert.methods import gradient_surgery
from minbert.methods.objective import Batch, Objective
from minbert.methods.schedules import Batches, make_batches, steps_of_epoch
from minbert.methods.semi_supervised import EmaTeacher, bregman_decay, mean_teacher_decay
from minbert.training import plan, results
from minbert.training.data import load_weights, save_weights
from minbert.training.loss_record import LossRecord
from optimizer import AdamW, learning_rate_factor, parameter_groups, set_learning_rate


class Stopped(Exception):
    """The user asked the run to stop; its state is saved, in `folder`."""

    def __init__(self, message, folder):
        super().__init__(message)
        self.folder = folder


def carry_out(job, options):
    """Do a command's work, job(options). Returns its exit code: 0 all well, 2 a mistake of the user's, 130 stopped."""
    try:
        job(options)
    except Stopped as stop:
        print(stop)
        return 130
    except KeyboardInterrupt:
        print("interrupted: nothing was saved since the last checkpoint", file=sys.stderr)
        return 130
    except (UserError, OSError) as error:
        return complain(error)
    return 0


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
    best_teacher: dict | None = None  # scores of the teacher's best epoch (--mean_teacher)
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
        self.unlabelled = {
            name: Batches(f"{name} unlabelled", len(data[name]["unlabelled"].sequences), size, options.seed)
            for name, batches in self.batches.items()
            if "unlabelled" in data[name]
            for size in [options.unlabeled_batch_size or batches.batch_size]
        }
        self.updates = len(self.steps_of(0)) * options.epochs

        model.bert.requires_grad_(not self.frozen)
        groups = parameter_groups(
            model, options.weight_decay, not options.no_decay_bias_norm, options.lr, options.layer_decay
        )
        self.optimizer = AdamW(groups, lr=options.lr, compiled=options.compile)
        self.teacher = EmaTeacher(model, self._ema_decay()) if options.mean_teacher else None
        self.objective = Objective(model, data, options, self.teacher and self.teacher.model)

        self.progress = Progress()
        self.best_dev = None  # {task: Predictions} of the best epoch, if this process has seen it
        self.record = LossRecord(self.device)
        self.once_seconds = 0.0  # of train_seconds, what was spent before the first step
        self.stop_requested = False

    def steps_of(self, epoch):
        """The steps of an epoch (from 0), each a list of (task, index of its batch)."""
        options, counts = self.options, {name: b.count for name, b in self.batches.items()}
        return steps_of_epoch(
            options.schedule,
            counts,
            epoch,
            options.epochs,
            options.seed,
            options.step,
            options.task_order,
            options.epoch_steps,
        )

    def _ema_decay(self):
        """The teacher's decay as a function of the updates done."""
        if self.options.mean_teacher == "bregman":
            return partial(bregman_decay, planned=self.updates)
        return partial(mean_teacher_decay, most=self.options.ema_decay)

    # ---------------------------------------------------------------------------------------------------- the loop

    def fit(self):
        """Train to the end, from wherever `progress` stands. Raises Stopped after SIGINT or SIGTERM."""
        with self._stop_on_signals():
            while self.progress.epoch < self.options.epochs and not self.progress.stopped_early:
                self._train_epoch()
                self._finish_epoch()

    def _train_epoch(self):
        options, progress = self.options, self.progress
        self._embed_once()
        self.model.train()
        if self.teacher:
            self.teacher.model.train(options.teacher_mode == "train")
        started, last_saved, seconds_before = time.monotonic(), time.monotonic(), progress.train_seconds
        steps, done = self.steps_of(progress.epoch), progress.step
        name = f"epoch {progress.epoch + 1}/{options.epochs}"
        with tqdm(steps[done:], name, len(steps), initial=done, unit="step", dynamic_ncols=True) as bar:
            for step in bar:
                self._train_step(step)
                progress.train_seconds = seconds_before + time.monotonic() - started
                if progress.update == plan.STEPS_TO_ESTIMATE:
                    tqdm.write(plan.estimate(self))
                if self.record.looked:
                    speed = "" if self.frozen else f", {self._tokens_per_second():,.0f} tokens/s"
                    bar.set_postfix_str(f"loss {self.record.last:.3f}{speed}", refresh=False)
                if self.stop_requested:
                    self._stop()
                if time.monotonic() - last_saved > 60 * options.checkpoint_minutes:
                    self.save_state()
                    last_saved = time.monotonic()
        self._look()

    def _embed_once(self):
        """On a frozen trunk: all that its heads will learn from, before the first step and its clock."""
        started = time.monotonic()
        for name, splits in self.data.items() if self.frozen else ():
            for split in splits.keys() & {"train", "unlabelled", "augmented"}:
                self.objective.frozen_embeddings(name, split)
        spent = time.monotonic() - started
        self.once_seconds += spent
        self.progress.train_seconds += spent

    def _train_step(self, step):
        """One update. `step` is a list of (task, index of its batch)."""
        options, progress = self.options, self.progress
        # 1. the examples of this step
        batches = [self._batch(name, index) for name, index in step]
        # 2. the terms of the loss, and the gradient of their sum
        self.optimizer.zero_grad(set_to_none=True)
        done = progress.update / self.updates
        losses = self._task_by_task(batches, done) if options.pcgrad else [self.objective(batches, done)]
        if not options.pcgrad:
            sum(losses[0].terms.values()).backward()
        if bad := self.record.add(losses, progress.update + 1):
            self._diverged(bad)
        # 3. the update
        factor = learning_rate_factor(options.lr_schedule, progress.update, self.updates, options.warmup)
        set_learning_rate(self.optimizer, factor)
        if options.clip:
            clip_grad_norm_(self.model.parameters(), options.clip)
        self.optimizer.step()
        if self.teacher:
            self.teacher.update()
        # 4. what the log and the checkpoint need to know
        progress.step += 1
        progress.update += 1
        progress.tokens += sum(loss.tokens for loss in losses)

    def _batch(self, name, index):
        epoch = self.progress.epoch
        unlabelled = self.unlabelled[name](epoch, index) if name in self.unlabelled else None
        return Batch(name, self.batches[name](epoch, index), unlabelled)

    def _task_by_task(self, batches, done):
        """Gradient surgery: each task's gradient on its own, then combined. Returns the losses."""
        losses = []

        def loss_of(batch):
            losses.append(self.objective([batch], done))
            return sum(losses[-1].terms.values())

        gradient_surgery.backward([partial(loss_of, batch) for batch in batches], list(self.model.parameters()))
        return losses

    def _tokens_per_second(self):
        return self.progress.tokens / max(self.progress.train_seconds, 1e-9)

    def _look(self):
        """A loss tells more than the weights it spoilt: look at it first."""
        if bad := self.record.look():
            self._diverged(bad)

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
        predictions, scores = self._score_dev(self.model)
        averages = evaluation.averages(scores)
        score = evaluation.selection_score(self.trained, scores)
        if not math.isfinite(score):
            self._diverged(f"the dev score is {score}")
        teacher = self._score_teacher() if self.teacher else None
        progress.epoch += 1
        progress.step = 0
        progress.eval_seconds += time.monotonic() - started
        loss, kept = self.record.means(list(self.batches))
        progress.history.append(
            {
                "epoch": progress.epoch,
                "update": progress.update,
                "loss": loss,
                **({"kept": kept} if kept else {}),
                "dev": scores,
                **averages,
                "selection_score": score,
                **({"teacher": teacher} if teacher else {}),
                "seconds": round(progress.train_seconds + progress.eval_seconds, 2),
                "tokens": progress.tokens,
            }
        )
        before = progress.best_teacher
        if teacher and (before is None or teacher["selection_score"] > before["selection_score"]):
            progress.best_teacher = {"best_epoch": progress.epoch, **teacher}
            save_weights(self.teacher.model, self.folder / "teacher.safetensors")
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

    def _score_dev(self, model):
        predictions = self._predict(model, "dev")
        return predictions, results.scores_of(model.tasks, self.data, "dev", predictions)

    def _predict(self, model, split):
        if not self.frozen:
            return results.predict_all(model, self.data, split)
        return {
            name: evaluation.read_out(model, name, self.objective.frozen_embeddings(name, split))
            for name in model.tasks
            if split in self.data[name]
        }

    def _score_teacher(self):
        """The teacher's dev scores. It keeps its own best epoch, in teacher.safetensors."""
        _, scores = self._score_dev(self.teacher.model)
        score = evaluation.selection_score(self.trained, scores)
        return {"dev": scores, **evaluation.averages(scores), "selection_score": score}

    def finish(self):
        """After training: keep the last weights, go back to the best, and write what they come to. Returns that."""
        progress = self.progress
        save_weights(self.model, self.folder / "last.safetensors")
        load_weights(self.model, self.folder / "model.safetensors")
        best = self.best_dev or self._predict(self.model, "dev")
        train = self._predict(self.model, "train") if self.options.eval_train else None
        return {
            "selection_score": progress.best,
            "best_epoch": progress.best_epoch,
            "epochs": progress.epoch,
            **results.write_results(self.folder, self.model, self.data, best, self.options, train),
            **({"teacher": progress.best_teacher} if self.teacher else {}),
            "updates": progress.update,
            "tokens": progress.tokens,
            "train_seconds": round(progress.train_seconds, 2),
            "eval_seconds": round(progress.eval_seconds, 2),
        }

    def _log(self, record, improved):
        loss = ", ".join(
            f"{name} {value:.3f}" for name, value in [*record["loss"].items(), *record.get("kept", {}).items()]
        )
        tasks = self.model.tasks
        dev = ", ".join(f"{name} {scores[tasks[name].metric]:.3f}" for name, scores in record["dev"].items())
        stop = f"; no gain for {self.options.patience} epochs, stopping" if self.progress.stopped_early else ""
        tqdm.write(f"epoch {record['epoch']}: loss {loss}; dev {dev}{' (best so far)' if improved else ''}{stop}")
        for name, share in record.get("kept", {}).items():
            if name.endswith("UDA kept") and share == 0:
                tqdm.write(f"warning: {name}: 0 in the whole epoch, so UDA did nothing; lower --uda_threshold")
        if self.writer:
            for name, value in record["loss"].items():
                self.writer.add_scalar(f"loss/{name}", value, record["update"])
            for name, scores in record["dev"].items():
                self.writer.add_scalar(f"dev/{name}", scores[tasks[name].metric], record["update"])
            self.writer.add_scalar("dev/selection_score", record["selection_score"], record["update"])
            self.writer.flush()

    # ------------------------------------------------------------------------------------- files, resume, stopping

    def save_state(self):
        self._look()
        self._check_weights()
        state = {
            "progress": asdict(self.progress),
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "teacher": self.teacher and self.teacher.state_dict(),
            "sums": self.record.sums,
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
            if self.teacher:
                self.teacher.load_state_dict(state["teacher"])
            self.record.sums = state["sums"]
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
            f"{len(self.steps_of(self.progress.epoch))} steps",
            self.folder,
        )
