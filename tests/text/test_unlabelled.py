"""Which training rows keep their labels, and how files of texts and of changed copies find their rows."""

import collections
import gzip
import json
from dataclasses import replace

import numpy as np
import pytest
import tiny
import unlabelled_text
from unlabelled_text import written

import augmentation
from datasets import TASKS, Examples, Task
from minbert.files import UserError
from minbert.text.unlabelled import read_copies, read_unlabelled, split_labels

STARS = Task("stars", "classification", ("0", "1", "2", "3"), ("text",), "y", "accuracy", {}, "tsv")


def examples_of(task, labels):
    texts = [tuple(f"text {row}" for _ in task.text) for row in range(len(labels))]
    dtype = np.float32 if task.kind == "regression" else np.int64
    return Examples(task, "train", "file", [f"id{row}" for row in range(len(labels))], texts, np.array(labels, dtype))


def with_labels(examples):
    return dict(zip(examples.ids, examples.labels.tolist(), strict=True))


def many_texts(count=120, seed=1):
    random = np.random.default_rng(seed)
    return {f"id{row}": (" ".join(random.choice(tiny.WORDS, 9)),) for row in range(count)}


def test_labels_go_with_their_texts_alone(tmp_path):
    """An id that comes twice has no copy that is surely its own; labels that no copy has are named."""
    texts = {f"id{row}": (f"copy {row}",) for row in range(10)}
    whole = replace(examples_of(TASKS["sst"], [0, 1, 2, 3, 4] * 2), path="labels.csv")
    path = written(tmp_path / "copies.tsv", texts)
    _, copies, said = read_copies(TASKS["sst"], path, whole, {"id1", "id6"}, "train_on_augmented", "labelled")
    assert with_labels(copies) == {id: label for id, label in with_labels(whole).items() if id not in ("id1", "id6")}
    assert copies.texts == [texts[id] for id in copies.ids]
    assert (copies.path, copies.labels_path) == (path, "labels.csv")
    assert said.endswith("0 of them unchanged; none of label somewhat negative")
    assert read_copies(TASKS["sst"], path, replace(whole, labels=None))[1].labels_path is None


@pytest.mark.parametrize("flag", ["uda", "train_on_augmented"])
def test_ids_that_match_by_chance_are_told_by_the_texts(tmp_path, flag):
    """Row numbers are ids in every file: copies of other texts, or of these a row further, are refused."""
    texts = many_texts()
    whole = replace(examples_of(TASKS["sst"], [0] * len(texts)), texts=[*texts.values()])
    own = written(tmp_path / "own.tsv", unlabelled_text.copied(texts))
    assert len(read_copies(TASKS["sst"], own, whole, (), flag)[1]) == len(texts)
    ids, shifted = [*texts], [*unlabelled_text.copied(texts).values()]
    for name, wrong in (
        ("other", many_texts(seed=2)),
        ("shifted", dict(zip(ids, shifted[1:] + shifted[:1], strict=True))),
    ):
        path = written(tmp_path / f"{name}.tsv", wrong)
        with pytest.raises(UserError, match=f"--{flag} sst=.*share no more words with the texts of their ids than"):
            read_copies(TASKS["sst"], path, whole, (), flag)


# --------------------------------------------------------------------------------------------------- split_labels


def test_as_many_of_each_class_and_all_of_a_class_with_fewer():
    labels = np.random.default_rng(0).permutation([0] * 40 + [1] * 3 + [2] * 25)  # nothing of class 3
    kept, rest = split_labels(examples_of(STARS, labels), 10, seed=1)
    assert collections.Counter(kept.labels.tolist()) == {0: 10, 1: 3, 2: 10}
    assert len(rest) == 68 - 23
    assert rest.labels is None


def test_both_parts_are_rows_of_the_whole_in_its_order():
    whole = examples_of(STARS, np.random.default_rng(0).integers(0, 4, 50))
    kept, rest = split_labels(whole, 4, seed=1)
    assert with_labels(kept).items() <= with_labels(whole).items()
    assert sorted([*kept.ids, *rest.ids]) == sorted(whole.ids)  # disjoint and complete
    for part in (kept, rest):
        rows = [int(id[2:]) for id in part.ids]
        assert rows == sorted(rows)
        assert part.texts == [whole.texts[row] for row in rows]
    assert whole.labels is not None
    assert len(whole) == 50


