"""How a3 is asked: the embedding, the walk through the layers, the pooler, and all of it together."""

import torch

from assignments.school.probing import marked_dropout


def embed(student, inputs, train=False):
    model = student.model(inputs["sizes"], inputs["weights"], train)
    return {"the embedding": student.embed(model, inputs["ids"], inputs["types"])}


def embed_dropout(student, inputs):
    with marked_dropout(*student.dropouts) as rates:
        told = embed(student, inputs, train=True)
    return {**told, "how often dropout acted": torch.tensor(float(len(rates)))}


def embed_in_eval_mode(student, inputs):
    with marked_dropout(*student.dropouts):
        return embed(student, inputs)


def later_positions(student, inputs):
    """Tokens whose positions are given, and are not 0, 1, 2, ..."""
    model = student.model(inputs["sizes"], inputs["weights"])
    return {
        "the embedding": model.embed(inputs["ids"].flatten(), inputs["positions"].flatten(), inputs["types"].flatten())
    }


def encode(student, inputs):
    model = student.model(inputs["sizes"], inputs["weights"])
    return {"the last layer's states": student.encode(model, inputs["x"], inputs["mask"])}


def pool(student, inputs):
    model = student.model(inputs["sizes"], inputs["weights"])
    return {"the pooled vectors": model.pool(inputs["cls"])}
