"""A token cache: it holds what the tokenizer says of the texts, is made whole or not at all, and is checked."""

import contextlib
import gzip
import json
import multiprocessing
import os
import shutil
import tracemalloc
from itertools import pairwise

import numpy as np
import pytest
import tiny

from minbert import readers
from minbert.files import UserError
from minbert.methods import block_shuffle
from minbert.text import stored, token_cache, token_writing, tokenization
from minbert.text.rows import read_augmented, read_rows
from minbert.text.stored import StoredPairs, listed, without
from minbert.text.token_cache import TokenCache
from minbert.text.token_writing import Source, repeated
from minbert.text.tokenization import Tokenizer

ROWS = 300


@contextlib.contextmanager
def no_bar(name, total):
    yield lambda more: None


@pytest.fixture
def tokenizer(tiny_model):
    return Tokenizer.from_folder(tiny_model)


@pytest.fixture
def cache(tmp_path, tokenizer):
    """A cache of sequences of up to 12 tokens; what it says is in `cache.said`."""
    said = []
    made = TokenCache(tmp_path / "cache", tokenizer, 12, no_bar, said.append)
    made.said = said
    return made


def sentences(count=ROWS, seed=0):
    random = np.random.default_rng(seed)
    return [" ".join(random.choice(tiny.WORDS, random.integers(1, 17))) for _ in range(count)]


def text_file(path, lines):
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def table(path, texts, ids=None, method=False):
    """A file as augmentation.py reads it, or with `method` as it writes it."""
    names = ["id", *(["sentence"] if len(texts[0]) == 1 else ["sentence1", "sentence2"])] + ["method"] * method
    ids = ids or [f"r{row}" for row in range(len(texts))]
    rows = ["\t".join([id, *cells] + ["eda"] * method) for id, cells in zip(ids, texts, strict=True)]
    return text_file(path, ["\t".join(names), *rows])


def same(found, expected):
    """All of a view against `Sequences`."""
    rows = np.arange(len(expected))
    assert len(found) == len(expected)
    taken = found.take(rows)
    for name in ("ids", "types", "offsets"):
        one, two = getattr(taken, name), getattr(expected, name)
        assert one.dtype == two.dtype
        assert one.tolist() == two.tolist()
    assert found.lengths[rows].tolist() == expected.lengths.tolist()
    assert found.lengths.mean() == pytest.approx(expected.lengths.mean(), rel=1e-12)


def folder_of(cache):
    (folder,) = [path for path in (cache.folder / "tokens").iterdir() if not path.name.startswith(".")]
    return folder


# ----------------------------------------------------------------------------------------------------- what it holds


def test_rows_are_those_of_the_tokenizer(cache, tokenizer, tmp_path):
    texts = [(line,) for line in sentences()]
    found = cache.open([Source(table(tmp_path / "a.tsv", texts), "rows")], "fused")
    expected = tokenizer.encode(texts, 12)
    same(found.sequences, expected)
    assert found.sequences.truncated == expected.truncated > 0
    assert (found.rows, found.skipped, found.repeated) == ([ROWS], [0], 0)


def test_pairs_keep_their_types_or_stand_apart(cache, tokenizer, tmp_path):
    texts = list(zip(sentences(seed=1), sentences(seed=2), strict=True))
    source = Source(table(tmp_path / "a.tsv", texts), "rows")
    same(cache.open([source], "fused").sequences, tokenizer.encode(texts, 12))
    apart = StoredPairs.of(cache.open([source], "separate").sequences)
    expected = tokenizer.encode(texts, 12, fused=False)
    same(apart.first, expected.first)
    same(apart.second, expected.second)
    rows = np.array([5, 0, 299])
    assert apart.lengths[rows].tolist() == expected.lengths[rows].tolist()
    assert apart.truncated == expected.truncated
    same(StoredPairs.of(apart.first.source, rows).second, expected.second.take(rows))


