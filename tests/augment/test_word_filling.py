"""Words filled in by a masked language model: what is blanked, what may be drawn, how often, against transformers."""

import itertools
import json
import re
import shutil
from collections import Counter

import numpy as np
import pytest
import tiny
import tokenizers
import torch
import torch.nn.functional as F
import transformers

import augmentation
from minbert.augment import copies
from minbert.augment.word_filling import FillMask
from minbert.files import UserError
from minbert.masked_lm.masking import exam_of
from minbert.text.rows import Rows, generator, read_augmented
from minbert.text.tokenization import Tokenizer


@pytest.fixture(scope="module")
def head(tmp_path_factory, tiny_model):
    """RUN/bert: the tiny checkpoint with a masked-LM head that prefers some words."""
    return tiny.make_masked_lm(tmp_path_factory.mktemp("run") / "bert", tiny_model)


@pytest.fixture(scope="module")
def fill(head):
    return FillMask(0.3, str(head))


class Draws:
    """In place of random numbers: these uniform ones, in turn, and this whole number."""

    def __init__(self, *uniform, whole=0):
        self.uniform, self.whole = list(uniform), whole

    def random_sample(self, n):
        assert len(self.uniform[0]) == n
        return np.array(self.uniform.pop(0))

    def randint(self, n):
        return self.whole


def chances(folder, masked, olds):
    """[{word: probability}] of each blank of a masked text, from transformers' model: of the ten likeliest words other
    than `old`, in proportion."""
    tokenizer = Tokenizer.from_folder(folder)
    ids = torch.tensor(tokenizer.encode([(masked,)], 512).ids.astype(np.int64))
    with torch.no_grad():
        logits = transformers.BertForMaskedLM.from_pretrained(folder)(ids[None]).logits[0, ids == tokenizer.mask]
    rows = []
    for row, old in zip(logits.double(), olds, strict=True):
        scores = {word: row[id].item() for word, id in tokenizer.vocabulary.items() if word.isalnum() and word != old}
        best = sorted(scores, key=scores.get)[-10:]
        weights = np.exp([scores[word] for word in best])
        rows.append(dict(zip(best, weights / weights.sum(), strict=True)))
    return rows


def test_a_word_is_drawn_from_the_ten_likeliest_in_proportion(head, fill):
    (expected,) = chances(head, "the warm [MASK] was slow, but good.", ["film"])
    n, found = 2000, Counter()
    blank_film = [0.9, 0.9, 0.1, 0.9, 0.9, 0.9, 0.9]
    for draw in (np.arange(n) + 0.5) / n:
        text = fill("the warm film was slow, but good.", Draws(blank_film, [draw] * 7))
        found[re.fullmatch(r"the warm (\w+) was slow, but good\.", text)[1]] += 1
    assert found.keys() == expected.keys()
    assert all(abs(found[word] - n * expected[word]) < 1.5 for word in expected)
    assert max(expected.values()) < 0.9  # or it would not tell much


def test_all_blanks_are_filled_from_one_pass_and_none_with_itself(head, fill):
    text, masked = "one story can find you", "[MASK] story [MASK] find [MASK]"
    expected = chances(head, masked, ["one", "can", "you"])
    blanked = [0.0, 0.9, 0.0, 0.9, 0.0]
    filled = fill(text, Draws(blanked, [1e-9] * 5)).split()
    assert filled[1::2] == ["story", "find"]
    assert filled[::2] == [max(row, key=row.get) for row in expected]
    for draw in np.linspace(0, 0.999, 50):
        assert {*fill("film film", Draws([0, 0], [draw] * 2)).split()}.isdisjoint({"film"})


def test_the_share_blanked_is_p_and_never_none(fill):
    words, changed = tiny.WORDS[5:20], 0
    for row in range(300):
        out = fill(" ".join(words), generator(0, row)).split()
        assert len(out) == len(words)
        differing = sum(a != b for a, b in zip(out, words, strict=True))
        assert differing  # a blank never keeps its word
        changed += differing
    n = 300 * len(words)
    assert abs(changed - 0.3 * n) < 4 * np.sqrt(n * 0.3 * 0.7) + 300 * 0.7 ** len(words)
    out = FillMask(1e-9, str(fill.found.folder))(" ".join(words), generator(0, 0)).split()
    assert sum(a != b for a, b in zip(out, words, strict=True)) == 1


