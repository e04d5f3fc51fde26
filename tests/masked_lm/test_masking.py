"""Masked language modelling: what is hidden by the numbers, and the head and its loss against transformers."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import says_why
import torch
import torch.nn.functional as F
import transformers
from reference import SIZES, random_theirs

from base_bert import to_hugging_face
from bert import BertForMaskedLM
from minbert.layers.packing import pack
from minbert.masked_lm.masking import mask_tokens, masked_batch
from minbert.text.tokenization import Sequences

# ----------------------------------------------------------------------------------------------------- the masks

SPECIAL = SimpleNamespace(pad=0, cls=2, sep=3, mask=4, vocab_size=1000)


def assert_the_rule(random):
    """15 % and 80/10/10 over 100,000 tokens within 4 standard deviations, and all else untouched."""
    chosen, to_mask, kept, swapped = 0, 0, 0, []
    for _ in range(10):
        ids = np.random.default_rng(chosen).integers(5, 1000, 10_000).astype(np.int32)
        hidden, places = mask_tokens(ids, SPECIAL, random)
        assert np.array_equal(np.delete(hidden, places), np.delete(ids, places))
        chosen += len(places)
        to_mask += int((hidden[places] == SPECIAL.mask).sum())
        kept += int((hidden[places] == ids[places]).sum())
        swapped += [new for new, old in zip(hidden[places], ids[places], strict=True) if new not in (SPECIAL.mask, old)]

    def near(count, n, p):
        return abs(count - n * p) < 4 * math.sqrt(n * p * (1 - p))

    assert near(chosen, 100_000, 0.15)
    assert near(to_mask, chosen, 0.8 + 0.1 / 1000)  # a random token may be [MASK], or the one that was there
    assert near(kept, chosen, 0.1 + 0.1 / 1000)
    assert near(len(swapped), chosen, 0.1 * 998 / 1000)
    assert near(sum(new < 500 for new in swapped), len(swapped), 0.5)  # any token of the vocabulary


@says_why.each_part_of("minbert/masked_lm/masking.py")
def test_known_mistakes(part):
    says_why.assert_right(*part)


def test_fifteen_percent_and_80_10_10():
    assert_the_rule(np.random.default_rng(0))


def test_the_rule_would_catch_one_random_number_used_twice():
    class Reused:
        """Every other draw repeats those numbers of the one before that chose a token."""

        source, again = np.random.default_rng(0), None
        integers = source.integers

        def random(self, n):
            numbers = self.source.random(n) if self.again is None else self.again
            self.again = numbers[numbers < 0.15] if self.again is None else None
            return numbers

    with pytest.raises(AssertionError):
        assert_the_rule(Reused())


def test_special_tokens_and_pads_are_never_chosen():
    ids = np.tile(np.array([0, 2, 3, 4, 7], dtype=np.int32), 20_000)
    hidden, places = mask_tokens(ids, SPECIAL, np.random.default_rng(0))
    assert set(ids[places]) == {7}
    assert np.array_equal(hidden[ids != 7], ids[ids != 7])
    assert len(places) == pytest.approx(3000, abs=4 * math.sqrt(20_000 * 0.15 * 0.85))


# -------------------------------------------------------------------------------------------- the head and its loss

LENGTHS = (19, 4, 24, 24, 3, 21)


def batch_and_theirs(seed):
    """A masked batch of ours, and the same for transformers: ids, attention mask and labels [B, T], -100 elsewhere."""
    random = np.random.default_rng(seed)
    ids = [np.r_[2, random.integers(5, 60, length - 2), 3] for length in LENGTHS]
    offsets, types = np.concatenate([[0], np.cumsum(LENGTHS)]), np.zeros(sum(LENGTHS), np.uint8)
    sequences = Sequences(np.concatenate(ids).astype(np.int32), types, offsets)
    tokenizer = SimpleNamespace(**{**vars(SPECIAL), "vocab_size": 60})
    rows = np.array([3, 0, 5, 1, 2, 4])
    tokens, places, hidden = batch = masked_batch(sequences, rows, tokenizer, random, "cpu")
    assert torch.equal(tokens.ids.index_copy(0, places, hidden), pack(sequences.take(rows)).ids)
    is_token = torch.arange(max(LENGTHS)) < torch.tensor(sorted(LENGTHS))[:, None]
    padded = torch.zeros(is_token.shape, dtype=torch.long).masked_scatter(is_token, tokens.ids)
    labels = torch.full_like(tokens.ids, -100).index_copy(0, places, hidden)
    labels = torch.full(is_token.shape, -100).masked_scatter(is_token, labels)
    return batch, {"input_ids": padded, "attention_mask": is_token.long(), "labels": labels}


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_loss_and_gradients_are_those_of_transformers(tmp_path, seed):
    theirs = random_theirs(tmp_path, seed, transformers.BertForMaskedLM)
    ours = BertForMaskedLM.from_pretrained(tmp_path)
    batch, inputs = batch_and_theirs(seed)
    assert 5 <= len(batch[2]) < 20
    loss = ours.losses(*batch).mean()
    expected = theirs(**inputs).loss
    assert loss.item() == pytest.approx(expected.item(), abs=1e-5)
    loss.backward()
    expected.backward()
    gradients = {name: p.grad for name, p in theirs.named_parameters()}
    for name, parameter in ours.named_parameters():
        if parameter.grad is not None:
            same = gradients.pop(to_hugging_face(name))
            gap = (parameter.grad - same).abs().max() / same.abs().max().clamp(min=1e-2)  # the keys' biases have none
            assert gap < 2e-5, name
    assert not gradients  # all of theirs; our pooler has none


def test_logits_are_computed_where_a_token_was_chosen_and_nowhere_else(tmp_path, monkeypatch):
    random_theirs(tmp_path, 0, transformers.BertForMaskedLM)
    model, seen, linear = BertForMaskedLM.from_pretrained(tmp_path), [], F.linear
    batch, _ = batch_and_theirs(0)

    def watched(x, weight, bias):
        if weight is model.bert.word_embedding.weight:
            seen.append(tuple(x.shape))
        return linear(x, weight, bias)

    monkeypatch.setattr(F, "linear", watched)
    model.losses(*batch)
    assert seen == [(len(batch[2]), SIZES["hidden_size"])]
