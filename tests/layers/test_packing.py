"""packing.py: no token lost, moved or mixed, whatever the lengths; dropout.py: its statistics."""

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck

from minbert.layers.dropout import Dropout, random_scale
from minbert.layers.packing import BLOCK_SCORES, Packing, from_padded, pack, to_padded
from minbert.text.tokenization import Sequences

LENGTHS = [[1], [5, 5, 5], [3, 9, 1, 4], list(range(1, 120, 7)), [500, 2, 2, 2], [60] * 40]


@pytest.mark.parametrize("lengths", LENGTHS)
def test_blocks_cover_every_token_once_and_keep_within_their_size(lengths):
    packing = Packing(lengths)
    assert [b.start for b in packing.blocks] == [0] + [b.stop for b in packing.blocks[:-1]]
    assert packing.blocks[-1].stop == sum(lengths)
    assert sum(b.b for b in packing.blocks) == len(lengths)
    for block in packing.blocks:
        assert block.b == 1 or block.b * block.t**2 <= BLOCK_SCORES["cpu"]
        pads = 0 if block.is_pad is None else int(block.is_pad.sum())
        assert block.b * block.t - pads == block.stop - block.start == len(block.slots)


@pytest.mark.parametrize("lengths", LENGTHS)
def test_padding_and_back_is_the_identity_and_rows_are_sequences(lengths):
    packing = Packing(lengths)
    x = torch.arange(2 * sum(lengths), dtype=torch.float32).view(-1, 2)
    assert torch.equal(torch.cat([b.unpad(b.pad(x)) for b in packing.blocks]), x)
    for block in packing.blocks:
        owners = block.pad(torch.from_numpy(packing.sequence)[:, None] + 1).squeeze(-1)  # [b, t], 0 for pads
        for row in owners:
            assert len(set(row[row > 0].tolist())) == 1  # a row of the grid holds one sequence
            assert int((row > 0).sum()) == lengths[int(row[0]) - 1]


def test_first_points_at_each_sequences_first_token_in_the_callers_order():
    lengths = [4, 1, 7, 2]
    ids = np.arange(100, 114, dtype=np.int32)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    tokens = pack(Sequences(ids, np.zeros(14, np.uint8), offsets))
    assert tokens.ids[tokens.packing.first].tolist() == ids[offsets[:-1]].tolist()
    assert tokens.positions[tokens.packing.first].tolist() == [0] * 4
    assert tokens.packing.sequence[tokens.packing.first.numpy()].tolist() == [0, 1, 2, 3]
    assert sorted(tokens.ids.tolist()) == ids.tolist()
    for row, length in enumerate(lengths):
        own = tokens.packing.sequence == row
        assert tokens.ids[own].tolist() == ids[offsets[row] : offsets[row + 1]].tolist()
        assert tokens.positions[own].tolist() == list(range(length))


def some_sequences(lengths):
    """Sequences whose ids are 100, 101, ... and whose types are 1 from the middle on."""
    types = [int(2 * place >= length) for length in lengths for place in range(length)]
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    return Sequences(np.arange(100, 100 + sum(lengths), dtype=np.int32), np.array(types, np.uint8), offsets)


def test_token_types_are_packed_with_their_tokens():
    sequences = some_sequences([4, 1, 7, 2])
    tokens = pack(sequences)
    type_of = dict(zip(sequences.ids.tolist(), sequences.types.tolist(), strict=True))
    assert tokens.types.tolist() == [type_of[id] for id in tokens.ids.tolist()], "types in another order than ids"
    assert set(tokens.types.tolist()) == {0, 1}


@pytest.mark.parametrize("lengths", [[4, 1, 7, 2], [2, 9, 3], [5, 5, 5], list(range(60, 1, -7))])
def test_the_mean_of_each_sequence_comes_in_the_callers_order(lengths):
    """Also where putting in order and taking back are two different permutations: [2, 9, 3] and the like."""
    packing = Packing(lengths)
    hidden = torch.randn(sum(lengths), 3, dtype=torch.float64)
    expected = [hidden[torch.from_numpy(packing.sequence == row)].mean(dim=0) for row in range(len(lengths))]
    found = packing.mean(hidden)
    torch.testing.assert_close(found, torch.stack(expected), msg=f"order of the means: {found} for {expected}")


def test_gradients_of_padding_and_unpadding():
    packing = Packing([3, 1, 4])
    (block,) = packing.blocks
    x = torch.randn(8, 2, dtype=torch.float64, requires_grad=True)
    assert gradcheck(block.pad, (x,))
    grid = torch.randn(3, 4, 2, dtype=torch.float64, requires_grad=True)
    assert gradcheck(block.unpad, (grid,))


@pytest.mark.parametrize("lengths", [[], [3, 0, 2]])
def test_an_empty_sequence_is_refused(lengths):
    with pytest.raises(ValueError, match="at least one token"):
        Packing(lengths)


# ---------------------------------------------------------------------------------------------- padded batches


def padded_batch(lengths, T):
    """Ids that say where they stand (100 * row + column), their mask and their types, [B, T] each."""
    column = torch.arange(T)
    mask = (column < torch.tensor(lengths)[:, None]).long()
    ids = 100 * torch.arange(len(lengths))[:, None] + column
    return ids, mask, (column % 2).expand_as(ids)


