"""What a4 must give: AdamW number by number, and what known mistakes give."""

import math
from functools import partial

import numpy as np

from assignments.school.judging import Check

WRONG = {
    "decay first": "the decay saw the old p: it comes last, and takes its share of what the step has left",
    "decay without lr": "the decay is weight_decay alone: it is lr * weight_decay",
    "no decay": "there is no weight decay",
    "decay added": "the decay is added to p: it is taken off",
    "decay in the gradient": "the decay is added to the gradient (L2, as in Adam): AdamW decays the parameter itself",
    "decay once": "the decay acts with alpha_t, the step size, in place of lr",
    "eps inside": "eps stands under the root: it is added to sqrt(v)",
    "eps missing": "eps is missing",
    "no root": "the root of v is missing",
    "eps after correction": "eps is added to the corrected root, as in torch: here it is outside the correction",
    "no bias correction": "there is no bias correction: lr sqrt(1 - beta2^t) / (1 - beta1^t) is the step size",
    "only m corrected": "only m is corrected: the root of 1 - beta2^t is missing",
    "only v corrected": "only v is corrected: the division by 1 - beta1^t is missing",
    "correction inverted": "the bias correction is upside down",
    "no root in correction": "the root of 1 - beta2^t in the bias correction is missing",
    "step from 2": "t is one too large in the bias correction: the first step is 1",
    "step from 0": "the steps count from 0 in the bias correction: the first one is 1",
    "step stays 1": "the step count stays 1: it has to be kept in the state, and to grow",
    "betas swapped": "beta1 and beta2 are swapped",
    "no 1 - beta1": "(1 - beta1) is missing: m <- beta1 m + (1 - beta1) g",
    "no 1 - beta2": "(1 - beta2) is missing: v <- beta2 v + (1 - beta2) g^2",
    "no 1 - beta at all": "(1 - beta1) and (1 - beta2) are missing: the means take a share of the new",
    "share swapped": "beta1 and 1 - beta1 are swapped in m",
    "v share swapped": "beta2 and 1 - beta2 are swapped in v",
    "v of g": "v takes g, not its square",
    "v of |g|": "v takes |g|, not its square",
    "v of m": "v takes the square of m, not of g",
    "m is g": "the step goes along g: it goes along m",
    "nesterov": "the step goes along m looked ahead (Nesterov)",
    "uphill": "the step is added to p: it is taken off",
    "moments not kept": "m and v are not kept from step to step",
    "m not kept": "m is not kept from step to step: it is changed in place",
    "v not kept": "v is not kept from step to step: it is changed in place",
    "old moments": "the step is taken with the m and v of before: they are updated first",
    "nothing is changed": "p, m and v do not change: the update has to work in place, m.mul_(...) and not m = ...",
    "root in place": "v becomes its own root: sqrt() and not sqrt_(), for v is kept for the next step",
    "decay with the step size": "the decay is multiplied by the step size: `decay` holds lr already",
    "p not changed": "p does not change: the update has to work in place",
    "amsgrad": "v is the largest so far (AMSGrad)",
    "shared count": "one step count for all parameters: each has its own, in self.state[p]",
    "shared moments": "m and v are shared by all parameters: each has its own, in self.state[p]",
}


def known(old_decays):
    """The known mistakes, {name: sentence}: which p the decay sees is a variant's choice."""
    other = "the decay saw the new p: here it sees the old one, as it was before the step"
    return WRONG | ({"decay first": other} if old_decays else {})


def step_size_of(step, lr, b1, b2, correct, but=""):
    step = {"step from 0": step - 1, "step stays 1": 1, "step from 2": step + 1}.get(but, step)
    if not correct or but == "no bias correction":
        return lr
    c1, c2 = 1 - b1**step, 1 - b2**step
    if but == "betas swapped":
        c1, c2 = c2, c1
    with np.errstate(all="ignore"):
        size = {
            "only m corrected": 1 / np.float64(c1),
            "only v corrected": math.sqrt(c2),
            "correction inverted": np.float64(c1) / np.sqrt(c2),
            "no root in correction": c2 / np.float64(c1),
        }
        return lr * size.get(but, math.sqrt(c2) / np.float64(c1))


