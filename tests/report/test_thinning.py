"""Curves of any length as few points, with every spike in them."""

import random

from minbert.report.thinning import MinMax


def thinned(values, most=10):
    curve = MinMax(most)
    for x, y in enumerate(values):
        curve.add(x, y)
    return curve.points


def test_a_short_curve_stays_as_it_is():
    assert thinned([3, 1, 2]) == [(0, 3), (1, 1), (2, 2)]
    assert thinned([]) == []


def test_a_long_one_keeps_its_extremes_in_their_order():
    values = [random.Random(1).random() for _ in range(5000)]
    values[1234], values[4321] = 9.0, -9.0
    points = thinned(values)
    assert len(points) <= 20
    assert {(1234, 9.0), (4321, -9.0)} <= set(points)
    assert points == sorted(points)
    assert all(values[x] == y for x, y in points)


def test_buckets_by_hand():
    """Four buckets at most; five points make two of two and one of one."""
    assert thinned([5, 4, 1, 2, 7], most=4) == [(0, 5), (1, 4), (2, 1), (3, 2), (4, 7)]
    assert thinned([5, 4, 4.5, 6, 1, 2, 7, 7, 0], most=4) == [(1, 4), (3, 6), (4, 1), (6, 7), (8, 0)]
