"""What a trained model comes to: its predictions, scores and their analysis, as files and as a table.

predictions/      dev and test predictions in the course's form, and GLUE's submission files
analysis.json     confusion matrices, fits, the worst errors of the dev sets;  analysis.png draws them
"""

import zipfile
from dataclasses import dataclass
from pathlib import Path

from datasets import TASKS
from minbert import evaluation
from minbert.files import write_json, written_whole
from minbert.training import analysis


def predict_all(model, data, split):
    """{task: Predictions} of every task that has the split."""
    return {
        name: evaluation.predict(model, name, data[name][split].sequences)
        for name in model.tasks
        if split in data[name]
    }


def scores_of(tasks, data, split, predictions):
    """{task: its scores} of predictions {task: Predictions}."""
    return {
        name: evaluation.task_scores(tasks[name], said.values, data[name][split].examples.labels)
        for name, said in predictions.items()
    }


@dataclass(frozen=True)
class PredictionFiles:
    """The prediction files of a run or evaluation in `folder`: in its predictions/, or where --sst_dev_out and its kin
    say; and copies where --predictions_dir says.

    tasks: {name: Task}. model: the group of flags, for the names of files. run: the group of flags that say where.
    """

    folder: Path
    tasks: dict
    model: object
    run: object

    def write(self, data, split, predictions):
        """The files of one split, from its predictions {task: Predictions}."""
        for name, said in predictions.items():
            examples = data[name][split].examples  # whose task knows the form of its file
            for path in self._paths(examples.task, split):
                evaluation.write_predictions(path, examples.task, examples.ids, said.values, examples.texts)
            if split in examples.task.submission:
                evaluation.write_submission(self._own, examples.task, examples.ids, said.values, split)

    def missing(self, data, split):
        """Those of one split that are not there."""
        tasks = [data[name][split].examples.task for name in self.tasks if split in data[name]]
        paths = [path for task in tasks for path in self._paths(task, split)]
        paths += [self._own / task.submission[split] for task in tasks if split in task.submission]
        return [path for path in paths if not path.is_file()]

    @property
    def _own(self):
        return Path(self.folder) / "predictions"

    def _paths(self, task, split):
        alone = self.model.tasks == [task.name]
        paths = evaluation.prediction_files(self._own, task, split, self.model.mode, alone)
        name = paths[-1].name  # the course's classifier.py, which trains a task alone, writes the second alone
        outputs, place = self.run.outputs, self.run.predictions_dir
        if explicit := outputs.get(f"{task.file_name}_{split}_out") or outputs.get(f"{split}_out"):
            paths[0] = Path(explicit)
        return [*paths, Path(place) / name] if place else paths


def zip_submission(folder):
    """GLUE wants one zip of its files: predictions/submission.zip, of those that are there."""
    names = [name for task in TASKS.values() for name in task.submission.values()]
    files = [path for name in names if (path := Path(folder) / "predictions" / name).is_file()]
    if files:
        with (
            written_whole(Path(folder) / "predictions" / "submission.zip") as temporary,
            zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive,
        ):
            for path in files:
                entry = zipfile.ZipInfo(path.name)  # dated 1980: the same predictions are the same bytes
                entry.external_attr = 0o644 << 16
                archive.writestr(entry, path.read_bytes(), zipfile.ZIP_DEFLATED)


def write_results(files, model, data, dev, train=None, test=True):
    """From the dev predictions {task: Predictions} and the model itself, into the folder of `files` (PredictionFiles):
    analysis.json and analysis.png, and with `test` the test predictions. train: predictions for the training sets, or
    None. Returns the scores {"dev": ..., "baseline": ..., more splits}."""
    tasks, folder = model.tasks, Path(files.folder)
    analyses = {name: analysis.analyse(tasks[name], data[name]["dev"].examples, dev[name]) for name in tasks}
    write_json(folder / "analysis.json", analyses)
    analysis.draw(analyses, folder / "analysis.png")
    scores = scores_of(tasks, data, "dev", dev)
    found = {
        **evaluation.averages(scores),
        "dev": scores,
        "baseline": {name: evaluation.baseline(tasks[name], data[name]["dev"].examples.labels) for name in tasks},
    }
    for split in ("test", "test_mismatched") if test else ():
        files.write(data, split, predict_all(model, data, split))
    zip_submission(folder)
    for split, predictions in (("dev_mismatched", predict_all(model, data, "dev_mismatched")), ("train", train)):
        if predictions:
            found[split] = scores_of(tasks, data, split, predictions)
    found |= evaluation.glue_average(scores, found.get("dev_mismatched", {}))
    if model.shares_head:
        found["dev_argmax"] = _by_argmax(model, data)
    return found


def _by_argmax(model, data):
    """{task: its dev scores} when labels are decoded by the highest single class, where that may differ."""
    predictions = {}
    for name in model.tasks:
        if model.head_of(name).may_differ:
            embedded = evaluation.embeddings(model, name, data[name]["dev"].sequences)
            predictions[name] = evaluation.read_out(model, name, embedded, model.head_of(name, "argmax"))
    return scores_of(model.tasks, data, "dev", predictions)


def table(tasks, data, scores):
    """The final table as text."""
    train = scores.get("train", {})
    wide = max(8, *(len(name) + 1 for name in tasks))  # a task of one's own may have a long name
    lines = [f"{'task':{wide}}{'metric':10}{'dev':>8}{'baseline':>10}{'examples':>10}" + ("   train" if train else "")]
    for name, task in tasks.items():
        value, base, count = scores["dev"][name][task.metric], scores["baseline"][name], len(data[name]["dev"].examples)
        seen = f"{train[name][task.metric]:8.3f}" if name in train else ""
        lines.append(f"{name:{wide}}{task.metric:10}{value:8.3f}{base:10.3f}{count:10,}{seen}")
    if "score" in scores:
        lines.append(f"mean of the three {scores['mean']:.3f}, score with (STS + 1) / 2 {scores['score']:.3f}")
    if "train_seconds" in scores:
        seconds = scores["train_seconds"]
        rate = f" ({scores['tokens'] / max(seconds, 0.01):,.0f} tokens/s)" if scores["tokens"] else ""
        lines.append(
            f"best epoch {scores['best_epoch']} of {scores['epochs']}; {scores['updates']:,} updates in {seconds:,.0f} "
            f"s of training{rate}, {scores['eval_seconds']:,.0f} s of dev scoring"
        )
    return "\n".join(lines)
