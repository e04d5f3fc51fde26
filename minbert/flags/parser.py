"""All flags of multitask_classifier.py together: the parser, and `Options`, which is what becomes of a command line.

Imports no torch: `--help` is instant.
"""

import argparse
from dataclasses import dataclass

from datasets import TASKS
from minbert.flags.fields import Parser, add_group, defaults_of, flat, take
from minbert.flags.groups import COURSE_NAMES, MODES, Data, Heads, Model, Optimisation, Run, SavedRun, Schedule
from minbert.flags.help import ShortHelp
from minbert.flags.methods import PseudoLabels, Regularizers, SemiSupervised
from minbert.flags.own_task import OwnTask

EPILOG = """examples:
  python multitask_classifier.py --option finetune --use_gpu
  python multitask_classifier.py --option finetune --model minilm --lr 5e-5 --batch_size 16 --epochs 3 \\
      --lr_schedule linear --warmup 0.1 --clip 1 --weight_decay 0.01 --limit quora=14057
  python multitask_classifier.py --option finetune --schedule in_turn --pairs concat --init runs/HEADS
  python multitask_classifier.py --option finetune --train my.csv --dev my-dev.csv --text review --label stars
  python multitask_classifier.py --resume runs/NAME
  python multitask_classifier.py --evaluate runs/NAME
  echo "A fine film." | python multitask_classifier.py --predict runs/NAME
"""


GROUPS = {
    "model": Model,
    "heads": Heads,
    "schedule": Schedule,
    "optimisation": Optimisation,
    "regularizers": Regularizers,
    "unlabelled": SemiSupervised,
    "pseudo_labels": PseudoLabels,
    "data": Data,
    "own": OwnTask,
    "run": Run,
}


@dataclass(frozen=True)
class Options:
    """All that a command says, checked: its flags in groups, and `given`, the names of those that were on the line."""

    model: Model
    heads: Heads
    schedule: Schedule
    optimisation: Optimisation
    regularizers: Regularizers
    unlabelled: SemiSupervised
    pseudo_labels: PseudoLabels
    data: Data
    own: OwnTask
    run: Run
    given: tuple = ()

    @classmethod
    def of(cls, values):
        """From {flag: value}, which may hold more."""
        groups = {name: take(group, values) for name, group in GROUPS.items()}
        return cls(**groups, given=tuple(values.get("given", ())))

    def flat(self):
        """{flag: value} of all groups."""
        return {name: value for group in GROUPS for name, value in flat(getattr(self, group)).items()}

    def changed(self, **values):
        """The same with other values of some flags."""
        return Options.of({"given": self.given, **self.flat(), **values})

    def namespace(self):
        """As a namespace again, for `checks.resumed`."""
        return argparse.Namespace(**{**DEFAULTS, **self.flat(), "given": list(self.given)})

    @property
    def tasks(self):
        """The names of the tasks to train."""
        return self.model.tasks

    @property
    def scored(self):
        """{name: Task} of every task with a head."""
        known = {**TASKS, **self.own.tasks}
        return {name: known[name] for name in (*self.model.tasks, *(self.model.also_score or ()))}


def also_scored_once(trained):
    """What a run from before --also_score scored besides the tasks it trained, or None: the others of the course's
    three, once one of them was trained."""
    three = list(COURSE_NAMES.values())
    return [task for task in three if task not in trained and set(three) & set(trained)] or None


DEFAULTS = {**defaults_of(GROUPS.values()), **defaults_of([SavedRun])}


def build_parser():
    parser = Parser(
        prog="multitask_classifier.py",
        description="Fine-tune a hand-written BERT on several tasks at once: sentiment (SST, CFIMDB), paraphrases "
        "(Quora), similarity (STS) and GLUE's RTE, QQP, MNLI, SST-2. A run is a folder: config, metrics, checkpoints, "
        "predictions.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        add_help=False,
    )
    parser.add_argument("-h", "--help", action=ShortHelp, help="the flags that most runs need, and the names of all")
    parser.add_argument("--help-all", action="help", help="every flag in full")
    for group in (*GROUPS.values(), SavedRun):
        add_group(parser, group)
    spelling = {"help": "--fine_tune_mode, as the later course spells it", "default": argparse.SUPPRESS}
    parser.add_argument("--fine-tune-mode", dest="fine_tune_mode", choices=tuple(MODES), **spelling)
    return parser
