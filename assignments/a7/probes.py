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


def refused(right, wrong):
    """Whether a mistake of the caller's is a UserError; with the answer to a right call, which is none."""
    told = {"the answer to a right call": right()}
    try:
        wrong()
    except Exception as error:
        return {**told, "refused with a UserError": torch.tensor(float(type(error).__name__ == "UserError"))}
    return {**told, "refused with a UserError": torch.tensor(0.0)}


def targets_refuse(student, inputs):
    asked = inputs["scheme"], inputs["task"]
    ask = lambda labels, **flags: student.labeling.targets(*asked, labels, predictions_of(inputs), **flags)
    return refused(lambda: ask(["entailment"]), lambda: ask(inputs["labels"], **inputs["flags"]))


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


def best_attempt_refuse(student, inputs):
    numbers = {name: {task: float(x) for task, x in scores.items()} for name, scores in inputs["accuracies"].items()}
    best = student.labeling.best_attempt
    return refused(lambda: torch.tensor(float(best({"x": {"a": 0.25}, "y": {"a": 0.5}})[1])), lambda: best(numbers))
