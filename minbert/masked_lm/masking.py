"""Masked language modelling: which tokens are hidden, and how well a model guesses them.

The task is that of Devlin et al. 2019, section 3.1, task 1, "masked LM". pretraining.py trains a BERT on it, and
word_filling.py makes other texts with such a BERT.

Shapes: N real tokens of a batch, M of them chosen to be predicted.
"""

from dataclasses import replace

import numpy as np
import torch

from datasets import SUBSET_SEED
from minbert.layers.devices import double
from minbert.layers.packing import PackedTokens, Packing, pack, to_device

SCORED = 64  # texts scored together


def mask_tokens(ids, tokenizer, random):
    """Hide tokens to be predicted (Devlin et al. 2019, section 3.1 and appendix A.1).

    Each token that is not special is chosen with probability 0.15; of the chosen, 80 % become [MASK], 10 % a random
    token of the vocabulary, and 10 % stay, because there is no [MASK] in fine-tuning.
    ids int [N] -> (ids with the chosen hidden [N], places of the chosen [M], ascending). random: a numpy Generator.
    """
    special = np.isin(ids, (tokenizer.cls, tokenizer.sep, tokenizer.pad, tokenizer.mask))  # [N]
    chosen = np.flatnonzero((random.random(len(ids)) < 0.15) & ~special)  # [M]
    # Numbers of their own: those that chose these places are all below 0.15, which would make every one a [MASK].
    fate = random.random(len(chosen))  # [M]
    hidden, swapped = ids.copy(), chosen[fate >= 0.9]
    hidden[chosen[fate < 0.8]] = tokenizer.mask
    hidden[swapped] = random.integers(tokenizer.vocab_size, size=len(swapped))
    return hidden, chosen


def masked_batch(sequences, rows, tokenizer, random, device):
    """(PackedTokens of these rows, masked; places of the chosen among them [M]; what stood there [M])."""
    rows = rows[np.argsort(sequences.lengths[rows], kind="stable")]  # as `pack` will order them: it keeps the places
    batch = sequences.take(rows)
    hidden, chosen = mask_tokens(batch.ids, tokenizer, random)
    labels = batch.ids[chosen].astype(np.int64)
    return pack(replace(batch, ids=hidden), device), to_device(chosen, device), to_device(labels, device)


def part_of(batch, processes):
    """This process's part of a batch as `masked_batch` gives it whole, so that all hide the same tokens. One that has
    no text of it borrows one, of which nothing is to be predicted."""
    tokens, places, labels = batch
    text_of = tokens.packing.sequence  # [N] ascending
    lengths = np.bincount(text_of)
    part = processes.share(np.arange(len(lengths)))
    if part.counted == part.whole:
        return batch
    own, device = np.isin(text_of, part.rows), places.device  # [N]
    kept = to_device(np.flatnonzero(own), device)
    packed = PackedTokens(
        tokens.ids[kept], tokens.positions[kept], tokens.types[kept], Packing(lengths[part.rows], device)
    )
    chosen = to_device(own & bool(part.counted), device)[places]  # [M]
    place = to_device(np.cumsum(own) - 1, device)  # [N] where a token of this part stands in it
    return packed, place[places[chosen]], labels[chosen]


def exam_of(sequences, tokenizer, device):
    """Texts as batches whose masks are the same in every run."""
    random, order = np.random.default_rng(SUBSET_SEED), np.argsort(sequences.lengths, kind="stable")
    parts = (order[start : start + SCORED] for start in range(0, len(order), SCORED))
    return [masked_batch(sequences, rows, tokenizer, random, device) for rows in parts]


@torch.no_grad()
def perplexity(losses_of, exam):
    """exp of the mean cross-entropy over the chosen tokens of an exam.

    losses_of: (PackedTokens, places [M], labels [M]) -> [M], as BertForMaskedLM.losses."""
    return double(torch.cat([losses_of(*batch) for batch in exam])).mean().exp().item()
