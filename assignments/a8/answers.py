"""What a8 must give: TSA, the schedules and the moving average, in numpy; UDA and consistency are in two_sides.py."""

import math

import numpy as np

from assignments.a8.two_sides import consistency, distance, log_p_of, log_softmax, uda
from assignments.school.judging import Check

S = {"linear": lambda p: p, "log": lambda p: 1 - math.exp(-5 * p), "exp": lambda p: math.exp(5 * (p - 1))}


def numbers(part, name, given, right, wrong):
    at = lambda function: {"the values": np.array([float(function(*one)) for one in given])}
    inputs = {"function": part, "given": [list(one) for one in given]}
    return Check(name, part, "number", inputs, at(right), [(text, at(function)) for text, function in wrong])


def refusal(part, name, given):
    told = lambda refused: {"the answer to a right call": np.array(0.75), "refused": np.array(refused)}
    wrong = [("it is taken without a word: the docstring asks for a ValueError", told(0.0))]
    inputs = {"function": part, "given": given, "right": [0.5, 2, "linear"]}
    return Check(f"{name} is a ValueError", part, "refuses", inputs, told(1.0), wrong, weight=0.5)


def thresholds(places, K):
    given = [(p, K, schedule) for schedule in S for p in places]
    return numbers(
        "tsa_threshold",
        f"eta of {K} classes",
        given,
        lambda p, k, s: S[s](p) * (1 - 1 / k) + 1 / k,
        [
            ("it starts from 0: it starts from chance, 1/K", lambda p, k, s: S[s](p)),
            ("s(p) is not stretched to 1 - 1/K", lambda p, k, s: S[s](p) + 1 / k),
            ("1/K is missing at the end", lambda p, k, s: S[s](p) * (1 - 1 / k)),
            ("it falls: 1 - s(p) stands where s(p) belongs", lambda p, k, s: (1 - S[s](p)) * (1 - 1 / k) + 1 / k),
            (
                "log and exp are swapped",
                lambda p, k, s: S[{"log": "exp", "exp": "log"}.get(s, s)](p) * (1 - 1 / k) + 1 / k,
            ),
            ("it is linear, whatever the schedule", lambda p, k, s: p * (1 - 1 / k) + 1 / k),
            ("it is stretched to 1/K, not to 1 - 1/K", lambda p, k, s: S[s](p) / k + 1 / k),
            ("it is the larger of s(p) and 1/K", lambda p, k, s: max(S[s](p), 1 / k)),
        ],
    )


def schedules(random, K):
    places = [0.0, 0.1, 0.35, 0.5, 0.9, 1.0]
    shares = [(p, share) for p in (0.0, 0.05, 0.1, 0.15, 0.2, 0.5, 1.0) for share in (0.2, 0.5, 0.0)]
    done = lambda p, share: min(p / share, 1.0) if share else 1.0
    return [
        thresholds(places, K),
        numbers(
            "ramp_up",
            f"exp(-5 (1 - p / share)^2){' again' if K != 3 else ''}",
            shares,
            lambda p, s: math.exp(-5 * (1 - done(p, s)) ** 2),
            [
                ("the square is missing", lambda p, s: math.exp(-5 * (1 - done(p, s)))),
                ("the share is not divided by", lambda p, s: math.exp(-5 * (1 - min(p, 1)) ** 2)),
                ("it is not held at 1 after the share", lambda p, s: math.exp(-5 * (1 - (p / s if s else 1)) ** 2)),
                ("it rises in a line", lambda p, s: done(p, s)),
                ("the minus sign is missing", lambda p, s: math.exp(5 * (1 - done(p, s)) ** 2)),
                ("the 5 is missing", lambda p, s: math.exp(-((1 - done(p, s)) ** 2))),
                ("it falls: it begins with 1", lambda p, s: math.exp(-5 * done(p, s) ** 2)),
                ("the 5 is squared too", lambda p, s: math.exp(-((5 * (1 - done(p, s))) ** 2))),
                (
                    "a share of 0 gives no weight: it gives the whole weight from the start",
                    lambda p, s: math.exp(-5 * (1 - (min(p / s, 1) if s else 0)) ** 2),
                ),
            ],
        ),
        numbers(
            "mean_teacher_decay",
            f"min(1 - 1/(t + 1), most){' again' if K != 3 else ''}",
            [(1,), (2,), (9,), (998,), (5000,), (50, 0.9)],
            lambda t, m=0.999: min(1 - 1 / (t + 1), m),
            [
                ("t is one too small: the first update has 1/2", lambda t, m=0.999: min(1 - 1 / t, m)),
                ("it is the larger of the two", lambda t, m=0.999: max(1 - 1 / (t + 1), m)),
                ("`most` is not heeded", lambda t, m=0.999: 1 - 1 / (t + 1)),
                ("it is `most` from the start", lambda t, m=0.999: m),
                ("it is 1/(t + 1), the student's share", lambda t, m=0.999: 1 / (t + 1)),
                ("t is one too large", lambda t, m=0.999: min(1 - 1 / (t + 2), m)),
                ("`most` is 0.999, whatever is asked", lambda t, m=0.999: min(1 - 1 / (t + 1), 0.999)),
            ],
        ),
        numbers(
            "bregman_decay",
            f"0.99, then 0.999{' again' if K != 3 else ''}",
            [(1, 100), (9, 100), (10, 100), (11, 100), (100, 100), (3, 20), (2, 20)],
            lambda t, n: 0.99 if t <= 0.1 * n else 0.999,
            [
                ("the two are swapped", lambda t, n: 0.999 if t <= 0.1 * n else 0.99),
                ("the update at 10 % still has 0.99", lambda t, n: 0.99 if t < 0.1 * n else 0.999),
                ("it changes at 1 %", lambda t, n: 0.99 if t <= 0.01 * n else 0.999),
                ("it changes at half of the updates", lambda t, n: 0.99 if t <= 0.5 * n else 0.999),
                ("it changes after 10 updates, not 10 %", lambda t, n: 0.99 if t <= 10 else 0.999),
                ("it is 0.999 throughout", lambda t, n: 0.999),
                ("it is 0.99 throughout", lambda t, n: 0.99),
                ("it rises in a line from 0.99 to 0.999", lambda t, n: 0.99 + 0.009 * t / n),
            ],
        ),
    ]