def test_several_texts_at_once_become_what_they_become_alone(fill):
    texts = [" ".join(tiny.WORDS[start : start + 3 + 7 * start % 11]) for start in range(30)] + ["", "?!"]
    together = fill.many([(text, generator(1, row)) for row, text in enumerate(texts)])
    assert together == [fill(text, generator(1, row)) for row, text in enumerate(texts)]
    assert sum(a != b for a, b in zip(together, texts, strict=True)) == 30


def test_odd_texts(fill):
    assert fill("?! ...", generator(0, 0)) == "?! ..."
    assert fill("", generator(0, 0)) == ""
    assert "[MASK]" not in fill("the [MASK] was good", generator(0, 0))
    assert fill("don't stop", Draws([0.0, 0.9], [0.5, 0.5])).endswith(" stop")  # one blank for four pieces


def test_what_lies_beyond_the_longest_sequence_stays(tmp_path, tiny_model):
    short = tiny.make_masked_lm(tmp_path / "run", tiny.make_checkpoint(tmp_path / "short", positions=16))
    fill, words = FillMask(1.0, str(short)), ["film", "story"] * 20
    out = fill(" ".join(words), generator(0, 0)).split()
    assert all(a != b for a, b in zip(out[:14], words, strict=False))
    assert out[14:] == words[14:]


def expected_perplexity(folder, texts):
    """That of transformers' model where exam_of hides tokens, text by text."""
    tokenizer, theirs = Tokenizer.from_folder(folder), transformers.BertForMaskedLM.from_pretrained(folder)
    losses = []
    for tokens, places, labels in exam_of(tokenizer.encode([(text,) for text in texts], 512), tokenizer, "cpu"):
        for start, stop in itertools.pairwise([*tokens.packing.first.tolist(), len(tokens.ids)]):
            here = (start <= places) & (places < stop)
            with torch.no_grad():
                logits = theirs(tokens.ids[None, start:stop]).logits[0, places[here] - start].double()
            losses += F.cross_entropy(logits, labels[here], reduction="none").tolist()
    return np.exp(np.mean(losses))


def test_perplexity_of_the_training_run_or_of_the_texts(tmp_path, head):
    texts = [" ".join(tiny.WORDS[start : start + 9]) for start in range(40)]
    run, copied = tmp_path / "run", shutil.copytree(head, tmp_path / "run/bert")
    fill = FillMask(0.3, str(copied))
    measured = f"{copied}: perplexity {expected_perplexity(copied, texts):.2f} on the first 40 texts"
    assert fill.quality(texts) == measured
    scores = {"perplexity_before": 80, "perplexity": 12.5, "epochs": 4, "texts": 900}
    (run / "scores.json").write_text(json.dumps(scores))
    assert fill.quality(texts) == f"{copied}: held-out perplexity 12.50, as its training run measured it"
    for other in (
        {"dev": {}},
        {**scores, "perplexity": None},
        7,
        "not JSON",
    ):  # of a run that is none of pretraining.py's
        (run / "scores.json").write_text(other if other == "not JSON" else json.dumps(other))
        assert fill.quality(texts) == measured
    assert fill.quality(["film"]) == f"{copied}: the texts are too short to tell its perplexity"


def test_a_checkpoint_without_a_head_is_refused(tiny_model):
    with pytest.raises(UserError, match="no masked-LM head to fill words in with: train one"):
        FillMask(0.3, str(tiny_model))


