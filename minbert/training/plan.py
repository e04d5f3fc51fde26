"""What a run is about to do, and, after its first steps, how long that will take."""

STEPS_TO_ESTIMATE = 20  # steps before the first word on time


def describe(trainer):
    """One line: updates, and the batches of each task in the first epoch."""
    options, steps = trainer.options, trainer.steps_of(0)
    counts = {name: sum(task == name for step in steps for task, _ in step) for name in trainer.batches}
    sizes = ", ".join(f"{name} {counts[name]:,} of {b.batch_size}" for name, b in trainer.batches.items())
    beside = "".join(f", {b.batch_size} {name} beside each" for name, b in trainer.unlabelled.items())
    what = "the heads on a frozen trunk" if trainer.frozen else "everything"
    length = f"{_epochs(options)} of {len(steps):,} steps, {trainer.updates:,} updates"
    return f"plan: train {what}, {options.schedule}, {length}; batches an epoch: {sizes}{beside}"


def estimate(trainer):
    """One line on the time of all steps. Texts differ in length and schedules begin with one task or another, so what
    counts are the tokens of the steps done and of all. What was done once, before the first step, is counted once."""
    progress, mean_of = trainer.progress, {}
    for name in trainer.batches:
        lengths = {split: part.sequences.lengths.mean() for split, part in trainer.data[name].items()}
        batch, beside = trainer.batches[name], trainer.unlabelled.get(name)
        mean_of[name] = lengths["train"] * batch.rows / batch.count
        mean_of[name] += sum(lengths.get(split, 0) for split in ("unlabelled", "augmented")) * (
            beside.batch_size if beside else 0
        )
    tokens = [sum(mean_of[name] for name, _ in step) for step in trainer.steps_of(0)]
    epochs, steps = divmod(progress.update, len(tokens))
    done, once = epochs * sum(tokens) + sum(tokens[:steps]), trainer.once_seconds
    seconds = progress.train_seconds - once
    minutes = (once + seconds * sum(tokens) * trainer.options.epochs / done) / 60
    return (
        f"{progress.update} updates took {seconds:.0f} s: about {max(minutes, 0.1):.1f} minutes of "
        f"training for {_epochs(trainer.options)}, and the dev scoring after each"
    )


def _epochs(options):
    return f"{options.epochs} epoch{'s' * (options.epochs > 1)}"