def known(random, head, B):
    K = 3 if head == "softmax" else 2
    z, y = random.normal(size=(B, 3 if head == "softmax" else 1)) * 1.5, random.integers(0, K, size=B)
    log_p = log_p_of(head, z)
    p = np.exp(log_p)
    at = lambda x, asks=0.0: {"the probabilities": x, "asks for a gradient": np.array(asks)}
    wrong = [
        ("it asks for a gradient: detach it", at(p[np.arange(B), y], 1.0)),
        ("it is the largest probability, not that of the true class", at(p.max(-1))),
        ("it is the logarithm", at(log_p[np.arange(B), y])),
        ("it is the probability of another class: labels count from 0", at(p[np.arange(B), (y - 1) % K])),
        ("the last axis is still there: [B] is asked for", at(p[np.arange(B), y][:, None])),
        ("all classes come back", at(p)),
        ("it is 1 - p", at(1 - p[np.arange(B), y])),
        ("it is the probability of the likeliest label's row (dim=0)", at(p[y % B, 0])),
        (
            "it is the logit, not a probability",
            at(np.concatenate([0 * z, z], -1)[np.arange(B), y] if head == "binary" else z[np.arange(B), y]),
        ),
    ]
    return Check(
        f"p of the true class, {head} head",
        "true_class_probability",
        "true_class_probability",
        {"head": head, "logits": z, "labels": y},
        at(p[np.arange(B), y]),
        wrong,
    )


def tsa(name, losses, p, eta):
    losses, p = np.array(losses), np.array(p)

    def at(kept, over=None, sign=1.0):
        count = max(kept.sum(), 1) if over is None else over
        return {
            "the loss": np.array(sign * (losses * kept).sum() / count),
            "kept": kept.astype(float),
            "the gradient": sign * kept / count,
        }

    kept = p <= eta
    wrong = [
        ("what is known too well is kept, and the rest waits: it is the other way about", at(p > eta)),
        ("the mean is over all examples: it is over the kept", at(kept, len(p))),
        ("it is the sum, not the mean of the kept", at(kept, 1)),
        ("an example just at the threshold waits: it is kept", at(p < eta)),
        ("all examples are kept: the threshold is not used", at(p <= 2)),
        (
            "with none kept it is 0/0: divide by at least 1",
            {"the loss": np.array(np.nan), "kept": kept.astype(float), "the gradient": np.full(len(p), np.nan)},
        ),
        (
            "with none kept it is 0/0: divide by at least 1",
            {"the loss": np.array(np.nan), "kept": kept.astype(float), "the gradient": np.zeros(len(p))},
        ),
        ("the kept losses are divided by one too many", at(kept, kept.sum() + 1)),
        ("it has the opposite sign", at(kept, None, -1.0)),
    ]
    return Check(name, "tsa_loss", "tsa_loss", {"losses": losses, "probability": p, "threshold": eta}, at(kept), wrong)


