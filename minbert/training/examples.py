"""The examples behind a picture of predictions: some of each cell of a confusion matrix, and of the points of a fit.

Their number is bounded, however large the dev set is and however many classes a task has, and so are their texts.

Shapes: n examples, C classes of a task.
"""

import numpy as np

MOST_CLASSES = 12  # of a matrix that is shown whole; of a task with more, the most frequent confusions
MOST_CONFUSIONS = 40
PER_CELL = 6
MOST_POINTS = 1500
MOST_TEXT = 300  # characters of each text


def behind_cells(examples, predictions, labels):
    """[{"label", "prediction", "count", "examples"}] of the cells that hold any, or of MOST_CONFUSIONS wrong ones, the
    most frequent first. The examples of a cell are those predicted with most confidence. labels: names, [C]."""
    said, true, count = predictions.values, examples.labels, len(labels)
    cells = np.bincount(true * count + said, minlength=count * count)  # [C * C]
    order = np.argsort(-cells, kind="stable")
    chosen = [int(cell) for cell in order if cells[cell]]
    if count > MOST_CLASSES:
        chosen = [cell for cell in chosen if cell // count != cell % count][:MOST_CONFUSIONS]
    sure = predictions.probabilities[np.arange(len(said)), said]  # [n]
    by_confidence = np.argsort(-sure, kind="stable")
    found = []
    for cell in chosen:
        row, column = divmod(cell, count)
        inside = by_confidence[(true[by_confidence] == row) & (said[by_confidence] == column)]
        shown = [{**about(examples, one), "probability": round(float(sure[one]), 4)} for one in inside[:PER_CELL]]
        found.append({"label": labels[row], "prediction": labels[column], "count": int(cells[cell]), "examples": shown})
    return found


def behind_points(examples, residuals):
    """[{"row", "id", "texts"}] of all examples, or of MOST_POINTS of them: a tenth those with the largest residuals,
    the rest evenly spread over the file, in its order."""
    count = len(examples)
    rows = range(count)
    if count > MOST_POINTS:
        worst = np.argsort(-np.abs(residuals), kind="stable")[: MOST_POINTS // 10]
        others = np.setdiff1d(np.arange(count), worst)
        spread = others[np.linspace(0, len(others) - 1, MOST_POINTS - len(worst)).astype(int)]
        rows = np.sort(np.concatenate([worst, spread])).tolist()
    return [{"row": row, **about(examples, row)} for row in rows]


def about(examples, row):
    texts = [text if len(text) <= MOST_TEXT else text[:MOST_TEXT] + "…" for text in examples.texts[row]]
    return {"id": examples.ids[row], "texts": texts}
