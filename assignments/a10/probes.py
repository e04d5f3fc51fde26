"""How a10 is asked: schedules of named tasks, a learning rate's way, and gradients of several tasks."""

import numpy as np
import torch

TASKS = ("quora", "sst", "sts")  # in sorted order: a task is told by its place


def length(student, inputs):
    """A dictionary of counts, and whether the one that came in is another object, unchanged."""
    given = dict(inputs["counts"])
    found = getattr(student.schedules, inputs["function"])(given)
    return {
        "batches of each task": torch.tensor([float(found[task]) for task in inputs["counts"]]),
        "a dictionary of its own": torch.tensor(float(found is not given and given == inputs["counts"])),
    }


def order(student, inputs):
    """The rounds of an order, as rows of (task, index); rounds of more than one pair stand one after the other."""
    rng = np.random.default_rng(inputs["seed"])
    found = list(getattr(student.schedules, inputs["function"])(dict(inputs["takes"]), rng, inputs["exponent"]))
    rows = [(TASKS.index(task), index) for one_round in found for task, index in one_round]
    return {"rounds": torch.tensor(rows, dtype=torch.float64)}


def mixed(student, inputs):
    """What must hold of a random order whatever the draw: other seeds, other orders; other names' order, the same."""

    def rows(seed, takes):
        found = student.schedules.shuffled(takes, np.random.default_rng(seed), 1.0)
        return [pair for one_round in found for pair in one_round]

    takes = dict(inputs["takes"])
    turned = dict(reversed(list(takes.items())))
    rounds = list(student.schedules.shuffled(takes, np.random.default_rng(0), 1.0))
    return {
        "each round is one batch": torch.tensor(float(all(len(one) == 1 for one in rounds))),
        "the same seed gives the same order": torch.tensor(float(rows(1, takes) == rows(1, takes))),
        "another seed gives another order": torch.tensor(float(rows(1, takes) != rows(2, takes))),
        "the order of names does not matter": torch.tensor(float(rows(1, takes) == rows(1, turned))),
        "tasks are mixed": torch.tensor(float([t for t, _ in rows(1, takes)] != sorted(t for t, _ in rows(1, takes)))),
    }


def linear(student, inputs):
    return {"the factors": torch.tensor([float(student.optimizer.linear(*given)) for given in inputs["given"]])}


def project(student, inputs):
    given = inputs["gradients"].clone()
    found = student.surgery.project(given, torch.Generator().manual_seed(inputs["seed"]))
    return {"the sum": found, "the gradients afterwards": given}


def backward(student, inputs):
    """Tasks whose losses are weighted sums of squares of a shared parameter, and of one of their own each."""
    shared = torch.nn.Parameter(inputs["shared"].clone())
    own = [torch.nn.Parameter(value.clone()) for value in inputs["own"]]
    rest = torch.nn.Parameter(torch.ones(2))
    shared.grad = torch.full_like(shared, 7.0)  # of the step before: overwritten, not added to
    losses = [
        lambda d=d, p=p: (shared * d).sum() + 0.5 * (p**2).sum() for d, p in zip(inputs["directions"], own, strict=True)
    ]
    values = student.surgery.backward(losses, [shared, *own, rest])
    return {
        "the shared gradient": shared.grad,
        "the heads' gradients": torch.cat([p.grad for p in own]),
        "the losses": torch.stack(list(values)),
        "the losses are detached": torch.tensor(float(not any(v.requires_grad for v in values))),
        "a parameter that nobody reaches has no gradient": torch.tensor(float(rest.grad is None)),
    }
