"""Other words for the same text: augmented copies of a file's texts, keyed by id, for consistency training.

    python augmentation.py --method tfidf --in data/cs224n/ids-sst-train.csv --task sst --out sst-tfidf.tsv
    python augmentation.py --method eda --in data/unlabelled/quora.tsv --out quora-eda.tsv

The file written is tab separated without quoting: id, sentence (or sentence1, sentence2), method. What is done to a row
depends on the seed and its id (for tfidf also on the words of the whole file), never on the rows before it. A command
that was stopped goes on where it was: its rows are kept in OUT.<digest>.partial.

tfidf  words that say little are replaced: Xie et al. 2020, "Unsupervised Data Augmentation for Consistency Training"
eda    words are deleted and swapped: Wei and Zou 2019, "EDA: Easy Data Augmentation Techniques for Boosting
       Performance on Text Classification Tasks"

Shapes: n words of a text, V words of the vocabulary.
"""

import gzip
import hashlib
import json
import math
import os
import re
import sys
import zlib
from collections import Counter
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

import datasets
import flag_types
from files import UserError, complain, sha256, short
from flags import Parser

# -------------------------------------------------------------------------------------------------------- methods


class TfIdf:
    """Word replacement by TF-IDF (Xie et al. 2020, appendix). Each text of the file counts as one document.

    A word x_i of a text is replaced with probability min(p (C - TFIDF(x_i)) / Z, 1), where TFIDF(x) = TF(x) IDF(x),
    IDF(x) = log(documents / documents with x), C is the largest TFIDF of the text and Z = sum_i (C - TFIDF(x_i)) / n,
    so that p is the share of words replaced as long as no probability meets 1, and the most telling word always stays.
    Its place is taken by a word w of the file, drawn with probability (max S - S(w)) / sum_w' (max S - S(w')), where
    S(w) = freq(w) IDF(w): the words that carry the file's content are not drawn.

    Where the words of a text all tell as much (a single word, for one) Z is 0 and each is replaced with probability p.
    Departures from the authors' code: words are runs of letters and digits, compared and drawn in lower case, and
    punctuation and spaces stay as they are.
    """

    WORD = re.compile(r"\w+(?:['’\-]\w+)*")

    default = 0.3  # a choice of ours: most texts here are short

    def __init__(self, texts, p):
        self.p = p
        count, documents = Counter(), Counter()
        for text in texts:
            words = self.words(text)
            count.update(words)
            documents.update(set(words))
        self.idf = {word: math.log(len(texts) / documents[word]) for word in documents}
        self.vocabulary = sorted(count)  # [V]
        score = np.array([count[word] * self.idf[word] for word in self.vocabulary])  # S [V]
        room = score.max(initial=0.0) - score
        self.drawn_up_to = np.cumsum(room if room.any() else np.ones_like(room))  # [V], unnormalised

    def words(self, text):
        return [word.lower() for word in self.WORD.findall(text)]

    def replace_probabilities(self, words):
        """[n], for the n words of one text."""
        count = Counter(words)
        tf_idf = np.array([count[word] * self.idf[word] for word in words])  # TF without its 1/n, which C and Z share
        room = tf_idf.max(initial=0.0) - tf_idf  # C - TFIDF
        if not room.any():
            return np.full(len(words), self.p)
        return np.minimum(self.p * room / room.mean(), 1.0)

    def __call__(self, text, random):
        """text -> text; random: a numpy RandomState."""
        words = self.words(text)
        replaced = random.random_sample(len(words)) < self.replace_probabilities(words)  # [n]
        drawn = random.random_sample(len(words)) * self.drawn_up_to[-1:]  # [n]
        places = np.searchsorted(self.drawn_up_to, drawn, side="right")
        news = (self.vocabulary[place] if yes else None for yes, place in zip(replaced, places, strict=True))
        return self.WORD.sub(lambda match: next(news) or match[0], text)


