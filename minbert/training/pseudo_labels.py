"""The protocol of pseudo-labels: plain models as teachers, what they predict, and all tasks' examples as one set.

Karpov and Burtsev, "Data pseudo-labeling while adapting BERT for multitask approaches", Dialogue 2021. A plain model
is an ordinary run on one task. It is trained once, in a folder that is named after all that it depends on, and its
predictions are kept beside it, so every scheme that needs them finds them.
"""

import argparse
import hashlib
import json
import math
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

import evaluation
import labeling
from datasets import Examples, Task, fingerprint
from minbert.files import UserError, sha256, written_whole
from minbert.flags import checks as command_line
from minbert.flags.parser import build_parser
from minbert.text.tokenization import Sequences
from minbert.training.data import Split

UNION = "union"
ELSEWHERE = (  # flags that do not decide what a plain model comes to, or that its folder's name holds otherwise
    *(
        *command_line.NOT_SAVED,
        *command_line.MAY_CHANGE,
        "given",
        "model",
        "data_dir",
        "glue_dir",
        "imdb_dir",
        "use_gpu",
    ),
    *("precision", "compile", "label_scheme", "plain_dir", "plain_lr", "literal_eq20", "limit", "dev_limit"),
)


def merging_of(scheme, tasks):
    """The merging of a scheme for {name: Task}: the paper's table for the tasks it has, CFIMDB sharing SST-2's labels,
    and labels of their own for any other task."""
    merging = labeling.SCHEMES[scheme].merging
    known = merging.plus("cfimdb", merging.tasks["sst2"]) if "sst2" in tasks else merging
    table = {name: labels for name, labels in known.tasks.items() if name in tasks}
    used = {name for labels in table.values() for names in labels.values() for name in names}
    merging = labeling.Merging(tuple(name for name in known.classes if name in used), table)
    for name in sorted(tasks.keys() - table.keys()):
        merging = merging.plus(name, labeling.unmerged({name: tasks[name].labels}).tasks[name])
    return merging


# --------------------------------------------------------------------------------------------------- plain models


def plain_model(options, task, data, model_sha, train):
    """(folder, scores) of the plain model of one task at its best rate, trained where it is missing.

    data: {split: Split} of the task; model_sha: of the checkpoint it starts from; train: the function that makes an
    ordinary run of options.
    """
    folders = {rate: plain_folder(options, task, rate, data, model_sha) for rate in options.plain_lr}
    for rate, folder in folders.items():
        if not (folder / "scores.json").is_file():
            print(f"plain model of {task} at rate {rate:g}: {folder}")
            train(_plain_options(options, task, rate, folder))
    scores = {rate: json.loads((folder / "scores.json").read_text()) for rate, folder in folders.items()}
    best, _ = labeling.best_attempt({rate: {task: said["dev"][task]["accuracy"]} for rate, said in scores.items()})
    return folders[best], {**scores[best], "lr": best}


def plain_folder(options, task, rate, data, model_sha):
    """The folder of a plain model: the task, the rate, and a digest of the flags, the data and the checkpoint. A flag
    at its default is left out: one that is new some day changes no name."""
    defaults = vars(build_parser().parse_args([]))
    flags = {n: value for n, value in vars(options).items() if n not in ELSEWHERE and value != defaults.get(n)}
    flags |= {"tasks": [task], "lr": rate}
    used = {split: fingerprint(data[split].examples) for split in ("train", "dev")}
    digest = hashlib.sha256(json.dumps([flags, used, model_sha], sort_keys=True).encode()).hexdigest()[:12]
    return Path(options.plain_dir) / f"{task}-{rate:g}-{digest}"


