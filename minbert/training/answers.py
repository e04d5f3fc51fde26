"""A saved run as something to ask: texts in, the answers of its heads out.

    from minbert import load

    model = load("runs/NAME")
    answers = model.predict(["A fine film.", "A dull one."])
    answers["sst"].labels               # ["positive", "somewhat negative"]
    answers["sst"].probabilities        # [2, 5], columns in the order of answers["sst"].classes
    model.predict([("How do I cook rice?", "How is rice cooked?")])["sts"].scores         # [4.71]

Shapes: n texts or pairs, K classes of a head.
"""

from dataclasses import dataclass

import numpy as np

from minbert import evaluation
from minbert.files import UserError, short

PORTION = 20_000  # texts whose embeddings are held at a time; within it they are sorted by length
KINDS = {1: "a sentence", 2: "a pair of sentences"}


@dataclass(frozen=True)
class Answers:
    """What the head of one `task` (datasets.Task) says of n texts, by its evaluation.Predictions.

    labels         the n class names, None of a task with a score
    scores         [n] float64 (of float32's precision), None of a task with classes
    probabilities  [n, K] float32, None of a head without classes
    classes        what the K columns stand for: class names, or the scores that a head tells apart
    """

    task: object
    predictions: evaluation.Predictions

    def __len__(self):
        return len(self.predictions)

    @property
    def labels(self):
        return None if self.task.kind == "regression" else [self.one(row) for row in range(len(self))]

    @property
    def scores(self):
        return self.predictions.values if self.task.kind == "regression" else None

    @property
    def probabilities(self):
        return self.predictions.probabilities

    @property
    def classes(self):
        if self.probabilities is None:
            return ()
        if self.task.kind != "regression":
            return self.task.labels
        return tuple(np.linspace(*self.task.score_range, self.probabilities.shape[1]).tolist())

    def one(self, row):
        """One text's label, or its score with float32's digits."""
        value = self.predictions.values[row]
        return digits(value) if self.task.kind == "regression" else self.task.labels[value]

    def of(self, row):
        """One text's answer as a dict that JSON holds: {"label" or "score": ..., "probabilities": {class: ...}}."""
        said = {"score" if self.task.kind == "regression" else "label": self.one(row)}
        if self.probabilities is not None:
            names = (name if isinstance(name, str) else f"{name:g}" for name in self.classes)
            said["probabilities"] = dict(zip(names, map(digits, self.probabilities[row]), strict=True))
        return said


def digits(value):
    """A float32 with as many digits as it has, as a Python float: 0.1, and not 0.10000000149011612."""
    return float(str(np.float32(value)))


def heads_by_kind(model):
    """{texts of an example: names of the tasks whose heads read such}."""
    return {count: [name for name, task in model.tasks.items() if len(task.text) == count] for count in KINDS}


def answer(model, tokenizer, names, texts, max_length):
    """{task: Answers} of the heads `names` for n >= 1 `texts`, tuples that all have as many texts as these heads read.
    The trunk reads each text once, whatever the number of heads."""
    parts = []
    for start in range(0, len(texts), PORTION):
        sequences = tokenizer.encode(texts[start : start + PORTION], max_length, fused=model.fused)
        embedded = evaluation.embeddings(model, names[0], sequences)  # the same for every head
        parts.append({name: evaluation.read_out(model, name, embedded) for name in names})
    return {name: Answers(model.tasks[name], _joined([part[name] for part in parts])) for name in names}


def _joined(parts):
    """Predictions of several portions as one."""
    if len(parts) == 1:
        return parts[0]
    values = np.concatenate([part.values for part in parts])
    has_classes = parts[0].probabilities is not None
    return evaluation.Predictions(
        values, np.concatenate([part.probabilities for part in parts]) if has_classes else None
    )


class SavedModel:
    """The best model of a finished run, as `minbert.load` gives it. tasks: {name: datasets.Task} of its heads."""

    def __init__(self, model, tokenizer, max_length):
        self.model, self.tokenizer, self.max_length = model.eval(), tokenizer, max_length

    @property
    def tasks(self):
        return self.model.tasks

    def predict(self, texts):
        """{task: Answers} for a list of texts, by every head on single texts; or for a list of pairs (a, b), by every
        head on pairs. In their order; an empty list has no answers, {}.

        Texts longer than the run's --max_length are cut as in training. Raises UserError for what is no such list,
        for texts and pairs in one list, and where the run has no head for them.
        """
        if isinstance(texts, str):
            raise UserError('predict takes a list: model.predict(["A fine film."])')
        texts = [(text,) if isinstance(text, str) else text for text in texts]
        if not texts:
            return {}
        _check(texts)
        heads = heads_by_kind(self.model)
        if not (names := heads[len(texts[0])]):
            raise UserError(f"{KINDS[len(texts[0])]}: this model's heads, {', '.join(self.tasks)}, read none")
        return answer(self.model, self.tokenizer, names, [tuple(text) for text in texts], self.max_length)


def _check(texts):
    """UserError for the first that is neither a text nor a pair of texts, or is not what the others are."""
    for row, text in enumerate(texts):
        if not isinstance(text, (tuple, list)) or len(text) not in KINDS or not all(isinstance(t, str) for t in text):
            raise UserError(f"texts[{row}] is {short(text, 40)}; expected a text, or a tuple of two texts")
        if len(text) != len(texts[0]):
            raise UserError(f"texts[{row}] is {KINDS[len(text)]}, texts[0] is not: ask for the two kinds apart")
