"""Write the sentence-pair half of `data/sample`: Quora and STS in the course's layout, QQP, RTE and MNLI in GLUE's.

Every sentence was written by hand for this project and stands in `data/sample_text/pairs-*.txt`, grouped into scenes
(a topic, a picture, a premise); no sentence is filled into a template. A scene belongs to one split, in all tasks.
This script only pairs the sentences of a scene up:

    questions.txt   two wordings of one line are duplicates; two lines of one topic are hard negatives (they share
                    words), questions of two topics easy ones. The pairs of a topic are dealt out to Quora and QQP.
    similarity.txt  two wordings of one meaning score 5.0, each wording with a graded sentence that sentence's score,
                    sentences of two scenes 0.0.
    rte.txt, mnli.txt   the premise with each of its hypotheses.

Chance is the order of SHA-256 digests, so every machine and every Python writes the same bytes. Test files carry no
labels. Run: `python data/make_sample_pairs.py [FOLDER]` (default: `data/sample`).
"""

import csv
import hashlib
import io
import itertools
import sys
from pathlib import Path

DATA = Path(__file__).resolve().parent
sys.path.insert(0, str(DATA.parent))

from minbert.files import write_text  # noqa: E402  (the project's root is not on the path of a script in data/)

SPLITS = ("train", "dev", "test")
MNLI_SPLITS = ("train", "dev_matched", "dev_mismatched", "test_matched", "test_mismatched")
RTE_LABELS = {"+": "entailment", "-": "not_entailment"}
MNLI_LABELS = {"e": "entailment", "n": "neutral", "c": "contradiction"}


def read_scenes(name):
    """`pairs-{name}.txt` as {split: {topic: [line, ...]}}. Raises ValueError where a topic appears twice."""
    scenes, topics = {}, set()
    for line in (DATA / "sample_text" / f"pairs-{name}.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            split, topic = line[1:].split("] ")
            if topic in topics:
                raise ValueError(f"{name}.txt: topic {topic!r} appears twice; a topic belongs to one split")
            topics.add(topic)
            lines = scenes.setdefault(split, {}).setdefault(topic, [])
        elif line and not line.startswith("#"):
            lines.append(line)
    return scenes


def shuffled(items, salt):
    """`items` in an order that depends on nothing but their text and `salt`."""
    return sorted(items, key=lambda item: hashlib.sha256(f"{salt} {item}".encode()).digest())


def turned(first, second):
    """The two sentences, in an order that tells nothing about the label."""
    return tuple(shuffled((first, second), "order of " + min(first, second) + max(first, second)))


def across(scenes, salt, per_scene):
    """`per_scene` times, pair one sentence of each scene with one of the next scene in a shuffled ring."""
    for turn in range(per_scene):
        names = shuffled(scenes, f"{salt} {turn}")
        for name, other in zip(names, names[1:] + names[:1], strict=True):
            yield name, (shuffled(scenes[name], salt + other)[turn], shuffled(scenes[other], salt + name)[turn])


def question_rows(topics, split):
    """{topic: [line, ...]} -> rows (question, question, "1.0" or "0.0") for Quora and for QQP, no pair in both.

    A topic gives Quora 5 duplicates, 3 hard and 2 easy negatives, QQP 4 duplicates, 3 hard and 1 easy negative.
    """
    meanings = {topic: [line.split(" | ") for line in lines] for topic, lines in topics.items()}
    quora, qqp = [], []
    for topic, lines in meanings.items():
        same = [pair for line in lines for pair in itertools.combinations(line, 2)]
        hard = [pair for a, b in itertools.combinations(lines, 2) for pair in itertools.product(a, b)]
        same, hard = shuffled(same, topic), shuffled(hard, topic)
        quora += [(*turned(*pair), "1.0") for pair in same[:5]] + [(*turned(*pair), "0.0") for pair in hard[:3]]
        qqp += [(*turned(*pair), "1.0") for pair in same[5:]] + [(*turned(*pair), "0.0") for pair in hard[3:6]]
    sentences = {topic: list(itertools.chain(*lines)) for topic, lines in meanings.items()}
    quora += [(*turned(*pair), "0.0") for _, pair in across(sentences, f"quora {split}", 2)]
    qqp += [(*turned(*pair), "0.0") for _, pair in across(sentences, f"qqp {split}", 1)]
    return shuffled(quora, split), shuffled(qqp, split)


