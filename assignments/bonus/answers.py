"""What the bonus must give: symmetric KL and squared differences, R-Drop's half, SMART's term where it can be told."""

import numpy as np

from assignments.school import reference as R
from assignments.school.judging import Check


def log_softmax(z):
    return z - z.max(-1, keepdims=True) - np.log(np.exp(z - z.max(-1, keepdims=True)).sum(-1, keepdims=True))


def log_p_of(head, z):
    return log_softmax(z) if head == "softmax" else -np.logaddexp(0, np.concatenate([z, -z], -1))


def term(head, a, b, but=""):
    if head == "regression":
        s = lambda z: z[:, 0] if but == "logits" else 5 / (1 + np.exp(-z[:, 0])) / (5 if but == "shares" else 1)
        d = s(a) - s(b)
        return {"absolute": abs(d), "halved": d * d / 2}.get(but, d * d).mean() * (len(a) if but == "sum" else 1)
    if but == "softmax of one":
        return 0.0
    la, lb = log_p_of(head, a), log_p_of(head, b)
    p, q = np.exp(la), np.exp(lb)
    kl = {
        "one way": p * (la - lb),
        "other way": q * (lb - la),
        "logits": (a - b) ** 2 if head == "softmax" else p * 0 + (a - b) ** 2 / 2,
        "squared": (p - q) ** 2,
        "halved": (p - q) * (la - lb) / 2,
        "minus": -(p - q) * (la - lb),
        "absolute": abs(p - q),
        "squared logs": (la - lb) ** 2,
    }.get(but, (p - q) * (la - lb))
    over = kl.mean(-1) if but == "mean over classes" else kl.sum(-1)
    return over.sum() if but == "sum" else over.mean()


WRONG = {
    "one way": "it is KL(p || q) alone: both directions are summed",
    "other way": "it is KL(q || p) alone: both directions are summed",
    "logits": "logits are compared, not what the head makes of them",
    "squared": "it is the squared difference of probabilities",
    "squared logs": "it is the squared difference of the logarithms",
    "halved": "it is half of the sum: divergence is the whole",
    "minus": "it has the opposite sign",
    "absolute": "it is the absolute difference",
    "mean over classes": "it is the mean over the classes: it is their sum",
    "sum": "it is the sum over the examples: it is their mean",
    "shares": "it compares shares from 0 to 1, not the predicted scores",
    "softmax of one": "a softmax over one logit is always 1: take the head's log_probabilities",
}


def divergence(random, head, B):
    width = 3 if head == "softmax" else 1
    a, b = random.normal(size=(B, width)), random.normal(size=(B, width))

    def at(but="", learns="ab"):
        value = lambda x, y: float(term(head, x, y, but))
        return {
            "the term": np.array(value(a, b)),
            "what a learns": R.derivative(lambda x: value(x, b), a) * ("a" in learns),
            "what b learns": R.derivative(lambda x: value(a, x), b) * ("b" in learns),
        }

    wrong = [(text, at(but)) for but, text in WRONG.items()]
    wrong += [
        ("b is detached: both sides get a gradient", at(learns="a")),
        ("a is detached: both sides get a gradient", at(learns="b")),
        ("no gradient comes through", at(learns="")),
    ]
    return Check(
        f"{head} head, {B} examples",
        "divergence",
        "divergence",
        {"head": head, "a": a, "b": b},
        at(),
        wrong,
        tolerance=1e-6,
    )


def r_drop(random, head, B):
    width = 3 if head == "softmax" else 1
    z = random.normal(size=(2 * B, width))
    first, second, at = z[:B], z[B:], lambda x: {"the term": np.array(float(x))}
    right = term(head, first, second) / 2
    wrong = [
        ("it is not halved: (KL + KL) / 2", at(2 * right)),
        ("neighbours are compared: rows i and B + i are one example", at(term(head, z[::2], z[1::2]) / 2)),
        ("neighbours are compared, and it is not halved", at(term(head, z[::2], z[1::2]))),
        ("it is KL in one direction, halved", at(term(head, first, second, "one way") / 2)),
        ("it is KL in one direction", at(term(head, first, second, "one way"))),
        ("it is the sum over the examples: it is their mean", at(right * B)),
        ("it is divided by 2B rows: B examples are compared", at(right / 2)),
        ("it is 0: the rows are compared with themselves", at(0.0)),
        ("it has the opposite sign", at(-right)),
        ("the second half is turned round: rows i and B + i are one example", at(term(head, first, second[::-1]) / 2)),
    ]
    return Check(f"{head} head, {B} examples twice", "r_drop", "r_drop", {"head": head, "logits": z}, at(right), wrong)


def smoothness(random, head, N, H):
    width = 3 if head == "softmax" else 1
    w, x = random.normal(size=(H, 1)), random.normal(size=(N, H))
    w = np.sign(w) * (0.5 + abs(w))  # no small entries: each of d reaches the border
    if width == 3:
        w = w @ np.array([[1.0, -0.5, 0.2]])  # one direction of logits, so that the worst d is known but for its sign
    radius, z = 1e-4, x @ w

    def at(d, model=1.0, embeddings=1.0):
        value = (term(head, z + d @ w, z) + term(head, z - d @ w, z)) / 2 / radius**2
        return {
            "the term over radius^2": np.array(value),
            "the model learns": np.array(model),
            "the embeddings learn": np.array(embeddings),
        }

    sign = np.sign(w[:, :1].T)
    d = radius * np.repeat(sign, N, 0)
    scaled = w[:, :1].T / abs(w[:, 0]).max()
    wrong = [
        ("nothing is learned: the last pass has to be differentiable", at(d, 0.0, 0.0)),
        ("the embeddings are detached in the last pass too: there they learn", at(d, 1.0, 0.0)),
        ("d is noise alone: the step along the gradient is missing", at(0 * d)),
        ("d is not held in the ball: clamp it to +-radius", at(10 * radius * np.repeat(scaled, N, 0))),
        ("d goes the wrong way or is halved: the step is along the gradient", at(d / 2)),
        ("d is scaled to the radius by the largest entry, not clamped", at(radius * np.repeat(scaled, N, 0))),
        (
            "it is the sum over the examples: it is their mean",
            {**at(d), "the term over radius^2": at(d)["the term over radius^2"] * N},
        ),
        ("it is halved", {**at(d), "the term over radius^2": at(d)["the term over radius^2"] / 2}),
        (
            "d is held in a Euclidean ball: the ball is of the largest entry",
            at(radius * np.repeat(w[:, :1].T / np.linalg.norm(w[:, 0]), N, 0)),
        ),
    ]
    inputs = {"head": head, "w": w, "embedded": x, "radius": radius, "step_size": 10 * radius}
    return Check(f"{head} head, {N} tokens", "smoothness", "smoothness", inputs, at(d), wrong, tolerance=5e-3)


def checks(random, hidden):
    if not hidden:
        return [
            divergence(random, "softmax", 4),
            divergence(random, "regression", 4),
            r_drop(random, "softmax", 3),
            smoothness(random, "binary", 3, 4),
        ]
    return [
        divergence(random, "binary", 5),
        divergence(random, "softmax", 6),
        divergence(random, "regression", 5),
        r_drop(random, "binary", 4),
        r_drop(random, "regression", 4),
        smoothness(random, "softmax", 4, 5),
        smoothness(random, "regression", 3, 4),
    ]
