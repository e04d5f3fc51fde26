"""What a7 must give: vectors of schemes.py, labels decoded by hand, the best of some attempts."""

from functools import partial

import numpy as np

from assignments.a7.schemes import (
    FIVE,
    GROUPS,
    NINE,
    OF_FIVE,
    SCHEMES,
    defaults,
    one_hot,
    predictions,
    restricted,
    targets,
)
from assignments.school.judging import Check


def default_checks(random, n, schemes):
    given = predictions(random, n)
    texts = {
        "zeros": "everything is 0: look at what the scheme says of unknown groups",
        "ones": "each class gets 1: equal shares of a group of G classes are 1/G",
        "equal shares of all classes": "the shares are of all K classes: they are 1/G in each group of G",
        "columns as they stand": "the plain models' columns are taken as they stand: they go by name",
        "rounded the other way": 'rounding is the wrong way about: only the scheme whose unknown is "rounded" rounds',
    }
    return [
        Check(
            f"what {scheme} says before the label",
            "defaults",
            "defaults",
            {"scheme": scheme, "n": n, "predictions": given},
            {"the vectors": defaults(scheme, n, given)},
            [(text, {"the vectors": defaults(scheme, n, given, but)}) for but, text in texts.items()],
        )
        for scheme in schemes
    ]


def _targets(*asked, but=""):
    return {"the targets": targets(*asked, but)}


def target_checks(random, asked):
    texts = {
        "own group as others": "the label is not used: its own group keeps the default",
        "all allowed are 1": "every class of the label gets 1: they share 1 among them",
        "shares always equal": "the classes of the label share equally: they share as the plain model has it",
        "not divided again": "the kept shares are not divided by their sum",
        "the first allowed": "the first class of the label gets everything: all of its classes share",
        "nothing rounded": "nothing is rounded: this scheme makes the largest 1 and the rest 0",
        "as printed": "the pair of eq. 20 is left unrounded: literal_eq20 asks for that, the default rounds",
        "zeros elsewhere": "groups that the label does not answer are 0: they keep their default",
        "columns as they stand": "the plain models' columns are taken as they stand: they go by name",
    }
    found = []
    for scheme, task, labels, literal in asked:
        given = predictions(random, len(labels))
        at = partial(_targets, scheme, task, labels, given, literal)
        wrong = [(text, at(but=but)) for but, text in texts.items()]
        if literal:
            wrong.append(
                (
                    "the pair of eq. 20 is rounded: literal_eq20 leaves it as printed",
                    {"the targets": targets(scheme, task, labels, given)},
                )
            )
        inputs = {"scheme": scheme, "task": task, "labels": labels, "predictions": given, "literal": literal}
        name = f"{scheme}, {task}" + (", eq. 20 as printed" if literal else "")
        found.append(Check(name, "targets", "targets", inputs, at(), wrong))
    return found


def told(right, refused):
    return {"the answer to a right call": right, "refused with a UserError": np.array(refused)}


def refusal(name, part, inputs, right):
    wrong = [("it is taken without a word, or raises another error than UserError", told(right, 0.0))]
    return Check(f"{name} is a UserError", part, f"{part}_refuse", inputs, told(right, 1.0), wrong, weight=0.5)


def refusals(random):
    given = predictions(random, 1)
    cases = {
        "an unknown label": ("independent", "rte", ["perhaps"], {}),
        "literal_eq20 in another scheme": ("soft_predicted", "rte", ["entailment"], {"literal_eq20": True}),
    }
    return [
        refusal(
            name,
            "targets",
            {"scheme": scheme, "task": task, "labels": labels, "predictions": given, "flags": flags},
            targets(scheme, task, ["entailment"], given),
        )
        for name, (scheme, task, labels, flags) in cases.items()
    ]