def similarity_rows(scenes, split):
    """{scene: ["= wording | wording", "score sentence", ...]} -> rows (sentence, sentence, score of 0.0 to 5.0)."""
    rows, sentences = [], {}
    for scene, (first, *graded) in scenes.items():
        wordings = first.removeprefix("= ").split(" | ")
        graded = [line.split(" ", 1) for line in graded]
        rows += [(*turned(*pair), "5.0") for pair in itertools.combinations(wordings, 2)]
        rows += [(*turned(wording, other), score) for wording in wordings for score, other in graded]
        sentences[scene] = wordings + [other for _, other in graded]
    rows += [(*turned(*pair), "0.0") for _, pair in across(sentences, f"sts {split}", 1)]
    return shuffled(rows, split)


def inference_rows(scenes, labels, split):
    """{scene: [premise, "mark hypothesis", ...]} -> rows (premise, hypothesis, label name)."""
    rows = []
    for premise, *hypotheses in scenes.values():
        rows += [(premise, line[2:], labels[line[0]]) for line in hypotheses]
    return shuffled(rows, split)


def course_table(rows, label, start):
    """The course's layout: tab separated, double quotes where needed; index (from `start`), id, sentences, label.

    `label` is the name of the last column, None in a test file.
    """
    text = io.StringIO()
    writer = csv.writer(text, delimiter="\t", lineterminator="\n")
    writer.writerow(["", "id", "sentence1", "sentence2"] + [label] * (label is not None))
    for index, (first, second, value) in enumerate(rows, start):
        name = hashlib.sha256(f"{first}\t{second}".encode()).hexdigest()[:25]
        writer.writerow([index, name, first, second] + [value] * (label is not None))
    return text.getvalue()


def glue_table(header, rows):
    """GLUE's layout: a header row, tabs and no quoting at all."""
    return "".join("\t".join(map(str, row)) + "\n" for row in [header, *rows])


def sample():
    """{path below data/sample: text} of every file."""
    texts, numbers = {}, itertools.count(1)
    questions, scenes = read_scenes("questions"), read_scenes("similarity")
    quora_start = sts_start = 0
    for split in SPLITS:
        labelled, ending = split != "test", "-student" * (split == "test")
        quora, qqp = question_rows(questions[split], split)
        sts = similarity_rows(scenes[split], split)
        texts[f"quora-{split}{ending}.csv"] = course_table(quora, "is_duplicate" if labelled else None, quora_start)
        texts[f"sts-{split}{ending}.csv"] = course_table(sts, "similarity" if labelled else None, sts_start)
        quora_start, sts_start = quora_start + len(quora), sts_start + len(sts)
        if labelled:
            header = ("id", "qid1", "qid2", "question1", "question2", "is_duplicate")
            number = {question: next(numbers) for row in qqp for question in row[:2]}
            qqp = [(i, number[a], number[b], a, b, label[0]) for i, (a, b, label) in enumerate(qqp)]
        else:
            header, qqp = ("id", "question1", "question2"), [(i, a, b) for i, (a, b, _) in enumerate(qqp)]
        texts[f"glue/QQP/{split}.tsv"] = glue_table(header, qqp)
    for task, splits, labels, column in (
        ("RTE", SPLITS, RTE_LABELS, "label"),
        ("MNLI", MNLI_SPLITS, MNLI_LABELS, "gold_label"),
    ):
        scenes = read_scenes(task.lower())
        for split in splits:
            width = 3 - split.startswith("test")  # a test row ends before its label
            rows = [(i, *row[:width]) for i, row in enumerate(inference_rows(scenes[split], labels, split))]
            texts[f"glue/{task}/{split}.tsv"] = glue_table(
                ("index", "sentence1", "sentence2", column)[: width + 1], rows
            )
    return texts


def main(folder=DATA / "sample"):
    for name, text in sample().items():
        path = Path(folder) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, text)


if __name__ == "__main__":
    main(*sys.argv[1:])
