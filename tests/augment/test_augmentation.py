"""augmentation.py: TF-IDF replacement and EDA against their definitions, the reader, resumption, a user's mistakes."""

import gzip
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
from real_data import needs, real

import augmentation
from augmentation import main
from minbert.augment import copies
from minbert.augment.copies import augment
from minbert.augment.word_changes import Eda, TfIdf
from minbert.files import UserError
from minbert.text.rows import Rows, generator, read_augmented, read_rows

WITHOUT_MODEL = ("tfidf", "eda")  # mlm is in test_word_filling.py
SCRIPT = augmentation.__file__


def some_texts(count=400, seed=0):
    """Texts of 8 to 40 words, of which few are common and many rare (Zipf's law), with commas and full stops."""
    random = np.random.default_rng(seed)
    words = [f"word{i}" for i in range(500)]
    chances = 1 / np.arange(1, 501)
    chances /= chances.sum()
    return [", ".join(random.choice(words, random.integers(8, 41), p=chances)) + "." for _ in range(count)]


def some_rows(count=60):
    return Rows({f"r{i}": (text,) for i, text in enumerate(some_texts(count))}, [])


def write_rows(path, rows=None):
    lines = [f"{id}\t{texts[0]}" for id, texts in (rows or some_rows()).texts.items()]
    path.write_text("\n".join(["id\tsentence", *lines]) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def source(tmp_path):
    return write_rows(tmp_path / "in.tsv")


def command(*words):
    """The exit code of the command with these words."""
    return main([str(word) for word in words])


# -------------------------------------------------------------------------------------------------------- TF-IDF


def by_definition(texts, text, p):
    """Replacement probabilities of the words of one text, straight from the paper's formula."""
    documents = [t.replace(",", "").replace(".", "").split() for t in texts]
    words = text.replace(",", "").replace(".", "").split()
    n = len(words)
    tf_idf = [words.count(w) / n * math.log(len(documents) / sum(w in d for d in documents)) for w in words]
    c = max(tf_idf)
    z = sum(c - value for value in tf_idf) / n
    return [min(p * (c - value) / z, 1) for value in tf_idf], tf_idf


def test_replacement_probabilities_by_definition():
    texts = some_texts(50)
    tfidf = TfIdf(texts, 0.6)
    for text in texts[:20]:
        expected, _ = by_definition(texts, text, 0.6)
        np.testing.assert_allclose(tfidf.replace_probabilities(tfidf.words(text)), expected, rtol=1e-12)
        assert min(expected) == 0  # the most telling word stays


def test_replacement_probabilities_by_hand():
    """Documents "a b", "a c", "a a d": IDF(a) = 0 and of the others log 3. In "a b": TFIDF 0 and C, so room C and 0,
    Z = C / 2 and probabilities 2p and 0. In "a a d": room C, C, 0, Z = 2C / 3, probabilities 3p/2, 3p/2, 0."""
    tfidf = TfIdf(["a b", "a c", "a a d"], 0.3)
    np.testing.assert_allclose(tfidf.replace_probabilities(["a", "b"]), [0.6, 0])
    np.testing.assert_allclose(tfidf.replace_probabilities(["a", "a", "d"]), [0.45, 0.45, 0])
    np.testing.assert_allclose(tfidf.replace_probabilities(["b"]), [0.3])  # alone: Z = 0
    # S: a 0; b, c, d log 3, the most, so none of them is drawn
    assert tfidf("a b", generator(0, "x")) == "a b"
    assert {tfidf("b", generator(0, i)) for i in range(40)} == {"a", "b"}


def test_words_are_drawn_with_the_paper_s_chances():
    texts = some_texts(60)
    tfidf = TfIdf(texts, 1.0)
    count = Counter(word for text in texts for word in tfidf.words(text))
    score = {w: c * math.log(60 / sum(w in tfidf.words(t) for t in texts)) for w, c in count.items()}
    room = {w: max(score.values()) - s for w, s in score.items()}
    chances = np.array([room[w] for w in tfidf.vocabulary]) / sum(room.values())
    drawn = Counter(tfidf("word1", generator(0, i)) for i in range(4000))  # one word: always replaced at p = 1
    assert max(score, key=score.get) not in drawn
    for word in ("word0", "word1", "word2", tfidf.vocabulary[-1]):
        expected = chances[tfidf.vocabulary.index(word)]
        sigma = math.sqrt(4000 * expected * (1 - expected))
        assert abs(drawn[word] - 4000 * expected) <= 4 * sigma


@pytest.mark.parametrize("p", [0.1, 0.3])
def test_the_share_replaced_is_p(p):
    """Within 4 sigma; a word is seen to be replaced unless it drew itself, which has a known chance."""
    texts = some_texts()
    tfidf = TfIdf(texts, p)
    itself = np.diff(tfidf.drawn_up_to, prepend=0) / tfidf.drawn_up_to[-1]
    place = {word: i for i, word in enumerate(tfidf.vocabulary)}
    expected, variance, total, seen = 0.0, 0.0, 0, 0
    for i, text in enumerate(texts):
        old, new = tfidf.words(text), tfidf.words(tfidf(text, generator(0, i)))
        assert len(old) == len(new)
        chance = tfidf.replace_probabilities(old) * [1 - itself[place[word]] for word in old]
        expected, variance = expected + chance.sum(), variance + (chance * (1 - chance)).sum()
        total, seen = total + len(old), seen + sum(a != b for a, b in zip(old, new, strict=True))
    assert abs(seen - expected) <= 4 * math.sqrt(variance)
    assert abs(seen - p * total) <= 4 * math.sqrt(p * (1 - p) * total)


def test_what_tells_much_is_replaced_less():
    """Spearman's rank correlation of being replaced with TF-IDF is negative, far beyond chance."""
    texts = some_texts(60)
    tfidf = TfIdf(texts, 0.3)
    told, replaced = [], []
    for i, text in enumerate(texts):
        old, new = tfidf.words(text), tfidf.words(tfidf(text, generator(1, i)))
        told += by_definition(texts, text, 0.3)[1]
        replaced += [a != b for a, b in zip(old, new, strict=True)]
    correlation = scipy.stats.spearmanr(told, replaced)
    assert correlation.statistic < -0.1
    assert correlation.pvalue < 1e-6


def test_punctuation_stays_and_odd_texts_pass():
    texts = ["Where's the café, and well-known İzmir?", "?! ...", "the the", "日本 語"]
    tfidf = TfIdf(texts, 1.0)
    changed = tfidf(texts[0], generator(0, "a"))
    assert TfIdf.WORD.sub("x", changed) == "x x x, x x x?"
    assert tfidf(texts[1], generator(0, "a")) == texts[1]
    for text in texts:  # "İ" in lower case is two characters, the second of which is in no word
        assert len(tfidf(text, generator(0, "b")).split()) == len(text.split())
    assert TfIdf(["?!"], 0.5)("?!", generator(0, "a")) == "?!"


# ----------------------------------------------------------------------------------------------------------- EDA


def test_eda_deletes_a_share_of_p_and_adds_nothing():
    texts = [" ".join(f"w{j}" for j in range(40)) for _ in range(300)]
    total = kept = 0
    for i, text in enumerate(texts):
        new = Eda(texts, 0.2)(text, generator(0, i)).split()
        assert set(new) <= set(text.split())
        assert len(new) == len(set(new))
        total, kept = total + 40, kept + len(new)
    assert abs(total - kept - 0.2 * total) <= 4 * math.sqrt(total * 0.2 * 0.8)


def test_eda_swaps_as_often_as_it_says(monkeypatch):
    """Without deletion, k swaps move at most 2k words, and one swap moves exactly two."""
    eda, words = Eda([], 0.1), [f"w{j}" for j in range(14)]

    class KeepAll:
        def __init__(self, seed):
            self.random = np.random.RandomState(seed)
            self.randint = self.random.randint

        def random_sample(self, n):
            return np.ones(n)

    moved = []
    for seed in range(200):
        new = eda(" ".join(words), KeepAll(seed)).split()
        assert sorted(new) == sorted(words)
        moved.append(sum(a != b for a, b in zip(words, new, strict=True)))
    assert set(moved) == {2}  # max(1, round(1.4)) = 1 swap
    places = Counter(
        tuple(np.flatnonzero([a != b for a, b in zip(words, new, strict=True)]))
        for new in (eda(" ".join(words), KeepAll(seed)).split() for seed in range(2000))
    )
    assert len(places) == 14 * 13 / 2  # any two of them


def test_eda_leaves_a_word():
    assert {Eda([], 1.0)("one two three", generator(0, i)) for i in range(50)} == {"one", "two", "three"}
    assert Eda([], 0.5)("alone", generator(0, 0)) == "alone"


# ----------------------------------------------------------------------------------- keyed by id, seeded, resumable


@pytest.mark.parametrize("method", WITHOUT_MODEL)
def test_a_row_depends_on_seed_and_id_alone(tmp_path, method):
    rows = some_rows()
    backwards = Rows(dict(reversed(rows.texts.items())), [])
    augment(rows, tmp_path / "a.tsv", method, seed=3)
    augment(backwards, tmp_path / "b.tsv", method, seed=3)
    augment(rows, tmp_path / "c.tsv", method, seed=4)
    one, two, other = (read_augmented(tmp_path / f"{name}.tsv").texts for name in "abc")
    assert one == two
    assert list(one) == list(rows.texts)
    assert sum(one[id] == other[id] for id in one) < len(one) / 10


def test_p_changes_the_texts(tmp_path):
    for method in WITHOUT_MODEL:
        for p in (0.1, 0.5):
            augment(some_rows(), tmp_path / str(p), method, p=p)
        assert (tmp_path / "0.1").read_bytes() != (tmp_path / "0.5").read_bytes()


def test_the_numbers_never_change(tmp_path):
    """Somebody's file must come out the same after an update of numpy or of this program."""
    words = "the cat sat on the mat while the dog ran"
    tfidf = TfIdf([words, "a dog sat", "the cat ran on"], 0.5)
    assert tfidf(words, generator(0, "a")) == "the sat on dog the mat while the dog ran"
    assert Eda([], 0.3)(words, generator(0, "a")) == "the the sat on the mat dog cat"


class Stop(Exception):
    pass


@pytest.mark.parametrize("cut", [0, 1, 7, 200])
def test_a_stopped_command_goes_on_to_the_same_bytes(tmp_path, monkeypatch, cut):
    """Stopped before row 20, with `cut` bytes of the partial file lost."""
    rows = some_rows()
    augment(rows, tmp_path / "whole.tsv", "tfidf")
    calls = []

    def stop(seed, id):
        calls.append(id)
        if len(calls) == 20:
            raise Stop
        return generator(seed, id)

    with monkeypatch.context() as patch:
        patch.setattr(copies, "generator", stop)
        with pytest.raises(Stop):
            augment(rows, tmp_path / "out.tsv", "tfidf")
    (partial,) = tmp_path.glob("out.tsv.*.partial")
    assert not (tmp_path / "out.tsv").exists()
    with open(partial, "ab") as f:
        f.truncate(partial.stat().st_size - cut)
    _, resumed = augment(rows, tmp_path / "out.tsv", "tfidf")
    assert resumed == 19 if cut == 0 else 15 < resumed < 19
    assert (tmp_path / "out.tsv").read_bytes() == (tmp_path / "whole.tsv").read_bytes()
    assert not partial.exists()


def test_rows_made_otherwise_are_not_gone_on_from(tmp_path, monkeypatch):
    def stop(seed, id):
        if id == "r5":
            raise Stop
        return generator(seed, id)

    with monkeypatch.context() as patch:
        patch.setattr(copies, "generator", stop)
        for settings in (
            {"method": "tfidf"},
            {"method": "eda", "seed": 1},
            {"method": "eda", "p": 0.2},
            {"method": "eda", "source": "x"},
        ):
            with pytest.raises(Stop):
                augment(some_rows(), tmp_path / "out.tsv", **settings)
    assert len(list(tmp_path.glob("*.partial"))) == 4
    assert augment(some_rows(), tmp_path / "out.tsv", "eda") == (0, 0)


def test_a_killed_process_loses_no_finished_row(tmp_path):
    source = write_rows(tmp_path / "in.tsv", some_rows(10_000))
    words = [sys.executable, SCRIPT, "--method", "eda", "--in", source, "--out", tmp_path / "out.tsv"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while not any(path.stat().st_size > 50_000 for path in tmp_path.glob("*.partial")):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    (partial,) = tmp_path.glob("*.partial")
    finished = partial.read_bytes().count(b"\n") - 1
    assert 100 < finished < 10_000
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
    assert f"10,000 rows, {finished:,} of them by a command that was stopped" in done.stdout
    assert list(read_augmented(tmp_path / "out.tsv").texts) == list(read_rows(source).texts)


# ---------------------------------------------------------------------------------------------------- the command


def test_help_needs_no_torch():
    program = f"import sys, runpy; sys.argv = ['x', '--help']\ntry: runpy.run_path({SCRIPT!r}, run_name='__main__')\n"
    program += "except SystemExit: print('torch' in sys.modules, 'tokenizers' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=Path(SCRIPT).parent
    )
    assert "{tfidf,eda," in done.stdout
    assert done.stdout.endswith("False False\n")


def test_course_and_glue_files_pairs_and_labels(tmp_path, tiny_data, capsys):
    for task, columns in (("sst", "sentence"), ("quora", "sentence1\tsentence2"), ("sts", "sentence1\tsentence2")):
        source = next(tiny_data.glob(f"*{task}-train.csv"))
        assert command("--method", "tfidf", "--task", task, "--in", source, "--out", tmp_path / "o.tsv") == 0
        lines = (tmp_path / "o.tsv").read_text(encoding="utf-8").splitlines()
        assert lines[0] == f"id\t{columns}\tmethod"
        assert all(line.endswith("\ttfidf") for line in lines[1:])
        assert list(read_augmented(tmp_path / "o.tsv").texts) == list(read_rows(source).texts)
        assert read_rows(source) == read_rows(source, task)
    assert "13 rows; " in capsys.readouterr().out


def test_how_many_are_equal_to_their_input(tmp_path, capsys):
    source = tmp_path / "in.tsv"
    source.write_text("id\tsentence\na\tone\nb\ttwo\nc\tone two\n", encoding="utf-8")
    assert command("--method", "eda", "--in", source, "--out", tmp_path / "out.tsv") == 0
    assert "3 rows; 2 (66.7%) equal to their input" in capsys.readouterr().out


def test_quoted_and_plain_tables(tmp_path):
    (tmp_path / "a.csv").write_text('\tid\tsentence\n0\tx\t"She said ""no""\nand left"\n', encoding="utf-8")
    (tmp_path / "a.tsv").write_text('id\tsentence\nx\t"No" was all\ny\tof it\n', encoding="utf-8")
    assert read_rows(tmp_path / "a.csv").texts == {"x": ('She said "no" and left',)}
    assert read_rows(tmp_path / "a.tsv").texts == {"x": ('"No" was all',), "y": ("of it",)}


def test_json_lines(tmp_path):
    lines = [
        {"id": "0_0", "text": "One\tfilm<br />two\nlines"},
        {"id": 1, "text": "x", "label": "pos"},
        {"id": "2", "text": " "},
        {"id": "3", "text": None},
        {"id": 1, "text": "again"},
    ]
    content = "".join(json.dumps(line) + "\n" for line in lines).encode()
    (tmp_path / "a.jsonl").write_bytes(content)
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(content))
    for name in ("a.jsonl", "a.jsonl.gz"):
        rows = read_rows(tmp_path / name)
        assert rows.texts == {"0_0": ("One film two lines",), "1": ("x",)}
        assert rows.skipped == [*(f"line {n}: no value in 'text'" for n in (3, 4)), "the id '1' once more"]