def test_a_tokenizer_that_does_not_fit_is_refused(tmp_path, head):
    for name, spoil in (
        ("has the id 127, its model knows 126 tokens", lambda words: [*words, "more", "most"]),
        ("reads \\[MASK\\] as ordinary text", None),
    ):
        folder = shutil.copytree(head, tmp_path / name[:5])
        if spoil:
            vocabulary = (folder / "vocab.txt").read_text().split("\n")[:-1]
            (folder / "vocab.txt").write_text("\n".join(spoil(vocabulary)) + "\n")
        else:
            rust = tokenizers.BertWordPieceTokenizer(str(folder / "vocab.txt"), lowercase=True)
            saved = json.loads(rust.to_str())
            saved["added_tokens"] = [token for token in saved["added_tokens"] if token["content"] != "[MASK]"]
            (folder / "tokenizer.json").write_text(json.dumps(saved))
        with pytest.raises(UserError, match=name):
            FillMask(0.3, str(folder))


def test_a_word_is_not_filled_with_itself_whatever_its_case_or_accents(fill):
    for text in ("Film", "fílm", "FILM"):
        for draw in np.linspace(0, 0.999, 40):
            assert fill(text, Draws([0], [draw])) != "film"


def test_a_stopped_command_goes_on_to_the_same_bytes_and_never_with_another_model(
    tmp_path, head, tiny_model, monkeypatch
):
    rows = Rows({f"r{i}": (" ".join(tiny.WORDS[i % 40 : i % 40 + 6]), "a film") for i in range(80)}, [])
    copies.augment(rows, tmp_path / "whole.tsv", "mlm", model=str(head))

    class Stop(Exception):
        pass

    def stop(seed, id):
        if id == "r70":
            raise Stop
        return generator(seed, id)

    with monkeypatch.context() as patch:
        patch.setattr(copies, "generator", stop)
        for model in (head, tiny.make_masked_lm(tmp_path / "other", tiny_model, seed=4)):
            with pytest.raises(Stop):
                copies.augment(rows, tmp_path / "out.tsv", "mlm", model=str(model))
    partials = sorted(tmp_path.glob("out.tsv.*.partial"))
    assert len(partials) == 2
    for partial in partials:  # as if killed within a chunk
        lines = partial.read_bytes().splitlines(keepends=True)
        assert len(lines) == 1 + 64
        partial.write_bytes(b"".join(lines[:40]))
    assert copies.augment(rows, tmp_path / "out.tsv", "mlm", model=str(head)) == (0, 39)
    assert (tmp_path / "out.tsv").read_bytes() == (tmp_path / "whole.tsv").read_bytes()
    assert len([*tmp_path.glob("out.tsv.*.partial")]) == 1


def test_the_command(tmp_path, head, tiny_data, capsys):
    def command(out, *words):
        line = ["--method", "mlm", "--in", tiny_data / "quora-train.csv", "--task", "quora", "--out", out, *words]
        return augmentation.main([str(word) for word in line])

    assert command(tmp_path / "a.tsv", "--model", head) == 0
    warning, first, last = capsys.readouterr().out.splitlines()
    assert warning.startswith("warning: these are pairs")
    assert re.fullmatch(rf"{re.escape(str(head))}: perplexity [\d.]+ on the first 74 texts", first)
    assert last.endswith("a.tsv: 37 rows; 0 (0.0%) equal to their input")
    made = read_augmented(tmp_path / "a.tsv").texts
    assert len(made) == 37
    assert command(tmp_path / "b.tsv", "--model", head) == 0
    assert (tmp_path / "b.tsv").read_bytes() == (tmp_path / "a.tsv").read_bytes()
    assert command(tmp_path / "c.tsv", "--model", head, "--p", "0.9") == 0
    assert (tmp_path / "c.tsv").read_bytes() != (tmp_path / "a.tsv").read_bytes()
    capsys.readouterr()
    assert command(tmp_path / "d.tsv") == 2
    assert "say which with --model" in capsys.readouterr().err
    assert command(tmp_path / "d.tsv", "--model", head, "--concurrency", "2") == 2
    assert "--concurrency has no meaning with --method mlm" in capsys.readouterr().err
    assert not (tmp_path / "d.tsv").exists()
