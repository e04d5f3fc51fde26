"""How the bonus is asked: how far two outputs are apart, and SMART's term on a head over given embeddings."""

import torch

from assignments.school.probing import head_of


def divergence(student, inputs):
    a, b = (inputs[name].clone().requires_grad_() for name in "ab")
    term = student.regularizers.divergence(head_of(student, inputs["head"]), a, b)
    found = torch.autograd.grad(term, [a, b], allow_unused=True) if term.requires_grad else (None, None)
    zeros = torch.zeros_like(a)
    return {
        "the term": term,
        "what a learns": zeros if found[0] is None else found[0],
        "what b learns": zeros if found[1] is None else found[1],
    }


def r_drop(student, inputs):
    return {"the term": student.regularizers.r_drop(head_of(student, inputs["head"]), inputs["logits"])}


def smoothness(student, inputs):
    """Embedded tokens that are examples themselves, under a linear model; values are divided by radius^2."""
    head = head_of(student, inputs["head"])
    weights, embedded = inputs["w"].clone().requires_grad_(), inputs["embedded"].clone().requires_grad_()
    classify = lambda x: {"task": x @ weights}
    radius = inputs["radius"]
    found = student.regularizers.smoothness(
        classify, embedded, classify(embedded), {"task": head}, 1e-7, inputs["step_size"], radius
    )
    learns = torch.autograd.grad(found["task"], [weights, embedded], allow_unused=True)
    return {
        "the term over radius^2": found["task"] / radius**2,
        "the model learns": torch.tensor(float(learns[0] is not None and bool((learns[0].abs() > 0).any()))),
        "the embeddings learn": torch.tensor(float(learns[1] is not None and bool((learns[1].abs() > 0).any()))),
    }
