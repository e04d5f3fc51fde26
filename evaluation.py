"""Predictions of a model, the metrics of each task, and the prediction files in the course's form.

Shapes: n examples, C classes. Labels and predictions of a classification task are class indices in the order of
`task.labels`; those of a regression task are scores.
"""

import contextlib
import warnings
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from files import write_text

TOKEN_BUDGET = 4096  # tokens of one prediction batch: enough for full speed, small enough for any machine

FILE_NAMES = {"quora": "para"}  # the course calls the Quora task "para" in its file names and flags
HEADINGS = {  # in its spelling, which graders expect
    "sst": "Predicted_Sentiment",
    "cfimdb": "Predicted_Sentiment",
    "quora": "Predicted_Is_Paraphrase",
    "sts": "Predicted_Similiary",
}


def predict(model, task, sequences):
    """Predictions [n] (numpy) of `model` for the encoded examples of a task, in their order."""
    return read_out(model, task, joint_vectors(model, task, sequences))


@torch.no_grad()
def joint_vectors(model, task, sequences):
    """The joint vector of each example [n, H], in their order.

    Sequences of similar length go through the trunk together, and the model is in eval mode meanwhile. What takes
    over two seconds shows a bar.
    """
    order, parts = np.argsort(sequences.lengths, kind="stable"), []
    bar = tqdm(total=len(order), desc=task, unit="example", leave=False, delay=2, dynamic_ncols=True)
    with _eval_mode(model), bar:
        for rows in _by_token_budget(order, sequences.lengths):
            parts.append(model.join({task: sequences.take(rows)})[task])
            bar.update(len(rows))
    return torch.cat(parts)[torch.from_numpy(np.argsort(order))]


@torch.no_grad()
def read_out(model, task, joint):
    """Predictions [n] (numpy) from joint vectors [n, H]."""
    with _eval_mode(model):
        result = model.heads[task].predict(model.classify({task: joint})[task].float()).double().cpu().numpy()
    return result if model.tasks[task].kind == "regression" else result.astype(np.int64)


@contextlib.contextmanager
def _eval_mode(model):
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


def _by_token_budget(order, lengths):
    """Cut `order` into runs of at most TOKEN_BUDGET tokens (a longer sequence goes alone)."""
    ends = np.cumsum(lengths[order])
    start = 0
    while start < len(order):
        spent = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, spent + TOKEN_BUDGET, side="right")))
        yield order[start:stop]
        start = stop


def task_scores(task, predictions, labels):
    """The metrics of one task as a dict of numbers.

    Classification: accuracy, macro_f1, f1 (one for each class); with two classes also precision and recall of the
    second. Regression: pearson.
    """
    if task.kind == "regression":
        return {"pearson": pearson(predictions, labels)}
    classes = np.arange(len(task.labels))
    hits = np.array([np.sum((predictions == c) & (labels == c)) for c in classes])  # [C]
    predicted = np.array([np.sum(predictions == c) for c in classes])
    actual = np.array([np.sum(labels == c) for c in classes])
    f1 = _ratio(2 * hits, predicted + actual)
    scores = {
        "accuracy": float(np.mean(predictions == labels)),
        "macro_f1": float(f1[(predicted + actual) > 0].mean()),  # a class nobody mentions has no F1
        "f1": f1.tolist(),
    }
    if len(classes) == 2:
        scores["precision"] = float(_ratio(hits, predicted)[1])
        scores["recall"] = float(_ratio(hits, actual)[1])
    return scores


def _ratio(a, b):
    """a / b, and 0 where b is 0."""
    return np.divide(a, b, out=np.zeros(len(a)), where=b > 0)


def pearson(x, y):
    """Pearson's correlation; 0.0 with a warning where one side is constant (the correlation is undefined there)."""
    x, y = np.asarray(x, np.float64) - np.mean(x), np.asarray(y, np.float64) - np.mean(y)
    size = np.sqrt(np.sum(x * x) * np.sum(y * y))
    if size < 1e-12 * len(x):
        warnings.warn("a constant prediction or label has no Pearson correlation: scored 0.0", stacklevel=2)
        return 0.0
    return float(np.sum(x * y) / size)


def baseline(task, labels):
    """The score of a constant prediction: the most frequent label's share of `labels`, or 0.0 for a correlation."""
    return 0.0 if task.kind == "regression" else float(np.bincount(labels).max() / len(labels))


def averages(scores):
    """Both averages of the three tasks in use, or {} where one of the three was not scored.

    mean = (SST + Quora + STS) / 3          [Qin and Tran, "BERT's Mean Teacher and Multitask Fine-Tuning", Table 1]
    score = (SST + Quora + (STS + 1) / 2) / 3    [Yan, "BERT Multitask Learning in a Semi-Supervised ...", Table 1]
    """
    if not {"sst", "quora", "sts"} <= scores.keys():
        return {}
    sst, quora, sts = scores["sst"]["accuracy"], scores["quora"]["accuracy"], scores["sts"]["pearson"]
    return {"mean": (sst + quora + sts) / 3, "score": (sst + quora + (sts + 1) / 2) / 3}


def selection_score(tasks, scores):
    """What the best checkpoint is chosen by: the mean over the trained tasks, a correlation r counted as (r + 1) / 2.

    For SST, Quora and STS together this is the `score` of `averages`.
    """
    values = [scores[task.name][task.metric] for task in tasks]
    return float(np.mean([(v + 1) / 2 if t.metric == "pearson" else v for t, v in zip(tasks, values, strict=True)]))


def write_predictions(path, task, ids, predictions):
    """One prediction file as the course's starter writes it: `id \\t HEADING `, then rows `{id} , {value} `."""
    if task.kind == "regression":
        values = [repr(float(p)) for p in predictions]
    else:
        values = [f"{float(p):.1f}" if task.name == "quora" else str(int(p)) for p in predictions]
    rows = [f"{id} , {value} \n" for id, value in zip(ids, values, strict=True)]
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    write_text(path, f"id \t {HEADINGS.get(task.name, 'Prediction')} \n" + "".join(rows))


def prediction_files(folder, task, split, option, alone):
    """Where a task's predictions go: `{sst,para,sts}-{dev,test}-output.csv`, and for SST or CFIMDB trained `alone`
    also the single-task name `{option}-{sst,cfimdb}-{dev,test}-out.csv`."""
    paths = [Path(folder) / f"{FILE_NAMES.get(task.name, task.name)}-{split}-output.csv"]
    if alone and task.name in ("sst", "cfimdb"):
        paths.append(Path(folder) / f"{option}-{task.name}-{split}-out.csv")
    return paths
