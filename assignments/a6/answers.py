"""What a6 must give: heads of one logit, one score or many classes, in numpy; the joins are in joins.py."""

import numpy as np

from assignments.a6.joins import joins, zero_vector
from assignments.school import reference as R
from assignments.school.judging import Check

SLACK = 1e-5
result = lambda x: {"the result": x}


def sigmoid(z):
    return np.where(z >= 0, 1 / (1 + np.exp(-abs(z))), np.exp(-abs(z)) / (1 + np.exp(-abs(z))))


def binary(random, B, scale=1.0, kind=""):
    z, y = random.normal(size=(B, 1)) * scale, random.integers(0, 2, size=B)
    y[:2] = [0, 1]
    one = np.maximum(z[:, 0], 0) - z[:, 0] * y + np.log1p(np.exp(-abs(z[:, 0])))
    log_p = -np.logaddexp(0, np.concatenate([z, -z], -1))
    inputs = lambda method, *given: {
        "head": "BinaryHead",
        "args": [4, 0.0],
        "kwargs": {},
        "method": method,
        "given": list(given),
    }
    with np.errstate(all="ignore"):
        direct = -np.log(sigmoid(z[:, 0])) * y - np.log(1 - sigmoid(z[:, 0])) * (1 - y)
    return [
        Check(
            f"binary cross-entropy of {B} examples{kind}",
            "binary_losses",
            "method",
            inputs("losses", z, y),
            result(one),
            [
                ("it is the mean: one loss for each example is asked for", result(one.mean())),
                ("it is the sum: one loss for each example is asked for", result(one.sum())),
                (
                    "labels 0 and 1 are swapped",
                    result(np.maximum(z[:, 0], 0) - z[:, 0] * (1 - y) + np.log1p(np.exp(-abs(z[:, 0])))),
                ),
                (
                    "logits [B, 1] met labels [B] and spread to [B, B]: bring them to one shape",
                    result(np.maximum(z, 0) - z * y + np.log1p(np.exp(-abs(z)))),
                ),
                ("the last axis is still there: [B] is asked for", result(one[:, None])),
                ("only y log p is taken, (1 - y) log(1 - p) is missing", result(-y * log_p[:, 1])),
                (
                    "the sigmoid is taken twice: the loss wants logits",
                    result(np.logaddexp(0, sigmoid(z[:, 0])) - sigmoid(z[:, 0]) * y),
                ),
                ("the minus sign is missing", result(-one)),
                ("log 0 comes up: take the form that works on logits", result(direct)),
                ("it is the squared error of p", result((sigmoid(z[:, 0]) - y) ** 2)),
            ],
        ),
        Check(
            f"0 or 1 of {B} examples{kind}",
            "binary_predict",
            "method",
            inputs("predict", z),
            result(z[:, 0] > 0),
            [
                ("classes are swapped", result(z[:, 0] <= 0)),
                ("the last axis is still there: [B] is asked for", result(z > 0)),
                ("z is compared with 0.5: that is p's border; z's is 0", result(z[:, 0] > 0.5)),
                ("it is the probability, not the class", result(sigmoid(z[:, 0]))),
                ("it is argmax over one logit, which is always 0", result(0 * z[:, 0])),
                ("it is always 1", result(0 * z[:, 0] + 1)),
                ("it is z rounded", result(np.round(z[:, 0]))),
            ],
        ),
        Check(
            f"two log probabilities of {B} examples{kind}",
            "binary_log_probabilities",
            "method",
            inputs("log_probabilities", z),
            result(log_p),
            [
                ("the two columns are swapped: class 0 comes first", result(log_p[:, ::-1])),
                ("they are probabilities: their logarithm is asked for", result(np.exp(log_p))),
                ("only class 1 comes back", result(log_p[:, 1:])),
                ("it is a softmax over (z, 0)", result(log_p[:, ::-1])),
                ("a softmax over one logit is always 1", result(0 * z)),
                (
                    "it is a softmax over (-z, z), which counts z twice",
                    result(-np.logaddexp(0, np.concatenate([2 * z, -2 * z], -1))),
                ),
                (
                    "log(1 - sigmoid(z)) rounds to log 0: take log sigmoid(-z)",
                    result(np.concatenate([np.where(z > 37, -np.inf, log_p[:, :1]), log_p[:, 1:]], -1)),
                ),
            ],
        ),
    ]


