"""The protocol of pseudo-labels: plain models as teachers, what they predict, and all tasks' examples as one set.

Karpov and Burtsev, "Data pseudo-labeling while adapting BERT for multitask approaches", Dialogue 2021. A plain model
is an ordinary run on one task. It is trained once, in a folder that is named after all that it depends on, and its
predictions are kept beside it, so every scheme that needs them finds them.
"""

import hashlib
import json
import math
import shutil
from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save

import labeling
from datasets import Examples, Task, fingerprint
from minbert import evaluation
from minbert.files import UserError, openable, reading, remove_unfinished, sha256, write_json, write_text, written_whole
from minbert.flags import checks as command_line
from minbert.flags.parser import DEFAULTS
from minbert.locks import alone_in
from minbert.methods.shared_head import UNION, merging_of
from minbert.text.tokenization import Sequences
from minbert.training import results
from minbert.training.data import Split
from minbert.training.run_folder import is_finished
from minbert.training.saved import saved_scores

ELSEWHERE = (  # flags that do not decide what a plain model comes to, or that its folder's name holds otherwise
    *(
        *command_line.NOT_SAVED,
        *command_line.MAY_CHANGE,
        "model",
        "data_dir",
        "glue_dir",
        "imdb_dir",
        "use_gpu",
        "device",
    ),
    *("precision", "compile", "label_scheme", "plain_dir", "plain_lr", "literal_eq20", "limit", "dev_limit"),
    "log_every",
)


class PlainModels:
    """The plain single-task models that a run on pseudo-labels learns from (or, under `plain`, consists of).

    options: of that run. data: {task: {split: Split}}. model_sha: of the checkpoint that all start from. open_model: a
    function from the folder of a finished run to its model.
    """

    def __init__(self, options, data, model_sha, open_model):
        self.options, self.data, self.tasks = options, data, options.scored
        self._open_model, self._models, self._best = open_model, {}, {}
        self.folders = {  # {task: {rate: folder}}
            task: {rate: self._folder(task, rate, model_sha) for rate in options.pseudo_labels.plain_lr}
            for task in teachers_of(options)
        }

    def missing(self):
        """(the folder, a sentence on it, the options of the run that makes it) of each model that is not there yet."""
        for task, folders in self.folders.items():
            for rate, folder in folders.items():
                if not is_finished(folder):
                    yield f"plain model of {task} at rate {rate:g}: {folder}", self._options(task, rate, folder)

    def _folder(self, task, rate, model_sha):
        """The folder of a plain model: the task, the rate, and a digest of the flags, the data and the checkpoint. A
        flag at its default is left out: one that is new some day changes no name."""
        flags = self.options.flat()
        flags = {n: value for n, value in flags.items() if n not in ELSEWHERE and value != DEFAULTS[n]}
        flags |= {"tasks": [task], "lr": rate}
        used = {split: fingerprint(self.data[task][split].examples) for split in ("train", "dev")}
        digest = hashlib.sha256(json.dumps([flags, used, model_sha], sort_keys=True).encode()).hexdigest()[:12]
        return Path(self.options.pseudo_labels.plain_dir) / f"{task}-{rate:g}-{digest}"

    def _options(self, task, rate, folder):
        """The options of an ordinary run on one task. It predicts the test set too: `plain` may want that later."""
        data = self.options.data
        limits = {
            name: {task: limit[task]} if task in limit else {}
            for name, limit in (("limit", data.limit), ("dev_limit", data.dev_limit))
        }
        ordinary = {"tasks": [task], "lr": rate, "label_scheme": None, "literal_eq20": False, "plain_lr": None}
        where = {"run_dir": str(folder), "resume": True, "skip_test": False, "given": ()}
        return self.options.changed(**limits, **ordinary, **where)

    def best(self, task):
        """(folder, scores) of a task's model at its best rate."""
        if task not in self._best:
            folders = self.folders[task]
            scores = {rate: saved_scores(folder) for rate, folder in folders.items()}
            accuracies = {rate: {task: said["dev"][task]["accuracy"]} for rate, said in scores.items()}
            rate, _ = labeling.best_attempt(accuracies)
            self._best[task] = folders[rate], {**scores[rate], "lr": rate}
        return self._best[task]

    def predict(self, teacher, task):
        """[n, C] probabilities of a teacher for the training examples of any task, from its cache or, where they are
        missing or cut off, from the model.

        A single sentence is read as [CLS] s [SEP], a pair as [CLS] A [SEP] B [SEP], whatever the teacher's own task is.
        Raises UserError for a cache that is whole but of another model or other data.
        """
        folder, train = self.best(teacher)[0], self.data[task]["train"]
        data = _text_digest(train)
        of = {"of": f"model {sha256(folder / 'model.safetensors')}, data {data}"}  # one entry: safetensors leaves the
        path = folder / "predictions" / f"on-{task}-{data}.safetensors"  # order of two to chance
        shape = len(train.sequences), len(self.tasks[teacher].labels)
        if (kept := read_predictions(path, of, shape)) is not None:
            return kept
        model = self._model(folder)
        probabilities = evaluation.predict(model, teacher, train.sequences, to_learn_from=True).probabilities
        with alone_in(path.parent, wait=""):
            remove_unfinished(path.parent, path.name)
            with written_whole(path) as temporary:
                temporary.write_bytes(save({"probabilities": probabilities}, metadata=of))
        return probabilities

    def _model(self, folder):
        if folder not in self._models:
            self._models[folder] = self._open_model(folder)
        return self._models[folder]

    def finish(self, folder):
        """Write these models' figures and predictions as the results of a run in `folder`. Returns its scores."""
        scores = self.scores()
        for task in self.folders:
            caches = shutil.ignore_patterns("on-*", ".*")  # what it said of other tasks' training sets, and leftovers
            source, _ = self.best(task)
            shutil.copytree(source / "predictions", folder / "predictions", ignore=caches, dirs_exist_ok=True)
        results.zip_submission(folder)
        write_text(folder / "metrics.jsonl", "")
        write_json(folder / "scores.json", scores)
        return scores

    def scores(self):
        """What the models come to, as the scores of one run: what the schemes are compared with."""
        by_task = {task: self.best(task)[1] for task in self.folders}
        dev = {task: scores["dev"][task] for task, scores in by_task.items()}
        return {
            "selection_score": math.fsum(scores["accuracy"] for scores in dev.values()) / len(dev),
            "best_epoch": max(scores["best_epoch"] for scores in by_task.values()),
            "epochs": self.options.schedule.epochs,
            **evaluation.glue_average(dev, second := by_task.get("mnli", {}).get("dev_mismatched", {})),
            "dev": dev,
            "baseline": {task: scores["baseline"][task] for task, scores in by_task.items()},
            **({"dev_mismatched": second} if second else {}),
            "rates": {task: scores["lr"] for task, scores in by_task.items()},
            **{
                name: sum(scores[name] for scores in by_task.values())
                for name in ("updates", "tokens", "train_seconds", "eval_seconds")
            },
        }


