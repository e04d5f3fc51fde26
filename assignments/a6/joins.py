"""What the joins of a6 must give, in numpy."""

import math

import numpy as np

from assignments.school import reference as R
from assignments.school.judging import Check

at = lambda x: {"the joint vectors": x}


def cos(u, v, eps=1e-8):
    lengths = [np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), eps) for x in (u, v)]
    return (u * v).sum(-1, keepdims=True) / (lengths[0] * lengths[1])


def dot_attention(u, v, but=""):
    x = np.stack([u, v], 1)
    scale = {"unscaled": 1.0, "by H": x.shape[-1]}.get(but, math.sqrt(x.shape[-1]))
    scores = np.einsum("bqh,bkh->bqk", x, x) / scale
    p = scores if but == "no softmax" else R.softmax(scores, 1 if but == "queries" else 0 if but == "batch" else -1)
    return (p @ x).reshape(len(u), -1)


def joins(random, B, H, kind=""):
    u, v = random.normal(size=(B, H)), random.normal(size=(B, H))
    inputs = lambda join: {"join": join, "u": u, "v": v}
    diff, c, dot = abs(u - v), cos(u, v), dot_attention(u, v)
    check = lambda part, right, wrong: Check(
        f"{part} of vectors of {H}{kind}",
        part,
        "join",
        inputs(part),
        at(right),
        [(text, at(value)) for text, value in wrong],
    )
    return [
        check(
            "concat",
            np.concatenate([u, v], -1),
            [
                ("v stands before u", np.concatenate([v, u], -1)),
                ("u and v are put below each other (dim=0): they belong side by side", np.concatenate([u, v], 0)),
                ("u and v are stacked", np.stack([u, v], 1)),
                ("u and v are added", u + v),
                ("the numbers of u and v alternate", np.stack([u, v], -1).reshape(B, -1)),
                ("|u - v| stands beside them: that is another join", np.concatenate([u, v, diff], -1)),
            ],
        ),
        check(
            "absdiff",
            diff,
            [
                ("the sign is kept: it is |u - v|", u - v),
                ("the sign is kept, and turned: it is |u - v|", v - u),
                ("it is the square of the difference", (u - v) ** 2),
                ("it is ||u| - |v||: the difference comes first", abs(abs(u) - abs(v))),
                ("it is |u + v|", abs(u + v)),
                ("it is one length, not a number for each element", diff.sum(-1, keepdims=True)),
                ("it is the Euclidean distance, not a number for each element", np.linalg.norm(u - v, axis=-1)),
                ("it is the product of u and v", u * v),
            ],
        ),
        check(
            "cosine",
            c,
            [
                ("the feature's axis is missing: [B, 1] is asked for", c[:, 0]),
                ("it is the dot product, not divided by the lengths", (u * v).sum(-1, keepdims=True)),
                ("it is 1 - cos, a distance", 1 - c),
                (
                    "only one length is divided by",
                    (u * v).sum(-1, keepdims=True) / np.linalg.norm(u, axis=-1, keepdims=True),
                ),
                (
                    "only the length of v is divided by",
                    (u * v).sum(-1, keepdims=True) / np.linalg.norm(v, axis=-1, keepdims=True),
                ),
                (
                    "the cosine is of columns (dim=0), not of examples",
                    ((u * v).sum(0) / np.linalg.norm(u, axis=0) / np.linalg.norm(v, axis=0))[:, None],
                ),
                ("it is (cos + 1) / 2", (c + 1) / 2),
                ("it is the angle, not its cosine", np.arccos(np.clip(c, -1, 1))),
                (
                    "the squared lengths are divided by",
                    (u * v).sum(-1, keepdims=True) / (u * u).sum(-1, keepdims=True) / (v * v).sum(-1, keepdims=True),
                ),
                ("it is |cos|", abs(c)),
                (
                    "squares of lengths stand under no root",
                    (u * v).sum(-1, keepdims=True) / ((u * u).sum(-1, keepdims=True) * (v * v).sum(-1, keepdims=True)),
                ),
            ],
        ),
        check(
            "dot_attention",
            dot,
            [
                ("the scores are not divided by sqrt(H)", dot_attention(u, v, "unscaled")),
                ("the scores are divided by H, not by sqrt(H)", dot_attention(u, v, "by H")),
                ("the softmax runs over the queries", dot_attention(u, v, "queries")),
                ("the softmax runs over the examples", dot_attention(u, v, "batch")),
                ("there is no softmax", dot_attention(u, v, "no softmax")),
                ("u and v are swapped", dot_attention(v, u)),
                ("the two rows are added: they belong side by side, [B, 2H]", dot.reshape(B, 2, H).sum(1)),
                ("the two rows are averaged: they belong side by side, [B, 2H]", dot.reshape(B, 2, H).mean(1)),
                ("the two rows are not flattened: [B, 2H] is asked for", dot.reshape(B, 2, H)),
                (
                    "the numbers of the two rows alternate: transposed before they are flattened",
                    dot.reshape(B, 2, H).transpose(0, 2, 1).reshape(B, -1),
                ),
                (
                    "only the attention weights come back",
                    R.softmax(
                        np.einsum("bqh,bkh->bqk", np.stack([u, v], 1), np.stack([u, v], 1)) / math.sqrt(H)
                    ).reshape(B, -1),
                ),
            ],
        ),
    ]


def zero_vector(random):
    u, v = np.zeros((2, 3)), random.normal(size=(2, 3))
    v[0] = 0
    wrong = [("a zero vector divides by 0: lengths are at least eps", at(np.full((2, 1), np.nan)))]
    value = Check(
        "the cosine with a zero vector is 0",
        "cosine",
        "join",
        {"join": "cosine", "u": u, "v": v},
        at(np.zeros((2, 1))),
        wrong,
    )
    gradient = {"the gradient of u": np.array([v[0] * 0, v[1] / 1e-8 / np.linalg.norm(v[1])]) * 1e-8}
    inputs = {"join": "cosine", "u": u, "v": v, "w": np.full((2, 1), 1e-8)}
    not_a_number = {"the gradient of u": np.full((2, 3), np.nan)}
    there = Check(
        "and its gradient is finite",
        "cosine",
        "join_gradient",
        inputs,
        gradient,
        [("the gradient at a zero vector is NaN: take the lengths as torch's cosine_similarity does", not_a_number)],
        tolerance=1e-6,
    )
    return [value, there]
