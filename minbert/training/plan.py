"""What a run will do: which batches make each step, how many updates that comes to, and how long it will take."""

from minbert.methods.block_shuffle import BlockBatches
from minbert.methods.objective import Batch
from minbert.methods.schedules import Batches, make_batches, steps_of_epoch

STEPS_TO_ESTIMATE = 20  # steps before the first word on time


class Plan:
    """The steps of a run by `schedule` (the group of flags). rows: {task: rows of its training set}; unlabelled: {task:
    rows of its text without labels}, for tasks that have some; beside: how many of these go into a step with each
    batch (None: as many as labelled ones); in_blocks: whether these are shuffled by blocks (block_shuffle.py)."""

    def __init__(self, schedule, rows, unlabelled=None, beside=None, in_blocks=False):
        self.schedule, self.epochs = schedule, schedule.epochs
        self.batches = make_batches(
            schedule.schedule, rows, schedule.batch_size, schedule.seed, schedule.shuffle, schedule.balanced_sample
        )
        kind = BlockBatches if in_blocks else Batches
        self.unlabelled = {
            name: kind(f"{name} unlabelled", count, beside or self.batches[name].batch_size, schedule.seed)
            for name, count in (unlabelled or {}).items()
        }
        updates = len(self.updates_of(0))  # of every epoch but one that --max_steps cuts short
        self.updates = min(updates * self.epochs, schedule.max_steps or updates * self.epochs)
        self.epochs = -(-self.updates // updates)

    def steps_of(self, epoch):
        """The steps of an epoch (from 0), each a list of (task, index of its batch)."""
        flags, counts = self.schedule, {name: batches.count for name, batches in self.batches.items()}
        return steps_of_epoch(
            flags.schedule, counts, epoch, flags.epochs, flags.seed, flags.step, flags.task_order, flags.epoch_steps
        )

    def updates_of(self, epoch):
        """The updates of an epoch, each a list of the --accumulate steps (the last ones perhaps fewer) whose mean
        gradient it follows."""
        steps, count = self.steps_of(epoch), self.schedule.accumulate
        updates = [steps[start : start + count] for start in range(0, len(steps), count)]
        before = epoch * len(updates)
        return updates[: max(0, self.schedule.max_steps - before)] if self.schedule.max_steps else updates

    def batch(self, epoch, task, index):
        """The rows of one batch of a task, and of the unlabelled text beside it."""
        beside = self.unlabelled[task](epoch, index) if task in self.unlabelled else None
        return Batch(task, self.batches[task](epoch, index), beside)

    # ------------------------------------------------------------------------------------------------- in words

    def describe(self, what):
        """One line: updates, and the batches of each task in the first epoch. what: is trained."""
        steps = self.steps_of(0)
        counts = {name: sum(task == name for step in steps for task, _ in step) for name in self.batches}
        sizes = ", ".join(f"{name} {_batches(counts[name])} of {b.batch_size}" for name, b in self.batches.items())
        beside = "".join(f", {b.batch_size} {name} beside each" for name, b in self.unlabelled.items())
        length = f"{self._in_epochs()} of {len(steps):,} steps, {self.updates:,} updates"
        length += f" of {self.schedule.accumulate} steps each" * (self.schedule.accumulate > 1)
        return f"plan: train {what}, {self.schedule.schedule}, {length}; an epoch: {sizes}{beside}"

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
        tokens = [sum(mean_of[name] for step in steps for name, _ in step) for steps in self.updates_of(0)]
        minutes = (once + seconds * _of_first(self.updates, tokens) / _of_first(updates, tokens)) / 60
        return (
            f"{updates} updates took {seconds:.0f} s: about {max(minutes, 0.1):.1f} minutes of "
            f"training for {self._in_epochs()}, and the dev scoring after each"
        )

    def _in_epochs(self):
        return f"{self.epochs} epoch{'s' * (self.epochs > 1)}"


def _of_first(updates, tokens):
    """The tokens of that many updates, given those of each update of an epoch."""
    epochs, rest = divmod(updates, len(tokens))
    return epochs * sum(tokens) + sum(tokens[:rest])


def _batches(count):
    return f"{count:,} batch{'es' * (count != 1)}"
