"""What terms between two sides of logits must give: UDA, consistency, and what each side learns; in numpy."""

import numpy as np

from assignments.school import reference as R
from assignments.school.judging import Check


def log_softmax(z):
    return z - z.max(-1, keepdims=True) - np.log(np.exp(z - z.max(-1, keepdims=True)).sum(-1, keepdims=True))


def log_p_of(head, z):
    return log_softmax(z) if head == "softmax" else -np.logaddexp(0, np.concatenate([z, -z], -1))


def softmax_of(head, log_p, T):
    return log_softmax(log_p / T)


def kl_term(head, first, second, temperature, threshold, over, but=""):
    """UDA's term, which rows are kept."""
    a, b = log_p_of(head, first), log_p_of(head, second)
    target = (
        a if but == "not sharpened" else softmax_of(head, a, {"T multiplies": 1 / temperature}.get(but, temperature))
    )
    if but == "student sharpened":
        target, b = a, softmax_of(head, b, temperature)
    if but == "both sharpened":
        b = softmax_of(head, b, temperature)
    looked = {"threshold after": target, "threshold on the copy": b}.get(but, a)
    kept = np.exp(looked.max(-1)) > threshold
    if but == "kept inverted":
        kept = ~kept
    if but == "all kept":
        kept = kept | True
    if but == "reversed":
        kl = (np.exp(b) * (b - target)).sum(-1)
    elif but == "mean over classes":
        kl = (np.exp(target) * (target - b)).mean(-1)
    elif but == "cross-entropy":
        kl = -(np.exp(target) * b).sum(-1)
    elif but == "squared":
        kl = ((np.exp(target) - np.exp(b)) ** 2).sum(-1)
    elif but == "symmetric":
        kl = ((np.exp(target) - np.exp(b)) * (target - b)).sum(-1)
    else:
        kl = (np.exp(target) * (target - b)).sum(-1)
    batch = (over == "batch") != (but == "over the other")
    count = len(first) if batch else max(kept.sum(), 1)
    sign = -1 if but == "minus" else 1
    return sign * (kl * kept).sum() / (1 if but == "sum" else count), kept


def with_gradients(value_of, first, second, learns=("second",), kept=None):
    told = {"the term": np.array(value_of(first, second))}
    if kept is not None:
        told["kept"] = kept.astype(float)
    grads = {
        "first": lambda: R.derivative(lambda x: value_of(x, second), first),
        "second": lambda: R.derivative(lambda x: value_of(first, x), second),
    }
    for name, side in (("first", first), ("second", second)):
        told[f"what the {name} side learns"] = grads[name]() if name in learns else 0 * side
    return told


UDA_WRONG = {
    "not sharpened": "the target is not sharpened",
    "T multiplies": "the temperature is on the wrong side of the fraction: dividing by T < 1 sharpens",
    "student sharpened": "the temperature is on the wrong side: it sharpens the student, the target stays as it is",
    "both sharpened": "both sides are sharpened: only the target is",
    "threshold after": "the threshold looks at the sharpened probabilities: it looks before sharpening",
    "threshold on the copy": "the threshold looks at the augmented text: it looks at the original",
    "kept inverted": "texts below the threshold are kept: those above are",
    "all kept": "all texts are kept: the threshold is not used",
    "reversed": "it is KL(student || target): it is KL(target || student)",
    "mean over classes": "it is the mean over the classes: KL is their sum",
    "cross-entropy": "it is the cross-entropy, not KL: the target's own entropy is missing",
    "squared": "it is a squared difference, not KL",
    "symmetric": "it is the symmetric KL: UDA's goes one way",
    "over the other": "`over` is the wrong way about, or not heeded",
    "minus": "it has a minus sign, which drives the predictions apart",
    "sum": "it is the sum: divide by B, or by the kept",
}


