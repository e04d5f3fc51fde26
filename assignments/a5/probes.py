"""How a5 is asked: one method of a head, on given embeddings or logits."""

import torch

from assignments.school.probing import marked_dropout


def joint(student, inputs):
    """The joint vectors in training mode, with a square in place of dropout."""
    head = student.heads.Head(inputs["hidden"], 3, inputs["dropout"], inputs["join"]).train(inputs["train"])
    with marked_dropout(*student.dropouts):
        return {"the joint vectors": head.joint(inputs["embeddings"])}


def refuses(student, inputs):
    """Whether a number of sequences that the join does not take is a ValueError, and the right number is not."""
    head, told = student.heads.Head(inputs["hidden"], 3, 0.0, inputs["join"]), {}
    told["the joint vectors of the right number"] = head.joint(inputs["right"])
    try:
        head.joint(inputs["embeddings"])
    except ValueError:
        return {**told, "refused": torch.tensor(1.0)}
    return {**told, "refused": torch.tensor(0.0)}


def method(student, inputs):
    head = student.heads.SoftmaxHead(4, inputs["classes"], 0.0)
    return {"the result": getattr(head, inputs["method"])(*inputs["given"])}
