"""Readers against csv.DictReader and files by hand."""

import contextlib
import dataclasses
import gzip
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import datasets
from datasets import TASKS, Task, data_folder, fingerprint, read, subset
from minbert.files import UserError

ROOT = Path(datasets.__file__).parent

SST = "\tid\tsentence\tsentiment\n"
STS = "\tid\tsentence1\tsentence2\tsimilarity\n"
RTE = "index\tsentence1\tsentence2\tlabel\n"


def written(folder, content, name="file.csv"):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


# --- reading


def test_course_file_with_quotes_newlines_and_byte_order_mark(tmp_path):
    content = (
        "\ufeff\tid\tsentence1\tsentence2\tis_duplicate\r\n"
        '0\ta1\tplain\t"says ""hi"", twice"\t0.0\r\n'
        '1\ta2\t"two\r\nlines"\tone\t1.0\r\n'
        "2\ta3\tno label\there\t\r\n"
        "\r\n"
        "3\ta4\t \tno first text\t1\r\n"
        "4\ta5\tdigits\ttoo\t1\r\n"
    )
    examples = read(TASKS["quora"], written(tmp_path, content), "dev")
    assert examples.ids == ["a1", "a2", "a5"]
    assert examples.texts == [("plain", 'says "hi", twice'), ("two\r\nlines", "one"), ("digits", "too")]
    assert examples.labels.tolist() == [0, 1, 1]
    assert examples.labels.dtype == np.int64
    assert examples.skipped == [(5, "no value in column 'is_duplicate'"), (7, "no value in column 'sentence1'")]


def test_glue_file_keeps_stray_quotes_and_skips_short_and_long_rows(tmp_path):
    content = (
        RTE + '0\t"An open quote\tB\tentailment\n'
        '1\tA\t5" of rain\tnot_entailment\n'
        "2\tonly A\n"
        "3\tA\tB\tentailment\tone too many\n"
        "4\tlast\tB\tnot_entailment"
    )
    examples = read(TASKS["rte"], written(tmp_path, content), "train")
    assert examples.texts == [('"An open quote', "B"), ("A", '5" of rain'), ("last", "B")]
    assert [examples.task.labels[i] for i in examples.labels] == ["entailment", "not_entailment", "not_entailment"]
    assert examples.ids == ["0", "1", "4"]
    assert [line for line, _ in examples.skipped] == [4, 5]


def test_labels_go_by_name(tmp_path):
    """The names of the labels decide, whatever their order: MNLI's is not the alphabet's and '-' is no label."""
    rows = "pairID\tsentence1\tsentence2\tgold_label\nx\tA\tB\tneutral\nx\tA\tB\t-\nx\tA\tB\tcontradiction\n"
    examples = read(TASKS["mnli"], written(tmp_path, rows), "dev_mismatched")
    assert [examples.task.labels[i] for i in examples.labels] == ["neutral", "contradiction"]
    assert examples.ids == ["0", "2"]  # no index column: rows are counted, the skipped one too
    assert examples.skipped == [(3, "no value in column 'gold_label'")]
    turned = dataclasses.replace(TASKS["mnli"], labels=TASKS["mnli"].labels[::-1])
    again = read(turned, examples.path, "dev")
    assert [turned.labels[i] for i in again.labels] == ["neutral", "contradiction"]
    assert again.labels.tolist() != examples.labels.tolist()
    names = {(t, s): n for t in ("sst", "quora", "qqp", "sst2") for s, n in TASKS[t].spellings.items()}
    assert (names["sst", "0"], names["sst", "4"]) == ("negative", "positive")
    assert names["quora", "1.0"] == names["qqp", "1"] == "duplicate"
    assert names["sst2", "1"] == "positive"


def test_scores_stay_what_they_are(tmp_path):
    rows = STS + "0\ta\tA\tB\t4.6\n1\tb\tA\tB\t0\n2\tc\tA\tB\t5.0\n"
    examples = read(TASKS["sts"], written(tmp_path, rows), "train")
    assert examples.labels.dtype == np.float32
    assert examples.labels.tolist() == [np.float32(4.6), 0.0, 5.0]


def test_a_test_split_needs_no_label(tmp_path):
    path = written(tmp_path, "0\t\tid\tsentence\n1\t0.0\tx1\tGood film\n2\t1.0\tx2\t\n")
    examples = read(TASKS["sst"], path, "test")
    assert (examples.ids, examples.texts, examples.labels) == (["x1"], [("Good film",)], None)
    assert examples.skipped == [(3, "no value in column 'sentence'")]
    with pytest.raises(UserError, match="line 1: no column 'sentiment'"):
        read(TASKS["sst"], path, "dev")


