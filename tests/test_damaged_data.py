"""Files of data that would deceive: open quotes, ids and texts that no other file could hold, lines without an end."""

import gzip

import pytest
from test_datasets import REVIEWS, SST, json_lines, written

from datasets import TASKS, fingerprint, read, told_of_broken
from minbert.files import UserError
from minbert.text.rows import read_rows

OPEN = {  # what follows the first row, and the lines named: from, to, and the first row swallowed
    "to the end": ('1\tb\t"left open\t2\n2\tc\tlost\t3\n', (3, 4, 4)),
    "to the next quote": ('1\tb\t"left open\t2\n2\tc\tlost\t3\n3\td\tsays "hi"\t4\n4\te\tfine\t0\n', (3, 5, 4)),
    "to a whole cell": ('1\tb\t"left open\t2\n2\tc\t"quoted"\t3\n', (3, 4, 4)),
    "after a blank line": ('1\tb\t"left open\t2\r\n\r\n2\tc\tlost\t3\r\n', (3, 5, 5)),
    "after text": ('1\tb\t"left\nopen"\t2\n2\tc\t"left open\t3\n3\td\tlost\t4\n', (5, 6, 6)),
}


@pytest.mark.parametrize("case", OPEN)
def test_a_quote_left_open_swallows_no_row(tmp_path, case):
    rows, (first, last, swallowed) = OPEN[case]
    for task, head, split in (
        (TASKS["sst"], SST + "0\ta\tfine\t1\n", "train"),
        (TASKS["sst"], SST + "0\ta\tf\t\n", "test"),
    ):
        path = written(tmp_path, head + rows)
        with pytest.raises(UserError) as error:
            read(task, path, split)
        assert str(error.value).startswith(f"{path}, lines {first} to {last}: a quote")
        assert f"line {swallowed} is a row too" in str(error.value)
        assert "\n" not in str(error.value)


def test_ten_rows_do_not_become_four(tmp_path):
    rows = [f"{i}\tid{i}\tsentence {i}\t{i % 5}\n" for i in range(10)]
    rows[2], rows[8] = '2\tid2\t"An open quote\t2\n', '8\tid8\tsays "no"\t3\n'
    with pytest.raises(UserError, match="lines 4 to 10: a quote"):
        read(TASKS["sst"], written(tmp_path, SST + "".join(rows)), "train")


def test_line_breaks_in_a_text_are_told_of(tmp_path):
    """In any column, with tabs in the text too, or a column that is all there is."""
    content = '\tid\tsentence1\tsentence2\tis_duplicate\n0\ta\t"one\n\ntwo"\tB\t1\n1\tb\tA\t"one\r\ntwo\tthree"\t0\n'
    examples = read(TASKS["quora"], written(tmp_path, content), "train")
    assert (examples.ids, examples.skipped, examples.broken) == (["a", "b"], [], [(2, 4), (5, 6)])
    assert told_of_broken(examples.broken) == "; 2 rows over several lines (the first: 2 to 4)"
    assert told_of_broken([]) == ""
    last = written(tmp_path, '\tid\tsentence\n0\ta\t"one\ntwo"\n1\tb\tthree\n')
    assert read(TASKS["sst"], last, "test").broken == [(2, 3)]
    first = written(tmp_path, 'sentence\tsentiment\n"one\ntwo"\t3\nthree\t4\n')
    assert read(TASKS["sst"], first, "dev").broken == [(2, 3)]
    alone = read_rows(written(tmp_path, 'sentence\n"one\ntwo"\nthree\n', "alone.csv"))
    assert (alone.texts, alone.broken) == ({"0": ("one two",), "1": ("three",)}, [(2, 3)])


def test_a_row_cut_in_two_is_named(tmp_path):
    content = SST + '0\ta\tfine\t1\n1\tb\t"left open\n2\tc\n'
    examples = read(TASKS["sst"], written(tmp_path, content), "train")
    reason = "no value in column 'sentiment' (the row runs to line 4: a quote left open?)"
    assert examples.skipped == [(3, reason)]


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
def test_half_an_emoji_is_a_question_mark(tmp_path, name):
    """What no file can hold: neither the tokenizer would take it, nor a prediction file."""
    content = REVIEWS + rb'{"id": "x\ud83d", "text": "cut \ud83d", "label": 1}' + b"\n"
    path = written(tmp_path, gzip.compress(content) if name.endswith(".gz") else content, name)
    examples = read(TASKS["imdb"], path, "train")
    assert (examples.ids[-1], examples.texts[-1]) == ("x?", ("cut ?",))
    assert read_rows(path.rename(tmp_path / f"b{name}"), "imdb").texts["x?"] == ("cut ?",)
    fingerprint(examples).encode()


@pytest.mark.parametrize("id", ["a\nb", "a\tb", "a\r\nb", "a\u2028b", "a\x85b"], ids=repr)
def test_an_id_is_one_line(tmp_path, id):
    """Or a prediction file would have more rows than there are examples."""
    reviews = json_lines({"id": f" {id}\n", "text": "x", "label": 1}, {"id": " b\n", "text": "y", "label": 0})
    examples = read(TASKS["imdb"], written(tmp_path, reviews, "a.jsonl"), "train")
    assert (examples.ids, examples.texts) == (["b"], [("y",)])
    assert examples.skipped == [(1, f"a line break or tab in the id {id!r}")]
    quoted = written(tmp_path, f'{SST}0\t"{id}"\tx\t1\n1\tb\ty\t0\n')
    examples = read(TASKS["sst"], quoted, "dev")
    assert (examples.ids, examples.skipped[0][0]) == (["b"], 2)


def test_files_without_an_end():
    for task in ("sst", "rte"):
        with pytest.raises(UserError, match="/dev/zero, line 1: longer than"):
            read(TASKS[task], "/dev/zero", "train")
    with pytest.raises(UserError, match="/dev/zero, line 1: longer than"):
        read_rows("/dev/zero")


def test_a_row_without_an_end_is_refused(tmp_path):
    """An open quote that goes on for longer than any line may be."""
    line = "x" * (1 << 20) + "\n"
    path = written(tmp_path, SST + '0\ta\t"' + 17 * line)
    with pytest.raises(UserError, match=r"file\.csv, line 2: field larger than field limit"):
        read(TASKS["sst"], path, "train")
