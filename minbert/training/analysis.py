"""What a run's predictions on labelled data look like: confusions, the fit of scores, the worst errors, one picture.

The three pictures are those of Yan, "BERT Multitask Learning in a Semi-Supervised Learning Setup", Figure 3: a
confusion matrix for each classification task, and predicted against true scores with the fitted line.

Shapes: n examples, C classes of a task, K classes of a head.
"""

import math

import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from minbert.evaluation import confusion_matrix, per_class, task_scores
from minbert.files import written_whole
from minbert.training.calibration import calibration
from minbert.training.examples import behind_cells, behind_points

COLUMNS = 4  # panels side by side before a new row begins
MOST_READABLE = 20  # classes; of more, a confusion matrix is shades alone: names and counts would hide each other
SHADE, LINE, INK, GREY = "#2a6f97", "#e07a1f", "#333a45", "#8b92a0"
SHADES = LinearSegmentedColormap.from_list("shades", ["#f7f9fb", SHADE])


def analyse(task, examples, predictions, worst=20):
    """A dict, ready for JSON, on `evaluation.Predictions` for labelled `datasets.Examples`.

    Always: task, kind, examples (how many), scores (`evaluation.task_scores`), and worst_errors, the worst first.
    Classification: labels; confusion [C][C], row the true label, column the predicted one; per_class {label:
    precision, recall, f1, examples}; calibration; cells, with examples of each. The worst errors are those with most
    probability on the wrong label.
    Regression, with residual = prediction - label: score_range; residual_mean and residual_deviation (rmse^2 = mean^2 +
    deviation^2), by_score (the same for each label rounded to floor(label + 1/2)), points [label, prediction], and
    point_examples, which stand behind these.
    """
    about = {
        "task": task.name,
        "kind": task.kind,
        "examples": len(examples),
        "scores": task_scores(task, predictions.values, examples.labels),
    }
    details = _of_scores if task.kind == "regression" else _of_classes
    return about | details(task, examples, predictions, worst)


def _of_classes(task, examples, predictions, worst):
    said, true = predictions.values, examples.labels  # [n] each
    confusion = confusion_matrix(task, said, true)
    measures = zip(*per_class(confusion), confusion.sum(axis=1), strict=True)
    rows = np.arange(len(said))
    on_said, on_true = predictions.probabilities[rows, said], predictions.probabilities[rows, true]  # [n] each
    order = np.lexsort((on_true, -on_said))  # most on the wrong label; of equals, least on the right one
    wrong = order[said[order] != true[order]]
    return {
        "labels": list(task.labels),
        "confusion": confusion.tolist(),
        "per_class": {
            label: {"precision": float(p), "recall": float(r), "f1": float(f1), "examples": int(count)}
            for label, (p, r, f1, count) in zip(task.labels, measures, strict=True)
        },
        "calibration": calibration(on_said, said == true),
        "cells": behind_cells(examples, predictions, task.labels),
        "worst_errors": [
            {
                **_example(examples, row),
                "label": task.labels[true[row]],
                "prediction": task.labels[said[row]],
                "probability_of_label": _rounded(on_true[row]),
                "probability_of_prediction": _rounded(on_said[row]),
            }
            for row in wrong[:worst]
        ],
    }


def _of_scores(task, examples, predictions, worst):
    said, true = predictions.values, examples.labels.astype(np.float64)  # [n] each
    residuals = said - true
    rounded = np.floor(true + 0.5).astype(int)
    order = np.argsort(-np.abs(residuals), kind="stable")
    return {
        "score_range": list(task.score_range),
        **_spread(residuals),
        "by_score": [
            {"score": int(score), "examples": int(np.sum(rounded == score)), **_spread(residuals[rounded == score])}
            for score in np.unique(rounded)
        ],
        "worst_errors": [
            {
                **_example(examples, row),
                "label": _rounded(true[row]),
                "prediction": _rounded(said[row]),
                "residual": _rounded(residuals[row]),
            }
            for row in order[:worst]
            if residuals[row] != 0
        ],
        "points": [[_rounded(x), _rounded(y)] for x, y in zip(true, said, strict=True)],
        "point_examples": behind_points(examples, residuals),
    }


def _spread(residuals):
    return {"residual_mean": float(residuals.mean()), "residual_deviation": float(residuals.std())}


