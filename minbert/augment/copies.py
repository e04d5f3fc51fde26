"""Copies of a file's texts, row by row and keyed by id, kept as they are made.

How one text becomes another is elsewhere: word_changes.py and word_filling.py offline, prompting.py by asking a chat
model. What is made is kept in a partial file beside the one asked for, so that a command that was stopped goes on where
it was.
"""

import hashlib
import json
import os
from collections.abc import Callable
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

import datasets
from minbert.augment.growing import growing, whole_lines
from minbert.augment.prompting import Journal, make_copies
from minbert.augment.sentiment_words import KEPT, none
from minbert.augment.word_changes import Eda, TfIdf
from minbert.files import UserError, sha256, written_whole
from minbert.locks import alone_at
from minbert.text.rows import generator

METHODS = {"tfidf": TfIdf.default, "eda": Eda.default, "mlm": 0.15}  # that need nobody else -> their p
SYNC_EVERY = 1000  # rows; what a power failure may lose
ROWS_FILLED = 32  # rows whose words mlm fills in with one pass; what a kill may lose


class Change(NamedTuple):
    """One of METHODS, on one file.

    many     [(text, RandomState)] -> [text]
    at_once  rows that it is given together
    made_by  what decides its texts besides p and the file
    said     what it says of itself first
    """

    many: Callable
    at_once: int = 1
    made_by: tuple = ()
    said: str = ""


def change_of(method, texts, p, model=None, keeps=none):
    """The Change that one of METHODS is on a file with these texts. model: mlm's checkpoint; keeps: whether a word must
    stay."""
    if method != "mlm":
        change = {"tfidf": TfIdf, "eda": Eda}[method](texts, p, keeps)
        return Change(lambda jobs: [change(text, random) for text, random in jobs])
    from minbert.augment.word_filling import FillMask  # torch takes a second, which the others do not need

    change = FillMask(p, model, keeps)
    return Change(change.many, ROWS_FILLED, (sha256(change.found.weights),), change.quality(texts))


def augment(rows, out, method, seed=0, p=None, source="", model=None, keep_words=None):
    """Write the augmented copies of `rows` (Rows) to the file `out`; returns (rows equal to their input, rows that an
    earlier call had done already).

    keep_words: a key of KEPT; by default words that decide a sentiment stay as they are, but in pairs all may
    change. Rows are appended to a partial file, which takes the place of `out` at the end. Its name has a digest of
    method, seed, p, model, keep_words and `source` (whatever else decides the result, such as the input's digest),
    so that only rows made in the same way are gone on from. Raises UserError where `out` is something else than an
    ordinary file, or another command makes it.
    """
    out = Path(out)
    p = METHODS[method] if p is None else p
    _check(out)
    keep_words = keep_words or ("none" if rows.are_pairs else "sentiment")
    change = change_of(method, list(chain.from_iterable(rows.texts.values())), p, model, KEPT[keep_words])
    if change.said:
        print(change.said)
    partial = _partial(out, [method, seed, p, source, keep_words, *change.made_by])
    with alone_at(out):
        with growing(partial) as f:
            done = _done(f, rows, method)
            resumed = len(done)
            _make_others(rows, done, change, method, seed, f)
        os.replace(partial, out)
    return sum(done[id] == texts for id, texts in rows.texts.items()), resumed


def _make_others(rows, done, change, method, seed, f):
    """Append the copies of the rows that are not in `done` to the open file `f`, and put them in `done`."""
    with tqdm(desc=method, total=len(rows.texts), unit="row", delay=1, dynamic_ncols=True) as bar:
        for chunk in _chunks([*rows.texts.items()], change.at_once):
            for id, texts in _changed(change, chunk, seed, done):
                done[id] = texts
                f.write(_line(id, *texts, method))
                f.flush()  # so that a kill loses no more than the rows being made
                if len(done) % SYNC_EVERY == 0:
                    os.fsync(f.fileno())
            bar.update(len(chunk))


