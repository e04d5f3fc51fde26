"""The sentiment half of `data/sample`: its layout, its balance, and that word overlap alone does not solve it."""

import csv
import re
import runpy
from collections import Counter
from pathlib import Path

import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.neighbors import KNeighborsClassifier

DATA = Path(__file__).parents[2] / "data"
SAMPLE = DATA / "sample"
GENERATOR = runpy.run_path(str(DATA / "make_sample_sentiment.py"))
SPLITS = ("train", "dev", "test")
SETS = {"sst": 5, "cfimdb": 2, "SST-2": 2}  # name: number of classes
FEWEST = {"train": 240, "dev": 80, "test": 80}


def path_of(name, split):
    if name == "SST-2":
        return SAMPLE / "glue" / "SST-2" / f"{split}.tsv"
    return SAMPLE / f"ids-{name}-{'test-student' if split == 'test' else split}.csv"


def read(name, split):
    """(header, rows as dicts), read as SPEC 1 says: the course's files with quotes, GLUE's without."""
    quoting = csv.QUOTE_NONE if name == "SST-2" else csv.QUOTE_MINIMAL
    with path_of(name, split).open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file, delimiter="\t", quoting=quoting)
        rows = list(reader)
    return reader.fieldnames, rows


def texts(name, split):
    return [row["sentence"] for row in read(name, split)[1]]


def labels(name, split):
    return [row["label" if name == "SST-2" else "sentiment"] for row in read(name, split)[1]]


def words(text):
    return re.findall(r"[a-z0-9']+", text.lower())


def grams(sentences, n):
    """Every run of `n` words inside one of `sentences`."""
    runs = set()
    for sentence in sentences:
        w = words(sentence)
        runs.update(tuple(w[i : i + n]) for i in range(len(w) - n + 1))
    return runs


def everything(split):
    return [text for name in SETS for text in texts(name, split)]


@pytest.mark.parametrize("split", SPLITS)
def test_headers(split):
    labelled, unlabelled = ["", "id", "sentence", "sentiment"], ["0", "", "id", "sentence"]
    for name in ("sst", "cfimdb"):
        assert read(name, split)[0] == (unlabelled if split == "test" else labelled)
    assert read("SST-2", split)[0] == (["index", "sentence"] if split == "test" else ["sentence", "label"])


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("name", SETS)
def test_rows(name, split):
    """Enough rows, every cell filled, nothing left over, no text twice, indices in order, ids unique."""
    _, rows = read(name, split)
    assert len(rows) >= FEWEST[split]
    assert all(None not in row and all(row.values()) for row in rows)
    assert len({" ".join(words(row["sentence"])) for row in rows}) == len(rows)
    if name == "SST-2":
        assert split != "test" or [row["index"] for row in rows] == [str(i) for i in range(len(rows))]
        return
    if split == "test":
        assert [(row["0"], row[""]) for row in rows] == [(str(i + 1), f"{i}.0") for i in range(len(rows))]
    else:
        assert [row[""] for row in rows] == [str(i) for i in range(len(rows))]
    assert all(re.fullmatch(r"[0-9a-f]{25}", row["id"]) for row in rows)


def test_ids_are_unique_across_all_files():
    ids = [row["id"] for name in ("sst", "cfimdb") for split in SPLITS for row in read(name, split)[1]]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("split", ["train", "dev"])
@pytest.mark.parametrize("name", SETS)
def test_labels_are_balanced(name, split):
    counts = Counter(labels(name, split))
    assert set(counts) == {str(i) for i in range(SETS[name])}
    assert max(counts.values()) <= 1.1 * min(counts.values())


@pytest.mark.parametrize("split", ["train", "dev"])
def test_labels_are_those_of_the_sections(split):
    """Every hand-written sentence stands under the label of its section, in CFIMDB never under the other."""
    sections = GENERATOR["read_sections"](DATA / "sample_text" / f"sentiment-{split}.txt")
    wanted = {"sst": [f"sst {i}" for i in range(5)], "SST-2": ["sst2 negative", "sst2 positive"]}
    for name, order in wanted.items():
        for text, label in zip(texts(name, split), labels(name, split), strict=True):
            assert text in sections[order[int(label)]]
    polar = {
        label: [s for name, group in sections.items() if name.startswith(f"cfimdb {polarity} ") for s in group]
        for label, polarity in (("0", "negative"), ("1", "positive"))
    }
    for text, label in zip(texts("cfimdb", split), labels("cfimdb", split), strict=True):
        assert sum(sentence in text for sentence in polar[label]) >= 2, text
        assert not any(sentence in text for sentence in polar[{"0": "1", "1": "0"}[label]]), text


@pytest.mark.parametrize("split", SPLITS)
def test_reviews_have_three_to_six_sentences(split):
    for text in texts("cfimdb", split):
        assert 3 <= len(re.findall(r"[.!?](?= |$)", text)) <= 6, text


@pytest.mark.parametrize(("a", "b"), [("train", "dev"), ("train", "test"), ("dev", "test")])
def test_splits_share_nothing(a, b):
    """No row, no hand-written sentence (frame), no plan of a review and no run of six words, across all three sets."""
    assert not set(map(str.lower, everything(a))) & set(map(str.lower, everything(b)))
    assert not grams(everything(a), 6) & grams(everything(b), 6)
    frames = {}
    for split in (a, b):
        sections = GENERATOR["read_sections"](DATA / "sample_text" / f"sentiment-{split}.txt")
        frames[split] = {" ".join(words(sentence)) for sentences in sections.values() for sentence in sentences}
    assert not frames[a] & frames[b]
    assert not set(GENERATOR["PLANS"][a]) & set(GENERATOR["PLANS"][b])


@pytest.mark.parametrize("name", SETS)
def test_word_overlap_does_not_solve_it(name):
    """Copying the label of the train text with the nearest TF-IDF vector stays under 75 % on dev."""
    vectorizer = TfidfVectorizer(ngram_range=(1, 2))
    nearest = KNeighborsClassifier(n_neighbors=1, metric="cosine")
    nearest.fit(vectorizer.fit_transform(texts(name, "train")), labels(name, "train"))
    assert nearest.score(vectorizer.transform(texts(name, "dev")), labels(name, "dev")) < 0.75


def test_committed_files_are_what_the_generator_writes(tmp_path):
    GENERATOR["write_sample"](tmp_path)
    written = [path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()]
    assert len(written) == 9
    for path in written:
        assert (SAMPLE / path).read_bytes() == (tmp_path / path).read_bytes(), path


def test_sample_is_small():
    assert sum(path_of(name, split).stat().st_size for name in SETS for split in SPLITS) < 400_000
