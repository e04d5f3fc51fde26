"""Texts larger than memory, made tokens once: a folder of memory-mapped files, found again by what is in them.

DIR (--token_cache) holds

    tokens/KEY/   ids.bin (all token ids end to end, two bytes each where the vocabulary allows), types.bin (of pairs),
                  offsets.bin (where each sequence begins, and the end), row_ids.bin (8 bytes of the hash of each row's
                  id) and header.json
    texts/        what the content of a file of text is, with its size and times

KEY is a digest of the texts' and the tokenizer's content, the longest sequence and all else that decides the tokens. A
file of text counts as unchanged, and is not read again, while its size, its times of change (of content and of inode)
and its inode are what they were when its whole sha256 was taken; the times must have been two seconds old by then, so
that no later change can bear the same. A folder is written under another name, flushed, and renamed when it is whole.
Two processes that want the same one wait for each other, by a lock that ends with its process.

While a folder is made, memory is that of one portion of text, BUCKET keys, and a byte for each row. 64 bits tell rows
and sentences apart: of 100 million, a chance of 1 in 4,000 that one is lost.
"""

import contextlib
import hashlib
import json
import os
import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from minbert.files import UserError, sha256, write_json
from minbert.locks import alone_in
from minbert.readers import NUMBER, read_json
from minbert.text.stored import Mapped, StoredSequences, portions
from minbert.text.token_writing import TYPES, Writing

FORM = 1  # of these folders: one in another form is another folder
OLD = 2.0  # seconds after which a file's times tell a further change
HEADER = {
    "dtypes": {"ids": str, "offsets": str, "row_ids": str, ...: str},
    "bytes": {...: int},
    "offsets_sha256": str,
    "truncated": int,
    "rows": [int],
    "skipped": [int],
    "first_skipped": [str],
    "broken": [int],
    "repeated": int,
    "digest": str,
}
TEXT = {"size": int, "times": [NUMBER], "inode": int, "sha256": str}


@dataclass
class Stored:
    """What the cache has: the sequences, 8 bytes for each row's id, the sha256 of each source, how many rows that has,
    and how many of these were skipped (with the first reason, or "") or go over several lines; and how many rows or
    sentences, of all sources, came before."""

    sequences: StoredSequences
    row_ids: np.ndarray
    contents: list
    rows: list
    skipped: list
    first_skipped: list
    broken: list
    repeated: int