def update(p, g, m, v, size, decay, b1, b2, eps, but="", c2=1.0, first=None, old_decays=False):
    """One step: (p, m, v). c2: 1 - beta2^t, where eps stands after the correction. old_decays: the decay sees the old
    p, as a variant has it."""
    old, m0, v0 = p, m, v
    if but == "decay in the gradient":
        g = g + decay * p / (first or 1.0)
    if but == "betas swapped":
        b1, b2 = b2, b1
    if but == "decay with the step size":
        decay = decay * size
    if but == "nothing is changed":
        return p, m, v
    m = {"no 1 - beta1": b1 * m + g, "no 1 - beta at all": b1 * m + g, "share swapped": (1 - b1) * m + b1 * g}.get(
        but, b1 * m + (1 - b1) * g
    )
    square = {"v of g": g, "v of |g|": abs(g), "v of m": m * m}.get(but, g * g)
    v = {
        "no 1 - beta2": b2 * v + square,
        "no 1 - beta at all": b2 * v + square,
        "v share swapped": (1 - b2) * v + b2 * square,
    }.get(but, b2 * v + (1 - b2) * square)
    if but == "amsgrad":
        v = np.maximum(v, v0)
    mm, vv = (m0, v0) if but == "old moments" else (m, v)
    with np.errstate(all="ignore"):
        below = {
            "eps inside": np.sqrt(vv + eps),
            "eps missing": np.sqrt(vv),
            "no root": vv + eps,
            "eps after correction": np.sqrt(vv) + eps * math.sqrt(c2),
        }.get(but, np.sqrt(vv) + eps)
        along = {"m is g": g, "nesterov": b1 * m + (1 - b1) * g}.get(but, mm)
        step = size * along / below
    if but == "p not changed":
        return old, m, v
    p = p + step if but == "uphill" else p - step
    seen = old if (but == "decay first") != old_decays else p
    if but == "decay added":
        p = p + decay * seen
    elif but not in ("no decay", "decay in the gradient"):
        p = p - decay * seen
    kept = {"v not kept": v0, "root in place": np.sqrt(np.maximum(v, 0))}.get(but, v)
    return p, (m0 if but == "m not kept" else m), kept


def walk(p, m, v, gradients, numbers, but="", old_decays=False):
    for g in gradients:
        if but == "moments not kept":
            p, _, _ = update(p, g, m, v, *numbers, but, old_decays=old_decays)
        else:
            p, m, v = update(p, g, m, v, *numbers, but, old_decays=old_decays)
    return {"m": m, "v": v, "p": p}


IN_UPDATE = (
    "decay first",
    "no decay",
    "decay added",
    "decay in the gradient",
    "eps inside",
    "eps missing",
    "no root",
    "betas swapped",
    "no 1 - beta1",
    "no 1 - beta2",
    "no 1 - beta at all",
    "share swapped",
    "v share swapped",
    "v of g",
    "v of |g|",
    "v of m",
    "m is g",
    "nesterov",
    "uphill",
    "moments not kept",
    "m not kept",
    "v not kept",
    "old moments",
    "p not changed",
    "nothing is changed",
    "root in place",
    "decay with the step size",
    "amsgrad",
)


def updates(name, random, shape, steps, decay, eps=1e-2, old_decays=False):
    inputs = {
        "p": random.normal(size=shape),
        "m": 0.3 * random.normal(size=shape),
        "v": random.uniform(0.1, 1, size=shape),
        "gradients": [random.normal(size=shape) for _ in range(steps)],
        "numbers": [0.1, decay, 0.8, 0.9, eps],
    }
    given = [inputs[key] for key in ("p", "m", "v", "gradients")]
    at = lambda but="", size=0.1: walk(*given, [size, *inputs["numbers"][1:]], but, old_decays)
    wrong = [(text, at(but)) for but, text in known(old_decays).items() if but in IN_UPDATE]
    wrong.append(("the step size is multiplied in twice", at(size=0.01)))
    wrong.append(("the step size is left out", at(size=1.0)))
    return Check(name, "update", "updates", inputs, at(), wrong, weight=2)


def step_sizes(name, steps, lr, betas, weight_decay, correct=True):
    def at(but=""):
        sizes = [step_size_of(step, lr, *betas, correct, but) for step in steps]
        decay = {"decay without lr": weight_decay, "no decay": 0.0, "decay added": -lr * weight_decay}.get(
            but, lr * weight_decay
        )
        if but == "decay once":
            return {"step sizes": np.array(sizes), "decays": np.array([size * weight_decay for size in sizes])}
        return {"step sizes": np.array(sizes), "decays": np.full(len(steps), decay)}

    in_step_size = (
        "no bias correction",
        "only m corrected",
        "only v corrected",
        "correction inverted",
        "no root in correction",
        "step from 0",
        "step from 2",
        "step stays 1",
        "betas swapped",
        "decay without lr",
        "no decay",
        "decay added",
        "decay once",
    )
    wrong = [(WRONG[but], at(but)) for but in in_step_size]
    corrected = [step_size_of(step, lr, *betas, True) for step in steps]
    if not correct:
        wrong.append(("correct_bias=False is not heeded", {**at(), "step sizes": np.array(corrected)}))
    wrong.append(
        (
            "the two come back in the other order: step size, then decay",
            dict(zip(at(), reversed(at().values()), strict=True)),
        )
    )
    wrong.append(("lr is missing from the step size", {**at(), "step sizes": at()["step sizes"] / lr}))
    inputs = {
        "steps": list(steps),
        "lr": lr,
        "betas": list(betas),
        "weight_decay": weight_decay,
        "correct_bias": correct,
    }
    return Check(name, "step_size", "step_sizes", inputs, at(), wrong)


