"""The files of a token cache as they are made: texts streamed through the tokenizer, and what comes twice left out.

Memory while a folder is made: that of one portion of text, of BUCKET keys, and a byte for each sequence.
"""

import contextlib
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from minbert.files import UserError, sha256
from minbert.readers import lines_of
from minbert.text.rows import stream
from minbert.text.stored import Mapped, StoredSequences, portions

TYPES = {"ids": ("uint16", "int32"), "types": ("uint8",), "offsets": ("int64",), "row_ids": ("uint64",)}
BUCKET = 1 << 20  # keys compared at once
PORTION = 1 << 18  # characters of text that are made tokens together


@dataclass(frozen=True)
class Source:
    """A file of text. kind: "lines", a text each; "rows", as rows.read_rows has them, perhaps with `columns`; or
    "copies", as rows.read_augmented has them."""

    path: Path
    kind: str = "lines"
    columns: tuple = ()

    def rows(self, skipped, broken):
        """Yield (id, texts). (line, reason) of rows left out is appended to `skipped`, long rows to `broken`."""
        if self.kind != "lines":
            yield from stream(self.path, self.columns, self.kind == "copies", skipped, broken)
            return
        for number, line in lines_of(self.path):
            if line.strip():
                yield str(number), (line.rstrip("\r\n"),)


class First(list):
    """A list that keeps its first item alone, and counts them."""

    count = 0

    def append(self, item):
        self.count += 1
        if not self:
            super().append(item)


class Writing:
    """A folder that is being written: first all sequences as they come, then those that stay."""

    def __init__(self, folder, tokenizer, max_length, form):
        self.folder, self.tokenizer, self.max_length, self.form = folder, tokenizer, max_length, form
        self.id_type = "uint16" if tokenizer.vocab_size <= 1 << 16 else "int32"
        self.raw = {name: folder / f"{name}.raw" for name in (*TYPES, "contents")}

    def write(self, sources, bar):
        """All of it; returns the header. bar: as in TokenCache."""
        header = {name: [] for name in ("rows", "skipped", "first_skipped", "broken")}
        self.end = self.truncated = 0
        with contextlib.ExitStack() as stack:
            raw = {name: stack.enter_context(open(path, "wb")) for name, path in self.raw.items()}
            np.zeros(1, np.int64).tofile(raw["offsets"])
            for number, source in enumerate(sources):
                skipped, broken, rows = First(), First(), 0
                with bar(f"tokens of {source.path.name}", _bytes_of(source.path)) as moved:
                    for keys, texts, count in _portions(source.rows(skipped, broken), number, self.form):
                        self._append(raw, keys, self.tokenizer.encode(texts, self.max_length))
                        rows += count
                        moved(sum(len(part) for text in texts for part in text))
                if not rows:
                    raise UserError(f"{source.path}: no text in it; expected one text a line")
                for name, value in (("rows", rows), ("skipped", skipped.count), ("broken", broken.count)):
                    header[name].append(value)
                header["first_skipped"].append(f"line {skipped[0][0]}: {skipped[0][1]}" if skipped else "")
        return {**header, "truncated": self.truncated, **self._finish()}

    def _append(self, raw, keys, sequences):
        sequences.ids.astype(self.id_type).tofile(raw["ids"])
        (sequences.offsets[1:] + self.end).tofile(raw["offsets"])
        self.end, self.truncated = self.end + len(sequences.ids), self.truncated + sequences.truncated
        if self.form == "fused":  # alone it may hold the second sentence of a pair
            sequences.types.tofile(raw["types"])
        np.array(keys, np.uint64).tofile(raw["row_ids"])
        if self.form == "sentences":
            whole, size = sequences.ids.tobytes(), sequences.ids.itemsize
            pieces = zip(sequences.offsets[:-1].tolist(), sequences.offsets[1:].tolist(), strict=True)
            np.array([_hash(whole[size * a : size * b]) for a, b in pieces], np.uint64).tofile(raw["contents"])

    def _finish(self):
        """Copy the sequences that stay, and take the others away. Returns what the header says of the files."""
        dtypes = {"ids": self.id_type, "offsets": "int64", "row_ids": "uint64"}
        dtypes |= {"types": "uint8"} if self.form == "fused" else {}
        mapped = {name: _mapped(self.raw[name], dtype) for name, dtype in dtypes.items()}
        kept, repeated = self._kept(mapped)
        with contextlib.ExitStack() as stack:
            final = {name: stack.enter_context(open(self.folder / f"{name}.bin", "wb")) for name in dtypes}
            self._copy(mapped, final, kept)
            for file in final.values():
                file.flush()
                os.fsync(file.fileno())
        del mapped
        for path in self.raw.values():
            path.unlink()
        sizes = {name: (self.folder / f"{name}.bin").stat().st_size for name in dtypes}
        if not sizes["ids"]:
            raise UserError("no text with a token to predict in any of the files")
        digest = sha256(self.folder / "offsets.bin")
        return {"dtypes": dtypes, "bytes": sizes, "offsets_sha256": digest, "repeated": repeated}

    def _kept(self, mapped):
        """(which sequences stay, a bool each; how many go because they came before)"""
        again = repeated(mapped["row_ids"], step=2 if self.form == "separate" else 1)
        if self.form == "fused":
            return ~again, int(again.sum())
        if self.form == "separate":  # both sentences of a row have its key
            return np.repeat(~again, 2), int(again.sum())
        kept, offsets = ~again, mapped["offsets"]
        for rows in portions(len(kept)):
            kept[rows] &= np.diff(offsets.array[rows[0] : rows[-1] + 2]) > 2
        offsets.forget()
        same = repeated(_mapped(self.raw["contents"], "uint64"), among=kept)
        return kept & ~same, int((again | same).sum())

    def _copy(self, mapped, final, kept):
        """Append the rows that stay to the final files."""
        sequences = StoredSequences(
            self.folder, mapped["ids"], mapped.get("types"), mapped["offsets"], self.tokenizer.vocab_size
        )
        end = 0
        np.zeros(1, np.int64).tofile(final["offsets"])
        for rows in portions(len(sequences)):
            part = sequences.take(rows[kept[rows]])
            part.ids.astype(self.id_type).tofile(final["ids"])
            (part.offsets[1:] + end).tofile(final["offsets"])
            mapped["row_ids"].array[rows[kept[rows]]].tofile(final["row_ids"])
            if "types" in final:
                part.types.tofile(final["types"])
            end += len(part.ids)
            mapped["row_ids"].forget()