@pytest.mark.parametrize("portion", [50, 1_000_000])
def test_each_sentence_counts_once_by_its_tokens(cache, tokenizer, tmp_path, monkeypatch, portion):
    monkeypatch.setattr(token_writing, "PORTION", portion)
    monkeypatch.setattr(stored, "AT_ONCE", 7)
    monkeypatch.setattr(token_writing, "BUCKET", 11)
    lines = sentences(60)
    lines = [*lines, "", *(line.upper() for line in lines[:9]), "   ", lines[3]]
    more = [*lines[:5], *sentences(20, seed=5)]
    files = [text_file(tmp_path / "a.txt", lines), text_file(tmp_path / "b.txt", more)]
    found = cache.open([Source(path) for path in files], "sentences")
    expected = tokenizer.encode([(line,) for line in [*lines, *more] if line.strip()], 12)
    pieces = [tuple(expected.ids[a:b]) for a, b in pairwise(expected.offsets)]
    unique = [pieces.index(piece) for piece in dict.fromkeys(pieces)]
    same(found.sequences, expected.take(unique))
    assert found.rows == [70, 25]
    assert found.repeated == 95 - len(unique)


def test_rows_with_an_id_that_came_before_and_bad_ones_are_left_out(cache, tokenizer, tmp_path):
    texts, ids = [(line,) for line in sentences(8)], ["a", "b", "a", "c", "d", "b", "e", "f"]
    path = table(tmp_path / "a.tsv", texts, ids)
    text_file(path, [*path.read_text().splitlines(), "g\t", "h\ttoo\tmany"])
    found, expected = cache.open([Source(path, "rows")], "fused"), read_rows(path)
    same(found.sequences, tokenizer.encode([*expected.texts.values()], 12))
    assert (found.repeated, found.skipped) == (2, [2])
    assert found.first_skipped == [expected.skipped[0]]
    assert len(expected.skipped) == 4


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
def test_json_lines(cache, tokenizer, tmp_path, name):
    lines = [json.dumps({"id": f"i{row}", "text": text}) for row, text in enumerate(sentences(20))]
    path = tmp_path / name
    path.write_bytes((gzip.compress if name.endswith("gz") else bytes)(("\n".join(lines) + "\n").encode()))
    found = cache.open([Source(path, "rows")], "fused")
    same(found.sequences, tokenizer.encode([*read_rows(path).texts.values()], 12))


def test_copies_and_columns(cache, tokenizer, tmp_path):
    texts = [(line,) for line in sentences(9)]
    path = table(tmp_path / "copies.tsv", texts, method=True)
    same(
        cache.open([Source(path, "copies")], "fused").sequences,
        tokenizer.encode([*read_augmented(path).texts.values()], 12),
    )
    mine = text_file(tmp_path / "mine.csv", ["subject,x", *(f"{text},1" for (text,) in texts)])
    same(cache.open([Source(mine, "rows", ("subject",))], "fused").sequences, tokenizer.encode(texts, 12))


def test_views_leave_rows_out_and_list_them(cache, tokenizer, tmp_path):
    texts = [(line,) for line in sentences(30)]
    found = cache.open([Source(table(tmp_path / "a.tsv", texts), "rows")], "fused").sequences
    expected = tokenizer.encode(texts, 12)
    left_out = np.array([0, 1, 7, 8, 29])
    same(without(found, left_out), expected.take(np.setdiff1d(np.arange(30), left_out)))
    same(listed(found, np.array([4, 4, 2])), expected.take([4, 4, 2]))


def test_repeated_looks_bucket_by_bucket(tmp_path, monkeypatch):
    monkeypatch.setattr(token_writing, "BUCKET", 16)
    monkeypatch.setattr(stored, "AT_ONCE", 10)
    keys = np.random.default_rng(0).integers(40, size=200).astype(np.uint64)
    keys.tofile(tmp_path / "keys")
    mapped = token_writing._mapped(tmp_path / "keys", "uint64")
    first = {}
    expected = [first.setdefault(key, row) != row for row, key in enumerate(keys.tolist())]
    assert repeated(mapped).tolist() == expected
    among, first = np.arange(200) % 3 > 0, {}
    expected = [bool(among[row]) and first.setdefault(key, row) != row for row, key in enumerate(keys.tolist())]
    assert repeated(mapped, among=among).tolist() == expected
    first = {}
    expected = [first.setdefault(key, row) != row for row, key in enumerate(keys[::2].tolist())]
    assert repeated(mapped, step=2).tolist() == expected


# ------------------------------------------------------------------------------------------------------ second starts


def opened(path, cache, form="sentences"):
    return cache.open([Source(path)], form).sequences


@pytest.fixture
def believed(monkeypatch):
    """As if the files had been written long ago."""
    monkeypatch.setattr(token_cache, "OLD", -1.0)