def sharpening(random, B, K, T):
    log_p = log_softmax(random.normal(size=(B, K)))
    at = lambda x: {"the logarithms": x}
    wrong = [
        ("the temperature multiplies: it divides", at(log_softmax(log_p * T))),
        ("the result is not divided by its sum", at(log_p / T)),
        ("they are probabilities: their logarithm is asked for", at(np.exp(log_softmax(log_p / T)))),
        ("the temperature is not used", at(log_p)),
        ("the softmax runs over the examples", at(log_softmax((log_p / T).T).T)),
        ("the power is taken of the logarithms", at(log_softmax(np.exp(log_p) / T))),
        ("p^(1/T) is not made a logarithm", at(np.exp(log_p / T))),
        ("the power is T, not 1/T, and nothing is divided", at(log_p * T)),
    ]
    return Check(
        f"at T = {T:g}",
        "sharpen",
        "sharpen",
        {"log_probabilities": log_p, "temperature": T},
        at(log_softmax(log_p / T)),
        wrong,
    )


def ema(random, steps):
    start, students = random.normal(size=(2, 2)), [random.normal(size=(2, 2)) for _ in range(steps)]
    decays = [0.5, 0.75, 0.9, 0.99][:steps]

    def at(d_of=lambda t: decays[t - 1], buffer="copied", ts=None, student_moves=False):
        mean, last = start, students[-1]
        for t, now in enumerate(students, 1):
            mean = d_of(t) * mean + (1 - d_of(t)) * now
        count = np.full(2, float(steps)) if buffer == "copied" else np.zeros(2)
        if buffer == "averaged":
            for t in range(1, steps + 1):
                count = d_of(t) * count + (1 - d_of(t)) * t
        return {
            "weight": mean,
            "bias": mean[0],
            "buffer": count,
            "t that decay was asked for": np.array(ts or range(1, steps + 1), float),
            "the student": last,
        }

    late = lambda t: decays[max(t - 2, 0)]
    wrong = [
        ("d and 1 - d are swapped", at(lambda t: 1 - decays[t - 1])),
        ("buffers are averaged: they are copied", at(buffer="averaged")),
        ("buffers are left out: they are copied", at(buffer="left")),
        ("t counts from 0 when decay is asked: count first", at(late, ts=list(range(steps)))),
        ("t is not counted up", at(lambda t: decays[0], ts=[1] * steps)),
        ("the teacher becomes the student", at(lambda t: 0.0)),
        ("the teacher does not change", {**at(lambda t: 1.0), "buffer": np.full(2, float(steps))}),
        ("the teacher does not change, buffers neither", at(lambda t: 1.0, buffer="left")),
    ]
    inputs = {"start": start, "students": students, "decays": decays}
    return Check(f"{steps} updates", "ema_update", "ema", inputs, at(), wrong)


def checks(random, hidden):
    if not hidden:
        return [
            *schedules(random, 3),
            known(random, "softmax", 4),
            tsa("some wait", [1.0, 2.0, 4.0], [0.2, 0.5, 0.9], 0.5),
            sharpening(random, 3, 3, 0.4),
            uda(random, "softmax", 5, 0.4, "batch"),
            consistency(random, "mse", "softmax", 4),  # kl takes divergence, which a handout may have blank
            distance(random, "logits_apart", 4),
            distance(random, "probabilities_apart", 4),
            ema(random, 2),
        ]
    return [
        *schedules(random, 5),
        refusal("tsa_threshold", "an unknown schedule", [0.5, 3, "square"]),
        refusal("tsa_threshold", "a progress above 1", [1.5, 3, "linear"]),
        refusal("tsa_threshold", "a single class", [0.5, 1, "linear"]),
        known(random, "binary", 5),
        tsa("none kept", [1.0, 2.0, 4.0], [0.6, 0.7, 0.9], 0.5),
        tsa("all kept", [1.0, 3.0, 4.0, 0.5], [0.1, 0.2, 0.3, 0.4], 0.9),
        sharpening(random, 4, 5, 2.0),
        uda(random, "softmax", 6, 0.7, "kept"),
        uda(random, "binary", 6, 0.5, "batch"),
        consistency(random, "kl", "softmax", 4),
        consistency(random, "mse_prob", "softmax", 5),
        consistency(random, "mse", "binary", 5),
        consistency(random, "mse_prob", "binary", 5),
        consistency(random, "kl", "regression", 5),
        distance(random, "logits_apart", 7),
        distance(random, "probabilities_apart", 6),
        ema(random, 4),
    ]
