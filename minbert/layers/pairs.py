"""Joining a pair: two sentences encoded each on its own, u and v, become one joint vector for the task's linear layer.

The four ways are those of Yan, "BERT Multitask Learning in a Semi-Supervised Learning Setup", section 3.2 ("Pooling
Separate Embeddings"). A fused pair, [CLS] A [SEP] B [SEP] in one sequence, has one embedding and needs none of them.

Legend: B examples, H hidden size, J width of the joint vector.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F


def concat(u, v):
    """[u; v]: u, v [B, H] -> [B, 2H]."""
    return torch.cat([u, v], dim=-1)


def absdiff(u, v):
    """|u - v|, element by element: u, v [B, H] -> [B, H] (Reimers and Gurevych 2019, Sentence-BERT, section 3)."""
    return (u - v).abs()


def cosine(u, v):
    """cos(u, v) = u.v / (max(|u|, eps) max(|v|, eps)) as the one feature: u, v [B, H] -> [B, 1].

    eps is torch's 1e-8: the cosine with a zero vector is 0, and its gradient is finite.
    """
    return F.cosine_similarity(u, v, dim=-1).unsqueeze(-1)


def dot_attention(u, v):
    """softmax(X X^T / sqrt(H)) X for the pair X = (u, v), its two rows concatenated: u, v [B, H] -> [B, 2H].

    The paper only names an attention matrix between the two embeddings. It is read here as scaled dot-product
    attention (Vaswani et al. 2017, section 3.2.1) of the pair over itself: two queries, two keys, no parameters.
    """
    x = torch.stack([u, v], dim=1)  # [B, 2, H]
    scores = x @ x.transpose(1, 2) / x.shape[-1] ** 0.5  # [B, 2 queries, 2 keys]
    return (scores.softmax(dim=-1) @ x).flatten(1)  # [B, 2, H] -> [B, 2H]


@dataclass(frozen=True)
class Join:
    """`function`(u, v) -> joint vector of `width`(H) features; `dropout`: may dropout act on u and v before it?"""

    function: Callable
    width: Callable[[int], int]
    dropout: bool = True


JOINS = {
    "concat": Join(concat, lambda hidden_size: 2 * hidden_size),
    "absdiff": Join(absdiff, lambda hidden_size: hidden_size),
    # Dropped elements would turn the vectors, and no linear layer after the cosine could average that out.
    "cosine": Join(cosine, lambda hidden_size: 1, dropout=False),
    "dot_attention": Join(dot_attention, lambda hidden_size: 2 * hidden_size),
}


def width(pairs, hidden_size):
    """J, the number of features that the join called `pairs` makes of two embeddings of `hidden_size`."""
    return JOINS[pairs].width(hidden_size)


def join(pairs, u, v):
    """The join called `pairs`: u, v [B, H] -> [B, J]."""
    return JOINS[pairs].function(u, v)