def _portions(rows, source, form):
    """Yield ([the key of each sequence], [its texts], how many rows they are) of about PORTION characters from (id,
    texts) of a source."""
    keys, texts, size, count = [], [], 0, 0
    for id, parts in rows:
        key = _hash(f"{source}\t{id}".encode())
        several = form != "fused" and len(parts) > 1
        # A sentence of a pair has a key of its own where each sentence stands for itself.
        keys += [key ^ side if form == "sentences" else key for side in range(len(parts))] if several else [key]
        texts += [(part,) for part in parts] if several else [parts]
        size, count = size + sum(map(len, parts)), count + 1
        if size > PORTION:
            yield keys, texts, count
            keys, texts, size, count = [], [], 0, 0
    if keys:
        yield keys, texts, count


def repeated(keys, step=1, among=None):
    """[n] bool: which of every `step`-th key of a `Mapped` file came before, among those that `among` [n] says (all).

    The keys fall by their last bits into buckets of about BUCKET, which are sorted one after the other.
    """
    count = len(keys.array) // step
    again, buckets = np.zeros(count, bool), -(-count // BUCKET)
    for bucket in range(buckets):
        rows = []
        for part in portions(count):
            values = keys.array[part[0] * step : (part[-1] + 1) * step : step]
            inside = values % np.uint64(buckets) == bucket
            rows.append(part[inside if among is None else inside & among[part]])
            keys.forget()
        rows = np.concatenate(rows)
        values = keys.array[rows * step]
        order = np.argsort(values, kind="stable")  # equal keys stay in the order of their rows
        again[rows[order[1:]]] = values[order[1:]] == values[order[:-1]]
    return again


def _hash(content):
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")


def _mapped(path, dtype):
    with open(path, "rb") as file:
        return Mapped(file, np.dtype(dtype))


def _bytes_of(path):
    """How long a file of text is, or None where it is packed."""
    return None if path.suffix == ".gz" else os.path.getsize(path)
