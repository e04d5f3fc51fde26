"""augmentation.py on files of one's own, whose columns are named, and on plain lines."""

import pytest
from own_text import NAMES, rows_of, written

from augmentation import main
from datasets import Task
from minbert.text.own_files import read_own
from minbert.text.rows import read_augmented, read_lines_as_rows


def command(*words):
    """The exit code of the command with these words."""
    return main([str(word) for word in words])


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl"])
def test_a_column_of_ones_own_file_in_any_form(tmp_path, suffix, capsys):
    """Copies have the numbers of the rows, as a run that trains on the file counts them."""
    rows = [*rows_of(4, pairs=True), {"subject": "", "reply": "no first text", "kind": "spam"}, *rows_of(2, 5, True)]
    source, out = written(tmp_path / f"in{suffix}", rows), tmp_path / "out.tsv"
    assert command("--method", "eda", "--in", source, "--text", "subject", "--text_pair", "reply", "--out", out) == 0
    task = Task("own", "classification", NAMES, ("subject", "reply"), "kind", "accuracy", {}, "", own=True)
    assert list(read_augmented(out).texts) == read_own(task, source, "train").ids == ["0", "1", "2", "3", "5", "6"]
    assert "1 rows of" in capsys.readouterr().out
    assert command("--method", "eda", "--in", source, "--text", "subject", "--out", tmp_path / "one.tsv") == 0
    assert [len(texts) for texts in read_augmented(tmp_path / "one.tsv").texts.values()] == [1] * 6


def test_plain_lines(tmp_path):
    (tmp_path / "in.txt").write_text("the dog\n\n a big\tcat \r\n", encoding="utf-8")
    assert command("--method", "eda", "--in", tmp_path / "in.txt", "--out", tmp_path / "out.tsv") == 0
    assert list(read_augmented(tmp_path / "out.tsv").texts) == ["1", "3"]
    assert read_lines_as_rows(tmp_path / "in.txt").texts == {"1": ("the dog",), "3": ("a big cat",)}


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--text", "subject", "--task", "sst"), "--text names a column, --task knows its own: leave one out"),
        (("--text_pair", "reply"), "--text_pair is of no use without --text"),
        (("--text", "Subject"), "no column 'Subject' in the header; there are 'subject, kind'"),
    ],
)
def test_columns_that_cannot_be(tmp_path, capsys, flags, says):
    source = written(tmp_path / "in.csv", rows_of(3))
    assert command("--method", "eda", "--in", source, "--out", tmp_path / "out.tsv", *flags) == 2
    assert says in capsys.readouterr().err
