"""The sentence-pair half of `data/sample`: its layouts, its balance, and that it measures understanding.

The last means that nothing of a training file helps by its words alone: splits share no topic, no sentence, no run of
five words and no sentence frame, and the nearest training row by TF-IDF tells next to nothing about a dev row's label.
"""

import collections
import csv
import importlib.util
import itertools
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = ROOT / "data" / "sample"
FILES = {
    "quora": {"train": "quora-train.csv", "dev": "quora-dev.csv", "test": "quora-test-student.csv"},
    "sts": {"train": "sts-train.csv", "dev": "sts-dev.csv", "test": "sts-test-student.csv"},
    "QQP": {split: f"glue/QQP/{split}.tsv" for split in ("train", "dev", "test")},
    "RTE": {split: f"glue/RTE/{split}.tsv" for split in ("train", "dev", "test")},
    "MNLI": {
        split: f"glue/MNLI/{split}.tsv"
        for split in ("train", "dev_matched", "dev_mismatched", "test_matched", "test_mismatched")
    },
}
CASES = [(task, split) for task, splits in FILES.items() for split in splits]
DEV_CASES = [(task, split) for task, split in CASES if split.startswith("dev") and task != "sts"]
LABEL = {"quora": "is_duplicate", "sts": "similarity", "QQP": "is_duplicate", "RTE": "label", "MNLI": "gold_label"}
NAMES = {
    "quora": {"0.0", "1.0"},
    "QQP": {"0", "1"},
    "RTE": {"entailment", "not_entailment"},
    "MNLI": {"entailment", "neutral", "contradiction"},
}
# Words that carry a sentence's build rather than its matter; what lies between them is what a template would fill in.
FRAME_WORDS = """
    a an the and or but of to in on at by for from with without into over under after before since until than as if when
    while because so that which who whose what why how where is are was were be been am do does did has have had will
    would can could may must should i you he it she we they my your his her its our their me him them us not no never
    nobody there this these those all only more most less still too very much many long often
"""


@pytest.fixture(scope="module")
def maker():
    """`data/make_sample_pairs.py`, which is a script and not a module of the project."""
    spec = importlib.util.spec_from_file_location("make_sample_pairs", ROOT / "data" / "make_sample_pairs.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def read(task, split):
    """(header, rows as dicts) of one file, read as its layout asks."""
    quoting = csv.QUOTE_MINIMAL if task in ("quora", "sts") else csv.QUOTE_NONE
    with open(SAMPLE / FILES[task][split], encoding="utf-8", newline="") as f:
        reader = csv.DictReader(f, delimiter="\t", quoting=quoting)
        rows = list(reader)
    return reader.fieldnames, rows


def texts(task, row):
    first, second = ("question1", "question2") if task == "QQP" else ("sentence1", "sentence2")
    return row[first], row[second]


def labels(task, split):
    return [row[LABEL[task]] for row in read(task, split)[1]]


def words(sentence):
    return re.findall(r"[\w']+", sentence.lower())


def frame(sentence):
    """The sentence with every run of content words made a blank: 'is it _ to _ a _'."""
    fixed = set(FRAME_WORDS.split())
    marks = [word if word in fixed else "_" for word in words(sentence)]
    return tuple(mark for mark, _ in itertools.groupby(marks))


def sentences_by_split():
    """{split: set of all its sentences, over every task}; MNLI's matched and mismatched files are splits of their own
    beside `dev` and `test`."""
    splits = collections.defaultdict(set)
    for task, split in CASES:
        for row in read(task, split)[1]:
            splits[split].update(texts(task, row))
    return splits


def shared_between_splits(property_of):
    """What two splits have in common; `property_of(sentence)` gives a set."""
    found = {split: set().union(*map(property_of, sentences)) for split, sentences in sentences_by_split().items()}
    return set().union(*(found[a] & found[b] for a, b in itertools.combinations(found, 2)))


def nearest_training_row(task, split):
    """For each row of `split`, the training row with the largest TF-IDF cosine over words and pairs of words."""
    text = pytest.importorskip("sklearn.feature_extraction.text")
    vectorizer = text.TfidfVectorizer(ngram_range=(1, 2))
    joined = {s: [" [SEP] ".join(texts(task, row)) for row in read(task, s)[1]] for s in ("train", split)}
    train = vectorizer.fit_transform(joined["train"])
    return (vectorizer.transform(joined[split]) @ train.T).toarray().argmax(axis=1)


def pearson(x, y):
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    covariance = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True))
    return covariance / (sum((a - mean_x) ** 2 for a in x) * sum((b - mean_y) ** 2 for b in y)) ** 0.5


def test_committed_files_are_what_the_generator_writes(maker, tmp_path):
    maker.main(tmp_path)
    written = {path.relative_to(tmp_path).as_posix(): path.read_bytes() for path in tmp_path.rglob("*.?sv")}
    assert written.keys() == {name for splits in FILES.values() for name in splits.values()}
    assert [name for name, data in written.items() if (SAMPLE / name).read_bytes() != data] == []
    assert sum(map(len, written.values())) < 500_000


