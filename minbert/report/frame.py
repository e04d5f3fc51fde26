"""From numbers to places in a picture: a frame with two axes, and round numbers beside them.

A picture is drawn by a template of templates/charts.html, from a dict of places in a box of WIDTH x HEIGHT; nothing of
a picture is text that was put together here, so nothing in it can be mistaken for markup.
"""

import math
from dataclasses import dataclass

WIDTH, HEIGHT = 400, 230
LEFT, RIGHT, TOP, BOTTOM = 48, 12, 24, 38  # margins, for the numbers at the axes


@dataclass(frozen=True)
class Frame:
    """x: (lowest, highest) number of the horizontal axis, y: of the vertical one. logarithmic: the vertical one is.
    whole: the horizontal one counts something."""

    x: tuple
    y: tuple
    logarithmic: bool = False
    whole: bool = False
    height: int = HEIGHT

    def right(self, x):
        """Where x is, from the left."""
        return round(LEFT + _share(x, *self.x) * (WIDTH - LEFT - RIGHT), 1)

    def down(self, y):
        """Where y is, from the top."""
        low, high = self.y
        share = _share(math.log(y), math.log(low), math.log(high)) if self.logarithmic else _share(y, low, high)
        return round(self.height - BOTTOM - share * (self.height - TOP - BOTTOM), 1)

    def path(self, points):
        """[(x, y)] as the path of a line."""
        return "M" + "L".join(f"{self.right(x):g} {self.down(y):g}" for x, y in points)

    def axes(self, x_label, y_label):
        """What the template needs of the frame itself."""
        ys = decades(*self.y) if self.logarithmic else steps(*self.y, 5)
        return {
            "width": WIDTH,
            "height": self.height,
            "left": LEFT,
            "right": WIDTH - RIGHT,
            "top": TOP,
            "bottom": self.height - BOTTOM,
            "x_ticks": [(self.right(x), short(x)) for x in steps(*self.x, 6, float(self.whole))],
            "y_ticks": [(self.down(y), short(y)) for y in ys],
            "x_label": x_label,
            "y_label": y_label,
        }


def around(values, share=0.06):
    """(lowest, highest) of some numbers, with a margin; never two equal ones."""
    low, high = min(values), max(values)
    margin = (high - low) * share or abs(high) * share or 1.0
    return low - margin, high + margin


def steps(low, high, most, least=0.0):
    """Round numbers from low to high, at most about so many: 1, 2 or 5 times a power of ten apart, and at least
    `least`."""
    raw = max((high - low) / most, least)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(times * power for times in (1, 2, 5, 10) if times * power >= raw * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [number * step for number in range(first, last + 1)]


def decades(low, high):
    """Powers of ten from low to high, or 1, 2 and 5 times these where there are few."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    of = (1,) if math.log10(high / low) > 3 else (1, 2, 5)
    return [value for power in powers for times in of if low <= (value := times * 10.0**power) <= high]


def short(value):
    """A number at an axis: 0.25, 1,500, 20k, 2e-05, 0.000105."""
    if value and (abs(value) < 1e-3 or abs(value) >= 1e9):
        return f"{value:.3g}"
    if abs(value) >= 1e6:
        return f"{value / 1e6:g}M"
    if abs(value) >= 1e4:
        return f"{value / 1e3:g}k"
    return f"{round(value, 6):,g}" if abs(value) < 1e3 else f"{value:,.0f}"


def _share(value, low, high):
    return (value - low) / (high - low)