def test_a_new_task_is_a_few_lines(tmp_path):
    task = Task("topic", "classification", ("sport", "art"), ("title",), "about", "accuracy", {"train": "t.tsv"}, "tsv")
    examples = read(task, written(tmp_path, "title\tabout\nOpera\tart\nTennis\tsport\n"), "train")
    assert examples.labels.tolist() == [1, 0]
    assert not task.is_pair
    stars = Task("stars", "regression", (), ("a", "b"), "y", "pearson", {"train": "s"}, "tsv", score_range=(-1, 1))
    assert stars.is_pair
    assert read(stars, written(tmp_path, "a\tb\ty\n1\t2\t-0.5\n"), "train").labels.tolist() == [-0.5]


# --- IMDB's JSON lines


def json_lines(*rows):
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


REVIEWS = json_lines(
    {"id": "pos/1_7", "text": "Good.<br /><br />Very <b>good</b>,\ttoo", "label": 1},
    {"id": "neg/2_3", "text": 'He said "no"', "label": "0", "stars": 2},
    {"text": "Café", "label": 0},
)


@pytest.mark.parametrize("name", ["train.jsonl", "train.jsonl.gz"])
def test_json_lines_plain_or_compressed(tmp_path, name):
    path = written(tmp_path, gzip.compress(REVIEWS) if name.endswith(".gz") else REVIEWS, name)
    examples = read(TASKS["imdb"], path, "train")
    assert examples.ids == ["pos/1_7", "neg/2_3", "2"]  # one without is counted from 0
    assert examples.texts == [("Good.  Very <b>good</b>,\ttoo",), ('He said "no"',), ("Café",)]
    assert [examples.task.labels[label] for label in examples.labels] == ["positive", "negative", "negative"]
    assert examples.skipped == []
    unlabelled = read(TASKS["imdb"], path, "test")
    assert (unlabelled.texts, unlabelled.labels) == (examples.texts, None)


def test_json_rows_without_text_or_label_are_skipped_with_their_line(tmp_path):
    gaps = json_lines({"id": "a", "label": 1}, {"id": "b", "text": None, "label": 1}, {"id": "c", "text": "no label"})
    examples = read(TASKS["imdb"], written(tmp_path, REVIEWS + gaps, "dev.jsonl"), "dev")
    assert len(examples) == 3
    assert examples.skipped == [(n, f"no value in column {c!r}") for n, c in ((4, "text"), (5, "text"), (6, "label"))]
    with pytest.raises(UserError, match=r"no usable row .*line 1: no value in column 'text'"):
        read(TASKS["imdb"], written(tmp_path, gaps, "gaps.jsonl"), "dev")


BAD_JSON = {
    "not JSON": (REVIEWS + b"{'id': 'a'}\n", "line 4: "),
    "cut in mid-line": (REVIEWS[:-20], "line 3: "),
    "a list": (b'["a", "text"]\n', "line 1: it is no object"),
    "nested brackets": (REVIEWS + b"[" * 100_000, "line 4: not JSON: nested too deep"),
    "a list of texts": (REVIEWS + json_lines({"text": ["x"], "label": 1}), "line 4: text is ['x'], expected str or"),
    "a label that is no word": (REVIEWS + json_lines({"text": "x", "label": {"a": 1}}), "line 4: label is {'a': 1}"),
    "a NUL": (REVIEWS + b"\0\n", "line 4: a NUL byte"),
    "not UTF-8": (REVIEWS + b'{"id": "\xff"}\n', "line 4: "),
    "another label": (
        REVIEWS + json_lines({"text": "x", "label": 2}),
        "line 4, column 'label': '2'; expected one of 0, 1",
    ),
    "nothing": (b"", "no usable row"),
}