def test_a_second_start_reads_no_text(cache, tmp_path, monkeypatch, believed):
    path = text_file(tmp_path / "a.txt", sentences())
    before = opened(path, cache).ids.array.tolist()

    def refuse(*args):
        raise AssertionError("it read the text")

    monkeypatch.setattr(token_writing, "lines_of", refuse)
    hashed = []
    monkeypatch.setattr(token_cache, "sha256", lambda file: hashed.append(file.name) or digest(file))
    digest = token_writing.sha256
    monkeypatch.setattr(cache.tokenizer, "encode", refuse)
    assert opened(path, cache).ids.array.tolist() == before
    assert hashed == ["offsets.bin"]


def test_memory_does_not_grow_with_the_text(tmp_path, tokenizer, monkeypatch):
    """That of making tokens and of reading batches; without the cache it does."""
    for name, module in (("PORTION", token_writing), ("PORTION", tokenization), ("AT_ONCE", stored)):
        monkeypatch.setattr(module, name, 20_000 if name == "PORTION" else 500)
    monkeypatch.setattr(token_writing, "BUCKET", 500)
    monkeypatch.setattr(block_shuffle, "BLOCK", 16)

    def peak(lines, through):
        path = text_file(tmp_path / f"{lines}.txt", sentences(lines))
        tracemalloc.start()
        through(path)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    def stored_way(path):
        sequences = opened(path, TokenCache(tmp_path / "cache", tokenizer, 12, no_bar))
        batches = block_shuffle.BlockBatches("text", len(sequences), 8, 1)
        for index in range(batches.count):
            sequences.take(batches(0, index))

    def plain_way(path):
        texts = [(line,) for _, line in readers.lines_of(path)]
        return tokenizer.encode(texts, 12)

    peak(300, stored_way)  # what is imported and kept once
    assert peak(8000, stored_way) < 1.5 * peak(1000, stored_way)
    assert peak(8000, plain_way) > 4 * peak(1000, plain_way)


def test_a_file_moved_or_touched_is_hashed_and_found(cache, tmp_path, monkeypatch):
    path = text_file(tmp_path / "a.txt", sentences())
    opened(path, cache)
    monkeypatch.setattr(cache.tokenizer, "encode", None)
    os.utime(path)
    opened(path, cache)
    shutil.copy(path, tmp_path / "b.txt")
    opened(tmp_path / "b.txt", cache)
    assert len([*(cache.folder / "tokens").iterdir()]) == 1


def test_text_of_the_same_size_and_time_is_not_taken_for_the_old_one(cache, tmp_path, believed):
    """Its time of change, which nobody can set, tells."""
    lines = sentences()
    path = text_file(tmp_path / "a.txt", lines)
    before = opened(path, cache).ids.array.tolist()
    assert len([*(cache.folder / "texts").iterdir()]) == 1
    times = path.stat().st_atime_ns, path.stat().st_mtime_ns
    path.write_text("\n".join(lines[::-1]) + "\n", encoding="utf-8")
    os.utime(path, ns=times)
    assert opened(path, cache).ids.array.tolist() != before


def test_a_file_just_written_is_not_believed_next_time(cache, tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("the dog\n")
    opened(path, cache)
    assert not (cache.folder / "texts").exists()


@pytest.mark.parametrize("what", ["tokenizer", "max_length", "truncate", "form", "text"])
def test_what_decides_the_tokens_is_in_the_key(cache, tmp_path, tiny_model, what):
    path = text_file(tmp_path / "a.txt", sentences())
    opened(path, cache)
    other = tiny_model
    if what == "tokenizer":
        other = shutil.copytree(tiny_model, tmp_path / "model")
        (other / "vocab.txt").write_text((other / "vocab.txt").read_text() + "##zzz\n")
    if what == "text":
        text_file(path, sentences(seed=9))
    tokenizer = Tokenizer.from_folder(other, truncate="tail" if what == "truncate" else "head")
    again = TokenCache(cache.folder, tokenizer, 11 if what == "max_length" else 12, no_bar)
    opened(path, again, "fused" if what == "form" else "sentences")
    assert len([*(cache.folder / "tokens").iterdir()]) == 2


# ------------------------------------------------------------------------------------------------- damage and accidents


def cut(path):
    path.write_bytes(path.read_bytes()[:-2])


def swap(path, old, new):
    path.write_text(path.read_text().replace(old, new, 1))


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("name", "harm", "said"),
    [
        ("ids.bin", cut, "ids.bin has"),
        ("ids.bin", lambda path: path.write_bytes(b""), "ids.bin has 0 bytes"),
        ("row_ids.bin", os.unlink, "row_ids.bin"),
        ("offsets.bin", flip, "offsets.bin is not what was written"),
        ("header.json", cut, "not the header of a token cache"),
        ("header.json", os.unlink, "header.json: no such file"),
        (
            "header.json",
            lambda path: path.write_text(path.read_text().replace("repeated", "repeate_")),
            "has no repeated",
        ),
        (
            "header.json",
            lambda path: path.write_text(path.read_text().replace('"rows": [', '"rows": [1,')),
            "not what was",
        ),
    ],
)
def test_a_damaged_folder_is_made_again(cache, tmp_path, name, harm, said):
    path = text_file(tmp_path / "a.txt", sentences())
    before = opened(path, cache).ids.array.tolist()
    harm(folder_of(cache) / name)
    assert opened(path, cache).ids.array.tolist() == before
    assert len(cache.said) == 1
    assert said in cache.said[0]
    assert "made again" in cache.said[0]
    opened(path, cache)
    assert len(cache.said) == 1


