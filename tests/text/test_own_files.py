"""Files that somebody brings: their form, their rows, and the classes found in them."""

import gzip

import numpy as np
import pytest
import tiny
from own_text import NAMES, flags_of, rows_of, written

from datasets import Task
from minbert.files import UserError
from minbert.text.own_files import form_of, in_bars, labels_in, read_own, with_labels


def task_of(path, labels=(), text=("subject",), **more):
    kind = "regression" if "score_range" in more else "classification"
    return Task("own", kind, tuple(labels), text, "kind", "accuracy", {"train": path}, "", own=True, **more)


@pytest.mark.parametrize(
    ("name", "content", "form"),
    [
        ("a.csv", "kind,subject\n", "comma"),
        ("a.txt", "\n\n kind , subject \n", "comma"),
        ("a.csv", "kind\tsubject\n", "csv"),
        ("a.tsv", "kind\tsubject\n", "tsv"),
        ("a.txt", "kind\tsubject\n", "tsv"),
        ("a.csv", '"kind","subject","a, b"\n', "comma"),
        ("a.jsonl", '{"kind": 1}\n', "jsonl"),
        ("a.txt", '{"kind": 1}\n', "jsonl"),
        ("a.csv", "\ufeffkind,subject\n", "comma"),
    ],
)
def test_a_file_tells_its_form(tmp_path, name, content, form):
    (tmp_path / name).write_text(content, encoding="utf-8")
    assert form_of(tmp_path / name, ["subject", "kind"]) == form


def test_a_packed_file(tmp_path):
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"kind,subject\nx,the dog\n"))
    assert read_own(task_of(None, ["x", "y"]), tmp_path / "a.csv.gz", "dev").texts == [("the dog",)]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("kind,text\na,b\n", "line 1: no column 'subject' in the header; there are 'kind, text'"),
        ("\nkind;subject\n", "line 2: semicolons between the columns; save it with commas or tabs"),
        ("kind,subject,kind\n", "line 1: two columns 'kind' in the header"),
        ("\n  \n", "the file is empty"),
    ],
)
def test_a_file_without_the_columns(tmp_path, content, says):
    (tmp_path / "a.csv").write_text(content)
    with pytest.raises(UserError) as refused:
        form_of(tmp_path / "a.csv", ["subject", "kind"])
    assert says in str(refused.value)


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl"])
def test_every_form_has_the_same_rows(tmp_path, suffix):
    rows = rows_of(20)
    path = written(tmp_path / f"a{suffix}", rows)
    examples = read_own(task_of(path, NAMES), path, "train")
    assert examples.texts == [(row["subject"],) for row in rows]
    assert [NAMES[label] for label in examples.labels] == [row["kind"] for row in rows]
    assert examples.skipped == []


ROWS = """id,subject,kind
1,"Hello, you said ""no"", twice",spam
2,,work
3,of several lines as it is,spam
4,"of several
lines, as it is",work
5,unquoted, comma,work
6,the end,work mostly
"""


def test_rows_that_cannot_be_examples_are_counted_with_their_lines(tmp_path):
    (tmp_path / "a.csv").write_text(ROWS)
    examples = read_own(task_of(None, ["spam", "work"]), tmp_path / "a.csv", "dev")
    assert examples.ids == ["1", "3", "4"]
    assert examples.texts[0] == ('Hello, you said "no", twice',)
    assert examples.texts[2] == ("of several\nlines, as it is",)
    assert examples.skipped == [
        (3, "no value in column 'subject'"),
        (7, "4 cells under a header of 3"),
        (8, "'work mostly' is no label of the training file"),
    ]
    assert examples.broken == [(5, 6)]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ('subject,kind\n"left open,a\nthe dog,b\n"the cat",a\n', "line 2: ',' expected after '\"'"),
        ('subject,kind\nthe dog,a\n"left open,b\n', "line 3: unexpected end of data"),
    ],
)
def test_a_quote_that_is_left_open_loses_no_row_in_silence(tmp_path, content, says):
    (tmp_path / "a.csv").write_text(content)
    with pytest.raises(UserError) as refused:
        read_own(task_of(None, ["a", "b"]), tmp_path / "a.csv", "train")
    assert says in str(refused.value)
    assert "comma-separated text; a quote in a cell is written twice" in str(refused.value)