def telling_threshold(head, first, T):
    """One between an original's largest probability and the same sharpened: before or after makes a difference."""
    log_p = log_p_of(head, first)
    largest, sharpened = np.exp(log_p.max(-1)), np.exp(softmax_of(head, log_p, T).max(-1))
    row = np.argsort(largest)[len(first) // 2]
    above = [p for p in largest if p > largest[row]]
    return float((largest[row] + min([sharpened[row], *above])) / 2)


def uda(random, head, B, T, over):
    width = 3 if head == "softmax" else 1
    first, second = random.normal(size=(B, width)) * 2, random.normal(size=(B, width))
    threshold = telling_threshold(head, first, T)
    kept = kl_term(head, first, second, T, threshold, over)[1]
    at = lambda but="": with_gradients(
        lambda a, b: kl_term(head, a, b, T, threshold, over, but)[0],
        first,
        second,
        kept=kl_term(head, first, second, T, threshold, over, but)[1],
    )
    wrong = [(text, at(but)) for but, text in UDA_WRONG.items()]
    value = lambda a, b: kl_term(head, a, b, T, threshold, over)[0]
    wrong.append(
        ("the target gets a gradient: detach it", with_gradients(value, first, second, ("first", "second"), kept))
    )
    wrong.append(
        (
            "the student gets no gradient, the target does: detach the other side",
            with_gradients(value, first, second, ("first",), kept),
        )
    )
    wrong.append(
        ("nobody gets a gradient: only the target is detached", with_gradients(value, first, second, (), kept))
    )
    inputs = {
        "function": "uda_loss",
        "before": [],
        "head": head,
        "first": first,
        "second": second,
        "after": [T, threshold, over],
    }
    return Check(
        f"{head} head, T = {T:g}, over {over}", "uda_loss", "two_sides", inputs, at(), wrong, tolerance=1e-6, weight=2
    )


def apart(kind, head, a, b, but=""):
    """Consistency's distance, the mean over examples."""
    over = (lambda x: x.mean(-1)) if but == "mean over classes" else (lambda x: x.sum(-1))
    sized = (lambda x: x.sum()) if but == "sum" else (lambda x: x.mean())
    if head == "regression":
        s = lambda z: 5 / (1 + np.exp(-z[:, 0]))
        return ((s(a) - s(b)) ** 2).mean()
    if kind == "mse" and (head == "softmax" or but == "logits of one"):
        return sized(over((a - b) ** 2))
    la, lb = log_p_of(head, a), log_p_of(head, b)
    if kind == "mse_prob" and (head == "softmax" or but == "probabilities of one"):
        return sized(over((np.exp(la) - np.exp(lb)) ** 2))
    if but == "one way":
        return sized(over(np.exp(lb) * (lb - la)))
    return sized(over((np.exp(la) - np.exp(lb)) * (la - lb)))


def consistency(random, kind, head, B):
    width = 3 if head == "softmax" else 1
    a, b = random.normal(size=(B, width)), random.normal(size=(B, width))
    at = lambda but="", kind=kind, learns=("first",): with_gradients(
        lambda x, y: apart(kind, head, x, y, but), a, b, learns
    )
    wrong = [
        ("the teacher gets a gradient: detach its logits", at(learns=("first", "second"))),
        ("the student is detached, the teacher learns: it is the other way about", at(learns=("second",))),
        ("both sides are detached", at(learns=())),
        ("it is the mean over the classes: it is their sum", at("mean over classes")),
        ("it is the sum over the examples: it is their mean", at("sum")),
        ("it is KL in one direction: both are summed", at("one way")),
        ("a head with one logit is compared by its logits: it takes kl, whatever the kind", at("logits of one")),
        (
            "a head with one logit is compared by its probabilities: it takes kl, whatever the kind",
            at("probabilities of one"),
        ),
    ]
    wrong += [
        (f"it is {other} where {kind} is asked for", at(kind=other))
        for other in ("kl", "mse", "mse_prob")
        if other != kind
    ]
    inputs = {"function": "consistency", "before": [kind], "head": head, "first": a, "second": b, "after": []}
    return Check(f"{kind}, {head} head", "consistency", "two_sides", inputs, at(), wrong, tolerance=1e-6)


def distance(random, part, B):
    a, b = random.normal(size=(B, 3)), random.normal(size=(B, 3))
    kind = {"logits_apart": "mse", "probabilities_apart": "mse_prob"}[part]
    both = ("first", "second")
    at = lambda but="", kind=kind: with_gradients(lambda x, y: apart(kind, "softmax", x, y, but), a, b, both)
    other = {"mse": "mse_prob", "mse_prob": "mse"}[kind]
    root = with_gradients(
        lambda x, y: np.sqrt(
            (((x - y) if kind == "mse" else np.exp(log_softmax(x)) - np.exp(log_softmax(y))) ** 2).sum(-1)
        ).mean(),
        a,
        b,
        both,
    )
    wrong = [
        ("it is the mean over the classes: it is their sum", at("mean over classes")),
        ("it is the sum over the examples: it is their mean", at("sum")),
        (
            "the logits are compared, not the probabilities"
            if kind == "mse_prob"
            else "the probabilities are compared, not the logits",
            at(kind=other),
        ),
        ("it is the distance, not its square", root),
        ("it is KL, not a squared difference", at(kind="kl")),
    ]
    inputs = {"function": part, "before": [], "head": "softmax", "first": a, "second": b, "after": []}
    return Check(f"{B} examples", part, "two_sides", inputs, at(), wrong, tolerance=1e-6)
