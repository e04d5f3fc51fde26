"""A multitask run put together: plan, objective, optimizer, teacher, exam and loop, each given what it needs."""

import time
from functools import partial

import torch

from minbert.files import UserError
from minbert.flags import checks as command_line
from minbert.methods import gradient_surgery
from minbert.methods.objective import FrozenEmbeddings, Objective
from minbert.methods.semi_supervised import EmaTeacher, bregman_decay, mean_teacher_decay
from minbert.training import results
from minbert.training.checkpoint import load_weights, save_weights
from minbert.training.loop import Loop
from minbert.training.plan import Plan
from minbert.training.scoring import DevExam
from minbert.training.step_log import log_of
from optimizer import AdamW, parameter_groups


class Trainer:
    """Trains `model` on `data` {task: {split: Split}} as `options` (flags.parser.Options) say, keeping its files in
    `folder`. writer: TensorBoard's, or None. earlier: digests of flags with which its state may have been saved."""

    def __init__(self, model, data, options, folder, writer=None, earlier=()):
        self.model, self.data, self.folder, self.run = model, data, folder, options.run
        self.once_seconds = 0.0  # of the time in training, what was spent before the first step
        rows = {
            part: {name: len(splits[part].sequences) for name, splits in data.items() if part in splits}
            for part in ("train", "unlabelled")
        }
        beside, in_blocks = options.unlabelled.unlabeled_batch_size, bool(options.data.token_cache)
        self.plan = Plan(options.schedule, rows["train"], rows["unlabelled"], beside, in_blocks)

        model.bert.requires_grad_(not options.model.frozen)
        if options.heads.head_bias == "prior":
            start_from_priors(model, data)
        self.frozen = FrozenEmbeddings(model, data) if options.model.frozen else None
        optimizer = make_optimizer(model, options.optimisation)
        self.teacher = make_teacher(model, options.unlabelled, self.plan.updates)
        self.teacher_drops_out = options.unlabelled.teacher_mode == "train"
        teacher = self.teacher and self.teacher.model
        self.objective = Objective(model, data, options.regularizers, options.unlabelled, teacher, self.frozen)

        self.files = results.PredictionFiles(folder, model.tasks, options.model, options.run)
        trained = [model.tasks[name] for name in options.tasks]
        self.exam = DevExam(data, trained, self.files, options.run.patience, self.frozen, writer)
        self.loop = Loop(
            model=model,
            optimizer=optimizer,
            settings=options.optimisation,
            plan=self.plan,
            backward=self._task_by_task if options.regularizers.pcgrad else self._together,
            exam=self.exam,
            folder=folder,
            minutes=options.run.checkpoint_minutes,
            log=log_of(folder, options.run.log_every, writer),
            teacher=self.teacher,
            prepare=self._prepare,
            estimate=self._estimate,
            status=self._status,
            identity=command_line.digest(command_line.to_saved(options)),
            earlier=earlier,
            sums=not options.regularizers.pcgrad,  # which does so task by task
        )

    def describe(self):
        return self.plan.describe("the heads on a frozen trunk" if self.frozen else "everything")

    def resume(self, extended=False):
        """Go back to where the last checkpoint stood, if there is one. `extended`: the run is to end later than it was
        planned to. Raises UserError where its --patience is over all the same."""
        self.loop.resume()
        progress = self.loop.progress
        progress.stopped_early = self.exam.has_waited(progress)
        if extended and progress.stopped_early:
            waited = f"stopped after {progress.epochs_without_gain} epochs without a better score"
            raise UserError(f"--patience {self.run.patience}: {self.folder} {waited}; give a larger one to go on")

    def fit(self):
        """Train to the end, from wherever the run stands. Raises Stopped as Loop.run does."""
        self.loop.run()

    def finish(self):
        """After training: go back to the best weights, and write what they come to. Returns that. (The last ones are
        kept with --keep_state.)"""
        progress = self.loop.progress
        if self.run.keep_state:
            save_weights(self.model, self.folder / "last.safetensors")
        load_weights(self.model, self.folder / "model.safetensors")
        if not (best := self.exam.best):  # of an earlier process, whose files may be gone
            best = self.exam.predict(self.model, "dev")
            self.files.write(self.data, "dev", best)
        train = self.exam.predict(self.model, "train") if self.run.eval_train else None
        return {
            "selection_score": progress.best,
            "best_epoch": progress.best_epoch,
            "epochs": progress.epoch,
            **results.write_results(self.files, self.model, self.data, best, train, test=not self.run.skip_test),
            **({"teacher": progress.best_teacher} if self.teacher else {}),
            "updates": progress.update,
            "tokens": progress.tokens,
            "train_seconds": round(progress.train_seconds, 2),
            "eval_seconds": round(progress.eval_seconds, 2),
        }

    # ------------------------------------------------------------------------------------- what the loop asks for

    def _together(self, step):
        """The gradient of the sum of all tasks' losses. Returns [Loss]."""
        loss = self.objective(self.batches_of(step), self._done)
        loss.total.backward()
        return [loss.whole(self.loop.processes)]

    def _task_by_task(self, step):
        """Gradient surgery: each task's gradient on its own, then combined. Returns [Loss]."""
        losses = []

        def loss_of(batch):
            losses.append(self.objective([batch], self._done))
            return losses[-1].total

        parts = [partial(loss_of, batch) for batch in self.batches_of(step)]
        gradient_surgery.backward(parts, list(self.model.parameters()), self.loop.processes)
        return [loss.whole(self.loop.processes) for loss in losses]

    def batches_of(self, step):
        return [self.plan.batch(self.loop.progress.epoch, task, index) for task, index in step]

    @property
    def _done(self):
        """Updates done / updates planned."""
        return self.loop.progress.update / self.plan.updates

    def _prepare(self):
        """Before an epoch: the teacher's mode; and, on a frozen trunk, all that its heads will learn from."""
        if self.teacher:
            self.teacher.model.train(self.teacher_drops_out)
        if self.frozen:
            started = time.monotonic()
            self.frozen.of_training()
            spent = time.monotonic() - started
            self.once_seconds += spent
            self.loop.progress.train_seconds += spent

    def _estimate(self):
        progress, once = self.loop.progress, self.once_seconds
        lengths = {
            name: {split: part.sequences.lengths.mean() for split, part in splits.items()}
            for name, splits in self.data.items()
        }
        return self.plan.estimate(lengths, progress.update, progress.train_seconds - once, once)

    def _status(self):
        return "" if self.frozen else f", {self.loop.progress.tokens_per_second:,.0f} tokens/s"


def start_from_priors(model, data):
    """Set the bias of each head to what fits the labels that it will be trained on (a resumed run brings its own)."""
    for name, splits in data.items():
        if "train" in splits:
            model.heads[name].start_from_prior(torch.from_numpy(splits["train"].examples.labels).to(model.device))


def make_optimizer(model, flags):
    """AdamW for a model, by the flags of flags.groups.Optimisation."""
    groups = parameter_groups(model, flags.weight_decay, not flags.no_decay_bias_norm, flags.lr, flags.layer_decay)
    return AdamW(groups, lr=flags.lr, compiled=flags.compile)


def make_teacher(model, flags, updates):
    """The moving average that --mean_teacher asks for, or None. updates: planned."""
    if flags.mean_teacher is None:
        return None
    if flags.mean_teacher == "bregman":
        return EmaTeacher(model, partial(bregman_decay, planned=updates))
    return EmaTeacher(model, partial(mean_teacher_decay, most=flags.ema_decay))
