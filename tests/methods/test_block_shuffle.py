"""The order by blocks: every row once, few places at a time, and for a small set the order of Batches."""

import numpy as np
import pytest

from minbert.methods import block_shuffle
from minbert.methods.block_shuffle import BlockBatches
from minbert.methods.schedules import Batches


def order_of(batches, epoch):
    return np.concatenate([batches(epoch, index) for index in range(batches.count)])


@pytest.mark.parametrize("rows", [1, 1000, 1024, 5000])
def test_a_set_of_one_buffer_has_the_order_of_batches(rows):
    blocks, plain = BlockBatches("text", rows, 32, 7), Batches("text", rows, 32, 7)
    assert blocks.count == plain.count
    for index in range(2 * plain.count):
        for epoch in (0, 3):
            assert blocks(epoch, index).tolist() == plain(epoch, index).tolist()


@pytest.fixture
def small(monkeypatch):
    """Blocks of 10 rows, 4 in a buffer: 203 rows are 21 blocks, the last short, in 6 buffers."""
    monkeypatch.setattr(block_shuffle, "BLOCK", 10)
    monkeypatch.setattr(block_shuffle, "BLOCKS", 4)
    return BlockBatches("text", 203, 7, 5)


def test_every_row_comes_once_an_epoch_and_each_epoch_has_its_order(small):
    orders = [order_of(small, epoch) for epoch in range(3)]
    assert all(np.sort(order).tolist() == list(range(203)) for order in orders)
    assert len({tuple(order) for order in orders}) == 3
    assert len({tuple(order_of(BlockBatches("text", 203, 7, seed), 0)) for seed in range(3)}) == 3


def test_a_buffer_has_whole_blocks_and_shuffles_them(small):
    order = order_of(small, 0)
    _, ends = small._buffers(0, 0)
    starts = [0, *ends[:-1]]
    for start, end in zip(starts, ends, strict=True):
        part = order[start:end]
        blocks = np.unique(part // 10)
        assert len(part) == sum(min(10, 203 - 10 * block) for block in blocks)
        assert len(blocks) <= 4
        assert np.count_nonzero(np.diff(part) == 1) < 8  # not as they lie on disk
    assert np.unique(order[:40] // 10).tolist() != [0, 1, 2, 3]


def test_any_batch_can_be_asked_for_first(small):
    whole = [small(1, index).tolist() for index in range(2 * small.count)]
    for index in reversed(range(2 * small.count)):
        assert BlockBatches("text", 203, 7, 5)(1, index).tolist() == whole[index]
    assert [len(batch) for batch in whole[: small.count]] == [7] * 29


def test_other_orders_are_refused():
    with pytest.raises(ValueError, match="whole set"):
        BlockBatches.of(Batches("text", 10, 2, 1, shuffle="once"))
    with pytest.raises(ValueError, match="whole set"):
        BlockBatches.of(Batches("text", 10, 2, 1, out_of=20))
