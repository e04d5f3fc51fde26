"""The pictures of a report as dicts of places (see frame.py): lines, the fit of scores, reliability."""

from minbert.report.frame import Frame, around

LOGARITHMIC = 50  # a highest value so many times the lowest is shown on a logarithmic axis, if that is asked for
MOST_DOTS = 60  # points of a line that are marked one by one


def lines(title, series, x_label, y_label, baseline=None, best=None, logarithmic=False, dots=False, told=""):
    """A chart of several lines, or None where there is nothing to draw.

    series: {name: [(x, y)]}. baseline: a y to compare with. best: the x whose dot is marked. dots: mark each point,
    if they are not too many. told: a sentence for those who cannot see it, before those on each line.
    """
    series = {name: points for name, points in series.items() if points}
    if not series:
        return None
    xs = [x for points in series.values() for x, _ in points]
    ys = [y for points in series.values() for _, y in points] + ([] if baseline is None else [baseline])
    log = logarithmic and min(ys) > 0 and max(ys) / min(ys) > LOGARITHMIC
    spread = (min(ys) / 1.2, max(ys) * 1.2) if log else around(ys)
    if not log and min(ys) >= 0:
        spread = max(0.0, spread[0]), spread[1]
    across = (min(xs), max(xs)) if max(xs) > min(xs) else (min(xs) - 1, max(xs) + 1)
    frame = Frame(across, spread, log, whole=True)
    drawn = [
        {
            "name": name,
            "colour": number % 8,
            "path": frame.path(points),
            "last": points[-1][1],
            "dots": _dots(frame, name, points, x_label, best) if dots or len(points) == 1 else [],
        }
        for number, (name, points) in enumerate(series.items())
    ]
    sentences = [_sentence(name, points, x_label) for name, points in series.items()]
    return {
        "title": title,
        "told": " ".join([told, *sentences]).strip(),
        **frame.axes(x_label, y_label + (" (logarithmic)" if log else "")),
        "lines": drawn,
        "baseline": None if baseline is None else {"y": frame.down(baseline), "value": baseline},
    }


def _dots(frame, name, points, x_label, best):
    if len(points) > MOST_DOTS:
        points = [(x, y) for x, y in points if x == best]
    return [
        {
            "x": frame.right(x),
            "y": frame.down(y),
            "best": x == best,
            "value": y,
            "told": f"{name}, {x_label} {x:,}: {y:.4g}" + (", the best" if x == best else ""),
        }
        for x, y in points
    ]


def _sentence(name, points, x_label):
    (x1, y1), (x2, y2) = points[0], points[-1]
    low, high = min(y for _, y in points), max(y for _, y in points)
    return (
        f"{name}: {y1:.4g} at {x_label} {x1:,}, {y2:.4g} at {x_label} {x2:,}, between {low:.4g} and {high:.4g}."
        if len(points) > 1
        else f"{name}: {y1:.4g} at {x_label} {x1:,}."
    )


def fit(analysis):
    """Predicted against true scores with the diagonal and the fitted line (Yan, Figure 3(c)). analysis: of a task with
    scores, as in analysis.json. Each point knows the number of its example."""
    shown = [(number, *analysis["points"][one["row"]]) for number, one in enumerate(analysis["point_examples"])]
    slope, intercept = analysis["scores"]["slope"], analysis["scores"]["intercept"]
    both = [value for _, *pair in shown for value in pair]
    low, high = around([*both, *analysis["score_range"]], 0.03)
    frame = Frame((low, high), (low, high), height=330)
    return {
        "title": f"{analysis['task']}: predicted against true scores",
        "told": f"{len(shown):,} of {analysis['examples']:,} examples. Pearson {analysis['scores']['pearson']:.3f}. "
        f"The fitted line: predicted = {slope:.2f} times true {'minus' if intercept < 0 else 'plus'} "
        f"{abs(intercept):.2f}.",
        **frame.axes("true score", "predicted score"),
        "diagonal": frame.path([(low, low), (high, high)]),
        "line": frame.path([(x, y) for x, y in _within(low, high, slope, intercept)]),
        "points": [
            {"x": frame.right(x), "y": frame.down(y), "example": number, "told": f"true {x:g}, predicted {y:g}"}
            for number, x, y in sorted(shown, key=lambda one: (one[1], one[2]))
        ],
        "opacity": round(min(0.7, max(0.15, 200 / max(1, len(shown)))), 2),
    }


def _within(low, high, slope, intercept):
    """The ends of the line y = slope x + intercept inside the square [low, high]."""
    xs = [low, high]
    if slope:
        xs += [x for y in (low, high) if low < (x := (y - intercept) / slope) < high]
    inside = sorted(x for x in xs if low - 1e-9 <= slope * x + intercept <= high + 1e-9)
    return [(x, slope * x + intercept) for x in (inside[0], inside[-1])] if inside else [(low, low), (low, low)]


def reliability(analysis):
    """Accuracy against confidence, a bar a bin (Guo et al. 2017, Figure 1), and where they would be equal."""
    bins = analysis["calibration"]["bins"]
    frame = Frame((0, 1), (0, 1))
    most = max(one["examples"] for one in bins)
    return {
        "title": f"{analysis['task']}: reliability",
        "told": f"Expected calibration error {analysis['calibration']['ece']:.3f}. "
        + " ".join(_of_bin(one) + "." for one in bins),
        **frame.axes("confidence", "accuracy"),
        "diagonal": frame.path([(0, 0), (1, 1)]),
        "bars": [
            {
                "x": frame.right(one["from"]) + 1,
                "width": round(frame.right(one["to"]) - frame.right(one["from"]) - 2, 1),
                "y": frame.down(one["accuracy"]),
                "height": round(frame.down(0) - frame.down(one["accuracy"]), 1),
                "mean_x": frame.right(one["confidence"]),
                "mean_y": frame.down(one["accuracy"]),
                "weight": round(0.25 + 0.75 * one["examples"] / most, 2),
                "told": _of_bin(one),
            }
            for one in bins
        ],
    }


def _of_bin(one):
    return (
        f"Confidence {one['from']:g} to {one['to']:g}: mean {one['confidence']:.3f}, accuracy {one['accuracy']:.3f}, "
        f"{one['examples']:,} example{'s' * (one['examples'] != 1)}"
    )


def matrix(analysis):
    """The confusion matrix of a task as rows of cells: count, share of the row, and the number of its examples among
    `cells`."""
    labels, behind = analysis["labels"], {}
    for number, cell in enumerate(analysis["cells"]):
        behind[cell["label"], cell["prediction"]] = number
    rows = []
    for label, counts in zip(labels, analysis["confusion"], strict=True):
        whole = sum(counts)
        cells = [
            {
                "count": count,
                "share": count / whole if whole else 0.0,
                "prediction": prediction,
                "right": prediction == label,
                "behind": behind.get((label, prediction)),
            }
            for prediction, count in zip(labels, counts, strict=True)
        ]
        rows.append({"label": label, "count": whole, "cells": cells})
    return rows
