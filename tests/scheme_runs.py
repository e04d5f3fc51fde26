"""What the tests of pseudo-labels share: runs of the script on tiny GLUE data, watched."""

from dataclasses import dataclass

import pytest
import tiny

from minbert import evaluation
from minbert.training import analysis
from minbert.training.trainer import Trainer

ROWS = {rows[0]: name for name, rows in tiny.GLUE_ROWS.items()}  # training rows -> the task that has as many


@dataclass
class Watched:
    """What a run of the script did: its Outcome, the Trainers it fitted, and [(teacher, task, Sequences)] of what plain
    models were asked about."""

    outcome: tiny.Outcome
    fits: list
    asked: list

    @property
    def trained(self):
        """The folders of what was trained, by name: of a plain model "rte-0.001", without the digest."""
        parents = [trainer.folder.parent.name for trainer in self.fits]
        names = [trainer.folder.name for trainer in self.fits]
        return [n.rsplit("-", 1)[0] if p == "plain_models" else n for p, n in zip(parents, names, strict=True)]

    @property
    def union(self):
        return self.fits[-1].data["union"]["train"]


def watched(*argv, code=0):
    """Run the script, which is to end with this exit code."""
    fit, predict = Trainer.fit, evaluation.predict
    fits, asked = [], []

    def watch_predict(model, task, sequences, **how):
        if len(sequences) in ROWS:  # a training set
            asked.append((task, ROWS[len(sequences)], sequences))
        return predict(model, task, sequences, **how)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "fit", lambda trainer: fits.append(trainer) or fit(trainer))
        patch.setattr(evaluation, "predict", watch_predict)
        patch.setattr(analysis, "draw", lambda *_: None)  # takes longer than all the rest
        outcome = tiny.script(*argv)
    assert outcome.code == code, outcome.err
    return Watched(outcome, fits, asked)


def arguments(model, data, glue, folder, scheme, *flags):
    """The command line of a run in `folder`, with its plain models beside it in plain_models."""
    where = ("--data_dir", data, "--glue_dir", glue, "--plain_dir", folder.parent / "plain_models")
    how = (*tiny.FINETUNE, "--epochs", 1, "--checkpoint_minutes", 1e-9, "--label_scheme", scheme)
    return ["--model", model, *where, "--run_dir", folder, *how, *flags]


def plain_folder(home, task):
    """The only folder of a task's plain models."""
    (folder,) = (home / "plain_models").glob(f"{task}-*")
    return folder


def cache(home, teacher, task):
    """The file of what a teacher said of a task."""
    (path,) = plain_folder(home, teacher).glob(f"predictions/on-{task}-*.safetensors")
    return path


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
