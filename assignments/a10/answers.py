"""What a10 must give: schedules by hand, the learning rate's way, and PCGrad pair by pair."""

import numpy as np

from assignments.school.judging import Check

TASKS = ("quora", "sst", "sts")


def lengths(counts):
    at = lambda values, own=1.0: {
        "batches of each task": np.array(values, float),
        "a dictionary of its own": np.array(own),
    }
    n = list(counts.values())
    wrong = [
        ("the dictionary that came in is handed back: make one of its own", at(n, 0.0)),
        ("every task gets the longest's number: each set is taken once", at([max(n)] * len(n))),
        ("every task gets the shortest's number: each set is taken once", at([min(n)] * len(n))),
        ("each task gets one more", at([x + 1 for x in n])),
        ("each task gets one", at([1] * len(n))),
        ("it is the sum of all", at([sum(n)] * len(n))),
    ]
    return Check(
        f"{', '.join(map(str, n))} batches, each once",
        "whole",
        "length",
        {"function": "whole", "counts": counts},
        at(n),
        wrong,
    )


def task_wise(takes):
    rows = lambda pairs: {"rounds": np.array(pairs, float)}
    place = {task: float(TASKS.index(task)) for task in takes}
    right = [(place[task], i) for task, n in takes.items() for i in range(n)]
    turns = [(place[task], i) for i in range(max(takes.values())) for task, n in takes.items() if i < n]
    wrong = [
        ("the tasks take turns: each is finished before the next begins", rows(turns)),
        (
            "the tasks come sorted: they come in the order given",
            rows([(place[t], i) for t in sorted(takes) for i in range(takes[t])]),
        ),
        ("indices count from 1", rows([(t, i + 1) for t, i in right])),
        (
            "the last batch of each task is left out",
            rows([(place[t], i) for t, n in takes.items() for i in range(n - 1)]),
        ),
        ("the tasks come in reversed order", rows([(place[t], i) for t in reversed(takes) for i in range(takes[t])])),
        (
            "the batches of a task come in reversed order",
            rows([(place[t], i) for t, n in takes.items() for i in reversed(range(n))]),
        ),
        ("the index counts through all tasks", rows([(t, k) for k, (t, _) in enumerate(right)])),
        ("the first task alone comes", rows([pair for pair in right if pair[0] == right[0][0]])),
    ]
    inputs = {"function": "task_wise", "takes": takes, "seed": 0, "exponent": 1.0}
    return Check(f"one task after the other: {', '.join(takes)}", "task_wise", "order", inputs, rows(right), wrong)


def shuffled(takes, seed):
    rows = lambda pairs: {"rounds": np.array(sorted(pairs), float)}
    right = [(float(TASKS.index(t)), float(i)) for t, n in takes.items() for i in range(n)]
    wrong = [
        ("batches are drawn with repetition: each comes once", rows([right[0]] * len(right))),
        ("indices count from 1", rows([(t, i + 1) for t, i in right])),
    ]
    inputs = {"function": "shuffled", "takes": takes, "seed": seed, "exponent": 1.0}
    held = {
        name: np.array(1.0)
        for name in (
            "each round is one batch",
            "the same seed gives the same order",
            "another seed gives another order",
            "the order of names does not matter",
            "tasks are mixed",
        )
    }
    fails = {
        "another seed gives another order": "rng is not used: the order is always the same",
        "the order of names does not matter": "the draw depends on the order of the tasks' names: sort them first",
        "the same seed gives the same order": "the order is drawn from another generator than rng",
        "tasks are mixed": "the tasks come one after the other: all batches are mixed",
        "each round is one batch": "a round holds several batches: each is a list of one pair",
    }
    said = [(text, {**held, name: np.array(0.0)}) for name, text in fails.items()]
    unmixed = {**held, "another seed gives another order": np.array(0.0), "tasks are mixed": np.array(0.0)}
    said.append(("nothing is shuffled", unmixed))
    said.append(("nothing is shuffled", {**unmixed, "the order of names does not matter": np.array(0.0)}))
    return [
        Check(
            f"every batch of {len(right)} once", "shuffled", "order", inputs, rows(right), wrong, view="in_any_order"
        ),
        Check(f"at random, by rng ({len(right)} batches)", "shuffled", "mixed", {"takes": takes}, held, said),
    ]