def test_the_seed_decides_and_more_labels_hold_the_fewer():
    whole = examples_of(STARS, np.random.default_rng(0).integers(0, 4, 80))
    draws = {seed: split_labels(whole, 3, seed)[0].ids for seed in (0, 1, 2, 2**62 + 5)}
    assert draws[1] == split_labels(whole, 3, 1)[0].ids
    assert len({tuple(ids) for ids in draws.values()}) == 4
    assert set(draws[1]) < set(split_labels(whole, 6, 1)[0].ids)
    # fixed numbers: these draws have results recorded with them
    assert split_labels(examples_of(STARS, [0, 1] * 10), 2, 11711)[0].ids == ["id1", "id2", "id13", "id14"]


def test_every_row_is_kept_as_often():
    whole, counts = examples_of(STARS, [0] * 20 + [1] * 20), collections.Counter()
    for seed in range(400):
        counts.update(split_labels(whole, 5, seed)[0].ids)
    assert max(abs(counts[id] - 100) for id in whole.ids) < 4.5 * np.sqrt(400 * 0.25 * 0.75)


def test_scores_have_26_classes_whatever_float32_makes_of_them():
    """Class k holds the scores from 0.2 k - 0.1 up to but not 0.2 k + 0.1: in hundredths, 10 for k = 0, then 20 each,
    11 at the end. A score halfway (0.1, 0.3, ... 4.9) that float32 holds as a little less must not fall down one: then
    a class would have 21 of them, and one of 20 would be left over below."""
    hundredths = np.arange(501)
    whole = examples_of(TASKS["sts"], hundredths / 100)
    classes = (hundredths + 10) // 20
    assert len(set(classes)) == 26
    kept, rest = split_labels(whole, 19, seed=3)
    left = collections.Counter(classes[int(id[2:])] for id in rest.ids)
    assert left == dict.fromkeys(range(1, 25), 1)
    with pytest.raises(UserError, match="no more than that"):
        split_labels(whole, 20, seed=3)
    kept, _ = split_labels(whole, 1, seed=3)
    assert sorted(classes[int(id[2:])] for id in kept.ids) == list(range(26))
    assert kept.labels.dtype == np.float32


def test_where_nothing_would_be_left():
    with pytest.raises(UserError, match="--labels_per_class 2: stars has no more than that, nothing is left"):
        split_labels(examples_of(STARS, [0, 1, 1, 2]), 2, seed=1)


# -------------------------------------------------------------------------------------------------- files of texts


def test_forms_of_unlabelled_files(tmp_path):
    texts = {"a": ("the dog",), "b": ("a cat",)}
    table = written(tmp_path / "a.tsv", texts)
    lines = [json.dumps({"id": id, "text": text, "label": 1}) for id, (text,) in texts.items()]
    plain, packed, quoted = (tmp_path / name for name in ("a.jsonl", "a.jsonl.gz", "a.csv"))
    plain.write_text("\n".join(lines) + "\n")
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    quoted.write_text('\tid\tsentence\tsentiment\n0\ta\t"the dog"\t1\n1\tb\ta cat\t3\n')
    for path in (table, plain, packed, quoted):
        examples, _ = read_unlabelled(TASKS["sst"], path)
        assert dict(zip(examples.ids, examples.texts, strict=True)) == texts
        assert (examples.labels, examples.split, examples.path, examples.task) == (
            None,
            "unlabelled",
            path,
            TASKS["sst"],
        )


@pytest.mark.parametrize("name", ["quora", "sts", "mnli"])
def test_pairs(tmp_path, name):
    texts = {"7": ("the dog", "a cat"), "8": ("one", "two")}
    examples, _ = read_unlabelled(TASKS[name], written(tmp_path / "a.tsv", texts))
    assert (examples.ids, examples.texts) == (["7", "8"], [*texts.values()])


def test_a_file_of_the_other_form_is_refused(tmp_path):
    single, pairs = written(tmp_path / "one", {"a": ("x",)}), written(tmp_path / "two", {"a": ("x", "y")})
    with pytest.raises(UserError, match="one: single sentences, but quora reads pairs"):
        read_unlabelled(TASKS["quora"], single)
    with pytest.raises(UserError, match="two: pairs, but sst reads single sentences"):
        read_unlabelled(TASKS["sst"], pairs)
    with pytest.raises(UserError, match="two: pairs, but sst reads single sentences"):
        read_copies(TASKS["sst"], pairs, examples_of(TASKS["sst"], [1]))


# -------------------------------------------------------------------------------------------------- files of copies