def regression(random, B, low, high):
    z, y = random.normal(size=(B, 1)) * 1.5, random.uniform(low, high, size=B)
    s = low + (high - low) * sigmoid(z[:, 0])
    inputs = lambda method, *given: {
        "head": "RegressionHead",
        "args": [4, [low, high], 0.0],
        "kwargs": {},
        "method": method,
        "given": list(given),
    }
    where = f" from {low:g} to {high:g}"
    return [
        Check(
            f"the score{where}",
            "regression_predict",
            "method",
            inputs("predict", z),
            result(s),
            [
                ("the lowest score is not added", result((high - low) * sigmoid(z[:, 0]))),
                ("the sigmoid is missing", result(low + (high - low) * z[:, 0])),
                ("it is the sigmoid alone, from 0 to 1", result(sigmoid(z[:, 0]))),
                ("it is high times the sigmoid: the range is high - low", result(low + high * sigmoid(z[:, 0]))),
                ("the last axis is still there: [B] is asked for", result(s[:, None])),
                ("it is clamped, not squashed", result(np.clip(z[:, 0], low, high))),
                ("tanh stands where the sigmoid belongs", result(low + (high - low) * np.tanh(z[:, 0]))),
                ("low and high are swapped", result(high + (low - high) * sigmoid(z[:, 0]))),
                ("it is the logit itself", result(z[:, 0])),
                ("it is 5 times the sigmoid, whatever the range", result(5 * sigmoid(z[:, 0]))),
            ],
        ),
        Check(
            f"the squared error{where}",
            "regression_losses",
            "method",
            inputs("losses", z, y),
            result((s - y) ** 2),
            [
                ("it is the mean: one loss for each example is asked for", result(((s - y) ** 2).mean())),
                ("it is the sum: one loss for each example is asked for", result(((s - y) ** 2).sum())),
                ("it is the absolute error", result(abs(s - y))),
                ("it is half the squared error", result((s - y) ** 2 / 2)),
                ("the error is of the logit, not of the score", result((z[:, 0] - y) ** 2)),
                ("logits [B, 1] met labels [B] and spread to [B, B]", result((s[:, None] - y) ** 2)),
                ("the square is missing", result(s - y)),
                ("it is the root of the squared error's mean", result(np.sqrt(((s - y) ** 2).mean()))),
                ("the error is of the share from 0 to 1", result((sigmoid(z[:, 0]) - (y - low) / (high - low)) ** 2)),
                ("the last axis is still there: [B] is asked for", result(((s - y) ** 2)[:, None])),
            ],
        ),
    ]


def scores(name, low, high, classes, scores_, part="class_of_score"):
    y = np.asarray(scores_, float)
    steps = (y - low) * ((classes - 1) / (high - low))
    key = "the classes" if part == "class_of_score" else "the result"
    wrong = [
        ("the class is cut off, not rounded", np.floor(steps + SLACK)),
        ("halves go to the even number (round): the docstring sends them up", np.round(steps)),
        ("scores that float32 stores a little too low fall below the half: SLACK is for them", np.floor(steps + 0.5)),
        ("the lowest score is not taken off", np.floor(y * ((classes - 1) / (high - low)) + 0.5 + SLACK)),
        (
            "there is one step too many: K classes have K - 1 steps between them",
            np.floor((y - low) * classes / (high - low) + 0.5 + SLACK),
        ),
        ("the class is rounded up", np.ceil(steps - SLACK)),
        ("classes count from 1", np.floor(steps + 0.5 + SLACK) + 1),
        ("the range is not divided by", np.floor((y - low) * (classes - 1) + 0.5 + SLACK)),
        ("it is no whole number: round it", steps),
    ]
    wrong = [(text, {key: value}) for text, value in wrong]
    expected = {key: np.floor(steps + (0.5 + SLACK))}
    if part == "class_of_score":
        return Check(name, part, part, {"scores": y, "range": [low, high], "classes": classes}, expected, wrong)
    step = (high - low) / (classes - 1)
    inputs = {
        "head": "ClassesHead",
        "args": [4, [low, high], 0.0],
        "kwargs": {"step": step},
        "method": "class_of",
        "given": [y],
    }
    return Check(name, part, "method", inputs, expected, wrong)