def drawn(takes, exponent, seed):
    n = np.array([takes[task] for task in TASKS], float)
    shares = lambda w: np.round(w / w.sum() * 20) / 20
    at = lambda w, up=1.0: {
        "share of each task": shares(w),
        "each counts up from 0": np.full(3, up),
        "draws": np.array([n.sum()]),
    }
    wrong = [
        ("tasks are drawn by their size alone: the exponent is not used", at(n)),
        ("tasks are drawn evenly: they are drawn by n to the power of the exponent", at(np.ones(3))),
        ("the exponent multiplies: it is a power", at(np.maximum(n * exponent, 1e-9))),
        ("tasks are drawn by the inverse of their size", at(n ** (-exponent))),
        ("a task's index does not count up from 0", at(n**exponent, 0.0)),
        ("the exponent is squared", at(n ** (exponent**2))),
    ]
    inputs = {"function": "drawn", "takes": takes, "seed": seed, "exponent": exponent}
    return Check(f"draws with exponent {exponent:g}", "drawn", "order", inputs, at(n**exponent), wrong, view="shares")


def rate(step, total, warmup, but=""):
    peak = min(round(warmup * total), total - 1)
    if but == "cut":
        peak = min(int(warmup * total), total - 1)
    rise, fall = (step + 1) / (peak + 1), (total - step) / (total - peak)
    if but == "starts at 0":
        rise = step / max(peak, 1) if peak else 1.0
    if but == "ends at 0":
        fall = (total - 1 - step) / max(total - 1 - peak, 1)
    if but == "no warm-up":
        return max(0.0, (total - step) / total)
    if but == "no decay":
        return min(1.0, rise)
    if but == "falls over all":
        fall = (total - step) / total
    if but == "below 0":
        return min(rise, fall)
    if but == "product":
        return max(0.0, min(1, rise) * min(1, fall))
    if but == "larger":
        return max(rise, fall)
    if but == "rise of peak":
        rise = (step + 1) / max(peak, 1)
    if but == "over 1":
        return max(0.0, rise if step < peak else fall)
    if but == "cosine":
        return 0.5 * (1 + np.cos(np.pi * step / total))
    return max(0.0, min(rise, fall, 1.0 if but == "rise of peak" else 9))


def linear(total, warmup):
    given = [(step, total, warmup) for step in range(total + 2)]
    at = lambda but="": {"the factors": np.array([rate(*one, but) for one in given])}
    texts = {
        "starts at 0": "the first step gets 0 and is wasted: it gets 1 / (W + 1), an off-by-one",
        "ends at 0": "the last step gets 0 and is wasted: it gets 1 / (T - W), an off-by-one",
        "no warm-up": "there is no warm-up",
        "no decay": "it does not fall after the warm-up",
        "falls over all": "it falls over all steps: it falls from the peak at W",
        "below 0": "it goes below 0 after the last step",
        "product": "rise and fall are multiplied: the lower of the two counts",
        "larger": "the higher of rise and fall is taken: it is the lower",
        "rise of peak": "the rise ends one step too early: step W is the only one to get 1",
        "cut": "the number of warm-up steps is cut off, not rounded",
        "over 1": "the rise goes on to the wrong step",
        "cosine": "it is a cosine, not a line",
    }
    wrong = [(text, at(but)) for but, text in texts.items()]
    return Check(
        f"{total} steps, warm-up {warmup:g}", "linear", "linear", {"given": [list(one) for one in given]}, at(), wrong
    )


def surgery(g, but=""):
    """PCGrad where the order does not matter: at most one conflict for each task."""
    T, out = len(g), g.copy()
    for i in range(T):
        for j in range(T):
            if j == i:
                continue
            against = {"projected others": out[j]}.get(but, g[j])
            dot = out[i] @ against
            if (dot < 0) != (but == "agreeing") or but == "always":
                norm = {"not squared": np.linalg.norm(against), "own length": g[i] @ g[i], "no length": 1.0}.get(
                    but, against @ against
                )
                out[i] = (
                    out[i] + dot / norm * against
                    if but == "plus"
                    else out[i] - dot / norm * against
                    if norm
                    else out[i]
                )
            if but == "conflict zeroed" and dot < 0:
                out[i] = 0
    return out


