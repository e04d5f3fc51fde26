"""Real tokens only: sequences of different lengths laid end to end, and the small padded grids that attention needs.

In a padded batch of this project's data, half of the positions are padding. So the tokens of all B sequences are
*packed* into one list of N real tokens, and every dense layer, LayerNorm and dropout runs on [N, H]. Attention alone
has to know which token belongs to which sequence; it takes the sequences in blocks of similar length and pads only
inside a block.

    B sequences    N real tokens in all    b sequences of a block    n real tokens of a block    t its longest
"""

import functools
from dataclasses import dataclass

import numpy as np
import torch

# Attention scores of a block and head, b * t * t. On a CPU a block's scores should stay in the cache; a GPU prefers one
# large grid to many small ones, as long as a single long sequence does not pad all the others to its length.
BLOCK_SCORES = {"cpu": 1 << 15, "cuda": 1 << 21}


@dataclass
class Block:
    """`b` sequences of similar length, which stand side by side in the packed list: tokens start to stop."""

    start: int
    stop: int
    b: int
    t: int
    slots: torch.Tensor  # [n] where each of the block's tokens stands in the padded grid [b * t]
    is_pad: torch.Tensor | None  # [b, 1, 1, t] True where there is no token; None when all are equally long

    def pad(self, x):
        """[N, K] packed -> [b, t, K] with zeros for pads."""
        return _Pad.apply(x[self.start : self.stop], self.slots, self.b * self.t).view(self.b, self.t, -1)

    def unpad(self, x):
        """[b, t, K] -> [n, K], the inverse of `pad`."""
        return _Unpad.apply(x.reshape(self.b * self.t, -1), self.slots)


class Packing:
    """How B sequences of the given `lengths` are packed.

    `order` [B] numpy: the packed list holds sequence order[0] first, then order[1] ... (shortest first, so that
    blocks are of similar length); `place` [B] is the way back: where each of the caller's sequences is among these.
    `first` [B]: where in the packed list the first token ([CLS]) of each sequence stands, in the caller's order, and
    `first_packed` [B] in packed order. `sequence` [N] numpy: which of the caller's sequences a packed token is of.
    """

    def __init__(self, lengths, device="cpu"):
        lengths = np.asarray(lengths, dtype=np.int64)
        if len(lengths) == 0 or lengths.min() == 0:
            raise ValueError("every sequence needs at least one token (a row of the attention mask is all 0)")
        self.order = np.argsort(lengths, kind="stable")
        sorted_lengths = lengths[self.order]
        starts = np.cumsum(sorted_lengths) - sorted_lengths  # [B] first packed token of each sorted sequence
        place = np.argsort(self.order)
        self.place, self.first_packed = to_device(place, device), to_device(starts, device)
        self.first = to_device(starts[place], device)
        self.device, self._sorted_lengths = device, sorted_lengths
        limit = BLOCK_SCORES["cpu" if torch.device(device).type == "cpu" else "cuda"]
        self.blocks = [_block(sorted_lengths, starts, i, j, device) for i, j in _runs(sorted_lengths, limit)]

    @property
    def longest(self):
        """Tokens of the longest sequence."""
        return int(self._sorted_lengths[-1])

    @functools.cached_property
    def boundaries(self):
        """[B + 1] int32: where each sequence begins in the packed list, and its end."""
        return to_device(np.concatenate([[0], np.cumsum(self._sorted_lengths)]).astype(np.int32), self.device)

    @functools.cached_property
    def sequence(self):
        return np.repeat(self.order, self._sorted_lengths)

    def mean(self, hidden):
        """[N, H] packed -> [B, H]: the mean over each sequence's tokens, in the caller's order."""
        lengths = to_device(self._sorted_lengths, self.device)
        means = torch.segment_reduce(hidden, "mean", lengths=lengths, axis=0, unsafe=True)  # [B, H], shortest first
        return means[self.place]


def _runs(lengths, limit):
    """Cut the ascending `lengths` into runs i..j with (j - i) * longest**2 <= limit (a single sequence may be over)."""
    i = 0
    for j in range(1, len(lengths) + 1):
        if j == len(lengths) or (j + 1 - i) * lengths[j] ** 2 > limit:
            yield i, j
            i = j