class Eda:
    """Random deletion, then random swaps (Wei and Zou 2019, section 2), without synonyms, which need a thesaurus.

    Each word is deleted with probability p; if all are, one of them stays. Then max(1, round(p n)) times two words
    trade places. Words are what spaces separate. The paper makes a copy by one operation; here it gets both.
    """

    default = 0.1  # their alpha

    def __init__(self, texts, p):
        self.p = p

    def __call__(self, text, random):
        """text -> text; random: a numpy RandomState."""
        words = text.split()
        kept = random.random_sample(len(words)) >= self.p  # [n]
        kept[random.randint(len(words))] |= not kept.any()
        words = [word for word, stays in zip(words, kept, strict=True) if stays]
        if len(words) > 1:
            for _ in range(max(1, round(self.p * len(words)))):
                i = random.randint(len(words))
                j = (i + random.randint(1, len(words))) % len(words)  # any other place
                words[i], words[j] = words[j], words[i]
        return " ".join(words)


# Each: (all texts of the file, p) -> function (text, RandomState) -> text; `default` is its p.
METHODS = {"tfidf": TfIdf, "eda": Eda}


# ---------------------------------------------------------------------------------------------------------- files


class Rows(NamedTuple):
    """Texts by id: {id: (sentence,)} or {id: (sentence1, sentence2)}, in the file's order, each text one line without
    tabs. `skipped`: the reason for each row left out."""

    texts: dict[str, tuple[str, ...]]
    skipped: list[str]


SYNC_EVERY = 1000  # rows; what a power failure may lose
COLUMNS = (datasets.PAIR, ("sentence",), ("question1", "question2"))  # of the texts, where no task names them


def read_rows(path, task=None):
    """The Rows of a file of text: with `task` (a name of datasets.TASKS) one in that task's form, labelled or not; else
    JSON lines with `id` and `text` (.jsonl, .jsonl.gz), or a table under a header with `id` and the columns `sentence`
    or `sentence1`, `sentence2`, tab separated, with double-quote quoting if its name ends in .csv.

    Of rows with one id, the first counts. Raises UserError for what cannot be read, OSError where there is no file.
    """
    path = Path(path)
    if task is not None:
        if task not in datasets.TASKS:
            raise UserError(f"no task named {task!r}: choose one of {', '.join(datasets.TASKS)}")
        return _table(datasets.TASKS[task], path)
    if path.name.endswith((".jsonl", ".jsonl.gz")):
        return _json_lines(path)
    return _plain_table(path, "csv" if path.suffix == ".csv" else "tsv")


def read_augmented(path):
    """The Rows of a file that this script wrote; a row with an empty text is skipped, and listed in `skipped`.

    Raises UserError for a file without the columns of such a file or without text, OSError where there is no file.
    """
    return _plain_table(Path(path), "tsv", ("id", "method"))


def _plain_table(path, form, others=()):
    with open(path, encoding="utf-8-sig", errors="replace") as f:
        header = [name.strip() for name in f.readline().split("\t")]
    columns = next((columns for columns in COLUMNS if set(columns) <= set(header)), None)
    if columns is None or not set(others) <= set(header):
        raise UserError(
            f"{path}: expected a header with sentence, or sentence1 and sentence2{''.join(f', {o}' for o in others)}, "
            f"and tabs between them; got {short(header)}"
        )
    id = "id" if "id" in header else "index"
    return _table(datasets.Task("text", "", (), columns, label="", metric="", files={}, format=form, id=id), path)


def _table(task, path):
    examples = datasets.read(task, path, "test")  # a test split's labels are not looked at
    return _first_of_each_id(zip(examples.ids, examples.texts, strict=True), examples.skipped)


def _json_lines(path):
    found, skipped, line = [], [], 0
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as f:
            for line, content in enumerate(f, start=1):
                id, text = (str(json.loads(content)[name]) for name in ("id", "text"))
                if text.strip():
                    found.append((id, (text,)))
                else:
                    skipped.append((line, "no value in 'text'"))
        if not found:
            raise ValueError("no text in it")
    except (gzip.BadGzipFile, EOFError, zlib.error, ValueError, KeyError, TypeError) as error:  # ValueError: not JSON
        example = '{"id": "a1", "text": "..."}'
        raise UserError(f"{path}, line {line}: {short(str(error))}; expected lines like {example}") from None
    return _first_of_each_id(found, skipped)


def _first_of_each_id(pairs, skipped):
    rows, reasons = {}, [f"line {line}: {reason}" for line, reason in skipped]
    for id, texts in pairs:
        id, *texts = (" ".join(cell.split()) for cell in (id, *texts))
        if id in rows:
            reasons.append(f"the id {short(id)} once more")
        else:
            rows[id] = tuple(texts)
    return Rows(rows, reasons)