class TokenCache:
    """The cache in `folder` for one tokenizer and longest sequence.

    bar   progress of making tokens: (name, bytes in all or None) -> a context whose value is called with the
          characters of each portion
    say   prints a line
    """

    def __init__(self, folder, tokenizer, max_length, bar, say=print):
        self.folder, self.tokenizer, self.max_length, self.bar, self.say = Path(folder), tokenizer, max_length, bar, say

    def open(self, sources, form):
        """`Stored` of these sources, made now where it is not there. form: "fused", a row is a sequence; "separate", a
        pair is two; "sentences", so is a text, and each counts once, by its tokens, if it has one to predict."""
        contents = [self._content(source.path) for source in sources]
        key = self._key(sources, contents, form)
        folder = self.folder / "tokens" / key
        if (stored := self._opened(folder)) is None:
            names = ", ".join(str(source.path) for source in sources)
            place = folder.with_name(f".{key}")
            with alone_in(place, wait=f"waiting for another process that reads {names}"):
                stored = self._opened(folder, mend=True)  # the other one has made it, or it is damaged
                if stored is None:
                    self._make(folder, sources, form)
                    stored = self._opened(folder)
            with contextlib.suppress(OSError):  # somebody waits in it
                place.rmdir()
        if stored is None:
            raise UserError(f"{folder}: damaged as soon as it was written; is the disk sound?")
        return replace(stored, contents=contents)

    # ------------------------------------------------------------------------------------------------- what is there

    def _key(self, sources, contents, form):
        tokenizer = hashlib.sha256(self.tokenizer.to_json().encode()).hexdigest()
        # Of a path its end tells how the file is read.
        forms = [(source.kind, source.columns, "".join(source.path.suffixes[-2:])) for source in sources]
        how = [FORM, form, contents, forms, tokenizer, self.max_length, self.tokenizer.truncate]
        return hashlib.sha256(json.dumps(how).encode()).hexdigest()[:32]

    def _content(self, path):
        """The sha256 of a file of text."""
        try:
            before = _state(path)
            record = self.folder / "texts" / f"{hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:32]}.json"
            with contextlib.suppress(UserError):  # not there, or damaged
                known = read_json(record, "a file's fingerprint", "", TEXT)
                if {**known, "sha256": None} == {**before, "sha256": None}:
                    return known["sha256"]
            now = time.time()
            found = {**before, "sha256": sha256(path)}
            if _state(path) != before:
                raise UserError(f"{path}: changed while it was read; start again when it is whole")
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror}); expected a file of text") from None
        if now - max(before["times"]) / 1e9 > OLD:
            record.parent.mkdir(parents=True, exist_ok=True)
            write_json(record, found)
        return found["sha256"]

    def _opened(self, folder, mend=False):
        """`Stored` of a folder, or None where it is not there or damaged. mend: say so, and take it away."""
        if not folder.is_dir():
            return None
        try:
            header = read_json(folder / "header.json", "the header of a token cache", "", HEADER)
            return self._checked(folder, header)
        except (UserError, FileNotFoundError) as error:
            if mend:
                self.say(f"token cache: {error}; it is made again")
                shutil.rmtree(folder)
            return None

    def _checked(self, folder, header):
        """`Stored` of a folder whose files are all as its header says. Raises UserError or FileNotFoundError."""
        known = all(dtype in TYPES.get(name, ()) for name, dtype in header["dtypes"].items())
        if header["digest"] != _digest(header) or not known or header["bytes"].keys() != header["dtypes"].keys():
            raise UserError(f"{folder}: damaged, its header is not what was written")
        mapped = {}
        for name, dtype in header["dtypes"].items():
            with open(folder / f"{name}.bin", "rb") as file:
                if (size := os.fstat(file.fileno()).st_size) != header["bytes"][name] or not size:
                    raise UserError(f"{folder}: damaged, {name}.bin has {size} bytes of {header['bytes'][name]}")
                mapped[name] = Mapped(file, np.dtype(dtype))
        if sha256(folder / "offsets.bin") != header["offsets_sha256"] or not _in_order(mapped):
            raise UserError(f"{folder}: damaged, offsets.bin is not what was written")
        sequences = StoredSequences(
            *(folder, mapped["ids"], mapped.get("types"), mapped["offsets"]),
            *(self.tokenizer.vocab_size, header["truncated"]),
        )
        told = {name: header[name] for name in ("rows", "skipped", "first_skipped", "broken", "repeated")}
        return Stored(sequences, mapped["row_ids"].array, [], **told)

    # --------------------------------------------------------------------------------------------------- making one

    def _make(self, folder, sources, form):
        """Write the folder, whole or not at all; nobody else is at it."""
        part = folder.with_name(f".{folder.name}") / "part"
        shutil.rmtree(part, ignore_errors=True)  # of a process that was killed
        part.mkdir(parents=True)
        try:
            states = [_state(source.path) for source in sources]
            header = Writing(part, self.tokenizer, self.max_length, form).write(sources, self.bar)
            if [_state(source.path) for source in sources] != states:
                raise UserError(f"{sources[0].path}: text changed while it was read; start again when it is whole")
            write_json(part / "header.json", {**header, "digest": _digest(header)})
            os.replace(part, folder)
        except OSError as error:
            error.filename = str(folder)  # a full disk names none
            raise
        finally:
            shutil.rmtree(part, ignore_errors=True)


def _state(path):
    """What a file's directory entry says of it."""
    found = os.stat(path)
    return {"size": found.st_size, "times": [found.st_mtime_ns, found.st_ctime_ns], "inode": found.st_ino}


def _in_order(mapped):
    """Whether offsets rise from 0 to the number of ids."""
    offsets = mapped["offsets"].array
    if offsets[0] != 0 or offsets[-1] != len(mapped["ids"].array):
        return False
    for rows in portions(len(offsets) - 1):
        if not (np.diff(offsets[rows[0] : rows[-1] + 2]) > 0).all():
            return False
        mapped["offsets"].forget()
    return True


def _digest(header):
    whole = json.dumps({name: value for name, value in header.items() if name != "digest"}, sort_keys=True)
    return hashlib.sha256(whole.encode()).hexdigest()