def teachers_of(options):
    """The tasks whose plain models a run needs: under `plain` all of them."""
    scheme, tasks = options.pseudo_labels.scheme, options.scored
    return labeling.teachers_needed(scheme, merging_of(scheme, tasks)) if scheme else tuple(tasks)


def read_predictions(path, of, shape):
    """The probabilities [n, C] that a plain model's cache holds; None where it is missing, cut off or damaged. Raises
    UserError for one that is whole but `of` another model or other data."""
    try:
        with reading(path, "damaged"), openable(path) as name, safe_open(name, "numpy") as cache:
            found, probabilities = cache.metadata(), cache.get_tensor("probabilities")
            if not (probabilities.dtype == np.float32 and is_distribution(probabilities)):
                return None
    except UserError:
        return None
    if found != of or probabilities.shape != shape:
        raise UserError(f"{path}: predictions of another model or for other data; delete the file to predict again")
    return probabilities


def is_distribution(probabilities):
    """Whether every row [C] is what a head could have said: nothing below 0, and 1 in all but for rounding."""
    return probabilities.min() >= 0 and np.abs(probabilities.sum(-1) - 1).max() < 1e-3


def _text_digest(split):
    """16 hex digits of the tokens that a model reads, and of the examples they stand for."""
    sequences = split.sequences
    digest = hashlib.sha256(sequences.ids.tobytes() + sequences.types.tobytes() + sequences.offsets.tobytes())
    return hashlib.sha256(digest.digest() + fingerprint(split.examples).encode()).hexdigest()[:16]


def with_targets(options, data, plain):
    """The data with the training sets of all tasks as one, UNION, whose labels are targets [n, K] (float32).

    plain: PlainModels. The order of the tasks is the merging's, whatever the order of the flags.
    """
    tasks, scheme = options.scored, options.pseudo_labels.scheme
    merging = merging_of(scheme, tasks)
    ids, texts, parts, targets = [], [], [], []
    for name in merging.tasks:
        split = data[name]["train"]
        labels = [tasks[name].labels[label] for label in split.examples.labels]
        teachers = labeling.teachers_needed(scheme, merging, name)
        said = {teacher: (tasks[teacher].labels, plain.predict(teacher, name)) for teacher in teachers}
        targets.append(labeling.targets(scheme, name, labels, said, merging, options.pseudo_labels.literal_eq20))
        ids += [f"{name} {id}" for id in split.examples.ids]
        texts += split.examples.texts
        parts.append(split.sequences)
    task = Task(UNION, "targets", merging.classes, (), "", "accuracy", {}, "")
    examples = Examples(task, "train", Path(UNION), ids, texts, np.concatenate(targets).astype(np.float32))
    union = {UNION: {"train": Split(examples, Sequences.concatenate(parts))}}
    rest = {name: {split: part for split, part in data[name].items() if split != "train"} for name in data}
    return union | rest
