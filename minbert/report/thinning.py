"""Curves of any length as a bounded number of points: the lowest and the highest of each bucket.

A mean would hide the spike that one looks for, every n-th point would miss it. Buckets hold equally many points; when
there are too many buckets, neighbours become one, so points are read once and never kept.
"""


class MinMax:
    """At most 2 `most` points of a curve whose points come one by one, x rising. most: even."""

    def __init__(self, most=300):
        self.most, self._width, self._filled = most, 1, 1
        self._buckets = []  # [(lowest point, highest point)], each point (y, x)

    def add(self, x, y):
        point = (y, x)
        if not self._buckets or self._filled == self._width:
            if len(self._buckets) == self.most:
                self._join()
            self._buckets.append((point, point))
            self._filled = 1
        else:
            low, high = self._buckets[-1]
            self._buckets[-1] = (point if y < low[0] else low, point if y > high[0] else high)
            self._filled += 1

    def _join(self):
        pairs = zip(self._buckets[::2], self._buckets[1::2], strict=True)
        self._buckets = [(min(a[0], b[0]), max(a[1], b[1])) for a, b in pairs]
        self._width *= 2

    @property
    def points(self):
        """[(x, y)] in the order of x."""
        return [(x, y) for bucket in self._buckets for x, y in sorted({(x, y) for y, x in bucket})]
