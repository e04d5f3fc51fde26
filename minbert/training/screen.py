"""What a run says on the screen: its data as a table, a bar or plain lines, its epochs in columns, what to do next."""

import contextlib
import errno
import os
import shlex
import sys
import time

from tqdm import tqdm

SECONDS = 30  # between the lines that stand for a bar where no terminal is
SPLITS = ("train", "dev", "test")
MARK, RED, PLAIN = "!", "\x1b[31m", "\x1b[0m"


def say(text):
    """Print above the progress bar. A terminal that is gone does not end the training: its signal will, in order."""
    try:
        tqdm.write(text)
    except OSError as error:
        if error.errno != errno.EIO:
            raise


def data_table(data):
    """{task: {split: Split}} as a table: how many examples each split has, and their mean length in tokens."""
    names = dict.fromkeys([*SPLITS, *(split for splits in data.values() for split in splits)])
    used = [name for name in names if any(name in splits for splits in data.values())]
    lines = [f"{'examples':10}" + "".join(f"{name:>{max(len(name), 7) + 2}}" for name in used) + "  tokens on average"]
    for task, splits in data.items():
        counts = [f"{len(splits[name].examples):,}" if name in splits else "-" for name in used]
        told = "".join(f"{count:>{max(len(name), 7) + 2}}" for name, count in zip(used, counts, strict=True))
        lengths = [splits[name].sequences.lengths.mean() for name in ("train", "dev") if name in splits]
        lines.append(f"{task:10}{told}{lengths[0]:>19.0f}" if lengths else f"{task:10}{told}")
    return "\n".join(lines)


# ------------------------------------------------------------------------------------------------------- progress


def steps_with_bar(items, name, total, done):
    """An iterator over `items`, the rest of `total` after `done`, to be used in a `with`: with a bar on a terminal,
    with a plain line every SECONDS elsewhere. `set_postfix_str` says what stands beside."""
    if sys.stderr.isatty():
        return tqdm(items, name, total, initial=done, unit="step", dynamic_ncols=True)
    return _Lines(items, name, total, done)


@contextlib.contextmanager
def bytes_with_bar(name, total):
    """A bar of `total` bytes (None: nobody knows how many), or a plain line every SECONDS; yields a function that is
    told of more of them."""
    if sys.stderr.isatty():
        with tqdm(desc=name, total=total, unit="B", unit_scale=True, dynamic_ncols=True) as bar:
            yield bar.update
        return
    done, said, whole = 0, time.monotonic(), f" of {total / 1e6:,.0f}" if total else ""

    def moved(more):
        nonlocal done, said
        done += more
        if time.monotonic() - said >= SECONDS:
            said = time.monotonic()
            say(f"{name}: {done / 1e6:,.0f}{whole} MB")

    yield moved


class _Lines:
    def __init__(self, items, name, total, done):
        self.items, self.name, self.total, self.done = items, name, total, done
        self.beside, self.said = "", time.monotonic()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def __iter__(self):
        for item in self.items:
            yield item
            self.done += 1
            if time.monotonic() - self.said >= SECONDS:
                self.said = time.monotonic()
                say(f"{self.name}: step {self.done:,} of {self.total:,}{self.beside and ', '}{self.beside}")

    def set_postfix_str(self, text, refresh=False):
        self.beside = text


# --------------------------------------------------------------------------------------------------------- epochs


def wants_colour():
    """On a terminal that shows it, unless NO_COLOR is set (no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def epoch_head(tasks):
    """The line above the epochs' columns."""
    columns = "".join(f"{'dev ' + name:15}" for name in tasks)
    return f"epoch     loss  {columns}mean of the trained"


def epoch_line(record, before, dev, baselines, colour=False):
    """An epoch in columns: its whole loss, each task's dev score with the change since the epoch before, and what
    decides about the best.

    record, before: lines of the history (before: None in the first). dev: {task: score}, of `before` too; a score
    below the task's one of `baselines` is marked. colour: and red.
    """
    cells = []
    for name, score in dev[0].items():
        below = score < baselines[name]
        cell = f"{score:.3f}{MARK if below else ' '}"
        cell = f"{RED}{cell}{PLAIN}" if below and colour else cell
        cells.append(f"{cell} {score - dev[1][name]:+.3f}  " if before else f"{cell}         ")
    loss = f"{sum(record['loss'].values()):9.3f}" if record["loss"] else " " * 9
    score = record["selection_score"]
    change = f" {score - before['selection_score']:+.3f}" if before else ""
    return f"{record['epoch']:5}{loss}  {''.join(cells)}{score:.3f}{change}"


def terms_beside(record, tasks):
    """What the loss is made of besides the tasks' own terms, and the shares that methods kept: `sst smart 0.012`."""
    beside = {name: value for name, value in record["loss"].items() if name not in tasks}
    return ", ".join(f"{name} {value:.3f}" for name, value in {**beside, **record.get("kept", {})}.items())


# ----------------------------------------------------------------------------------------------------------- next


def next_commands(folder):
    """What to do with a finished run: commands as this one was typed, and how Python has it."""
    python, run = shlex.quote(sys.orig_argv[0]), shlex.quote(os.path.relpath(folder))
    script = f"{python} {shlex.quote(os.path.relpath(sys.argv[0]))}"
    lines = ["next:", f"  {script} --predict {run}     what it says of sentences that you type"]
    lines.append(f"  {script} --evaluate {run}    its scores again, or on other files")
    lines.append(f"  {script} --export {run} FOLDER    its heads for transformers")
    lines.append(f"  in Python: from minbert import load; load({os.path.relpath(folder)!r}).predict([...])")
    if (folder / "report.html").is_file():
        lines.append(f"  {run}/report.html    curves, confusions, the worst errors: open it in a browser")
    return "\n".join(lines)
