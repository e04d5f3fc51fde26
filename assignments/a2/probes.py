"""How a2 is asked: self-attention and a layer on padded batches, with given weights."""

import torch

from assignments.school.probing import marked_dropout


def self_attention(student, inputs, train=False):
    return {"the result": student.attention(inputs["sizes"], inputs["weights"], inputs["x"], inputs["mask"], train)}


def in_small_blocks(student, inputs):
    """Several blocks of sequences: their results have to come back in packed order."""
    given = inputs["sizes"], inputs["weights"], inputs["x"], inputs["mask"]
    return {"the result": student.attention(*given, block_scores=20)}


def add_norm(student, inputs, train=False):
    return {"the result": student.add_norm(inputs["sizes"], inputs["weights"], inputs["x"], inputs["output"], train)}


def layer(student, inputs, train=False):
    return {"the result": student.layer(inputs["sizes"], inputs["weights"], inputs["x"], inputs["mask"], train)}


def alone(student, inputs):
    """Each sequence by itself, in place of all in one batch."""
    rows = []
    for x, mask in zip(inputs["x"], inputs["mask"], strict=True):
        n = int(mask.sum())
        one = {**inputs, "x": x[None, :n], "mask": mask[None, :n]}
        found = torch.zeros_like(x)
        found[:n] = self_attention(student, one)["the result"][0]
        rows.append(found)
    return {"the result": torch.stack(rows)}


def gradient(student, inputs, ask=layer):
    x = inputs["x"].clone().requires_grad_()
    result = ask(student, {**inputs, "x": x})["the result"]
    (found,) = torch.autograd.grad((result * inputs["w"]).sum(), x, allow_unused=True)
    return {"the gradient of x": torch.zeros_like(x) if found is None else found}


def add_norm_dropout(student, inputs):
    return _marked(add_norm, student, inputs)


def layer_dropout(student, inputs):
    return _marked(layer, student, inputs)


def layer_in_eval_mode(student, inputs):
    with marked_dropout(*student.dropouts):
        return layer(student, inputs)


def _marked(ask, student, inputs):
    with marked_dropout(*student.dropouts) as rates:
        told = ask(student, inputs, train=True)
    return {**told, "how often dropout acted": torch.tensor(float(len(rates)))}
