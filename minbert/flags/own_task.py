"""A task of one's own, told on the command line: its files, their columns, and what its labels are.

    python multitask_classifier.py --option finetune --train mail.csv --dev mail-dev.csv --text subject --label kind

Which class names there are is found in the training file (minbert/text/own_files.py) before anything else is done, and
is saved with the run's flags. Imports no torch.
"""

from dataclasses import dataclass

from datasets import Task
from minbert.flags import types
from minbert.flags.fields import flag


@dataclass(frozen=True)
class OwnTask:
    """a task of your own"""

    train: str | None = flag(
        metavar="FILE",
        help="train on this file: a header and rows with commas or tabs between the columns, or a JSON object a line "
        "(.jsonl, .jsonl.gz)",
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