def test_ids_that_are_no_tokens_are_refused(cache, tmp_path):
    path = text_file(tmp_path / "a.txt", sentences())
    opened(path, cache)
    ids = folder_of(cache) / "ids.bin"
    ids.write_bytes(b"\xff" * ids.stat().st_size)
    with pytest.raises(UserError, match="damaged, it has ids that are no tokens"):
        opened(path, cache).take([0])


@pytest.mark.parametrize("at", ["tofile", "fsync", "rename"])
def test_a_full_disk_leaves_nothing_that_counts(cache, tmp_path, monkeypatch, at):
    path = text_file(tmp_path / "a.txt", sentences())

    def full(*args):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        if at == "tofile":
            patch.setattr(token_writing.Writing, "_copy", full)
        else:
            patch.setattr(os, {"fsync": "fsync", "rename": "replace"}[at], full)
        with pytest.raises(OSError, match="No space") as failed:
            opened(path, cache)
    assert str(cache.folder) in str(failed.value.filename)
    assert not (cache.folder / "tokens").exists()
    assert len(opened(path, cache)) > 200


def test_bad_text_names_its_line(cache, tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"fine\n\xff\xfe\n")
    with pytest.raises(UserError, match="line 2: bytes that are not UTF-8"):
        opened(path, cache)
    path.write_text("\n \n")
    with pytest.raises(UserError, match="no text in it"):
        opened(path, cache)
    with pytest.raises(UserError, match=r"none\.txt: cannot be read"):
        opened(tmp_path / "none.txt", cache)


def test_text_that_changes_while_it_is_read_is_refused(cache, tmp_path, monkeypatch):
    path = text_file(tmp_path / "a.txt", sentences())
    encode = cache.tokenizer.encode

    def meanwhile(*args):
        with path.open("a") as f:
            f.write("more\n")
        return encode(*args)

    monkeypatch.setattr(cache.tokenizer, "encode", meanwhile)
    with pytest.raises(UserError, match="changed while it was read"):
        opened(path, cache)
    assert not (cache.folder / "tokens").exists()


def make(folder, model, path, kill, answers):
    """In a process of its own: open, or die in the middle of it."""
    if kill:
        token_writing.Writing._copy = lambda *args: os._exit(9)
    cache = TokenCache(folder, Tokenizer.from_folder(model), 12, no_bar, lambda said: None)
    answers.put(int(opened(path, cache).ids.array.astype(np.int64).sum()))


def test_a_kill_and_two_at_once(cache, tmp_path, tiny_model):
    path, answers = text_file(tmp_path / "a.txt", sentences()), multiprocessing.get_context("fork").Queue()
    fork = multiprocessing.get_context("fork").Process
    arguments = (cache.folder, tiny_model, path)
    killed = fork(target=make, args=(*arguments, True, answers))
    killed.start()
    killed.join()
    assert killed.exitcode == 9
    assert [one.name.startswith(".") for one in (cache.folder / "tokens").iterdir()] == [True]
    both = [fork(target=make, args=(*arguments, False, answers)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join()
    assert [process.exitcode for process in both] == [0, 0]
    sums = {answers.get(), answers.get()}
    assert sums == {int(opened(path, cache).ids.array.astype(np.int64).sum())}
    assert [one.name.startswith(".") for one in (cache.folder / "tokens").iterdir()] == [False]
