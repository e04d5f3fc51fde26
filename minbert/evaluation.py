"""Predictions of a model, the metrics of each task, and prediction files in the course's form and in GLUE's.

The fitted line of a regression is that of Yan, "BERT Multitask Learning in a Semi-Supervised Learning Setup", Figure
3(c); GLUE's submissions are those of Wang et al. 2018, "GLUE: A Multi-Task Benchmark and Analysis Platform".

Shapes: n examples, P sequences of an example (1, or 2 for a separately encoded pair), H hidden, C classes of a task, K
classes of a head. Labels and predicted values of a classification task are class indices in the order of
`task.labels`; those of a regression task are scores.
"""

import contextlib
import math
import re
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from minbert import processes
from minbert.files import check_replaceable, write_text
from minbert.layers.devices import double

TOKEN_BUDGET = 4096  # tokens of one prediction batch: enough for full speed, small enough for any machine
HEAD_ROWS = 4096  # examples that a head reads at a time: a join of two embeddings may be several times their size


# ---------------------------------------------------------------------------------------------------- predictions


@dataclass
class Predictions:
    """What a head says of n examples: `values` [n] (int64 classes or float64 scores), and the `probabilities` [n, K]
    (float32) of its classes, None where the head has none."""

    values: np.ndarray
    probabilities: np.ndarray | None = None

    def __len__(self):
        return len(self.values)


def predict(model, task, sequences, to_learn_from=False):
    """`Predictions` of `model` for the encoded examples of a task, in their order; `to_learn_from` as below."""
    return read_out(model, task, embeddings(model, task, sequences, to_learn_from))


@torch.no_grad()
def embeddings(model, task, sequences, to_learn_from=False):
    """The trunk's embeddings of each example [n, P, H], in their order.

    Sequences of similar length go through the trunk together, and the model is in eval mode meanwhile. What takes
    over two seconds shows a bar. Where [CLS] is all that heads read, the last layer computes nothing else, unless they
    are `to_learn_from`: a training on them repeats older ones to the last bit. Several processes share the work, and
    all have all of it.
    """
    order = np.argsort(sequences.lengths, kind="stable")
    batches = list(_by_token_budget(order, sequences.lengths))
    bar = tqdm(total=len(order), desc=task, unit="example", leave=False, delay=2, dynamic_ncols=True, disable=None)

    def embed(rows):
        found = model.embed({task: sequences.take(rows)}, all_tokens=to_learn_from)[task]
        bar.update(len(rows))
        return found

    with _eval_mode(model), bar:
        found = processes.here().map(embed, batches, [len(rows) for rows in batches])  # in `order`
    return found[torch.from_numpy(np.argsort(order))]


@torch.no_grad()
def read_out(model, task, embeddings, head=None):
    """`Predictions` of a task's head (or of `head`) from embeddings [n, P, H], HEAD_ROWS examples at a time."""
    head, values, probabilities = head or model.head_of(task), [], []
    with _eval_mode(model):
        for part in embeddings.split(HEAD_ROWS):
            logits = model.classify({task: part.to(model.device)})[task].float()
            values.append(double(head.predict(logits)).cpu())
            if head.classes:
                probabilities.append(head.probabilities(logits).float().cpu())  # [<= HEAD_ROWS, K]
    values = torch.cat(values).numpy()
    if model.tasks[task].kind == "classification":
        values = values.astype(np.int64)
    return Predictions(values, torch.cat(probabilities).numpy() if probabilities else None)


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


# -------------------------------------------------------------------------------------------------------- metrics


def task_scores(task, values, labels):
    """The metrics of one task as a dict of numbers.

    Classification: accuracy, macro_f1, f1 (one for each class); with two classes also precision and recall of the
    second. Regression: pearson, rmse, and slope and intercept of the least-squares line (`fitted_line`).
    """
    if task.kind == "regression":
        slope, intercept = fitted_line(labels, values)
        return {
            "pearson": pearson(values, labels),
            "rmse": float(np.sqrt(np.mean((np.asarray(values, np.float64) - labels) ** 2))),
            "slope": slope,
            "intercept": intercept,
        }
    confusion = confusion_matrix(task, values, labels)
    precision, recall, f1 = per_class(confusion)
    mentioned = (confusion.sum(0) + confusion.sum(1)) > 0
    scores = {
        "accuracy": float(np.mean(values == labels)),
        "macro_f1": float(f1[mentioned].mean()),  # a class nobody mentions has no F1
        "f1": f1.tolist(),
    }
    if len(task.labels) == 2:
        scores["precision"], scores["recall"] = float(precision[1]), float(recall[1])
    return scores


def confusion_matrix(task, values, labels):
    """[C, C] of counts: row the true class, column the predicted one."""
    count = len(task.labels)
    return np.bincount(labels * count + values, minlength=count * count).reshape(count, count)


def per_class(confusion):
    """Precision, recall and F1, [C] each, from a confusion matrix [C, C]; 0 where a class was never said or never true.

    precision = hits / predicted,  recall = hits / true,  F1 = 2 hits / (predicted + true).
    """
    hits, predicted, actual = confusion.diagonal(), confusion.sum(axis=0), confusion.sum(axis=1)
    return _ratio(hits, predicted), _ratio(hits, actual), _ratio(2 * hits, predicted + actual)


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


