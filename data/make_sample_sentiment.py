"""Writes the sentiment half of `data/sample`: SST and CFIMDB as the course ships them, SST-2 as GLUE ships it.

The English is written by hand for this project and lies in `data/sample_text/sentiment-{train,dev,test}.txt`, one
sentence a line under section headings:

    [sst GRADE]             a row of SST: 0 scathing, 1 mildly bad, 2 mixed or factual, 3 mildly good, 4 ecstatic
    [sst2 POLARITY]         a row of SST-2, `positive` or `negative`
    [cfimdb ROLE]           a sentence of a review that fits either polarity (opening, premise)
    [cfimdb POLARITY ROLE]  a sentence of a review that does not (acting, story, craft, remark, concession, verdict)

SST and SST-2 rows are these sentences, shuffled. A CFIMDB review is three to six of them, one for each role of a plan.
Each hand-written sentence is its own frame and belongs to one split, and so does each plan: what is learned on train
can only be carried to dev by its meaning. Within a split most negative sentences mirror a positive one word for word
but for the opinion, as the counterfactual reviews of CFIMDB do (Kaushik et al. 2020).

Deterministic: the same text gives the same bytes. Run `python data/make_sample_sentiment.py [FOLDER]`.
"""

import csv
import hashlib
import io
import random
import sys
from pathlib import Path

DATA = Path(__file__).resolve().parent
sys.path.insert(0, str(DATA.parent))

from minbert.files import write_text  # noqa: E402  (the project's root is not on the path of a script in data/)

TEXT = DATA / "sample_text"
SAMPLE = DATA / "sample"
SPLITS = ("train", "dev", "test")
POLARITIES = ("negative", "positive")  # the index is the label, in CFIMDB and in SST-2
GRADES = range(5)
REVIEWS = {"train": 400, "dev": 80, "test": 80}

PLANS = {
    "train": (
        "opening premise acting story remark",
        "opening story remark verdict",
        "opening acting remark",
        "opening premise story concession verdict",
        "premise story acting verdict",
        "opening concession remark story verdict",
        "opening premise acting craft concession verdict",
        "premise remark craft verdict",
    ),
    "dev": (
        "opening acting story craft verdict",
        "premise acting concession story verdict",
        "verdict premise story acting",
        "opening premise concession acting story verdict",
        "premise craft story verdict",
    ),
    "test": (
        "verdict opening acting story",
        "premise craft acting concession verdict",
        "opening premise story craft acting verdict",
        "premise story verdict",
        "opening craft concession verdict",
    ),
}


def read_sections(path):
    """The file at `path` as {section: [sentence, ...]}; blank lines and lines that start with `#` say nothing."""
    sections = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            sentences = sections.setdefault(line[1:-1], [])
        elif line and not line.startswith("#"):
            sentences.append(line)
    return sections


def labelled(sections, names, rng):
    """All (sentence, label) of the sections `names`, shuffled; the label is the section's place in `names`."""
    rows = [(sentence, label) for label, name in enumerate(names) for sentence in sections[name]]
    rng.shuffle(rows)
    return rows


def dealt(sentences, rng):
    """Deals `sentences` without end, each once a round, so that none is used much more often than another."""
    while True:
        yield from rng.sample(sentences, len(sentences))


def reviews(sections, plans, number, rng):
    """`number` reviews (text, label), half of each polarity, the plans taken in turn."""
    # One deck a section: both polarities draw their openings and premises from the same two.
    decks = {name: dealt(sentences, rng) for name, sentences in sections.items() if name.startswith("cfimdb")}
    rows = []
    for i in range(number):
        label = i % 2
        plan = plans[i // 2 % len(plans)].split()
        names = (
            f"cfimdb {role}" if f"cfimdb {role}" in decks else f"cfimdb {POLARITIES[label]} {role}" for role in plan
        )
        rows.append((" ".join(next(decks[name]) for name in names), label))
    rng.shuffle(rows)
    return rows


def identifier(name, sentence):
    """25 hex digits, as the course's ids are."""
    return hashlib.sha256(f"{name}\t{sentence}".encode()).hexdigest()[:25]


def course_table(name, split, rows):
    """The course's layout, header first. Its test files carry one index column more and no label."""
    if split == "test":
        header = ["0", "", "id", "sentence"]
        return [header] + [[i + 1, float(i), identifier(name, text), text] for i, (text, _) in enumerate(rows)]
    header = ["", "id", "sentence", "sentiment"]
    return [header] + [[i, identifier(name, text), text, label] for i, (text, label) in enumerate(rows)]


def glue_table(split, rows):
    """GLUE's layout of SST-2, header first. Its test file carries an index and no label."""
    if split == "test":
        return [["index", "sentence"]] + [[i, text] for i, (text, _) in enumerate(rows)]
    return [["sentence", "label"], *map(list, rows)]


def sample_tables():
    """Every file of the sample: {path inside the folder: rows with the header first}."""
    tables = {}
    for split in SPLITS:
        sections = read_sections(TEXT / f"sentiment-{split}.txt")
        rng = random.Random(f"sentiment {split}")
        course_split = "test-student" if split == "test" else split
        sst = labelled(sections, [f"sst {grade}" for grade in GRADES], rng)
        cfimdb = reviews(sections, PLANS[split], REVIEWS[split], rng)
        sst2 = labelled(sections, [f"sst2 {polarity}" for polarity in POLARITIES], rng)
        tables[f"ids-sst-{course_split}.csv"] = course_table("sst", split, sst)
        tables[f"ids-cfimdb-{course_split}.csv"] = course_table("cfimdb", split, cfimdb)
        tables[f"glue/SST-2/{split}.tsv"] = glue_table(split, sst2)
    return tables


def write_sample(folder):
    """Writes every file of the sample under `folder`."""
    for name, table in sample_tables().items():
        path = Path(folder) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        # GLUE quotes nothing: there a tab or a line break in a cell is an error instead.
        quoting = csv.QUOTE_NONE if path.suffix == ".tsv" else csv.QUOTE_MINIMAL
        text = io.StringIO()
        csv.writer(text, delimiter="\t", lineterminator="\n", quoting=quoting).writerows(table)
        write_text(path, text.getvalue())


if __name__ == "__main__":
    write_sample(sys.argv[1] if len(sys.argv) > 1 else SAMPLE)
