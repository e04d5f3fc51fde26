"""What a5 must give: the joint vector of an example, and a softmax head, in numpy."""

import numpy as np

from assignments.school import reference as R
from assignments.school.judging import Check

JOINS = {
    None: lambda u, v: u,
    "concat": lambda u, v: np.concatenate([u, v], -1),
    "absdiff": lambda u, v: abs(u - v),
}


def joint(name, random, B, H, join, train=True, p=0.25):
    P = 1 if join is None else 2
    x = random.normal(size=(B, P, H))
    u, v, drop = x[:, 0], x[:, -1], R.square if train else (lambda y: y)
    join_ = JOINS[join]
    at = lambda y: {"the joint vectors": y}
    wrong = [
        ("there is no dropout", at(join_(u, v))),
        ("dropout acts in eval mode too", at(join_(u * u, v * v))),
        ("dropout acts after the join: it belongs on each embedding, before", at(R.square(join_(u, v)))),
        ("u and v are swapped", at(join_(drop(v), drop(u)))),
        ("only the first of the two sequences is used", at(join_(drop(u), drop(u)))),
        ("dropout acts on the first sequence alone", at(join_(drop(u), v))),
        ("dropout acts twice", at(join_(drop(drop(u)), drop(drop(v))))),
    ]
    if join is None:
        wrong.append(("P, the second axis, is still there: a head without a join hands back [B, H]", at(x)))
    inputs = {"hidden": H, "dropout": p, "join": join, "train": train, "embeddings": x}
    return Check(name, "joint", "joint", inputs, at(join_(drop(u), drop(v))), wrong)


def refusal(random, join, P):
    right = random.normal(size=(2, 1 if join is None else 2, 4))
    inputs = {"hidden": 4, "join": join, "embeddings": random.normal(size=(2, P, 4)), "right": right}
    joined = {"the joint vectors of the right number": JOINS[join](right[:, 0], right[:, -1])}
    told = lambda refused: {**joined, "refused": np.array(refused)}
    wrong = [("a wrong number of sequences is taken without a word: it is a ValueError", told(0.0))]
    named = "a join of a pair" if join else "a head without a join"
    return Check(f"{named} refuses P = {P}", "joint", "refuses", inputs, told(1.0), wrong, weight=0.5)


def log_softmax(z, axis=-1):
    return z - z.max(axis, keepdims=True) - np.log(np.exp(z - z.max(axis, keepdims=True)).sum(axis, keepdims=True))


def softmax_head(random, B, K, scale=1.0, kind=""):
    z, y = random.normal(size=(B, K)) * scale, random.integers(0, K, size=B)
    log_p, at = log_softmax(z), lambda x: {"the result": x}
    losses = -log_p[np.arange(B), y]
    inputs = lambda method, *given: {"classes": K, "method": method, "given": list(given)}
    return [
        Check(
            f"one loss for each of {B} examples{kind}",
            "losses",
            "method",
            inputs("losses", z, y),
            at(losses),
            [
                ("it is the mean: one loss for each example is asked for", at(losses.mean())),
                ("it is the sum: one loss for each example is asked for", at(losses.sum())),
                ("the minus sign is missing", at(-losses)),
                ("the losses are of logits, not of log softmax", at(-z[np.arange(B), y])),
                ("it is 1 - p, not -log p", at(1 - np.exp(-losses))),
                ("it is the square of 1 - p", at((1 - np.exp(-losses)) ** 2)),
                (
                    "softmax is taken twice: cross_entropy wants logits",
                    at(-log_softmax(np.exp(log_p))[np.arange(B), y]),
                ),
                ("log softmax is taken over the examples", at(-log_softmax(z, 0)[np.arange(B), y])),
                ("labels count from 1", at(-log_p[np.arange(B), (y - 1) % K])),
                ("the loss is divided by the number of classes", at(losses / K)),
                ("it is in bits (log2): the natural logarithm is meant", at(losses / np.log(2))),
            ],
        ),
        Check(
            f"the likeliest of {K} classes{kind}",
            "predict",
            "method",
            inputs("predict", z),
            at(z.argmax(-1)),
            [
                ("it is the unlikeliest class (argmin)", at(z.argmin(-1))),
                ("it is the largest over the examples (dim=0)", at(z.argmax(0))),
                ("it is the largest logit itself, not its place", at(z.max(-1))),
                ("classes count from 1", at(z.argmax(-1) + 1)),
                ("the largest absolute value is taken", at(abs(z).argmax(-1))),
            ],
        ),
        Check(
            f"the logarithms of {K} probabilities{kind}",
            "log_probabilities",
            "method",
            inputs("log_probabilities", z),
            at(log_p),
            [
                ("they are probabilities: their logarithm is asked for", at(np.exp(log_p))),
                ("the softmax runs over the examples (dim=0)", at(log_softmax(z, 0))),
                ("they are the logits themselves", at(z)),
                ("the logarithm of the sum is not taken off", at(z - z.max(-1, keepdims=True))),
                ("it is log sigmoid, which is for one logit", at(-np.logaddexp(0, -z))),
            ],
        ),
    ]


def checks(random, hidden):
    if not hidden:
        return [
            joint("one sequence", random, 3, 4, None),
            joint("one sequence, wider", random, 2, 6, None, p=0.5),
            *softmax_head(random, 4, 3),
        ]
    return [
        joint("a pair, side by side", random, 2, 3, "concat"),
        joint("a pair's difference: dropout comes before the join", random, 3, 5, "absdiff"),
        joint("no dropout in eval mode", random, 3, 4, None, train=False),
        refusal(random, None, 2),
        refusal(random, "concat", 1),
        *softmax_head(random, 7, 5),
        *softmax_head(random, 5, 3, scale=800.0, kind=", for logits in the hundreds"),
    ]
