"""How a6 is asked: a join of two vectors, or one method of a head."""

import torch


def join(student, inputs):
    return {"the joint vectors": getattr(student.pairs, inputs["join"])(inputs["u"], inputs["v"])}


def join_gradient(student, inputs):
    """What u learns from a weighted sum; finite even where a vector is zero."""
    u = inputs["u"].clone().requires_grad_()
    total = (getattr(student.pairs, inputs["join"])(u, inputs["v"]) * inputs["w"]).sum()
    (found,) = torch.autograd.grad(total, u, allow_unused=True)
    return {"the gradient of u": torch.zeros_like(u) if found is None else found}


def method(student, inputs):
    head = getattr(student.heads, inputs["head"])(*inputs["args"], **inputs["kwargs"])
    return {"the result": getattr(head, inputs["method"])(*inputs["given"])}


def class_of_score(student, inputs):
    return {"the classes": student.heads.class_of_score(inputs["scores"], inputs["range"], inputs["classes"])}
