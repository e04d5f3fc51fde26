"""Shared by the tests: small random BERTs whose weights are not trivial, in our code and in `transformers`."""

import numpy as np
import torch
import transformers

from base_bert import BertConfig
from bert import BertModel

SIZES = {
    "vocab_size": 60,
    "hidden_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 40,
    "max_position_embeddings": 32,
}


def random_theirs(tmp_path, seed=0, model_class=transformers.BertModel, **changes):
    """A random `transformers` model in eval mode, also saved to tmp_path: initializer std 0.2, noise on biases and
    LayerNorms. At the usual std of 0.02 a wrong GELU or a missing bias hides in the rounding."""
    torch.manual_seed(seed)
    theirs = model_class(
        transformers.BertConfig(**(SIZES | changes), initializer_range=0.2, attn_implementation="eager")
    )
    with torch.no_grad():
        for parameter in theirs.parameters():
            if parameter.dim() == 1:
                parameter.add_(0.2 * torch.randn_like(parameter))
    theirs.save_pretrained(tmp_path)
    return theirs.eval()


def random_pair(tmp_path, seed=0, **changes):
    """(ours, theirs) with the same weights, both in eval mode."""
    theirs = random_theirs(tmp_path, seed, **changes)
    return BertModel.from_pretrained(tmp_path), theirs


def tiny_config(**changes):
    return BertConfig(**(SIZES | changes))


def random_batch(seed=0, lengths=(7, 3, 12, 1, 12), vocab_size=60, T=None):
    """(ids, mask, token types) [B, T] with the second half of each sequence of type 1 and random ids at the pads."""
    rng = np.random.default_rng(seed)
    T = T or max(lengths)
    ids = rng.integers(1, vocab_size, (len(lengths), T))
    column = np.arange(T)
    lengths = np.array(lengths)[:, None]
    mask = column < lengths
    types = (column >= lengths // 2) & mask
    return tuple(torch.from_numpy(a.astype(np.int64)) for a in (ids, mask, types))
