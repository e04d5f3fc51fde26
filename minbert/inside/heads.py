"""What a head of attention looks at, in numbers and in a few words; and by how much training changed that.

Clark et al. 2019, "What Does BERT Look At? An Analysis of BERT's Attention" (BlackboxNLP), section 3, found the same
few kinds in every BERT: the next token, the previous one, [SEP], the token itself, and everything a little.
"""

import math

import torch

MOSTLY = 0.5  # of the attention, from which on a head is called by what it looks at


def shares(attention, tokens):
    """attention [T, T] of a head over these T tokens -> {what: share of all attention, 0 to 1}."""
    T = len(tokens)
    row = torch.arange(T)
    distance = row[None, :] - row[:, None]  # [T, T]: how far column j is to the right of row i
    is_mark = [torch.tensor([token == mark for token in tokens]) for mark in ("[CLS]", "[SEP]")]
    places = {
        "the next token": distance == 1,
        "the previous token": distance == -1,
        "the token itself": distance == 0,
        "[CLS]": is_mark[0].expand(T, T),
        "[SEP]": is_mark[1].expand(T, T),
    }
    return {what: (attention * mask).sum().item() / T for what, mask in places.items()}


def entropy(attention):
    """Mean over the rows of -sum p ln p, in nats: 0 where each token looks at one alone, ln T at all alike."""
    return torch.special.entr(attention).sum(dim=-1).mean().item()


def in_words(attention, tokens):
    """attention [T, T] -> "mostly the next token (0.71)", "all tokens alike" or "a mixture"."""
    what, share = max(shares(attention, tokens).items(), key=lambda item: item[1])
    if share >= MOSTLY:
        return f"mostly {what} ({share:.2f})"
    return "all tokens nearly alike" if entropy(attention) > 0.9 * math.log(len(tokens)) else "a mixture"


def moved(before, after):
    """Two attentions [A, T, T] -> [A]: how much of a row's attention, 0 to 1, went elsewhere, on average over the rows:
    the total variation distance, half the sum of |p - q|."""
    return (before - after).abs().sum(dim=-1).mean(dim=-1) / 2