def test_a_file_of_other_labels_alone(tmp_path):
    path = written(tmp_path / "a.csv", rows_of(3, names=("x", "y")))
    with pytest.raises(UserError, match=r"no usable row.*line 2: 'x' is no label of the training file"):
        read_own(task_of(None, NAMES), path, "dev")


def test_scores_are_checked_as_everywhere(tmp_path):
    path = written(tmp_path / "a.csv", [{"subject": "a dog", "kind": "10.5"}])
    with pytest.raises(UserError, match=r"a\.csv, line 2, column 'kind': '10.5'; expected a score from 0 to 10"):
        read_own(task_of(None, score_range=(0.0, 10.0)), path, "train")


def test_a_test_file_needs_no_labels(tmp_path):
    path = written(tmp_path / "a.csv", [{"subject": "a dog"}])
    examples = read_own(task_of(None, NAMES), path, "test")
    assert (examples.texts, examples.labels) == ([("a dog",)], None)


# --------------------------------------------------------------------------------------------------------- labels


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (["b", "a", "B", "10", "9"], ["10", "9", "B", "a", "b"]),  # by name
        (["10", "9", "-1", "2.5"], ["-1", "2.5", "9", "10"]),  # by size
        ([True, False], ["false", "true"]),
    ],
)
def test_labels_are_those_of_the_training_file_sorted(tmp_path, labels, expected):
    rows = [{"subject": "a dog", "kind": label} for label in labels * 2]
    path = written(tmp_path / "a.jsonl", [*rows, {"subject": "no label", "kind": ""}])
    assert labels_in(task_of(path)) == expected


def test_150_classes(tmp_path):
    names = [f"class {i}" for i in range(150)]
    assert len(labels_in(task_of(written(tmp_path / "a.csv", rows_of(300, names=names))))) == 150


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        (["a"] * 30, "every row says 'a'; a task needs two classes at least"),
        ([str(i) for i in range(30)], "30 different labels in 30 rows; is it the column of the labels? Scores are"),
        (["a", "x" * 101], "is no name of a class"),
        (["a", "b\nc"], "'b\\nc' is no name of a class"),
        (["a", "b\u202ec"], "is no name of a class"),
    ],
)
def test_what_are_no_classes(tmp_path, labels, says):
    path = written(tmp_path / "a.csv", [{"subject": "a dog", "kind": label} for label in labels])
    with pytest.raises(UserError) as refused:
        labels_in(task_of(path))
    assert says in str(refused.value)
    assert "column 'kind'" in str(refused.value)


def test_labels_are_found_once_and_then_stay(tmp_path):
    flags = flags_of(tmp_path)
    options = with_labels(tiny.options_of(*flags))
    assert options.own.labels == sorted(NAMES)
    (tmp_path / "a.csv").unlink()
    assert with_labels(options) is options
    assert options.scored["own"].labels == tuple(sorted(NAMES))


def test_names_that_torch_needs(tmp_path):
    with pytest.raises(UserError, match="--name items: a word that torch needs for itself"):
        with_labels(tiny.options_of(*flags_of(tmp_path), "--name", "items"))


def test_a_run_without_an_own_task_stays_as_it_is():
    options = tiny.options_of()
    assert with_labels(options) is options
    assert np.all([not task.own for task in options.scored.values()])


def test_cmu_s_form(tmp_path):
    """`label ||| text`, no header; a line without a text is left out, and a text may hold the bars once more."""
    path = tmp_path / "sst.txt"
    path.write_text("3 ||| A fine film . \n\n0 ||| dull ||| slow\n2\n 1 |||  \n4 ||| Nice\n")
    task = Task("own", "classification", ("0", "1", "3", "4"), ("text",), "label", "accuracy", {}, "", own=True)
    found = read_own(task, path, "train")
    assert found.texts == [("A fine film .",), ("dull ||| slow",), ("Nice",)]
    assert found.labels.tolist() == [2, 0, 3]
    assert found.ids == ["0", "1", "4"]
    assert [line for line, _ in found.skipped] == [4, 5]
    assert read_own(task, path, "test").labels is None
    assert in_bars(path)
    assert not in_bars(tmp_path / "none.txt")
    (tmp_path / "mail.csv").write_text("text,label\na ||| b,1\n")
    assert not in_bars(tmp_path / "mail.csv")
    assert form_of(tmp_path / "mail.csv", ["text", "label"]) == "comma"