@pytest.mark.parametrize(("task", "split"), CASES)
def test_layout_and_size(task, split):
    header, rows = read(task, split)
    test = split.startswith("test")
    expected = ["index", "sentence1", "sentence2"]
    if task in ("quora", "sts"):
        expected = ["", "id", "sentence1", "sentence2"]
    if task == "QQP":
        expected = ["id", *["qid1", "qid2"] * (not test), "question1", "question2"]
    assert header == expected + [LABEL[task]] * (not test)
    assert len(rows) >= (240 if split == "train" else 80)
    assert all(None not in row and None not in row.values() for row in rows)  # as many cells as columns
    for row in rows:
        for sentence in texts(task, row):
            assert sentence == sentence.strip()
            assert len(words(sentence)) >= 2
            assert not set(sentence) & set("\t\r\n")
        assert len(set(texts(task, row))) == 2
    assert len({frozenset(texts(task, row)) for row in rows}) == len(rows)


def test_csv_quoting_survives_both_ways(maker):
    rows = [('She said "no", twice', "tab\there", "1.0")]
    table = maker.course_table(rows, "is_duplicate", 0)
    assert list(csv.reader(table.splitlines(), delimiter="\t"))[1][2:] == list(rows[0])


@pytest.mark.parametrize("task", ["quora", "sts"])
def test_ids_and_indices_are_unique_over_the_splits(task):
    rows = [row for split in FILES[task] for row in read(task, split)[1]]
    assert len({row["id"] for row in rows}) == len({row[""] for row in rows}) == len(rows)
    assert all(re.fullmatch("[0-9a-f]{25}", row["id"]) for row in rows)


def test_glue_indices():
    for task, split in CASES:
        if task not in ("quora", "sts"):
            header, rows = read(task, split)
            assert [row[header[0]] for row in rows] == [str(i) for i in range(len(rows))]
    questions = {}
    for split in ("train", "dev"):
        for row in read("QQP", split)[1]:
            for side in "12":
                assert questions.setdefault(row[f"qid{side}"], row[f"question{side}"]) == row[f"question{side}"]
    assert len(set(questions.values())) == len(questions)


@pytest.mark.parametrize(("task", "split"), [case for case in CASES if "test" not in case[1] and case[0] != "sts"])
def test_labels_are_balanced(task, split):
    counts = collections.Counter(labels(task, split))
    assert counts.keys() == NAMES[task]
    assert max(counts.values()) <= 1.1 * min(counts.values())


@pytest.mark.parametrize("split", ["train", "dev"])
def test_similarities_cover_the_scale(split):
    scores = [float(score) for score in labels("sts", split)]
    assert all(0 <= score <= 5 and abs(score * 5 - round(score * 5)) < 1e-9 for score in scores)
    fifths = collections.Counter(min(int(score), 4) for score in scores)
    assert all(fifths[band] >= 0.07 * len(scores) for band in range(5)), fifths
    assert {0.0, 5.0} <= set(scores)


def test_topics_belong_to_one_split(maker, tmp_path, monkeypatch):
    for name in ("questions", "similarity", "rte", "mnli"):
        splits = maker.read_scenes(name)
        topics = [topic for topics in splits.values() for topic in topics]
        assert len(topics) == len(set(topics))
    (tmp_path / "sample_text").mkdir()
    (tmp_path / "sample_text" / "pairs-twice.txt").write_text("[train] bees\nBees hum.\n[dev] bees\nBees sting.\n")
    monkeypatch.setattr(maker, "DATA", tmp_path)
    with pytest.raises(ValueError, match="bees"):
        maker.read_scenes("twice")


def test_splits_share_no_sentence():
    assert shared_between_splits(lambda sentence: {" ".join(words(sentence))}) == set()


def test_splits_share_no_run_of_five_words():
    def runs(sentence):
        tokens = words(sentence)
        return {" ".join(tokens[i : i + 5]) for i in range(len(tokens) - 4)}

    assert shared_between_splits(runs) == set()


def test_splits_share_no_sentence_frame():
    """A frame counts from five fixed words on: 'the _ was _' is grammar, not a template."""

    def long_frame(sentence):
        marks = frame(sentence)
        return {marks} if len(marks) - marks.count("_") >= 5 else set()

    assert shared_between_splits(long_frame) == set()


@pytest.mark.parametrize(("task", "split"), DEV_CASES)
def test_nearest_neighbour_does_not_solve_it(task, split):
    train, gold = labels(task, "train"), labels(task, split)
    nearest = nearest_training_row(task, split)
    accuracy = sum(train[i] == label for i, label in zip(nearest, gold, strict=True)) / len(gold)
    assert accuracy < 0.75


def test_nearest_neighbour_does_not_solve_similarity():
    train = labels("sts", "train")
    guess = [float(train[i]) for i in nearest_training_row("sts", "dev")]
    assert pearson(guess, [float(score) for score in labels("sts", "dev")]) < 0.5


@pytest.mark.parametrize("task", ["quora", "QQP"])
def test_common_words_do_not_solve_duplicates(task):
    """The best threshold on the TF-IDF cosine of the two questions, chosen on the dev set itself, stays under 0.80."""
    text = pytest.importorskip("sklearn.feature_extraction.text")
    first, second = zip(*(texts(task, row) for row in read(task, "dev")[1]), strict=True)
    vectorizer = text.TfidfVectorizer(ngram_range=(1, 2)).fit(first + second)
    cosines = vectorizer.transform(first).multiply(vectorizer.transform(second)).sum(axis=1).A1
    gold = [float(label) == 1 for label in labels(task, "dev")]
    hits = [sum((c >= cut) == same for c, same in zip(cosines, gold, strict=True)) for cut in cosines]
    assert max(hits) / len(gold) < 0.80