def small_checks(random, n):
    guess = random.uniform(size=(n, 3))
    allowed = np.array([[0, 1, 1], [1, 0, 0], [1, 1, 0], [0, 1, 1]] * 2)[:n].astype(bool)
    guess[-1, allowed[-1]] = 0  # nothing left to divide
    shares = lambda x: {"the shares": x}
    with np.errstate(all="ignore"):
        plain = np.where(allowed, guess, 0.0)
        wrong = [
            ("the shares are not divided by their sum", plain),
            ("they are divided by the sum of all classes", plain / guess.sum(1, keepdims=True)),
            (
                "where nothing is left it divides 0 by 0: the allowed classes share equally",
                plain / plain.sum(1, keepdims=True),
            ),
            ("the classes ruled out are kept", np.where(~allowed, guess, 0.0)),
            ("the shares are equal, whatever the guess", allowed / allowed.sum(1, keepdims=True)),
            (
                "where nothing is left all classes share: only the allowed do",
                np.where(plain.sum(1, keepdims=True) > 0, restricted(guess, allowed), 1 / 3),
            ),
            (
                "it is a softmax of the kept",
                np.where(allowed, np.exp(guess), 0) / np.where(allowed, np.exp(guess), 0).sum(1, keepdims=True),
            ),
            ("the sum runs over the examples", plain / plain.sum(0, keepdims=True)),
            (
                "where nothing is left it stays 0: the allowed classes share equally",
                np.where(plain.sum(1, keepdims=True) > 0, restricted(guess, allowed), 0.0),
            ),
        ]
    values = random.uniform(size=(n, 4))
    values[0] = [0.1, 0.4, 0.4, 0.1]
    vals = lambda x: {"the values": x}
    return [
        Check(
            f"eq. 1 and 2 on {n} examples",
            "restricted",
            "restricted",
            {"guess": guess, "answers": allowed},
            shares(restricted(guess, allowed)),
            [(text, shares(value)) for text, value in wrong],
        ),
        Check(
            f"{n} rounded",
            "rounded_if",
            "rounded_if",
            {"scheme": "hard_predicted", "values": values},
            vals(one_hot(values)),
            [
                ("nothing is rounded", vals(values)),
                ("a tie goes to the last: it goes to the first", vals(one_hot(values, last=True))),
                (
                    "all of the largest are 1: only the first is",
                    vals((values == values.max(1, keepdims=True)).astype(float)),
                ),
                ("what is over 1/2 is 1", vals((values > 0.5).astype(float))),
                ("the largest over the examples is taken", vals((values == values.max(0)).astype(float))),
                ("it is the place of the largest, not a vector", vals(values.argmax(1))),
                ("each number is rounded for itself", vals(np.round(values))),
            ],
        ),
        Check(
            f"{n} of another scheme stay",
            "rounded_if",
            "rounded_if",
            {"scheme": "soft_predicted", "values": values},
            vals(values),
            [('every scheme rounds: only the one whose unknown is "rounded" does', vals(one_hot(values)))],
        ),
    ]


def decode_check(scheme, task, labels, outputs, rule):
    """Columns of a label by hand: FIVE's (e, c, n, +, -), or NINE's groups in their order."""
    merging = SCHEMES[scheme][0]
    if merging == FIVE:
        start = {0: 0, 1: 3}
        columns = {
            label: [start[group] + i for i, yes in enumerate(which) if yes]
            for (t, label), (group, which) in OF_FIVE.items()
            if t == task
        }
    else:
        flat = [(teacher, label) for teacher, names in GROUPS[NINE] for label in names]
        columns = {label: [flat.index((task, label))] for label in labels}
    said = lambda scores: np.array(
        [
            max(
                range(len(labels)),
                key=lambda i: (
                    round(row[i], 12),
                    len(columns[labels[i]]) if rule == "settled" else 0,
                    -min(columns[labels[i]]),
                ),
            )
            for row in scores
        ]
    )
    table = lambda reduce, x=outputs: [[reduce(row[columns[label]]) for label in labels] for row in x]
    right = said(table(np.sum if rule == "settled" else np.max))
    first = lambda scores: np.array([int(np.argmax(row)) for row in scores])
    wrong = [
        ('it takes the highest single class, where "settled" takes the highest sum', said(table(np.max))),
        ('it takes the highest sum, where "argmax" takes the highest single class', said(table(np.sum))),
        ("it takes the mean of a label's classes", said(table(np.mean))),
        (
            "ties go to the label that is named first: see the docstring",
            first(table(np.sum if rule == "settled" else np.max)),
        ),
        (
            "ties go to the label that is named last: see the docstring",
            len(labels) - 1 - first([row[::-1] for row in table(np.sum if rule == "settled" else np.max)]),
        ),
        ("it takes the lowest", said([[-x for x in row] for row in table(np.sum if rule == "settled" else np.max)])),
        ("it takes the largest of all classes, those of other tasks too", np.zeros(len(outputs))),
    ]
    inputs = {"scheme": scheme, "task": task, "labels": labels, "outputs": outputs, "rule": rule}
    at = lambda x: {"the labels": x}
    return Check(
        f"{scheme}, {task}, {rule}", "decode", "decode", inputs, at(right), [(text, at(value)) for text, value in wrong]
    )


