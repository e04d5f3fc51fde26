"""From texts to token ids: WordPiece through Hugging Face's Rust tokenizer, and ragged lists of sequences. NumPy only.

A pair is one fused sequence [CLS] A [SEP] B [SEP] with token types 0 and 1 (Devlin et al. 2019, section 3), built by
the tokenizer from the two raw texts, or two sequences [CLS] A [SEP] and [CLS] B [SEP] that the trunk reads separately.

Legend: B examples, N tokens of all of them together (there are no pads here).
"""

import functools
import shutil
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import tokenizers

from minbert.files import UserError, naming, reading, written_whole


@dataclass
class Sequences:
    """B sequences of token ids, laid end to end: sequence b is ids[offsets[b]:offsets[b + 1]].

    ids int32 [N], types uint8 [N] (0 for [CLS] A [SEP], 1 for B [SEP]), offsets int64 [B + 1];
    truncated: how many were cut to the longest length allowed (encode counts them; take does not know).
    """

    ids: np.ndarray
    types: np.ndarray
    offsets: np.ndarray
    truncated: int = 0

    def __len__(self):
        return len(self.offsets) - 1

    @property
    def parts(self):
        """The sequences that the trunk reads for each example: one here, two for `SentencePairs`."""
        return (self,)

    @functools.cached_property
    def lengths(self):
        """[B]"""
        return np.diff(self.offsets)

    def take(self, rows):
        """The sequences of these rows, in the order asked for."""
        rows = np.asarray(rows, dtype=np.int64)
        lengths = self.lengths[rows]
        offsets = _offsets(lengths)
        # token i of the result lies in the source where its sequence starts, plus its place within the sequence
        source = np.arange(offsets[-1]) + np.repeat(self.offsets[rows] - offsets[:-1], lengths)  # [N']
        return Sequences(self.ids[source], self.types[source], offsets)

    @staticmethod
    def concatenate(parts):
        """All sequences of the parts, one after the other."""
        return Sequences(
            np.concatenate([part.ids for part in parts]),
            np.concatenate([part.types for part in parts]),
            _offsets(np.concatenate([part.lengths for part in parts])),
            sum(part.truncated for part in parts),
        )


@dataclass
class SentencePairs:
    """B pairs whose two sentences are sequences of their own: [CLS] A [SEP] and [CLS] B [SEP]."""

    first: Sequences
    second: Sequences

    def __len__(self):
        return len(self.first)

    @property
    def parts(self):
        return self.first, self.second

    @property
    def truncated(self):
        return self.first.truncated + self.second.truncated

    @functools.cached_property
    def lengths(self):
        """[B] tokens of both sentences together."""
        return self.first.lengths + self.second.lengths

    def take(self, rows):
        """The pairs of these rows, in the order asked for."""
        return SentencePairs(self.first.take(rows), self.second.take(rows))


# The Rust side takes 100 to 200 bytes a character until its tokens are ours: so it gets texts in portions, and of a
# very long one no more than is needed.
PORTION = 1_000_000  # characters
LONG = 100  # characters for each token that is kept
MOST_PIECES = 100  # tokens of a word: of a longer one WordPiece makes a single [UNK]


def _plain_words(vocabulary):
    """Some words of it that every normalizer of BERT leaves as they are, and in whose places no longer one fits."""
    plain = (word for word in vocabulary if word.isascii() and word.isalpha() and word.islower() and len(word) < 20)
    return sorted(plain, key=vocabulary.get)[:100]


def _portions(texts):
    """The texts cut into lists of about PORTION characters; an empty list, if there are no texts."""
    portion, size = [], 0
    for text in texts:
        if size > PORTION:
            yield portion
            portion, size = [], 0
        portion.append(text)
        size += sum(map(len, text))
    yield portion


def _offsets(lengths):
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


TOKENIZER_FILES = ("tokenizer.json", "vocab.txt", "tokenizer_config.json", "special_tokens_map.json")


