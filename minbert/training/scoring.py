"""The exam after each epoch: dev scores, which epoch is the best so far, and when to stop early."""

import math

from minbert import evaluation
from minbert.methods.objective import FROM_COPIES
from minbert.training import results, screen
from minbert.training.checkpoint import save_weights
from minbert.training.loss_record import label
from minbert.training.screen import say


class DevExam:
    """Scores a model on the dev sets of `data` and keeps its best epoch (see loop.Loop's `exam`).

    trained: the tasks [Task] whose mean decides which epoch is the best. files: results.PredictionFiles. patience:
    epochs without a gain after which to stop, or None. frozen: FrozenEmbeddings, or None. writer: TensorBoard's, or
    None. A mean teacher is examined too, and keeps a best epoch of its own, in teacher.safetensors.
    """

    def __init__(self, data, trained, files, patience=None, frozen=None, writer=None):
        self.data, self.trained, self.files = data, trained, files
        self.patience, self.frozen, self.writer = patience, frozen, writer
        self.best = None  # {task: Predictions} of the best epoch, if this process has seen it
        self._predictions = None  # of the epoch that is being examined
        self._has_said = False  # whether the head of the epochs' table stands above

    def has_waited(self, progress):
        """Whether there was no gain for as long as --patience says."""
        return self.patience is not None and progress.epochs_without_gain >= self.patience

    def predict(self, model, split):
        """{task: Predictions} of every task that has the split."""
        if not self.frozen:
            return results.predict_all(model, self.data, split)
        return {
            name: evaluation.read_out(model, name, self.frozen.of(name, split))
            for name in model.tasks
            if split in self.data[name]
        }

    def score(self, loop):
        """The means of the loss's terms and shares over the epoch, and the dev scores."""
        terms, shares = loop.record.means(list(loop.plan.batches))
        self._predictions, dev = self._dev(loop.model)
        if not math.isfinite(dev["selection_score"]):
            loop.diverged(f"the dev score is {dev['selection_score']}")
        teacher = {"teacher": self._dev(loop.teacher.model)[1]} if loop.teacher else {}
        return {"loss": terms, **({"kept": shares} if shares else {}), **dev, **teacher}

    def _dev(self, model):
        """(predictions, the scores of every task and what becomes of them)"""
        predictions = self.predict(model, "dev")
        scores = results.scores_of(model.tasks, self.data, "dev", predictions)
        score = evaluation.selection_score(self.trained, scores)
        return predictions, {"dev": scores, **evaluation.averages(scores), "selection_score": score}

    def _baselines(self, tasks):
        return {name: evaluation.baseline(tasks[name], self.data[name]["dev"].examples.labels) for name in tasks}

    def keep(self, loop, record):
        """The weights and predictions of the best epoch, and the count of epochs since."""
        progress, score = loop.progress, record["selection_score"]
        if loop.teacher:
            before, teacher = progress.best_teacher, record["teacher"]
            if before is None or teacher["selection_score"] > before["selection_score"]:
                progress.best_teacher = {"best_epoch": progress.epoch, **teacher}
                save_weights(loop.teacher.model, loop.folder / "teacher.safetensors")
        if progress.best is None or score > progress.best:
            progress.best, progress.best_epoch, progress.epochs_without_gain = score, progress.epoch, 0
            self.best = self._predictions
            save_weights(loop.model, loop.folder / "model.safetensors")
            self.files.write(self.data, "dev", self.best)
        else:
            progress.epochs_without_gain += 1
            progress.stopped_early = self.has_waited(progress)

    def say(self, loop, record):
        progress, tasks = loop.progress, loop.model.tasks
        before = progress.history[-2] if len(progress.history) > 1 else None
        dev, dev_before = (
            {name: scores[tasks[name].metric] for name, scores in (line or record)["dev"].items()}
            for line in (record, before)
        )
        if not self._has_said:
            say(screen.epoch_head(tasks) + f"    ({screen.MARK} below the baseline)")
        self._has_said = True
        best = "  best" if progress.best_epoch == progress.epoch else ""
        beside = screen.terms_beside(record, tasks)
        stop = f"  no gain for {self.patience} epochs, stopping" if progress.stopped_early else ""
        line = screen.epoch_line(record, before, (dev, dev_before), self._baselines(tasks), screen.wants_colour())
        say(f"{line}{best}{beside and '  '}{beside}{stop}")
        for flag, (name, _) in FROM_COPIES.items():
            for kept in (label(task, f"{name} kept") for task in tasks):
                if record.get("kept", {}).get(kept) == 0:
                    nothing = f"0 in the whole epoch, so {name} did nothing"
                    say(f"warning: {kept}: {nothing}; lower --{flag}_threshold")
        if self.writer:
            scalars = {f"loss/{name}": value for name, value in record["loss"].items()}
            scalars |= {f"dev/{name}": value for name, value in dev.items()}
            for name, value in {**scalars, "dev/selection_score": record["selection_score"]}.items():
                self.writer.add_scalar(name, value, record["update"])
            self.writer.flush()