@needs("unlabelled")
@pytest.mark.parametrize("name", ["sst", "quora", "sts"])
def test_unlabelled_files(name):
    path = real("unlabelled", f"{name}.tsv")
    rows = read_rows(path)
    assert len(rows.texts) == len(path.read_bytes().splitlines()) - 1
    assert not rows.skipped


def test_read_augmented_skips_and_counts_empty_texts(tmp_path):
    path = tmp_path / "a.tsv"
    path.write_text("id\tsentence1\tsentence2\tmethod\na\tone\ttwo\teda\nb\t\ttwo\teda\nc\tone\n", encoding="utf-8")
    rows = read_augmented(path)
    assert rows.texts == {"a": ("one", "two")}
    assert rows.skipped == ["line 3: no value in column 'sentence1'", "line 4: no value in column 'sentence2'"]


MISTAKES = {
    "no file": (["--in", "none.tsv"], "none.tsv: no such file"),
    "no file of JSON lines": (["--in", "none.jsonl"], "none.jsonl: no such file"),
    "a folder": (["--in", "."], "cannot be read (Is a directory)"),
    "no column": (["--in", "columns.tsv"], "expected a header with sentence, or sentence1 and sentence2"),
    "empty": (["--in", "empty.tsv"], "expected a header"),
    "no rows": (["--in", "header.tsv"], "no usable row"),
    "not UTF-8": (["--in", "latin.tsv"], "line 2: bytes that are not UTF-8"),
    "no JSON": (["--in", "bad.jsonl"], "bad.jsonl, line 2: "),
    "no text in the JSON": (["--in", "textless.jsonl"], "textless.jsonl, line 1: it has no text; expected lines like"),
    "a list in the JSON": (["--in", "list.jsonl"], "list.jsonl, line 1: "),
    "no gzip": (["--in", "bad.jsonl.gz"], "bad.jsonl.gz: cannot be read (Not a gzipped file"),
    "no lines": (["--in", "empty.jsonl"], "empty.jsonl, line 0: 'no text in it'"),
    "no such method": (["--method", "magic"], "--method: invalid choice: 'magic'"),
    "no such task": (["--task", "poetry"], "no task named 'poetry': choose one of sst,"),
    "the wrong task": (["--task", "quora"], "no column 'sentence1'"),
    "p too large": (["--p", "1.5"], "--p: '1.5': expected a number above 0 and at most 1"),
    "no model to fill words in with": (["--method", "mlm"], "say which with --model"),
    "a model that fills nothing in": (["--model", "minilm"], "--model has no meaning with --method eda"),
    "a seed that is none": (["--seed", "x"], "--seed: 'x': expected a whole number"),
    "nowhere to write": (["--out", "nowhere/out.tsv"], "there is no folder nowhere"),
    "onto a folder": (["--out", "."], "not an ordinary file"),
    "onto the input": (["--out", "in.tsv"], "would replace the file that --in reads"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line(mistake, source, monkeypatch, capsys):
    monkeypatch.chdir(source.parent)
    Path("columns.tsv").write_text("id\ttext\na\tb\n")
    Path("empty.tsv").write_text("")
    Path("header.tsv").write_text("id\tsentence\n")
    Path("latin.tsv").write_bytes(b"id\tsentence\na\tcaf\xe9\n")
    Path("bad.jsonl").write_text('{"id": "a", "text": "b"}\nnonsense\n')
    Path("textless.jsonl").write_text('{"id": "a"}\n')
    Path("list.jsonl").write_text('["id", "text"]\n')
    Path("bad.jsonl.gz").write_text("nonsense")
    Path("empty.jsonl").write_text("")
    before = sorted(Path().iterdir())
    words, says = MISTAKES[mistake]
    assert command("--method", "eda", "--in", "in.tsv", "--out", "out.tsv", *words) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("error: ")
    assert says in said.err
    assert said.err.count("\n") == 1
    assert sorted(Path().iterdir()) == before


@pytest.mark.parametrize("header", ["id\tsentence", "sentence\tmethod", "id\tmethod", "nonsense", ""])
def test_read_augmented_refuses_other_files(tmp_path, header):
    (tmp_path / "a.tsv").write_text(f"{header}\na\tb\tc\n")
    with pytest.raises(UserError, match="expected a header with sentence, or sentence1 and sentence2, id, method"):
        read_augmented(tmp_path / "a.tsv")
