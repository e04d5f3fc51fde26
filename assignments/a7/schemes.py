"""The paper's vectors, its groups of classes written down by hand, and ways to get them wrong by name (`but`)."""

import numpy as np

NINE, FIVE = "NINE", "FIVE"
SCHEMES = {  # name: (merging, what unknown groups get)
    "independent": (NINE, "zero"),
    "soft_independent": (NINE, "equal"),
    "augmented_independent": (NINE, "predicted"),
    "soft_probability": (FIVE, "equal"),
    "soft_predicted": (FIVE, "predicted"),
    "hard_predicted": (FIVE, "rounded"),
}
GROUPS = {  # (the teacher, its labels in the order of the group's classes)
    NINE: [
        ("rte", ["entailment", "not_entailment"]),
        ("mnli", ["entailment", "contradiction", "neutral"]),
        ("qqp", ["duplicate", "not_duplicate"]),
        ("sst2", ["positive", "negative"]),
    ],
    FIVE: [("mnli", ["entailment", "contradiction", "neutral"]), ("sst2", ["positive", "negative"])],
}
OF_FIVE = {  # which of (e, c, n) and (+, -) a label stands for
    ("rte", "entailment"): (0, [1, 0, 0]),
    ("rte", "not_entailment"): (0, [0, 1, 1]),
    ("mnli", "entailment"): (0, [1, 0, 0]),
    ("mnli", "contradiction"): (0, [0, 1, 0]),
    ("mnli", "neutral"): (0, [0, 0, 1]),
    ("qqp", "duplicate"): (0, [1, 0, 0]),
    ("qqp", "not_duplicate"): (0, [0, 1, 1]),
    ("sst2", "positive"): (1, [1, 0]),
    ("sst2", "negative"): (1, [0, 1]),
}


def answers_of(scheme, task, label):
    """(which group, which of its classes) a label answers."""
    merging = SCHEMES[scheme][0]
    if merging == FIVE:
        return OF_FIVE[task, label]
    index = [teacher for teacher, _ in GROUPS[NINE]].index(task)
    return index, [float(name == label) for name in GROUPS[NINE][index][1]]


def one_hot(values, last=False):
    values = np.asarray(values, float)
    best = values.shape[1] - 1 - values[:, ::-1].argmax(1) if last else values.argmax(1)
    return np.eye(values.shape[1])[best]


def restricted(guess, allowed):
    kept = np.where(allowed, guess, 0.0)
    total = kept.sum(1, keepdims=True)
    equal = allowed / allowed.sum(1, keepdims=True)
    return np.where(total > 0, kept / np.where(total > 0, total, 1), equal)


def guesses(scheme, n, predictions, but=""):
    """One [n, G] for each group, not rounded."""
    merging, unknown = SCHEMES[scheme]
    found = []
    for teacher, labels in GROUPS[merging]:
        if unknown == "zero" or but == "zeros":
            found.append(np.zeros((n, len(labels))))
        elif unknown == "equal":
            found.append(np.full((n, len(labels)), 1.0 if but == "ones" else 1 / len(labels)))
        else:
            names, table = predictions[teacher]
            columns = range(len(labels)) if but == "columns as they stand" else [names.index(label) for label in labels]
            found.append(table[:, list(columns)])
    return found


def defaults(scheme, n, predictions, but=""):
    found = guesses(scheme, n, predictions, but)
    rounds = (SCHEMES[scheme][1] == "rounded") != (but == "rounded the other way")
    if but == "equal shares of all classes" and SCHEMES[scheme][1] == "equal":
        return np.full((n, sum(g.shape[1] for g in found)), 1 / sum(g.shape[1] for g in found))
    return np.concatenate([one_hot(g) if rounds else g for g in found], 1)


def targets(scheme, task, labels, predictions, literal=False, but=""):
    n, unknown = len(labels), SCHEMES[scheme][1]
    found = guesses(scheme, n, predictions, but)
    vectors = []
    own = answers_of(scheme, task, labels[0])[0]
    for index, guess in enumerate(found):
        rounds = unknown == "rounded" and but != "nothing rounded"
        if index != own:
            vectors.append(one_hot(guess) if rounds else guess)
            continue
        allowed = np.array([answers_of(scheme, task, label)[1] for label in labels], bool)
        values = {
            "own group as others": guess,
            "all allowed are 1": allowed.astype(float),
            "shares always equal": allowed / allowed.sum(1, keepdims=True),
            "not divided again": np.where(allowed, guess, 0.0),
            "the first allowed": one_hot(allowed),
        }.get(but, restricted(guess, allowed))
        vectors.append(one_hot(values) if rounds and not (literal or but == "as printed") else values)
    if but == "zeros elsewhere":
        vectors = [v if index == own else 0 * v for index, v in enumerate(vectors)]
    return np.concatenate(vectors, 1)


def predictions(random, n):
    """Plain models' probabilities, whose columns stand in another order than the classes."""
    made = {}
    for teacher, labels in {**dict(GROUPS[NINE])}.items():
        table = random.uniform(0.05, 1, size=(n, len(labels)))
        made[teacher] = (labels[::-1], table / table.sum(1, keepdims=True))
    return made
