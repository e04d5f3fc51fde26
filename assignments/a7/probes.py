"""How a7 is asked: labels and predictions in, vectors out; names as numbers where a number is needed."""

import torch


def predictions_of(inputs):
    """{teacher: (label names, probabilities)} as labeling.py takes them."""
    return {name: (names, table.numpy()) for name, (names, table) in inputs["predictions"].items()}


def defaults(student, inputs):
    return {"the vectors": student.labeling.defaults(inputs["scheme"], inputs["n"], predictions_of(inputs))}


def targets(student, inputs):
    flags = {"literal_eq20": True} if inputs["literal"] else {}
    found = student.labeling.targets(
        inputs["scheme"], inputs["task"], inputs["labels"], predictions_of(inputs), **flags
    )
    return {"the targets": found}


def targets_refuse(student, inputs):
    """Whether a mistake of the caller's is a UserError."""
    try:
        student.labeling.targets(
            inputs["scheme"], inputs["task"], inputs["labels"], predictions_of(inputs), **inputs["flags"]
        )
    except Exception as error:
        return {"refused with a UserError": torch.tensor(float(type(error).__name__ == "UserError"))}
    return {"refused with a UserError": torch.tensor(0.0)}


def restricted(student, inputs):
    return {"the shares": student.labeling._restricted(inputs["guess"].numpy(), inputs["answers"].numpy())}


def rounded_if(student, inputs):
    scheme = student.labeling.SCHEMES[inputs["scheme"]]
    return {"the values": student.labeling._rounded_if(scheme, inputs["values"].numpy())}


def decode(student, inputs):
    """The labels as their places in inputs["labels"]."""
    found = student.labeling.decode(inputs["scheme"], inputs["task"], inputs["outputs"].numpy(), inputs["rule"])
    return {"the labels": torch.tensor([float(inputs["labels"].index(label)) for label in found])}


def best_attempt(student, inputs):
    best, mean = student.labeling.best_attempt(inputs["accuracies"])
    return {
        "the attempt": torch.tensor(float(list(inputs["accuracies"]).index(best))),
        "its mean": torch.tensor(float(mean)),
    }


def best_attempt_refuses(student, inputs):
    try:
        student.labeling.best_attempt(
            {name: {task: float(x) for task, x in scores.items()} for name, scores in inputs["accuracies"].items()}
        )
    except Exception as error:
        return {"refused with a UserError": torch.tensor(float(type(error).__name__ == "UserError"))}
    return {"refused with a UserError": torch.tensor(0.0)}
