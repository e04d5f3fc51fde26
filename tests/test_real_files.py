"""Readers against csv.DictReader on the real files, where they are at hand."""

import csv
import gzip
import json

import numpy as np
import pytest
from real_data import needs, real

from datasets import TASKS, read

# Of sets that are the same wherever they come from: rows that can be used, and rows skipped.
ROWS = {
    "sst": {"train": (8544, 0), "dev": (1101, 0), "test": (2210, 0)},
    "cfimdb": {"train": (1707, 0), "dev": (245, 0), "test": (488, 0)},
    "sts": {"train": (6040, 0), "dev": (863, 0), "test": (1725, 0)},
    "rte": {"train": (2490, 0), "dev": (277, 0), "test": (3000, 0)},
    "sst2": {"train": (67349, 0), "dev": (872, 0)},
}
SPLITS = {
    **{name: [*splits] for name, splits in ROWS.items()},
    "quora": ["train", "dev", "test"],
    "qqp": ["train", "dev"],
    "mnli": ["train", "dev", "dev_mismatched"],
}


def place_of(name, split):
    """The folder and the file of a task's split, as `needs` and `real` take them."""
    task = TASKS[name]
    return {"csv": "cs224n", "tsv": "glue", "jsonl": "imdb"}[task.format], task.files[split]


def real_files(splits):
    return [
        pytest.param(name, split, marks=needs(*place_of(name, split)), id=f"{name}-{split}")
        for name in splits
        for split in splits[name]
    ]


@pytest.mark.parametrize(("name", "split"), real_files(SPLITS))
def test_real_files_equal_dictreader(name, split):
    task, path = TASKS[name], real(*place_of(name, split))
    examples = read(task, path, split)
    quoting = csv.QUOTE_MINIMAL if task.format == "csv" else csv.QUOTE_NONE
    with open(path, encoding="utf-8", newline="") as f:
        rows = list(csv.DictReader(f, delimiter="\t", quoting=quoting))
    texts = [[(row[column] or "").strip() for column in task.text] for row in rows]
    labels = ["no label is looked at" if split == "test" else (row[task.label] or "").strip(" -") for row in rows]
    kept = [
        row for row, text, label in zip(rows, texts, labels, strict=True) if all(text) and label and None not in row
    ]
    assert (len(examples), len(examples.skipped)) == ROWS.get(name, {}).get(split, (len(kept), len(rows) - len(kept)))
    assert examples.texts == [tuple(row[column].strip() for column in task.text) for row in kept]
    if "id" in kept[0] or "index" in kept[0]:
        assert examples.ids == [row.get("id") or row.get("index") for row in kept]
    if split == "test":
        assert examples.labels is None
    elif name == "sts":
        np.testing.assert_allclose(examples.labels, [float(row["similarity"]) for row in kept], rtol=1e-7)
    elif task.labels[0] in ("entailment",):
        assert [task.labels[i] for i in examples.labels] == [row[task.label] for row in kept]
    else:
        assert examples.labels.tolist() == [int(float(row[task.label])) for row in kept]


@pytest.mark.parametrize(("name", "split"), real_files({"imdb": ["train", "dev"]}))
def test_real_reviews(name, split):
    path = real(*place_of(name, split))
    examples = read(TASKS[name], path, split)
    with gzip.open(path, "rt", encoding="utf-8") as f:
        rows = [json.loads(line) for line in f]
    assert examples.ids == [row["id"] for row in rows]
    assert examples.labels.tolist() == [int(row["label"]) for row in rows]
    assert examples.texts == [(row["text"].replace("<br />", " ").strip(),) for row in rows]
    assert set(examples.labels.tolist()) == {0, 1}
    assert not examples.skipped


@needs(*place_of("quora", "train"))
@needs(*place_of("qqp", "train"))
def test_quora_and_qqp_call_the_same_label_duplicate():
    quora, qqp = (read(TASKS[name], real(*place_of(name, "train")), "train") for name in ("quora", "qqp"))
    for examples in (quora, qqp):
        assert 0.3 < examples.labels.mean() < 0.45  # duplicates are fewer
    labels = dict(zip(qqp.texts, qqp.labels.tolist(), strict=True))
    both = [
        (labels[text], label) for text, label in zip(quora.texts, quora.labels.tolist(), strict=True) if text in labels
    ]
    assert len(both) > 1000
    assert np.mean([a == b for a, b in both]) > 0.99
