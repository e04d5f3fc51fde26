"""For the tests of learning from unlabelled text: files that --uda and --unlabeled read, made for the tiny data."""

import numpy as np
import tiny

from datasets import TASKS, read

COURSE = ("sst", "quora", "sts")
FRESH_ROWS = {"sst": 12, "quora": 19, "sts": 11}


def training_texts(data, task):
    """{id: texts} of a task's training file."""
    examples = read(TASKS[task], data / TASKS[task].files["train"], "train")
    return dict(zip(examples.ids, examples.texts, strict=True))


def fresh_texts(task, seed=5):
    """{id: texts} that no file of the tiny data has."""
    random = np.random.default_rng(seed)
    return {
        f"fresh{row}": tuple(" ".join(random.choice(tiny.WORDS, random.integers(3, 17))) for _ in TASKS[task].text)
        for row in range(FRESH_ROWS[task])
    }


def copied(texts):
    """Other words in another order, as augmentation.py would make them."""
    return {id: tuple(" ".join([*text.split()[::-1], "film"]) for text in both) for id, both in texts.items()}


def written(path, texts):
    """The texts as a table in augmentation.py's form, which --unlabeled reads too."""
    columns = ("sentence",) if len(next(iter(texts.values()))) == 1 else ("sentence1", "sentence2")
    lines = ["\t".join(["id", *columns, "method"]), *("\t".join([id, *both, "none"]) for id, both in texts.items())]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def flags_for(folder, data):
    """{"uda": flags with copies of the training texts, "fresh": with new texts, "fresh_uda": with copies of these,
    "same": with copies that changed nothing}, for the course's three tasks."""
    own = {task: training_texts(data, task) for task in COURSE}
    new = {task: fresh_texts(task) for task in COURSE}
    kinds = {
        "uda": ("--uda", {task: copied(texts) for task, texts in own.items()}),
        "same": ("--uda", own),
        "fresh": ("--unlabeled", new),
        "fresh_uda": ("--uda", {task: copied(texts) for task, texts in new.items()}),
    }
    return {
        name: f"{flag} " + ",".join(f"{task}={written(folder / f'{task}-{name}.tsv', of[task])}" for task in COURSE)
        for name, (flag, of) in kinds.items()
    }
