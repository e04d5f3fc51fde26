"""The last layer for [CLS] alone.

A head that reads [CLS] needs every token's state up to the last layer, but of that layer's output only the states of
[CLS]. So there one token of each sequence asks, all are asked, and what follows attention runs on B rows in place of N:
ten of the layer's twelve H^2 products a token are left out, a seventh of BERT's work with 6 layers, a fourteenth with
12. The result is the same function; sums of other shapes may round differently in the last bit of fp32.

    B sequences    N real tokens    b sequences of a block    t its longest    H hidden size    A heads    D = H / A
"""

import torch


def encode_cls(bert, embedded, packing):
    """`bert.encode(embedded, packing)[packing.first]`: embeddings [N, H] -> the [CLS] states [B, H]."""
    *lower, last = bert.bert_layers
    for layer in lower:
        embedded = layer(embedded, packing)
    return last.after_attention(embedded[packing.first], cls_mixture(last.self_attention, embedded, packing))


def cls_mixture(attention, x, packing):
    """x [N, H] -> [B, H]: `attention(x, packing)[packing.first]`, in which [CLS] alone is a query."""
    q = attention.query(x[packing.first_packed])  # [B, H] in packed order
    kv = torch.cat([attention.key(x), attention.value(x)], dim=-1)  # [N, 2H]
    mixed = []
    for block, cls in zip(packing.blocks, q.split([block.b for block in packing.blocks]), strict=True):
        grid = block.pad(kv).view(block.b, block.t, 2, attention.num_heads, -1)  # [b, t, 2H] -> [b, t, 2, A, D]
        k, v = grid.permute(2, 0, 3, 1, 4)  # two of [b, A, t, D]
        cls = cls.view(block.b, attention.num_heads, 1, -1)  # [b, H] -> [b, A, 1, D]
        mixed.append(attention.attention(cls, k, v, block.is_pad).flatten(1))  # [b, A, 1, D] -> [b, H]
    return torch.cat(mixed)[packing.place]