def projections(name, g, seed, weight=1.0):
    total = lambda x: {"the sum": x.sum(0), "the gradients afterwards": g}
    texts = {
        "projected others": "the others' gradients are projected already: g_j is the one that came in",
        "agreeing": "the projection is done where gradients agree: only a negative product is a conflict",
        "always": "the projection is always done: only a negative product is a conflict",
        "not squared": "it is divided by |g_j|: by its square, |g_j|^2",
        "own length": "it is divided by |g_i|^2: by |g_j|^2",
        "no length": "it is not divided by |g_j|^2",
        "plus": "the conflicting part is added: it is taken off",
        "conflict zeroed": "a conflicting gradient is dropped altogether: only its conflicting part is",
    }
    with np.errstate(all="ignore"):
        wrong = [(text, total(surgery(g, but))) for but, text in texts.items()]
    right = surgery(g)
    wrong += [
        ("nothing is projected: it is the plain sum", total(g)),
        ("it is the mean over the tasks: it is the sum", {"the sum": right.mean(0), "the gradients afterwards": g}),
        (
            "only the first task's gradient is projected",
            {"the sum": right[0] + g[1:].sum(0), "the gradients afterwards": g},
        ),
        (
            "only the last task's gradient is projected",
            {"the sum": g[:-1].sum(0) + right[-1], "the gradients afterwards": g},
        ),
        (
            "the gradients that came in are changed: work on a copy",
            {"the sum": right.sum(0), "the gradients afterwards": right},
        ),
        ("all tasks' gradients come back: their sum is asked for", {"the sum": right, "the gradients afterwards": g}),
    ]
    return Check(name, "project", "project", {"gradients": g, "seed": seed}, total(right), wrong, weight=weight)


def backwards(name, random, conflict):
    d = random.normal(size=(2, 4))
    d[1] = -d[0] + 0.5 * d[1] if conflict else d[0] + 0.2 * d[1]
    shared, own = random.normal(size=4), [random.normal(size=2), random.normal(size=3)]
    values = np.array([(shared * d[i]).sum() + 0.5 * (own[i] ** 2).sum() for i in range(2)])

    def at(gradient, heads=None, detached=1.0, none=1.0, values=values):
        return {
            "the shared gradient": gradient,
            "the heads' gradients": np.concatenate(own) if heads is None else heads,
            "the losses": values,
            "the losses are detached": np.array(detached),
            "a parameter that nobody reaches has no gradient": np.array(none),
        }

    right = surgery(d).sum(0)
    wrong = [
        ("there is no surgery: the gradients are summed as they are", at(d.sum(0))),
        ("the new gradient is added to the one before: it is overwritten", at(right + 7)),
        ("the losses are not detached", at(right, detached=0.0)),
        ("a parameter that no task reaches gets zeros: its grad is None", at(right, none=0.0)),
        ("the heads' own gradients are lost", at(right, heads=np.zeros(5))),
        ("only the last task's gradient is kept", at(d[1])),
        ("only the first task's gradient is kept", at(d[0])),
        ("it is the mean over the tasks: it is the sum", at(right / 2)),
        ("heads take part in the surgery", at(right, heads=np.concatenate(own) / 2)),
    ]
    return Check(name, "backward", "backward", {"directions": d, "shared": shared, "own": own}, at(right), wrong)


def conflicting(random, P, others=0):
    """Two gradients in conflict, and `others` at right angles to both."""
    basis = np.linalg.qr(random.normal(size=(P, P)))[0]
    g = [basis[0] * 2, -basis[0] + 1.5 * basis[1]] + [basis[2 + i] * (i + 1) for i in range(others)]
    return np.array(g)


def checks(random, hidden):
    if not hidden:
        return [
            lengths({"sst": 3, "quora": 5, "sts": 2}),
            task_wise({"sst": 2, "quora": 3}),
            *shuffled({"sst": 3, "quora": 4, "sts": 2}, 1),
            drawn({"quora": 6000, "sst": 3000, "sts": 1000}, 1.0, 1),
            drawn({"quora": 6400, "sst": 1600, "sts": 400}, 0.5, 2),
            linear(8, 0.25),
            linear(4, 0.0),
            projections("two gradients in conflict", conflicting(random, 4), 0),
            projections("two that agree", np.abs(random.normal(size=(2, 3))), 0),
            backwards("a shared parameter and two heads", random, True),
        ]
    zero = np.zeros((2, 3))
    zero[0] = [1.0, 2.0, 3.0]
    return [
        lengths({"sts": 7, "sst": 1}),
        task_wise({"sts": 1, "sst": 4, "quora": 2}),
        *shuffled({"quora": 7, "sst": 6, "sts": 5}, 3),
        drawn({"sts": 900, "sst": 2500, "quora": 8100}, 0.5, 4),
        drawn({"sts": 2000, "sst": 4000, "quora": 6000}, 0.0, 5),
        linear(11, 0.15),
        linear(6, 1.0),
        linear(1, 0.5),
        projections("four gradients, two of them in conflict", conflicting(random, 6, 2), 3, 2),
        projections("a gradient that is zero", zero, 1),
        backwards("another shared parameter in conflict", random, True),
        backwards("gradients that agree", random, False),
    ]