def _plain_options(options, task, rate, folder):
    """The flags of an ordinary run on one task. It predicts the test set too: `plain` may want that later."""
    limits = {
        name: {task: limit[task]} if task in (limit := getattr(options, name)) else {}
        for name in ("limit", "dev_limit")
    }
    changed = {"tasks": [task], "label_scheme": None, "literal_eq20": False, "lr": rate, "plain_lr": None, "given": []}
    changed["skip_test"] = False
    return argparse.Namespace(**{**vars(options), **limits, **changed, "run_dir": str(folder), "resume": True})


# ---------------------------------------------------------------------------------------------------- predictions


def predictions_of(folder, teacher, examples, sequences, load):
    """[n, C] probabilities of the plain model in `folder` for examples of any task, from its cache or, where they are
    missing or cut off, from the model. `load`: function from a folder to its model, called once if at all.

    A single sentence is read as [CLS] s [SEP], a pair as [CLS] A [SEP] B [SEP], whatever the teacher's own task is.
    Raises UserError for a cache that is whole but of another model or other data.
    """
    data = _text_digest(examples, sequences)
    model_sha = sha256(folder / "model.safetensors")
    of = {"of": f"model {model_sha}, data {data}"}  # one entry: safetensors leaves the order of two to chance
    path = folder / "predictions" / f"on-{examples.task.name}-{data}.safetensors"
    try:
        with safe_open(path, "numpy") as cache:
            found, probabilities = cache.metadata(), cache.get_tensor("probabilities")
    except (OSError, SafetensorError):
        probabilities = evaluation.predict(load(folder), teacher, sequences).probabilities
        path.parent.mkdir(exist_ok=True)
        with written_whole(path) as temporary:
            save_file({"probabilities": probabilities}, temporary, metadata=of)
        return probabilities
    if found != of or len(probabilities) != len(sequences):
        raise UserError(f"{path}: predictions of another model or for other data; delete the file to predict again")
    return probabilities


def _text_digest(examples, sequences):
    """16 hex digits of the tokens that a model reads, and of the examples they stand for."""
    digest = hashlib.sha256(sequences.ids.tobytes() + sequences.types.tobytes() + sequences.offsets.tobytes())
    return hashlib.sha256(digest.digest() + fingerprint(examples).encode()).hexdigest()[:16]


# ------------------------------------------------------------------------------------------------------ the union


def union(options, tasks, data, predict):
    """All training examples of all `tasks` {name: Task} as one Split whose labels are targets [n, K] (float32).

    data: {task: {split: Split}}. predict: function (teacher, task) -> [n, C] probabilities of the plain teacher model
    on the training examples of a task. The order of the tasks is the merging's, whatever the order of the flags.
    """
    scheme, merging = options.label_scheme, merging_of(options.label_scheme, tasks)
    ids, texts, parts, targets = [], [], [], []
    for name in merging.tasks:
        split = data[name]["train"]
        labels = [tasks[name].labels[label] for label in split.examples.labels]
        teachers = labeling.teachers_needed(scheme, merging, name)
        said = {teacher: (tasks[teacher].labels, predict(teacher, name)) for teacher in teachers}
        targets.append(labeling.targets(scheme, name, labels, said, merging, options.literal_eq20))
        ids += [f"{name} {id}" for id in split.examples.ids]
        texts += split.examples.texts
        parts.append(split.sequences)
    task = Task(UNION, "targets", merging.classes, (), "", "accuracy", {}, "")
    examples = Examples(task, "train", Path(UNION), ids, texts, np.concatenate(targets).astype(np.float32))
    return Split(examples, Sequences.concatenate(parts))


def plain_scores(options, best):
    """The plain models {task: (folder, scores)} as the scores of one run: what the schemes are compared with."""
    by_task = {task: scores for task, (_, scores) in best.items()}
    dev = {task: scores["dev"][task] for task, scores in by_task.items()}
    return {
        "selection_score": math.fsum(scores["accuracy"] for scores in dev.values()) / len(dev),
        "best_epoch": max(scores["best_epoch"] for scores in by_task.values()),
        "epochs": options.epochs,
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