def optimizer_walk(inputs, but="", old_decays=False):
    """The whole optimizer: every parameter with a count and moments of its own."""
    flags = inputs["flags"]
    lr, (b1, b2), eps = flags["lr"], flags["betas"], flags["eps"]
    values = [value.copy() for value in inputs["parameters"]]
    state, shared = {}, [0, None, None]
    for gradients in inputs["gradients"]:
        for i, g in enumerate(gradients):
            if g is None:
                continue
            count, m, v = state.get(i, (0, 0 * values[i], 0 * values[i]))
            if but == "shared count":
                shared[0] += 1
                count = shared[0] - 1
            if but == "shared moments" and shared[1] is not None and shared[1].shape == values[i].shape:
                count, m, v = shared
            count += 1
            size = step_size_of(count, lr, b1, b2, flags["correct_bias"], but)
            rate = {"decay without lr": 1.0, "decay once": size}.get(but, lr)
            c2 = 1 - b2**count
            decay = rate * flags["weight_decay"]
            values[i], m2, v2 = update(values[i], g, m, v, size, decay, b1, b2, eps, but, c2, lr, old_decays)
            state[i] = (count, m2, v2) if but != "moments not kept" else (count, m, v)
            if but == "shared moments":
                shared = [count, m2, v2]
    return {f"parameter {i}": value for i, value in enumerate(values)}


def optimizer(name, random, shapes, steps, decay=0.1, correct=True, resting=False, eps=1e-2, old_decays=False):
    gradients = [[random.normal(size=shape) for shape in shapes] for _ in range(steps)]
    if resting:
        gradients[0][-1] = gradients[2][-1] = None
    flags = {"lr": 0.05, "betas": [0.8, 0.95], "eps": eps, "weight_decay": decay, "correct_bias": correct}
    inputs = {"parameters": [random.normal(size=shape) for shape in shapes], "gradients": gradients, "flags": flags}
    at = lambda but="", inputs=inputs: optimizer_walk(inputs, but, old_decays)
    wrong = [(text, at(but)) for but, text in known(old_decays).items()]
    if not correct:
        asked = {**inputs, "flags": {**flags, "correct_bias": True}}
        wrong.append(("correct_bias=False is not heeded", at(inputs=asked)))
    return Check(name, "step", "optimizer", inputs, at(), wrong, weight=2)


def closure(random):
    inputs = {"p": random.normal(size=3), "gradient": random.normal(size=3)}
    wrong = [
        ("the closure's loss is not returned: loss is None", {"the loss": np.array(np.nan), "calls": np.array(1.0)})
    ]
    return Check(
        "a closure's loss is handed back",
        "step",
        "closure",
        inputs,
        {"the loss": np.array(2.5), "calls": np.array(1.0)},
        wrong,
        weight=0.5,
    )


def checks(random, hidden, old_decays=False):
    updated, walked = (partial(of, old_decays=old_decays) for of in (updates, optimizer))
    if not hidden:
        return [
            updated("one update, no decay", random, (3,), 1, 0.0),
            updated("three updates with decay", random, (2, 3), 3, 0.02),
            step_sizes("the step size grows out of its correction", [1, 2, 3, 10], 0.1, (0.9, 0.99), 0.1),
            step_sizes("without bias correction", [1, 5], 0.1, (0.9, 0.99), 0.1, correct=False),
            walked("one parameter, three steps", random, [(3,)], 3, decay=0.0),
            walked("weight decay", random, [(2, 2)], 3),
            walked("two parameters, of which one rests at times", random, [(3,), (3,)], 4, resting=True),
        ]
    return [
        updated("many updates of a matrix", random, (3, 4), 7, 0.05),
        updated("a scalar", random, (), 4, 0.01),
        updated("a large eps", random, (5,), 3, 0.03, eps=0.5),
        step_sizes("other rates", [1, 4, 50, 1000], 0.03, (0.7, 0.999), 0.2),
        step_sizes("without bias correction", [1, 2, 9], 0.2, (0.9, 0.99), 0.05, correct=False),
        walked("many steps", random, [(2, 3), (4,)], 9),
        walked("without bias correction", random, [(3,)], 4, correct=False),
        walked("a large eps", random, [(2, 2)], 5, eps=0.5),
        walked("three parameters, of which one rests at times", random, [(2,), (2,), (2,)], 5, resting=True),
        closure(random),
    ]
