"""How a1 is asked: one call of attention, padded, on given q, k, v."""

import torch

from assignments.school.probing import marked_dropout


def mixture(student, inputs):
    """Eval mode; were dropout to act, it would show, as a square."""
    with marked_dropout(*student.dropouts):
        return _mixture(student, inputs, train=False)


def _mixture(student, inputs, train):
    """The heads' mixtures [B, A, T, D], at real queries."""
    q, k, v, mask = (inputs[name].clone() for name in ("q", "k", "v", "mask"))
    is_pad = None if bool(mask.all()) else ~mask.bool()
    mixed = student.attend(inputs["sizes"], q, k, v, is_pad, train)
    return {"the mixture": mixed * mask[:, None, :, None]}


def gradients(student, inputs):
    """What q, k and v learn from a weighted sum of the mixture."""
    q, k, v = (inputs[name].clone().requires_grad_() for name in ("q", "k", "v"))
    mask = inputs["mask"]
    mixed = student.attend(inputs["sizes"], q, k, v, ~mask.bool(), False)
    total = (mixed * mask[:, None, :, None] * inputs["w"]).sum()
    found = torch.autograd.grad(total, [q, k, v], allow_unused=True)
    zeros = torch.zeros_like(q)
    return {f"the gradient of {name}": zeros if g is None else g for name, g in zip("qkv", found, strict=True)}


def unchanged(student, inputs):
    """Whether q, k and v are afterwards what they were; the mixture too, or doing nothing would be right."""
    given = {name: inputs[name].clone() for name in "qkv"}
    mixed = student.attend(inputs["sizes"], *given.values(), ~inputs["mask"].bool(), False)
    told = {"the mixture": mixed * inputs["mask"][:, None, :, None]}
    return told | {f"{name} afterwards": value for name, value in given.items()}


def with_dropout(student, inputs):
    """Training mode, with a square in place of dropout."""
    with marked_dropout(*student.dropouts) as rates:
        told = _mixture(student, inputs, train=True)
    return {**told, "dropout's rates": torch.tensor(rates or [0.0])}