def originals(tmp_path, number=10):
    texts = {f"id{i}": (f"the {i}",) for i in range(number)}
    return read_unlabelled(TASKS["sst"], written(tmp_path / "originals.tsv", texts))[0]


def test_rows_left_out_are_told(tmp_path):
    texts = {"a": ("x",), "b": ("",), "c": ("y",)}
    examples, skipped = read_unlabelled(TASKS["sst"], written(tmp_path / "a.tsv", texts))
    assert examples.ids == ["a", "c"]
    assert skipped == ["line 3: no value in column 'sentence'"]


def test_copies_find_their_originals_by_id_in_any_order(tmp_path):
    texts = {f"id{i}": (f"copy {i}",) for i in (9, 3, 0, 7, 5, 1)} | {"other": ("of no use",)}
    path = written(tmp_path / "copies.tsv", texts)
    kept, copies, said = read_copies(TASKS["sst"], path, originals(tmp_path))
    assert kept.ids == copies.ids == [f"id{i}" for i in (0, 1, 3, 5, 7, 9)]
    assert kept.texts == [(f"the {id[2:]}",) for id in kept.ids]
    assert copies.texts == [(f"copy {id[2:]}",) for id in kept.ids]
    assert (copies.split, copies.path, copies.labels, kept.labels) == ("augmented", path, None, None)
    assert said == f"6 of 10 unlabelled texts have a copy in {path}, 0 of them unchanged"


def test_copies_that_changed_nothing_are_counted(tmp_path):
    texts = {f"id{i}": (f"the {i}",) if i < 4 else ("other",) for i in range(10)}
    _, _, said = read_copies(TASKS["sst"], written(tmp_path / "copies.tsv", texts), originals(tmp_path))
    assert said.endswith(", 4 of them unchanged")


def test_a_training_file_s_own_labels_are_taken_off(tmp_path):
    whole = examples_of(TASKS["sst"], [0, 1, 2, 3])
    path = written(tmp_path / "copies.tsv", {f"id{i}": ("x",) for i in range(4)})
    kept, copies, _ = read_copies(TASKS["sst"], path, replace(whole, labels=None))
    assert (kept.labels, copies.labels) == (None, None)
    assert whole.labels.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(("matched", "refused"), [(0, True), (4, True), (5, False), (10, False)])
def test_a_file_of_other_texts_is_refused_below_half(tmp_path, matched, refused):
    texts = {f"id{i}" if i < matched else f"strange{i}": ("x",) for i in range(10)}
    path = written(tmp_path / "copies.tsv", texts)
    if not refused:
        assert len(read_copies(TASKS["sst"], path, originals(tmp_path))[0]) == matched
        return
    with pytest.raises(UserError) as error:
        read_copies(TASKS["sst"], path, originals(tmp_path))
    assert f"--uda sst={path}: {matched} of 10 unlabelled texts have a copy there by id" in str(error.value)
    assert "\n" not in str(error.value)


def test_an_empty_copy_is_counted_and_leaves_its_original_out(tmp_path):
    texts = {f"id{i}": ("",) if i in (2, 6) else ("x",) for i in range(10)}
    kept, copies, said = read_copies(TASKS["sst"], written(tmp_path / "copies.tsv", texts), originals(tmp_path))
    assert kept.ids == copies.ids == [f"id{i}" for i in (0, 1, 3, 4, 5, 7, 8, 9)]
    assert said.endswith("; 2 rows there skipped (line 4: no value in column 'sentence')")
    pairs = {f"{i}": ("x", "" if i == 1 else "y") for i in range(4)}
    whole, _ = read_unlabelled(TASKS["sts"], written(tmp_path / "pairs.tsv", dict.fromkeys(pairs, ("a", "b"))))
    assert read_copies(TASKS["sts"], written(tmp_path / "more.tsv", pairs), whole)[1].ids == ["0", "2", "3"]


def test_the_training_files_of_the_course_match_the_copies_made_from_them(tmp_path, tiny_data):
    for name in ("sst", "quora", "sts"):
        source, out = tiny_data / TASKS[name].files["train"], tmp_path / f"{name}.tsv"
        assert augmentation.main(["--method", "eda", "--in", str(source), "--task", name, "--out", str(out)]) == 0
        whole, _ = read_unlabelled(TASKS[name], source)
        assert len(read_copies(TASKS[name], out, whole)[1]) == tiny.ROWS[name][0]
        assert whole.texts == [*unlabelled_text.training_texts(tiny_data, name).values()]
