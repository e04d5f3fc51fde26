"""How a8 is asked: functions of a head's outputs, and one update of a moving average."""

import torch
from torch import nn

from assignments.school.probing import head_of


def number(student, inputs):
    """A function of plain numbers at several places."""
    function = getattr(student.semi, inputs["function"])
    return {"the values": torch.tensor([float(function(*given)) for given in inputs["given"]])}


def refuses(student, inputs):
    function = getattr(student.semi, inputs["function"])
    told = {"the answer to a right call": torch.tensor(float(function(*inputs["right"])))}
    try:
        function(*inputs["given"])
    except ValueError:
        return {**told, "refused": torch.tensor(1.0)}
    return {**told, "refused": torch.tensor(0.0)}


def true_class_probability(student, inputs):
    logits = inputs["logits"].clone().requires_grad_()
    found = student.semi.true_class_probability(head_of(student, inputs["head"]), logits, inputs["labels"])
    return {"the probabilities": found, "asks for a gradient": torch.tensor(float(found.requires_grad))}


def tsa_loss(student, inputs):
    losses = inputs["losses"].clone().requires_grad_()
    loss, kept = student.semi.tsa_loss(losses, inputs["probability"], inputs["threshold"])
    (gradient,) = torch.autograd.grad(loss, losses, allow_unused=True)
    return {"the loss": loss, "kept": kept, "the gradient": torch.zeros_like(losses) if gradient is None else gradient}


def sharpen(student, inputs):
    return {"the logarithms": student.semi.sharpen(inputs["log_probabilities"], inputs["temperature"])}


def two_sides(student, inputs):
    """A term between two sides of logits: its value, which texts it kept, and what each side learns."""
    first, second = (inputs[name].clone().requires_grad_() for name in ("first", "second"))
    found = getattr(student.semi, inputs["function"])(
        *inputs["before"], head_of(student, inputs["head"]), first, second, *inputs["after"]
    )
    term, kept = found if isinstance(found, tuple) else (found, None)
    gradients = torch.autograd.grad(term, [first, second], allow_unused=True) if term.requires_grad else (None, None)
    told = {"the term": term}
    if kept is not None:
        told["kept"] = kept
    for name, side, gradient in zip(("first", "second"), (first, second), gradients, strict=True):
        told[f"what the {name} side learns"] = torch.zeros_like(side) if gradient is None else gradient
    return told


def ema(student, inputs):
    """Some updates of a teacher whose student changes between them; a buffer goes along."""
    model = nn.Linear(2, 2)
    model.register_buffer("count", torch.zeros(2))
    model.load_state_dict({"weight": inputs["start"], "bias": inputs["start"][0], "count": torch.zeros(2)})
    asked = []

    def decay(t):
        asked.append(float(t))
        return inputs["decays"][min(t, len(inputs["decays"])) - 1]

    teacher = student.semi.EmaTeacher(model, decay)
    for index, values in enumerate(inputs["students"]):
        with torch.no_grad():
            model.weight.copy_(values)
            model.bias.copy_(values[0])
            model.count.fill_(index + 1.0)
        teacher.update()
    return {
        "weight": teacher.model.weight,
        "bias": teacher.model.bias,
        "buffer": teacher.model.count,
        "t that decay was asked for": torch.tensor(asked),
        "the student": model.weight,
    }