def _block(lengths, starts, i, j, device):
    lengths, start, b, t = lengths[i:j], int(starts[i]), j - i, int(lengths[j - 1])
    is_token = np.arange(t) < lengths[:, None]  # [b, t]
    is_pad = None if is_token.all() else to_device(~is_token, device).view(b, 1, 1, t)
    return Block(start, start + int(lengths.sum()), b, t, to_device(np.flatnonzero(is_token), device), is_pad)


def to_device(array, device):
    """A numpy array as a tensor on `device`, without waiting for the device."""
    tensor = torch.from_numpy(np.ascontiguousarray(array))
    if torch.device(device).type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


@dataclass
class PackedTokens:
    """What the trunk reads: token ids, positions inside the sequence and token types, all [N], and their packing."""

    ids: torch.Tensor
    positions: torch.Tensor
    types: torch.Tensor
    packing: Packing


def pack(sequences, device="cpu"):
    """Pack ragged token ids (`tokenization.Sequences`) for the trunk; results come back in the order of `sequences`."""
    packing = Packing(sequences.lengths, device)
    ordered = sequences.take(packing.order)
    positions = np.arange(len(ordered.ids)) - np.repeat(ordered.offsets[:-1], ordered.lengths)
    return PackedTokens(
        ids=to_device(ordered.ids.astype(np.int64), device),
        positions=to_device(positions, device),
        types=to_device(ordered.types.astype(np.int64), device),
        packing=packing,
    )


def from_padded(input_ids, attention_mask=None, token_type_ids=None):
    """Pack the real tokens of a padded batch: three [B, T]; the mask is all 1 and the types all 0 where not given.

    A token's position is its column, so that holes in the mask leave a gap. Returns (PackedTokens, cells [N]: where in
    the batch, read row after row as [B * T], each packed token stands), from which `to_padded` finds the way back.
    ValueError when a row holds no token.
    """
    T, device = input_ids.shape[1], input_ids.device
    mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
    types = torch.zeros_like(input_ids) if token_type_ids is None else token_type_ids
    is_token = mask.bool()  # [B, T]
    packing = Packing(is_token.sum(dim=1).cpu().numpy(), device)
    rows = to_device(packing.order, device)  # [B] the rows, shortest first, as they are packed
    place, column = is_token[rows].nonzero(as_tuple=True)  # [N] each: the token is in rows[place], at this column
    cells = rows[place] * T + column  # [N]
    ids, types = input_ids.flatten()[cells], types.flatten()[cells]  # [B, T] -> [B * T] -> [N]
    return PackedTokens(ids, column, types, packing), cells


def to_padded(hidden, cells, B, T):
    """[N, H] packed -> [B, T, H] with zeros at pads; `cells` [N] are those of `from_padded`."""
    return _Pad.apply(hidden, cells, B * T).view(B, T, -1)  # [B * T, H] -> [B, T, H]


class _Pad(torch.autograd.Function):
    """Spread rows over a larger, zero-filled grid. Its gradient just reads the rows back (autograd would not know)."""

    @staticmethod
    def forward(ctx, rows, slots, size):
        ctx.save_for_backward(slots)
        return rows.new_zeros(size, rows.shape[1]).index_copy_(0, slots, rows)

    @staticmethod
    def backward(ctx, grad):
        (slots,) = ctx.saved_tensors
        return grad.index_select(0, slots), None, None


class _Unpad(torch.autograd.Function):
    """Read rows out of a padded grid: the transpose of `_Pad`. No row is read twice: its gradient is a plain copy."""

    @staticmethod
    def forward(ctx, grid, slots):
        ctx.save_for_backward(slots)
        ctx.size = grid.shape[0]
        return grid.index_select(0, slots)

    @staticmethod
    def backward(ctx, grad):
        (slots,) = ctx.saved_tensors
        return grad.new_zeros(ctx.size, grad.shape[1]).index_copy_(0, slots, grad), None
