"""What a1 must give: attention by einsum, and what known mistakes give."""

import numpy as np

from assignments.school import reference as R
from assignments.school.judging import Check

WRONG = {
    "unscaled": "the scores are not divided by sqrt(D)",
    "by D": "the scores are divided by D, not by sqrt(D)",
    "by sqrt(H)": "the scores are divided by sqrt(H), the root of the whole hidden size; D is that of one head",
    "by sqrt(T)": "the scores are divided by sqrt(T); it is sqrt(D), the size of a head",
    "times sqrt(D)": "the scores are multiplied by sqrt(D) where they should be divided",
    "softmax over queries": "the softmax runs over the queries (dim=-2): it belongs over the keys, dim=-1",
    "softmax over queries, by infinity": "the softmax runs over the queries (dim=-2): it belongs over the keys, dim=-1",
    "softmax over heads": "the softmax runs over the heads (dim=1): it belongs over the keys, dim=-1",
    "softmax over the batch": "the softmax runs over the sequences (dim=0): it belongs over the keys, dim=-1",
    "no softmax": "there is no softmax: the scores themselves weigh the values",
    "sigmoid": "a sigmoid stands where the softmax belongs",
    "exp without the sum": "the exponentials are not divided by their sum",
    "exp alone": "exp overflows for large scores, and infinity / infinity is NaN: torch's softmax takes care of that",
    "mask missing": "the mask is not used: pads get attention",
    "mask after softmax": "the mask comes after the softmax: what is left of the probabilities no longer sums to 1",
    "masked scores are 0": "scores of pads are set to 0, which is a score like any other: it takes minus infinity",
    "masked with -1": "the scores of pads become -1, and pads keep some attention: they take minus infinity",
    "masked with -10": "the scores of pads become -10, and pads keep some attention: they take minus infinity",
    "10 taken off": "10 is taken off the scores of pads, which keep some attention: they take minus infinity",
    "mask added after": "the mask is added to the probabilities: it belongs to the scores, before the softmax",
    "times the mask": "the scores are multiplied by the mask: it is added to them",
    "masked with 1": "pads get 1 more instead of minus infinity: the mask is added to the scores as it is",
    "the mask is inverted": "the mask is inverted, or multiplied in: tokens are hidden and pads attended to",
    "the mask is inverted, by infinity": "the mask is inverted: tokens are hidden (NaN where all are)",
    "pad queries": "the mask hides rows (queries) in place of columns (keys)",
    "q and k are swapped": "q and k are swapped: scores[i, j] must be of query i and key j",
    "transposed probabilities": "the probabilities are transposed before they meet v",
    "mixes the keys": "the keys are mixed in place of the values",
    "mixes the queries": "the queries are mixed in place of the values",
}
WRONG_DROPOUT = {
    "dropout is missing": "there is no dropout",
    "dropout on scores": "dropout acts on the scores, before the softmax: it belongs on the probabilities",
    "dropout on masked scores": "dropout acts on the scores, before the softmax: it belongs on the probabilities",
    "dropout on the result": "dropout acts on the mixture: it belongs on the probabilities",
    "dropout on v": "dropout acts on v: it belongs on the probabilities",
    "dropout twice": "dropout acts twice",
}


def merged_wrong(mixed):
    """Heads merged without the transpose, as the starters' attention would show it: split again, rightly."""
    return R.split(R.merge(mixed, "merged without transpose"), mixed.shape[1])


def case(random, B, A, T, D, lengths, scale=1.0, p=0.0):
    q, k, v = (random.normal(size=(B, A, T, D)) * (scale if name != "v" else 1) for name in "qkv")
    sizes = {
        "hidden_size": A * D,
        "num_attention_heads": A,
        "intermediate_size": A * D,
        "attention_probs_dropout_prob": p,
    }
    return {"q": q, "k": k, "v": v, "mask": R.mask_of(lengths, T), "sizes": sizes}