def fitted_line(labels, values):
    """(slope, intercept) of the least-squares line value = slope * label + intercept (Yan, Figure 3(c)).

    A slope below 1 says that the predictions span a narrower range than the labels. With all labels equal, where no
    line is defined, the level one through the mean.
    """
    labels, values = np.asarray(labels, np.float64), np.asarray(values, np.float64)
    x = labels - labels.mean()
    spread = np.sum(x * x)
    slope = float(np.sum(x * (values - values.mean())) / spread) if spread > 1e-12 * len(x) else 0.0
    return slope, float(values.mean() - slope * labels.mean())


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
    return {"mean": math.fsum([sst, quora, sts]) / 3, "score": math.fsum([sst, quora, (sts + 1) / 2]) / 3}


def glue_average(dev, mismatched):
    """{"glue": (RTE + QQP's F1 + the mean of MNLI's two accuracies + SST-2) / 4} of scores by task, as Table 2 of
    Karpov and Burtsev; {} where one of these was not scored."""
    if not {"rte", "qqp", "mnli", "sst2"} <= dev.keys() or "mnli" not in mismatched:
        return {}
    mnli = (dev["mnli"]["accuracy"] + mismatched["mnli"]["accuracy"]) / 2
    return {"glue": (dev["rte"]["accuracy"] + dev["qqp"]["f1"][1] + mnli + dev["sst2"]["accuracy"]) / 4}


def selection_score(tasks, scores):
    """What the best checkpoint is chosen by: the mean over the trained tasks, a correlation r counted as (r + 1) / 2.

    For SST, Quora and STS together this is the `score` of `averages`.
    """
    values = [scores[task.name][task.metric] for task in tasks]
    shares = [(v + 1) / 2 if t.metric == "pearson" else v for t, v in zip(tasks, values, strict=True)]
    return math.fsum(shares) / len(shares)  # fsum: the order of the tasks decides nothing, not even the last bit


# ---------------------------------------------------------------------------------------------------------- files


PREDICTIONS = "id \t "  # how a prediction file begins, and what it may take the place of
BARS = re.compile(rb"[^|\r\n]{1,100} \|\|\| ")  # or so, where the task's own file does


def check_replaceable_predictions(path):
    """UserError where something stands at `path` that is no prediction file. CMU's look like its data, but for their
    names: sst-dev-output.txt."""
    path = Path(path)
    if "out" in path.name and path.is_file():
        with open(path, "rb") as f:
            if BARS.match(f.read(200)):
                return
    check_replaceable(path, PREDICTIONS)


def write_predictions(path, task, ids, values, texts=None):
    """One prediction file as the course's starter writes it: `id \\t HEADING `, then rows `{id} , {value} `; of a task
    whose file is in CMU's form, with `texts` [n], as CMU's does: rows `{label} ||| {text}`. UserError where a file that
    is none stands there."""
    if task.kind == "regression":
        cells = [repr(float(value)) for value in values]
    else:
        cells = [_cell(task, value) for value in values]
    if task.format == "bars" and texts:
        content = "".join(f"{cell} ||| {text}\n" for cell, (text,) in zip(cells, texts, strict=True))
    else:
        rows = [f"{id} , {cell} \n" for id, cell in zip(ids, cells, strict=True)]
        content = f"{PREDICTIONS}{task.heading} \n" + "".join(rows)
    check_replaceable_predictions(path)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    write_text(path, content)


def _cell(task, value):
    """A predicted class as a prediction file says it: by its number, of a task of one's own by its name."""
    if task.own:
        return task.labels[value]
    return f"{float(value):.1f}" if task.one_logit else str(int(value))


def prediction_files(folder, task, split, mode, alone):
    """Where a task's predictions go: `{sst,para,sts}-{dev,test}-output.csv`, and for a task on sentences with the
    course's kind of files, trained `alone`, also the single-task name `{mode}-{sst,cfimdb}-{dev,test}-out.csv`; .txt
    where the task's file is in CMU's form."""
    suffix = "txt" if task.format == "bars" else "csv"
    paths = [Path(folder) / f"{task.file_name}-{split}-output.{suffix}"]
    if alone and task.format == "csv" and not task.is_pair and not task.own:
        paths.append(Path(folder) / f"{mode}-{task.name}-{split}-out.csv")
    return paths


def write_submission(folder, task, ids, values, split):
    """One file of a GLUE submission, named as GLUE names it; returns its path.

    `index \\t prediction` with the labels as GLUE's own files spell them: words for RTE and MNLI, and for QQP and SST-2
    the digits 0 and 1 (1 is duplicate, or positive). Only for the splits of `task.submission`.
    """
    spelling = {label: said for said, label in reversed(task.spellings.items())}  # the first spelling of each label
    names = [spelling.get(label, label) for label in task.labels]
    rows = [f"{id}\t{names[value]}\n" for id, value in zip(ids, values, strict=True)]
    path = Path(folder) / task.submission[split]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, "index\tprediction\n" + "".join(rows))
    return path