def _chunks(rows, size):
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def _changed(change, chunk, seed, done):
    """[(id, copies of its texts)] of a chunk's rows that are not done. Those that are go through it too, so that the
    others become what they would have become in one go."""
    if all(id in done for id, _ in chunk):
        return []
    randoms = [generator(seed, id) for id, _ in chunk]
    jobs = [(text, random) for (_, texts), random in zip(chunk, randoms, strict=True) for text in texts]
    copies = iter(change.many(jobs))
    return [(id, copy) for id, texts in chunk for copy in [tuple(islice(copies, len(texts)))] if id not in done]


def augment_by_prompting(rows, out, method, prompts, chat, seed=0, source="", **settings):
    """Write the copies of `rows` (Rows) that a chat model makes of them to the file `out`, in the order of `rows`;
    returns prompting.Copies, which says why a row has none.

    Answers are kept in a partial file as they arrive, so that none is paid for twice. It stays as long as a row has no
    copy. settings: of prompting.make_copies; they and the endpoint's address may be other ones when a command goes on.
    Raises UserError where `out` is finished, is something else than an ordinary file, or another command makes it, and
    as make_copies does.
    """
    out = Path(out)
    partial = _partial(out, [method, seed, prompts, chat.body, source])
    with alone_at(out), Journal.opened(partial, rows.texts) as journal:
        if out.exists() and not journal.answers:
            raise UserError(
                f"{out}: there already; making it again would be paid again: remove it or choose another name"
            )
        if journal.damaged:
            print(f"{partial}: {len(journal.damaged):,} damaged lines (the first: {journal.damaged[0]}) do not count")
        if kept := len(journal.answers):
            print(f"{partial}: {kept:,} answers are there already")
        copies = make_copies(rows, method, prompts, chat, journal, seed, **settings)
        if copies.texts:
            lines = (_line(id, *copies.texts[id], method) for id in rows.texts if id in copies.texts)
            with written_whole(out) as temporary:
                temporary.write_bytes(b"".join([_header(rows), *lines]))
        if len(copies.texts) == len(rows.texts):
            partial.unlink(missing_ok=True)
    return copies


def _check(out):
    if out.exists() and not out.is_file():
        raise UserError(f"{out}: not an ordinary file; choose another name")
    if not out.parent.is_dir():
        raise UserError(f"{out}: there is no folder {out.parent}")


def _partial(out, settings):
    """Where the rows of `out` are kept until they are whole: a file for each way of making them."""
    _check(out)
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]
    return out.with_name(f"{out.name}.{digest}.partial")


def _header(rows):
    names = datasets.PAIR if rows.are_pairs else ("sentence",)
    return _line("id", *names, "method")


def _line(*cells):
    return "\t".join(cells).encode() + b"\n"


def _done(f, rows, method):
    """{id: texts} of the rows in a partial file, which are the first of `rows`. From one on that is damaged they are
    taken off the file, to be made again."""
    header, done, sound = _header(rows), {}, 0
    lines = whole_lines(f)
    if lines and lines[0] + b"\n" == header:
        for line, (id, texts) in zip(lines[1:], rows.texts.items(), strict=False):
            if (copies := _copies_in(line, id, texts, method)) is None:
                break
            done[id] = copies
        sound = 1 + len(done)
    if sound < len(lines):
        print(f"{f.name}, line {sound + 1}: damaged; it and what follows are made again")
    f.truncate(sum(len(line) + 1 for line in lines[:sound]))
    f.seek(0, os.SEEK_END)
    if not sound:
        f.write(header)
    return done


def _copies_in(line, id, texts, method):
    """The copies in a line of a partial file; None where the line is not that of this row."""
    try:
        first, *copies, last = line.decode().split("\t")
    except ValueError:  # not UTF-8, or fewer than two cells
        return None
    sound = all(copy.strip() and "\r" not in copy for copy in copies)
    return tuple(copies) if sound and (first, len(copies), last) == (id, len(texts), method) else None