def values(name, probe, inputs, weight=1.0):
    q, k, v, mask = (inputs[key] for key in ("q", "k", "v", "mask"))
    at = lambda mixed: {"the mixture": mixed * mask[:, None, :, None]}
    with np.errstate(all="ignore"):
        right = R.attend(q, k, v, mask)
        wrong = [(text, at(R.attend(q, k, v, mask, but))) for but, text in WRONG.items()]
    wrong.append(("the heads are put side by side without the transpose back to [B, T, A, D]", at(merged_wrong(right))))
    reversed_heads = R.split(R.merge(right, "heads in reversed order"), q.shape[1])
    wrong.append(("the heads are put side by side in reversed order", at(reversed_heads)))
    d_first = R.split(R.merge(right, "merged D before A"), q.shape[1])
    wrong.append(("the heads are interleaved: D stands before A when they are put side by side", at(d_first)))
    with np.errstate(all="ignore"):
        wrong.append(("dropout acts in eval mode too", at(R.attend(q, k, v, mask, drop=R.square))))
    return Check(name, "attention", probe, inputs, at(right), wrong, weight=weight)


def dropout(name, inputs, p):
    q, k, v, mask = (inputs[key] for key in ("q", "k", "v", "mask"))
    at = lambda mixed, rates: {"the mixture": mixed * mask[:, None, :, None], "dropout's rates": np.array(rates)}
    wrong = [
        (
            text,
            at(
                R.attend(q, k, v, mask, but, R.square),
                [0.0] if but == "dropout is missing" else [p, p][: 1 + ("twice" in but)],
            ),
        )
        for but, text in WRONG_DROPOUT.items()
    ]
    right = R.attend(q, k, v, mask, drop=R.square)
    wrong.append(("dropout has a rate of its own, 0.1: it is config's, in self.dropout", at(right, [0.1])))
    wrong.append(("dropout has a rate of its own, 0.5: it is config's, in self.dropout", at(right, [0.5])))
    return Check(name, "attention", "with_dropout", inputs, at(right, [p]), wrong, weight=2)


def gradients(inputs, random):
    q, k, v, mask = (inputs[key] for key in ("q", "k", "v", "mask"))
    w = random.normal(size=q.shape)
    inputs = {**inputs, "w": w}
    total = lambda q, k, v: float((R.attend(q, k, v, mask) * mask[:, None, :, None] * w).sum())
    found = {
        "the gradient of q": R.derivative(lambda x: total(x, k, v), q),
        "the gradient of k": R.derivative(lambda x: total(q, x, v), k),
        "the gradient of v": R.derivative(lambda x: total(q, k, x), v),
    }
    zeros = {name: np.zeros_like(q) for name in found}
    names = list(found)
    wrong = [
        ("no gradient comes through: a detach, .data or no_grad cuts it off", zeros),
        ("the probabilities are detached: q and k learn nothing", {**zeros, names[2]: found[names[2]]}),
        ("the values are detached: v learns nothing", {**found, names[2]: zeros[names[2]]}),
    ]
    return Check("q, k and v get their gradients", "attention", "gradients", inputs, found, wrong, tolerance=1e-6)


def checks(random, hidden):
    if not hidden:
        padded = case(random, 2, 2, 4, 3, [4, 2], p=0.25)
        return [
            values("one head, no pads", "mixture", case(random, 1, 1, 3, 4, [3])),
            values("two heads, two sequences", "mixture", case(random, 2, 2, 4, 3, [4, 4])),
            values("pads get no attention", "mixture", padded, 2),
            dropout("dropout acts on the probabilities", padded, 0.25),
        ]
    padded = case(random, 3, 2, 5, 5, [5, 2, 3], p=0.375)
    unchanged = values("q, k and v are not changed", "unchanged", padded)
    mixed = unchanged.expected
    same = {f"{name} afterwards": padded[name] for name in "qkv"}
    unchanged.expected = {**mixed, **same}
    divided = {**mixed, **same, "q afterwards": padded["q"] / 5**0.5}
    unchanged.variants = [("q is divided in place: the caller's q changes", divided)]
    return [
        values("three heads of five", "mixture", case(random, 2, 3, 4, 5, [4, 4])),
        values("one sequence much shorter", "mixture", case(random, 3, 4, 6, 2, [6, 1, 4])),
        values("large scores, for which exp alone overflows", "mixture", case(random, 2, 2, 4, 4, [4, 3], scale=30.0)),
        dropout("dropout acts on the probabilities, at another rate", padded, 0.375),
        values("dropout is off in eval mode", "mixture", padded),
        gradients(case(random, 2, 2, 3, 2, [3, 2]), random),
        unchanged,
    ]
