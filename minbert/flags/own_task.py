"""A task of one's own, told on the command line: its files, their columns, and what its labels are.

    python multitask_classifier.py --option finetune --train mail.csv --dev mail-dev.csv --text subject --label kind

Which class names there are is found in the training file (minbert/text/own_files.py) before anything else is done, and
is saved with the run's flags. Imports no torch.
"""

import itertools
from dataclasses import dataclass

from datasets import BARS, TASKS, Task
from minbert.choices import CLASS_STEPS
from minbert.files import UserError
from minbert.flags import types
from minbert.flags.fields import flag, take
from minbert.flags.groups import COURSE_NAMES
from minbert.text.own_files import in_bars

MOST_STEPS = 1000  # of a range of scores that are told in classes
NEEDED = {  # with --train: flag -> what it says
    "text": "COLUMN: which column has the text",
    "label": "COLUMN: which column has the label",
    "dev": "FILE: rows that are not trained on, by which the best epoch is chosen; keep a tenth of yours for it",
}


@dataclass(frozen=True)
class OwnTask:
    """a task of your own"""

    train: str | None = flag(
        metavar="FILE",
        help="train on this file: a header and rows with commas or tabs between the columns, or a JSON object a line "
        "(.jsonl, .jsonl.gz), or lines `label ||| text`, which need no --text and --label",
    )
    dev: str | None = flag(
        needs="train", metavar="FILE", help="rows that are not trained on: the best epoch is chosen by them"
    )
    test: str | None = flag(needs="train", metavar="FILE", help="rows to predict, which need no labels (optional)")
    text: str | None = flag(needs="train", metavar="COLUMN", help="the column with the text")
    text_pair: str | None = flag(
        needs="train", metavar="COLUMN", help="the column with the second text, where examples are pairs"
    )
    label: str | None = flag(needs="train", metavar="COLUMN", help="the column with the label: a class, or a score")
    labels: list | None = flag(
        needs="train",
        type=types.class_names,
        metavar="NAME,...",
        help="the classes, with commas between, or as a JSON list (default: those in the training file, sorted)",
    )
    regression: list | None = flag(
        needs="train", type=types.score_range, metavar="LOW,HIGH", help="the labels are scores between these two"
    )
    name: str = flag("own", needs="train", type=types.task_name, metavar="NAME", help="what the task is called")

    @property
    def tasks(self):
        """{name: datasets.Task} of the task that these flags tell, {} where they tell none."""
        if self.train is None:
            return {}
        files = {"train": self.train, "dev": self.dev, "test": self.test}
        task = Task(
            self.name,
            "regression" if self.regression else "classification",
            tuple(self.labels or ()),
            (self.text, self.text_pair) if self.text_pair else (self.text,),
            self.label,
            "pearson" if self.regression else "accuracy",
            {split: path for split, path in files.items() if path},
            "",
            score_range=tuple(self.regression or (0.0, 5.0)),
            own=True,
        )
        return {self.name: task}


def checked(options):
    """{name: Task} of the task that a namespace of all flags tells by itself, or {}. Raises UserError where these flags
    make no sense."""
    own = take(OwnTask, vars(options))
    if own.train is None:
        return {}
    if own.text is None and own.label is None and in_bars(own.train):
        options.label, options.text = BARS
        own = take(OwnTask, vars(options))
    if missing := [name for name in NEEDED if getattr(own, name) is None]:
        raise UserError(f"--train needs --{missing[0]} {NEEDED[missing[0]]}")
    columns = [("text", own.text), ("text_pair", own.text_pair), ("label", own.label)]
    for (name, column), (other, same) in itertools.combinations(columns, 2):
        if column == same:
            raise UserError(f"--{name} and --{other} name the same column, {column}")
    if own.regression and own.labels:
        raise UserError("--labels are names of classes, --regression says that there are none: leave one out")
    if own.name in TASKS or own.name in COURSE_NAMES:
        raise UserError(f"--name {own.name}: there is a task of that name; choose another")
    if options.label_scheme:
        raise UserError("--train is of no use with --label_scheme: there, a task is an entry of datasets.TASKS")
    if options.tasks and own.name not in options.tasks:
        raise UserError(f"--train: --tasks {','.join(options.tasks)} leaves the task out; add {own.name} to it")
    _check_steps(own, options.sts_head)
    return own.tasks


def _check_steps(own, head):
    """Refuse a range of scores that the steps of a head with classes do not divide, or into too many."""
    if own.regression and head in CLASS_STEPS:
        low, high = own.regression
        steps = (high - low) / CLASS_STEPS[head]
        if abs(steps - round(steps)) > 1e-5 or steps > MOST_STEPS:
            raise UserError(
                f"--sts_head {head} tells scores in steps of {CLASS_STEPS[head]:g}, which do not divide --regression "
                f"{low:g},{high:g} into {MOST_STEPS:,} at the most; choose another head or range"
            )