def attempts(name, accuracies):
    means = [sum(scores.values()) / len(scores) for scores in accuracies.values()]
    at = lambda index, mean: {"the attempt": np.array(float(index)), "its mean": np.array(mean)}
    best = int(np.argmax(means))
    last = len(means) - 1 - int(np.argmax(means[::-1]))
    largest = [max(scores.values()) for scores in accuracies.values()]
    sums = [sum(scores.values()) for scores in accuracies.values()]
    lows = [min(scores.values()) for scores in accuracies.values()]
    wrong = [
        ("a tie goes to the last: it goes to the first", at(last, means[last])),
        ("it is the worst attempt", at(int(np.argmin(means)), min(means))),
        ("it is the sum over the tasks, not the mean", at(int(np.argmax(sums)), max(sums))),
        (
            "the best single task decides: the mean over the tasks does",
            at(int(np.argmax(largest)), means[int(np.argmax(largest))]),
        ),
        ("the best single task decides, and is told as the mean", at(int(np.argmax(largest)), max(largest))),
        ("the worst single task decides", at(int(np.argmax(lows)), means[int(np.argmax(lows))])),
        ("it is the first attempt, whatever it came to", at(0, means[0])),
        ("it is the last attempt, whatever it came to", at(len(means) - 1, means[-1])),
    ]
    return Check(name, "best_attempt", "best_attempt", {"accuracies": accuracies}, at(best, means[best]), wrong)


def checks(random, hidden):
    both = ["entailment", "not_entailment"]
    if not hidden:
        ties = np.array([[0.5, 0.2, 0.3, 0.9, 0.1], [0.4, 0.3, 0.2, 0.1, 0.2], [0.5, 0.3, 0.3, 0.1, 0.2]])
        return [
            *default_checks(random, 2, ["independent", "soft_independent", "soft_predicted"]),
            *target_checks(
                random,
                [
                    ("independent", "sst2", ["positive", "negative"], False),
                    ("soft_probability", "rte", both, False),
                    ("hard_predicted", "mnli", ["neutral", "entailment"], False),
                ],
            ),
            *small_checks(random, 4),
            decode_check("soft_probability", "rte", both, ties, "settled"),
            decode_check("soft_probability", "rte", both, ties, "argmax"),
            attempts(
                "three attempts",
                {"1e-5": {"a": 0.5, "b": 0.9}, "2e-5": {"a": 0.75, "b": 0.75}, "3e-5": {"a": 0.7, "b": 0.7}},
            ),
        ]
    pairs = ["duplicate", "not_duplicate", "not_duplicate"]
    nine = random.uniform(size=(5, 9))
    five = random.uniform(size=(6, 5))
    five[0, :3] = [0.5, 0.25, 0.25]
    five[1, :3] = [0.5, 0.5, 0.1]
    return [
        *default_checks(random, 3, ["augmented_independent", "soft_probability", "hard_predicted"]),
        *target_checks(
            random,
            [
                ("augmented_independent", "qqp", pairs, False),
                ("soft_independent", "mnli", ["contradiction", "neutral"], False),
                ("soft_predicted", "rte", [*both, *both], False),
                ("hard_predicted", "qqp", pairs, False),
                ("hard_predicted", "rte", both[::-1], True),
            ],
        ),
        *refusals(random),
        *small_checks(random, 6),
        decode_check("independent", "mnli", ["entailment", "contradiction", "neutral"], nine, "settled"),
        decode_check("independent", "qqp", ["not_duplicate", "duplicate"], nine, "settled"),
        decode_check("soft_predicted", "qqp", ["not_duplicate", "duplicate"], five, "settled"),
        decode_check("soft_predicted", "qqp", ["duplicate", "not_duplicate"], five, "argmax"),
        attempts("a tie", {"x": {"a": 0.25}, "y": {"a": 0.5}, "z": {"a": 0.5}}),
        attempts(
            "the best single task is not the best mean",
            {"p": {"a": 0.6, "b": 0.65}, "q": {"a": 0.95, "b": 0.2}, "r": {"a": 0.7, "b": 0.6}},
        ),
        refusal(
            "attempts on other tasks", "best_attempt", {"accuracies": {"x": {"a": 0.5}, "y": {"b": 0.5}}}, np.array(0.5)
        ),
        refusal(
            "an accuracy that is NaN",
            "best_attempt",
            {"accuracies": {"x": {"a": "nan"}, "y": {"a": 0.5}}},
            np.array(0.5),
        ),
    ]