# ------------------------------------------------------------------------------------------------------- the work


def generator(seed, id):
    """The random numbers of one row: RandomState's are promised never to change with numpy's version."""
    digest = hashlib.sha256(f"{seed}\n{id}".encode()).digest()
    return np.random.RandomState(np.frombuffer(digest, dtype="<u4"))


def augment(rows, out, method, seed=0, p=None, source=""):
    """Write the augmented copies of `rows` (Rows) to the file `out`; returns (rows equal to their input, rows that an
    earlier call had done already).

    Rows are appended to a partial file, which takes the place of `out` at the end. Its name has a digest of method,
    seed, p and `source` (whatever else decides the result, such as the input's digest), so that only rows made in the
    same way are gone on from. Raises UserError where `out` is something else than an ordinary file.
    """
    out = Path(out)
    if out.exists() and not out.is_file():
        raise UserError(f"{out}: not an ordinary file; choose another name")
    p = METHODS[method].default if p is None else p
    digest = hashlib.sha256(json.dumps([method, seed, p, source]).encode()).hexdigest()[:8]
    partial = out.with_name(f"{out.name}.{digest}.partial")
    change = METHODS[method](list(chain.from_iterable(rows.texts.values())), p)

    with open(partial, "a+b", buffering=0) as f:  # unbuffered, so that a kill loses no more than the row being made
        done = _done(f)
        resumed = len(done)
        if not f.tell():
            names = datasets.PAIR if len(next(iter(rows.texts.values()))) == 2 else ("sentence",)
            f.write("\t".join(["id", *names, "method"]).encode() + b"\n")
        for id, texts in tqdm(rows.texts.items(), method, unit="row", delay=1, dynamic_ncols=True):
            if id not in done:
                random = generator(seed, id)
                done[id] = tuple(change(text, random) for text in texts)
                f.write("\t".join([id, *done[id], method]).encode() + b"\n")
                if len(done) % SYNC_EVERY == 0:
                    os.fsync(f.fileno())
        os.fsync(f.fileno())
    os.replace(partial, out)
    return sum(done[id] == texts for id, texts in rows.texts.items()), resumed


def _done(f):
    """{id: texts} of the rows in a partial file; a last line that a kill cut is taken off it."""
    f.seek(0)
    whole, newline, _ = f.read().rpartition(b"\n")
    f.truncate(len(whole + newline))
    f.seek(0, os.SEEK_END)
    rows = [line.split("\t") for line in whole.decode().split("\n")[1:]]
    return {id: tuple(texts) for id, *texts, _method in rows}


def build_parser():
    parser = Parser(prog="augmentation.py", description=__doc__.splitlines()[0])
    parser.add_argument("--method", choices=METHODS, required=True, help="how to change the texts")
    parser.add_argument("--in", dest="source", metavar="FILE", required=True, help="the texts: csv, tsv or jsonl(.gz)")
    parser.add_argument("--out", metavar="FILE", required=True, help="where to write the changed texts (tsv)")
    parser.add_argument("--task", help="the file has this task's form (default: by its header; jsonl: id and text)")
    parser.add_argument("--seed", type=flag_types.seed, default=0, help="of the random numbers (default: 0)")
    defaults = ", ".join(f"{name} {method.default:g}" for name, method in METHODS.items())
    parser.add_argument("--p", type=flag_types.factor, help=f"share of words to change (default: {defaults})")
    return parser


def main(argv=None):
    """Exit code: 0 all well, 2 a mistake of the user's, 130 stopped."""
    try:
        options = build_parser().parse_args(argv)
        source, out = Path(options.source), Path(options.out)
        rows = read_rows(source, options.task)
        if out.exists() and out.samefile(source):
            raise UserError(f"{out}: --out would replace the file that --in reads; choose another name")
        same, resumed = augment(rows, out, options.method, options.seed, options.p, [sha256(source), options.task])
        total = len(rows.texts)
        before = f", {resumed:,} of them by a command that was stopped" if resumed else ""
        print(f"{out}: {total:,} rows{before}; {same:,} ({same / total:.1%}) equal to their input")
        if rows.skipped:
            print(f"{len(rows.skipped):,} rows of {source} left out, the first: {rows.skipped[0]}")
        return 0
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on from here")
        return 130
    except (UserError, OSError) as error:
        return complain(error)


if __name__ == "__main__":
    sys.exit(main())
