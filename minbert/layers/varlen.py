"""Attention over the packed tokens themselves: torch's varlen kernel (Dao 2023, "FlashAttention-2"), on a GPU.

It takes N tokens of all sequences end to end and where each sequence begins, so that no block is padded. It has no
dropout, and wants bf16 or fp16. So it is used for what drops nothing out of attention (evaluation, and training where
attention_probs_dropout_prob is 0) on a CUDA device of compute capability 8 or more; everything else goes the way of
blocks (packing.py). Not yet run on a GPU: tests put the plain attention in the kernel's place.

    B sequences    N real tokens of all of them    H hidden size    A heads    D = H / A
"""

from types import MethodType

import torch

try:
    from torch.nn.attention.varlen import varlen_attn
except ImportError:  # torch before 2.10
    varlen_attn = None

HALF = (torch.bfloat16, torch.float16)


def use_varlen(bert):
    """Have every layer's attention of a bert.BertModel take the kernel where it can. Returns the model."""
    for layer in bert.bert_layers:
        layer.self_attention.forward = MethodType(forward, layer.self_attention)
    return bert


def forward(attention, x, packing):
    """BertSelfAttention.forward, x [N, H] -> [N, H], by the kernel where `fits` says so."""
    if not fits(attention, x):
        return type(attention).forward(attention, x, packing)
    return packed_attention(attention, x, packing)


def fits(attention, x):
    """Whether the kernel can take the queries, keys and values that come of x."""
    if varlen_attn is None or x.device.type != "cuda" or torch.cuda.get_device_capability(x.device) < (8, 0):
        return False
    dtype = torch.get_autocast_dtype("cuda") if torch.is_autocast_enabled("cuda") else attention.query.weight.dtype
    return dtype in HALF and not (attention.training and attention.dropout.p)


def packed_attention(attention, x, packing):
    """x [N, H] -> [N, H]: each token attends to those of its own sequence."""
    split = x.shape[0], attention.num_heads, -1
    q, k, v = (dense(x).view(split) for dense in (attention.query, attention.key, attention.value))  # [N, A, D] each
    starts, longest = packing.boundaries, packing.longest
    return varlen_attn(q, k, v, starts, starts, longest, longest).flatten(1)  # [N, A, D] -> [N, H]