def copy_tokenizer(source, folder):
    """Copy what a checkpoint's folder holds of a tokenizer into another's."""
    for name in TOKENIZER_FILES:
        if (Path(source) / name).is_file():
            with written_whole(Path(folder) / name) as temporary:
                shutil.copyfile(Path(source) / name, temporary)


class Tokenizer:
    """A BERT checkpoint's WordPiece tokenizer (Hugging Face's Rust one). `cls`, `sep`, `pad`, `mask` are token ids.
    truncate: of a text that is too long, the "head" is kept or the "tail"."""

    def __init__(self, rust, path="the tokenizer", truncate="head"):
        self.path, self.truncate = path, truncate  # the path is for messages
        # Saved tokenizers may carry a truncation and a padding of their own.
        rust.no_truncation()
        rust.no_padding()
        self._rust = rust
        self.vocab_size = rust.get_vocab_size()
        self.cls, self.sep, self.pad, self.mask = map(rust.token_to_id, ("[CLS]", "[SEP]", "[PAD]", "[MASK]"))

    @property
    def vocabulary(self):
        """{token: id}, by id."""
        return dict(sorted(self._rust.get_vocab().items(), key=lambda item: item[1]))

    def to_json(self):
        """The contents of a tokenizer.json, without truncation and padding."""
        return self._rust.to_str()

    @classmethod
    def from_folder(cls, folder, most=1 << 31, truncate="head"):
        """From `tokenizer.json`, else from `vocab.txt` (lower-casing, as bert-base-uncased). Raises UserError where
        neither can be read, BERT's special tokens or its frame are missing, or an id is none of its model's `most`."""
        whole, vocabulary = Path(folder) / "tokenizer.json", Path(folder) / "vocab.txt"
        path = whole if whole.is_file() else vocabulary
        if not path.is_file():
            raise UserError(f"{folder}: neither tokenizer.json nor vocab.txt; expected a BERT checkpoint's folder")
        with reading(path, "not a tokenizer of BERT", tell=True):
            text = path.read_bytes().decode("utf-8")  # not by the library, which takes no path that is not UTF-8
            if path == vocabulary:
                words = {word.rstrip(): id for id, word in enumerate(text.removesuffix("\n").split("\n"))}
                text = tokenizers.BertWordPieceTokenizer(words, lowercase=True).to_str()
            tokenizer = cls(tokenizers.Tokenizer.from_str(text), path, truncate)
            tokenizer._check(path, most)
        return tokenizer

    def _check(self, path, most):
        ids = self._rust.get_vocab()
        if missing := [token for token in ("[CLS]", "[SEP]", "[PAD]", "[MASK]", "[UNK]") if token not in ids]:
            raise UserError(f"{path}: not a tokenizer of BERT: {', '.join(missing)} is missing")
        if (largest := max(ids.values())) >= most:
            raise UserError(
                f"{path}: has the id {largest}, its model knows {most} tokens; these are not of one checkpoint"
            )
        if not self._frames():
            raise UserError(
                f"{path}: not a tokenizer of BERT: it does not frame a text as [CLS] a [SEP], and a pair as "
                "[CLS] a [SEP] b [SEP] of types 0 and 1; take the file of the model's own checkpoint"
            )
        words = _plain_words(ids)
        if self._rust.encode(" ".join(words), add_special_tokens=False).ids != [ids[word] for word in words]:
            raise UserError(
                f"{path}: not a tokenizer of BERT: it does not find the words of its own vocabulary in a text of them; "
                "take the file of the model's own checkpoint"
            )

    def _frames(self):
        """Whether a text, a word that it cannot know and a pair come out in BERT's frame. A tokenizer.json may well
        lack it, and a model would then train in silence on texts such as it has never seen."""
        singles = [self._rust.encode(text) for text in ("a", "b", "\U00013000")]  # the last one is a hieroglyph
        pair = self._rust.encode("a", "b")
        a, b, unknown = (single.ids[1:-1] for single in singles)
        framed = [[self.cls, *tokens, self.sep] for tokens in (a, b, unknown)]
        return (
            all((a, b, unknown))
            and [single.ids for single in singles] == framed
            and not any(sum(single.type_ids) for single in singles)
            and pair.ids == [*framed[0], *b, self.sep]
            and pair.type_ids == [0] * len(framed[0]) + [1] * (len(b) + 1)
        )

    def encode(self, texts, max_length, fused=True):
        """Encode single texts (a,) as [CLS] a [SEP] and pairs (a, b) as [CLS] a [SEP] b [SEP] of at most `max_length`
        tokens, special ones included: `Sequences`. With fused=False pairs become `SentencePairs`, each sentence with
        its own [CLS] and `max_length`.

        What is too long loses its last tokens (its first, to keep the "tail"); of a pair, the longer text loses its
        tokens first ("longest first").
        Raises UserError for a max_length without room for any text.
        """
        if max_length < 5:
            raise UserError(f"a maximum length of {max_length} tokens; a pair needs at least 5")
        if not fused and len(texts[0]) == 2:
            sides = ([(text,) for text in side] for side in zip(*texts, strict=True))
            return SentencePairs(*(self.encode(side, max_length) for side in sides))
        texts = [tuple(self._part(part, max_length) for part in text) for text in texts]
        return Sequences.concatenate([self._encode(portion, max_length) for portion in _portions(texts)])

    def _part(self, text, max_length):
        """A text, or of a very long one a part that begins (ends, with "tail") with all the tokens that are kept of it.

        Where the text was cut there may be half a word, so all its tokens may be wrong: MOST_PIECES of them at most.
        (How many tokens were left out is not known then; of a pair of such texts, the second gets an odd token over.)
        """
        size = LONG * max_length
        while size < len(text):
            part = text[:size] if self.truncate == "head" else text[-size:]
            with naming(self.path):
                tokens = self._rust.encode(part, add_special_tokens=False)
            if len(tokens) >= max_length + MOST_PIECES:
                return part
            size *= 4
        return text

    def _encode(self, texts, max_length):
        with naming(self.path):
            encoded = self._rust.encode_batch_fast([text if len(text) == 2 else text[0] for text in texts])
        ids, types = [e.ids for e in encoded], [e.type_ids for e in encoded]
        too_long = [row for row, tokens in enumerate(ids) if len(tokens) > max_length]
        for row in too_long:
            # Cut here and not by the Rust side, which would also build every overflowing piece of two long texts.
            kept = places_kept(len(ids[row]), sum(types[row]), max_length, self.truncate)
            ids[row] = [ids[row][i] for i in kept]
            types[row] = [types[row][i] for i in kept]
        offsets = _offsets([len(tokens) for tokens in ids])
        return Sequences(
            np.fromiter(chain.from_iterable(ids), np.int32, offsets[-1]),
            np.fromiter(chain.from_iterable(types), np.uint8, offsets[-1]),
            offsets,
            len(too_long),
        )


def places_kept(length, of_type_1, max_length, truncate="head"):
    """Places that stay of [CLS] A [SEP], or of [CLS] A [SEP] B [SEP] with B [SEP] of token type 1: of each text its
    head or its tail.

    Taking tokens one by one from the longer of A and B leaves the shorter one whole up to half the room; an odd token
    over stays with the longer one (with B if they are equal), as in the `tokenizers` library.
    """

    def part(start, stop, count):
        return range(start, start + count) if truncate == "head" else range(stop - count, stop)

    if not of_type_1:
        return [0, *part(1, length - 1, max_length - 2), length - 1]
    start_b = length - of_type_1
    a, b, room = start_b - 2, of_type_1 - 1, max_length - 3
    shorter = min(a, b, room // 2)
    a, b = (room - shorter, shorter) if a > b else (shorter, room - shorter)
    return [0, *part(1, start_b - 1, a), start_b - 1, *part(start_b, length - 1, b), length - 1]