def classes_predict(random, low, high, step, by):
    K = round((high - low) / step) + 1
    z = random.normal(size=(5, K)) * 2
    p, place = R.softmax(z), np.arange(K)
    values = low + (high - low) * place / (K - 1)
    if by == "argmax":
        right = values[z.argmax(-1)]
        wrong = [
            ("it is the class, not its score", z.argmax(-1)),
            ("the lowest score is not added", values[z.argmax(-1)] - low),
            ("it is divided by K: K classes have K - 1 steps between them", low + (high - low) * z.argmax(-1) / K),
            ('it is the mean of the classes, where by="argmax" asks for the likeliest', p @ values),
        ]
    else:
        right = p @ values
        wrong = [
            ('it is the likeliest class, where by="expectation" asks for the mean', values[z.argmax(-1)]),
            ("it is the mean class, not its score", p @ place),
            ("the logits are not made probabilities", np.clip(z @ values, low, high)),
            ("the lowest score is not added", p @ values - low),
            ("it is the mean of all classes, whatever their probability", np.full(5, values.mean())),
            ("it is divided by K: K classes have K - 1 steps between them", low + (high - low) * (p @ place) / K),
        ]
    inputs = {
        "head": "ClassesHead",
        "args": [4, [low, high], 0.0],
        "kwargs": {"step": step, "by": by},
        "method": "predict",
        "given": [z],
    }
    name = f"the score of {K} classes, by {by}"
    return Check(
        name, "classes_predict", "method", inputs, result(right), [(text, result(value)) for text, value in wrong]
    )


def checks(random, hidden):
    halves = [0.5, 1.5, 2.5, 0.0, 5.0, 3.2, 4.49]
    if not hidden:
        return [
            *joins(random, 2, 3),
            *binary(random, 4),
            *regression(random, 4, 0.0, 5.0),
            scores("six classes from 0 to 5", 0.0, 5.0, 6, halves),
            scores("a head's six classes", 0.0, 5.0, 6, halves, "class_of"),
            classes_predict(random, 0.0, 5.0, 1.0, "argmax"),
            classes_predict(random, 0.0, 5.0, 1.0, "expectation"),
        ]
    stored = [float(np.float32(score)) for score in (4.7, 0.1, 0.3, 2.9, 4.9, 0.5, 1.1)]
    return [
        *joins(random, 3, 5),
        *zero_vector(random),
        *binary(random, 6, 60.0, ", for logits in the hundreds"),
        *regression(random, 6, 1.0, 3.0),
        scores("26 classes, scores as float32 stores them", 0.0, 5.0, 26, stored),
        scores("classes of scores from 1 to 3", 1.0, 3.0, 5, [1.0, 1.25, 1.75, 2.25, 3.0, 2.1]),
        scores("a head's classes of scores from 1 to 3", 1.0, 3.0, 5, [1.0, 1.25, 1.75, 2.25, 3.0, 2.1], "class_of"),
        classes_predict(random, 1.0, 3.0, 0.5, "argmax"),
        classes_predict(random, 1.0, 3.0, 0.25, "expectation"),
    ]