@pytest.mark.parametrize("lengths", [[1], [5, 5, 5], [3, 9, 1, 4], [60] * 40, [1, 70, 1]])
def test_a_padded_batch_is_packed_and_laid_out_again(lengths):
    B, T = len(lengths), max(lengths) + 2
    ids, mask, types = padded_batch(lengths, T)
    tokens, cells = from_padded(ids, mask, types)
    for row, length in enumerate(lengths):
        own = tokens.packing.sequence == row
        assert tokens.ids[own].tolist() == ids[row, :length].tolist()
        assert tokens.positions[own].tolist() == list(range(length))
        assert tokens.types[own].tolist() == types[row, :length].tolist()
    assert torch.equal(ids.flatten()[cells], tokens.ids)
    again = to_padded(torch.stack([tokens.ids, -tokens.ids], dim=1), cells, B, T)  # [B, T, 2]
    assert torch.equal(again, torch.stack([ids * mask, -ids * mask], dim=2))


def test_a_padded_batch_and_the_same_sequences_end_to_end_are_packed_alike():
    lengths = [4, 1, 7, 4, 2]
    ids, mask, types = padded_batch(lengths, 7)
    real = mask.bool()
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    expected = pack(Sequences(ids[real].numpy(), types[real].numpy(), offsets))
    tokens, _ = from_padded(ids, mask, types)
    for name in ("ids", "positions", "types"):
        assert torch.equal(getattr(tokens, name), getattr(expected, name)), name
    assert torch.equal(tokens.packing.first, expected.packing.first)
    assert tokens.packing.order.tolist() == expected.packing.order.tolist()


def test_a_hole_in_the_mask_leaves_a_gap_in_the_positions():
    ids = torch.tensor([[5, 6, 7, 8], [1, 2, 3, 4]])
    tokens, cells = from_padded(ids, torch.tensor([[1, 0, 1, 1], [0, 1, 0, 1]]))
    assert tokens.ids.tolist() == [2, 4, 5, 7, 8]  # the shorter sequence first
    assert tokens.positions.tolist() == [1, 3, 0, 2, 3]
    assert cells.tolist() == [5, 7, 0, 2, 3]
    assert to_padded(tokens.ids[:, None], cells, 2, 4)[..., 0].tolist() == [[5, 0, 7, 8], [0, 2, 0, 4]]


def test_without_mask_and_types_all_are_tokens_of_type_0():
    tokens, cells = from_padded(torch.tensor([[5, 6], [7, 8]]))
    assert tokens.ids.tolist() == [5, 6, 7, 8]
    assert tokens.types.tolist() == [0] * 4
    assert cells.tolist() == [0, 1, 2, 3]


def test_the_gradient_of_a_padded_output_is_read_back_from_its_cells():
    _, cells = from_padded(*padded_batch([2, 3, 1], 4))
    hidden = torch.randn(6, 2, dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda x: to_padded(x, cells, 3, 4), (hidden,))


def test_a_padded_row_without_a_token_is_refused():
    with pytest.raises(ValueError, match="at least one token"):
        from_padded(torch.ones(2, 3, dtype=torch.long), torch.tensor([[1, 1, 0], [0, 0, 0]]))


# ---------------------------------------------------------------------------------------------- dropout


@pytest.mark.parametrize("p", [0.1, 0.3, 0.5])
def test_dropout_statistics(p):
    """Rate within 4 sigma, mean kept, neighbours independent (four elements share one random number)."""
    torch.manual_seed(1)
    n = 400_000
    scale = random_scale(torch.Size([n]), p)
    dropped = (scale == 0).double()
    assert abs(dropped.mean() - p) < 4 * (p * (1 - p) / n) ** 0.5
    assert torch.unique(scale).tolist() == pytest.approx([0, 1 / (1 - p)], rel=2e-5)
    for lane in range(4):  # each quarter of the 64-bit draws
        assert abs(dropped[lane::4].mean() - p) < 4 * (p * (1 - p) / (n / 4)) ** 0.5
    for distance in (1, 2, 3, 4):
        a, b = dropped[:-distance] - p, dropped[distance:] - p
        assert abs((a * b).mean()) < 4 * p * (1 - p) / n**0.5


def test_dropout_gradient_uses_the_same_mask_and_eval_does_nothing():
    torch.manual_seed(0)
    x = torch.ones(1000, requires_grad=True)
    dropout = Dropout(0.4)
    y = dropout(x)
    y.sum().backward()
    assert torch.equal(x.grad, y.detach())  # dy/dx is the scale itself where x = 1
    assert 0 < (y == 0).sum() < 1000
    assert dropout.eval()(x) is x
    assert Dropout(0.0)(x) is x


def test_dropout_is_reproducible_for_any_number_of_threads():
    threads = torch.get_num_threads()
    try:
        draws = []
        for count in (1, 2):
            torch.set_num_threads(count)
            torch.manual_seed(5)
            draws.append(random_scale(torch.Size([3, 70_001]), 0.1))
        assert torch.equal(*draws)
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("p", [-0.1, 1.0, 1.5])
def test_dropout_refuses_a_probability_outside_0_to_1(p):
    with pytest.raises(ValueError, match="not in"):
        Dropout(p)