@pytest.mark.parametrize("case", BAD_JSON)
@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
def test_bad_json_lines_are_one_clear_line(tmp_path, case, name):
    content, says = BAD_JSON[case]
    path = written(tmp_path, gzip.compress(content) if name.endswith(".gz") else content, name)
    with pytest.raises(UserError) as error:
        read(TASKS["imdb"], path, "train")
    assert str(error.value).startswith(f"{path}")
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_damaged_and_missing_gzip_files(tmp_path):
    noise = np.random.RandomState(0).randint(97, 123, size=(40, 3000)).astype(np.uint8)
    whole = gzip.compress(json_lines(*({"text": row.tobytes().decode(), "label": 1} for row in noise)))
    for content in (whole[: len(whole) // 2], REVIEWS, whole[:1000] + b"\0" * 1000 + whole[2000:]):
        path = written(tmp_path, content, "a.jsonl.gz")
        with pytest.raises(UserError, match=r"a\.jsonl\.gz(, after line \d+)?: cannot be read .*get the file") as error:
            read(TASKS["imdb"], path, "train")
        assert "\n" not in str(error.value)
    (cut,) = {int(n) for n in re.findall(r"line (\d+)", _message(tmp_path, whole[: len(whole) // 2]))}
    assert 15 < cut < 25  # about half of the 40 lines could be read
    with pytest.raises(UserError, match="no such file"):
        read(TASKS["imdb"], tmp_path / "nothing.jsonl.gz", "train")


def _message(folder, content):
    with pytest.raises(UserError) as error:
        read(TASKS["imdb"], written(folder, content, "a.jsonl.gz"), "train")
    return str(error.value)


def test_there_is_no_sample_of_imdb(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets, "HERE", tmp_path)
    with pytest.raises(UserError, match=r"there is nothing in .*imdb, and no sample of it: say where .* --imdb_dir"):
        data_folder(None, "imdb", None)
    (tmp_path / "data" / "imdb").mkdir(parents=True)
    written(tmp_path / "data" / "imdb", "")
    assert data_folder(None, "imdb", None)[0] == tmp_path / "data" / "imdb"


BAD = {
    "label 7": ("sst", SST + "0\ta\tfine\t3\n1\tb\ttext\t7\n", ["line 3", "'sentiment'", "'7'", "0, 1, 2, 3, 4"]),
    "label by word": ("rte", RTE + "0\tA\tB\tneutral\n", ["line 2", "'label'", "entailment, not_entailment"]),
    "score 9.1": (
        "sts",
        STS + '0\ta\t"A\nB"\tC\t1\n1\tb\tA\tB\t9.1\n',
        ["line 4", "'similarity'", "'9.1'", "from 0 to 5"],
    ),
    "score nan": ("sts", STS + "0\ta\tA\tB\tnan\n", ["line 2", "'nan'", "from 0 to 5"]),
    "score word": ("sts", STS + "0\ta\tA\tB\tmuch\n", ["line 2", "'much'", "from 0 to 5"]),
    "commas": ("sst", ",id,sentence,sentiment\n0,a,text,3\n", ["line 1", "'sentence'", "tab-separated"]),
    "missing column": ("sts", STS.replace("sentence2", "other"), ["line 1", "no column 'sentence2'"]),
    "no row": ("sst", SST, ["no usable row", "sentence, sentiment"]),
    "no usable row": ("sst", SST + "0\ta\t\t3\n", ["no usable row", "line 2"]),
    "empty": ("sst", b"", ["empty"]),
    "blank": ("sst", b"\xef\xbb\xbf\n \n", ["empty"]),
    "binary": ("sst", b"\x1f\x8b\x08\n\xff\xfe\x80", ["line 1", "not UTF-8"]),
    "latin-1": ("sst", SST.encode() + "0\ta\tcafé\t3\n".encode("latin-1"), ["line 2", "not UTF-8"]),
    "NUL": ("sst", SST + "0\ta\tfi\0ne\t3\n", ["line 2", "NUL"]),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_files_are_one_clear_line(tmp_path, case):
    task, content, parts = BAD[case]
    path = written(tmp_path, content)
    with pytest.raises(UserError) as error:
        read(TASKS[task], path, "train")
    for part in [str(path), *parts]:
        assert part in str(error.value)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 400 + len(str(path))


def test_missing_files_and_folders(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        read(TASKS["sst"], tmp_path / "nothing.csv", "train")
    with pytest.raises(UserError, match="cannot be read"):
        read(TASKS["sst"], tmp_path, "train")
    with pytest.raises(UserError, match="no such folder"):
        data_folder(tmp_path / "nothing")


def test_noise_never_ends_in_another_error(tmp_path):
    noise = np.random.RandomState(0)
    letters = list(b'\t\t\n\r"a1 ') * 8 + list(b"\xc3\xa9\x00\xff")
    for turn in range(200):
        body = bytes(noise.choice(letters) for _ in range(60))
        path = written(tmp_path, (SST.encode() if turn % 4 else b"") + body)
        with contextlib.suppress(UserError):
            read(TASKS["sst"], path, "train")


def test_data_folder_says_why(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets, "HERE", tmp_path)
    folder, why = data_folder()
    assert folder == tmp_path / "data" / "sample"
    assert "sample" in why
    (tmp_path / "data" / "cs224n").mkdir(parents=True)
    assert data_folder()[0] == folder  # an empty folder is no set
    written(tmp_path / "data" / "cs224n", "")
    assert data_folder() == (
        tmp_path / "data" / "cs224n",
        f"data from {tmp_path / 'data' / 'cs224n'}: the real sets are here",
    )
    assert data_folder(str(tmp_path))[0] == tmp_path


def test_the_environment_may_name_the_folder_of_real_data(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets, "HERE", tmp_path / "project")
    monkeypatch.setenv("MINBERT_DATA", str(tmp_path / "home"))
    folder, why = data_folder()
    assert folder == tmp_path / "project" / "data" / "sample"  # it has no cs224n
    assert str(tmp_path / "home" / "cs224n") in why
    for folder in ("home/cs224n", "project/data/cs224n", "project/data/glue"):
        (tmp_path / folder).mkdir(parents=True)
        written(tmp_path / folder, "")
    folder, why = data_folder()
    assert folder == tmp_path / "home" / "cs224n"
    assert "MINBERT_DATA" in why
    assert data_folder(None, "glue", "sample/glue")[0] == tmp_path / "project" / "data" / "glue"
    assert data_folder(tmp_path)[0] == tmp_path
    monkeypatch.setenv("MINBERT_DATA", "")
    assert data_folder()[0] == tmp_path / "project" / "data" / "cs224n"


# --- subsets and fingerprints


def tiny(tmp_path, rows=50):
    lines = [f"{i}\tid{i}\tsentence number {i}\t{i % 5}\n" for i in range(rows)]
    return read(TASKS["sst"], written(tmp_path, SST + "".join(lines)), "train")


def test_subset_is_fixed_nested_and_in_order(tmp_path):
    examples = tiny(tmp_path)
    np.random.seed(1)
    ten = subset(examples, 10)
    np.random.seed(2)
    assert subset(examples, 10).ids == ten.ids  # the same in every run, whatever the run's seed
    assert ten.ids == [f"id{i}" for i in (7, 9, 10, 13, 20, 22, 25, 28, 35, 46)]  # on every machine, too
    assert ten.labels.tolist() == [int(id[2:]) % 5 for id in ten.ids]
    assert [text for (text,) in ten.texts] == [f"sentence number {id[2:]}" for id in ten.ids]
    assert set(ten.ids) < set(subset(examples, 20).ids)
    assert subset(examples, 0.2).ids == ten.ids
    assert subset(examples, 10, seed=1).ids != ten.ids
    assert len(subset(examples, 10, seed=1)) == 10
    for whole in (50, 51, 10**9, 1.0):
        assert subset(examples, whole).ids == examples.ids
    assert len(subset(examples, 1)) == 1
    assert len(subset(examples, 0.001)) == 1
    for bad in (0, -3, 0.0, 1.5, -0.1, float("nan")):
        with pytest.raises(UserError, match="sst: a limit of"):
            subset(examples, bad)


def test_fingerprint_sees_every_part(tmp_path):
    examples = tiny(tmp_path)
    assert fingerprint(examples) == fingerprint(tiny(tmp_path))
    assert len(fingerprint(examples)) == 16
    others = [
        dataclasses.replace(examples, ids=["x", *examples.ids[1:]]),
        dataclasses.replace(examples, texts=[("x",), *examples.texts[1:]]),
        dataclasses.replace(examples, texts=[("sentence", "number 0"), *examples.texts[1:]]),
        dataclasses.replace(examples, labels=examples.labels[::-1].copy()),
        dataclasses.replace(examples, labels=None),
        subset(examples, 49),
    ]
    assert len({fingerprint(each) for each in [examples, *others]}) == 7


def test_no_torch_is_imported():
    code = (
        "import sys, datasets, minbert.text.tokenization; assert 'torch' not in sys.modules; "
        "assert not hasattr(datasets, '__version__')"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
