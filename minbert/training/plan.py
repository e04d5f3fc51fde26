"""What a run will do: which batches make each step, how many updates that comes to, and how long it will take."""

from minbert.methods.objective import Batch
from minbert.methods.schedules import Batches, make_batches, steps_of_epoch

STEPS_TO_ESTIMATE = 20  # steps before the first word on time


class Plan:
    """The steps of a run by `schedule` (the group of flags). rows: {task: rows of its training set}; unlabelled: {task:
    rows of its text without labels}, for tasks that have some; beside: how many of these go into a step with each
    batch (None: as many as labelled ones)."""

    def __init__(self, schedule, rows, unlabelled=None, beside=None):
        self.schedule, self.epochs = schedule, schedule.epochs
        self.batches = make_batches(
            schedule.schedule, rows, schedule.batch_size, schedule.seed, schedule.shuffle, schedule.balanced_sample
        )
        self.unlabelled = {
            name: Batches(f"{name} unlabelled", count, beside or self.batches[name].batch_size, schedule.seed)
            for name, count in (unlabelled or {}).items()
        }
        self.updates = len(self.steps_of(0)) * self.epochs

    def steps_of(self, epoch):
        """The steps of an epoch (from 0), each a list of (task, index of its batch)."""
        flags, counts = self.schedule, {name: batches.count for name, batches in self.batches.items()}
        return steps_of_epoch(
            flags.schedule, counts, epoch, self.epochs, flags.seed, flags.step, flags.task_order, flags.epoch_steps
        )

    def batch(self, epoch, task, index):
        """The rows of one batch of a task, and of the unlabelled text beside it."""
        beside = self.unlabelled[task](epoch, index) if task in self.unlabelled else None
        return Batch(task, self.batches[task](epoch, index), beside)

    # ------------------------------------------------------------------------------------------------- in words

    def describe(self, what):
        """One line: updates, and the batches of each task in the first epoch. what: is trained."""
        steps = self.steps_of(0)
        counts = {name: sum(task == name for step in steps for task, _ in step) for name in self.batches}
        sizes = ", ".join(f"{name} {counts[name]:,} of {b.batch_size}" for name, b in self.batches.items())
        beside = "".join(f", {b.batch_size} {name} beside each" for name, b in self.unlabelled.items())
        length = f"{self._in_epochs()} of {len(steps):,} steps, {self.updates:,} updates"
        return f"plan: train {what}, {self.schedule.schedule}, {length}; batches an epoch: {sizes}{beside}"

    def estimate(self, lengths, updates, seconds, once):
        """One line on the time of all steps, from the first `updates`. Texts differ in length and schedules begin with
        one task or another, so what counts are the tokens of the steps done and of all.

        lengths: {task: {split: mean tokens of an example}}. seconds: of those updates. once: seconds spent before the
        first step, which are counted once.
        """
        mean_of = {}  # {task: mean tokens of its batch}
        for name, batch in self.batches.items():
            beside = self.unlabelled[name].batch_size if name in self.unlabelled else 0
            of_unlabelled = sum(lengths[name].get(split, 0) for split in ("unlabelled", "augmented"))
            mean_of[name] = lengths[name]["train"] * batch.rows / batch.count + of_unlabelled * beside
        tokens = [sum(mean_of[name] for name, _ in step) for step in self.steps_of(0)]
        epochs, steps = divmod(updates, len(tokens))
        done = epochs * sum(tokens) + sum(tokens[:steps])
        minutes = (once + seconds * sum(tokens) * self.epochs / done) / 60
        return (
            f"{updates} updates took {seconds:.0f} s: about {max(minutes, 0.1):.1f} minutes of "
            f"training for {self._in_epochs()}, and the dev scoring after each"
        )

    def _in_epochs(self):
        return f"{self.epochs} epoch{'s' * (self.epochs > 1)}"
