"""How a4 is asked: some updates of some tensors, with the gradients given."""

import torch


def updates(student, inputs):
    """`update_` step after step: p, m and v at the end."""
    p, m, v = (inputs[name].clone() for name in ("p", "m", "v"))
    for gradient in inputs["gradients"]:
        student.optimizer.update_(p, gradient.clone(), m, v, *inputs["numbers"])
    return {"p": p, "m": m, "v": v}


def step_sizes(student, inputs):
    """`step_size_and_decay` at several steps."""
    numbers = inputs["lr"], tuple(inputs["betas"]), inputs["weight_decay"], inputs["correct_bias"]
    found = []
    for step in inputs["steps"]:
        try:
            found.append(student.optimizer.step_size_and_decay(step, *numbers))
        except ZeroDivisionError:  # 1 - beta^0 is 0: known among the mistakes
            found.append((float("nan"), inputs["lr"] * inputs["weight_decay"]))
    return {
        "step sizes": torch.tensor([float(one[0]) for one in found]),
        "decays": torch.tensor([float(one[1]) for one in found]),
    }


def optimizer(student, inputs):
    """`AdamW` over parameters whose gradients are given; one of them may have none in some steps."""
    parameters = [torch.nn.Parameter(value.clone()) for value in inputs["parameters"]]
    optimizer = student.optimizer.AdamW(parameters, **{**inputs["flags"], "betas": tuple(inputs["flags"]["betas"])})
    for gradients in inputs["gradients"]:
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = None if gradient is None else gradient.clone()
        optimizer.step()
    return {f"parameter {index}": parameter.data for index, parameter in enumerate(parameters)}


def closure(student, inputs):
    """What `step` returns of a closure, and whether it was called once."""
    parameter = torch.nn.Parameter(inputs["p"].clone())
    optimizer = student.optimizer.AdamW([parameter], lr=0.1)
    calls = []

    def loss():
        calls.append(1)
        parameter.grad = inputs["gradient"].clone()
        return 2.5

    found = optimizer.step(loss)
    return {
        "the loss": torch.tensor(float("nan") if found is None else float(found)),
        "calls": torch.tensor(float(len(calls))),
    }