def _example(examples, row):
    return {"id": examples.ids[row], "texts": list(examples.texts[row])}


def _rounded(value):
    return round(float(value), 4)


# ------------------------------------------------------------------------------------------------------- pictures


def draw(analyses, path):
    """One PNG with a panel for each analysis of {task: analysis}: a confusion matrix, or scores with their fit."""
    columns = min(len(analyses), COLUMNS)
    rows = math.ceil(len(analyses) / columns)
    figure = Figure(figsize=(4.6 * columns, 4.5 * rows), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.14, h_pad=0.14)
    for number, analysis in enumerate(analyses.values(), start=1):
        panel = figure.add_subplot(rows, columns, number)
        (_draw_scores if analysis["kind"] == "regression" else _draw_confusion)(panel, analysis)
        panel.tick_params(colors=INK, labelsize=8.5, length=0)
        panel.spines[:].set_visible(False)
    with written_whole(path) as temporary:
        figure.savefig(temporary, format="png", dpi=150, metadata={"Software": None})


def _draw_confusion(panel, analysis):
    """Counts, shaded by their share of the row: what became of the examples of each true label. Of more than
    MOST_READABLE classes the shades alone."""
    counts = np.array(analysis["confusion"])  # [C, C]
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    panel.imshow(shares, cmap=SHADES, vmin=0, vmax=1)
    readable = len(counts) <= MOST_READABLE
    for row, column in np.ndindex(*counts.shape) if readable else ():
        share = shares[row, column]
        panel.text(
            column,
            row,
            f"{counts[row, column]:,}\n{share:.0%}",
            ha="center",
            va="center",
            fontsize=min(11, 45 / len(counts)),
            color="white" if share > 0.5 else INK,
        )
    between = np.arange(1, len(counts)) - 0.5 if readable else []
    panel.hlines(between, -0.5, len(counts) - 0.5, color="white", lw=2)
    panel.vlines(between, -0.5, len(counts) - 0.5, color="white", lw=2)
    names = [label.replace("_", " ").replace(" ", "\n") for label in analysis["labels"]] if readable else []
    panel.set_xticks(range(len(names)), names)
    panel.set_yticks(range(len(names)), names)
    scores = analysis["scores"]
    _describe(panel, analysis, "label", f"accuracy {scores['accuracy']:.3f}, macro F1 {scores['macro_f1']:.3f}")


def _draw_scores(panel, analysis):
    """Each example's prediction against its label, the diagonal where they agree, and the fitted line."""
    points, scores = np.array(analysis["points"]), analysis["scores"]  # [n, 2]
    low, high = min(points.min(), analysis["score_range"][0]), max(points.max(), analysis["score_range"][1])
    ends, slope, intercept = np.array([low, high]), scores["slope"], scores["intercept"]
    panel.plot(ends, ends, color=GREY, lw=1.2, ls=(0, (4, 3)), label="prediction = label")
    opacity = min(0.6, max(0.05, 150 / len(points)))  # dots that lie on one another stay countable
    panel.scatter(*points.T, s=16, color=SHADE, alpha=opacity, lw=0, zorder=2)
    fit = f"fit: {slope:.2f} × label {'−' if intercept < 0 else '+'} {abs(intercept):.2f}"
    panel.plot(ends, slope * ends + intercept, color=LINE, lw=2.2, label=fit)
    margin = 0.04 * (high - low)
    panel.set(xlim=(low - margin, high + margin), ylim=(low - margin, high + margin), aspect="equal")
    panel.grid(color="#e6e8ec", lw=0.8)
    panel.set_axisbelow(True)
    panel.legend(loc="upper left", framealpha=0.85, edgecolor="white", fontsize=9, labelcolor=INK)
    _describe(panel, analysis, "score", f"Pearson {scores['pearson']:.3f}, slope {slope:.2f}")


def _describe(panel, analysis, what, scores):
    panel.set_title(f"{analysis['task']}\n", fontsize=12.5, fontweight="bold", color=INK)
    panel.text(0.5, 1.025, scores, transform=panel.transAxes, ha="center", fontsize=9.5, color=INK)
    panel.set_xlabel(f"predicted {what}" if what == "label" else "true score", fontsize=9.5, color=GREY)
    panel.set_ylabel(f"true {what}" if what == "label" else "predicted score", fontsize=9.5, color=GREY)
