"""What a wrong array looks like, in words, when none of the known wrong variants gave it.

Each takes (yours, expected, both float64 of one shape) and says its sentence or None. They are tried in order.
"""

import numpy as np

CLOSE = 1e-6


def same(a, b, tolerance=CLOSE):
    """Equal within `tolerance` of the larger of 1 and |b|'s largest; NaN and infinities where the other has them."""
    if a.shape != b.shape:
        return False
    finite = np.isfinite(b)
    if not (np.isfinite(a) == finite).all() or not np.array_equal(a[~finite], b[~finite], equal_nan=True):
        return False
    if not finite.any():
        return True
    return float(np.abs(a[finite] - b[finite]).max()) <= tolerance * max(1.0, float(np.abs(b[finite]).max()))


def not_finite(yours, expected):
    if np.isfinite(expected).all() and not np.isfinite(yours).all():
        kind = "NaN (0/0, or infinity minus infinity)" if np.isnan(yours).any() else "an infinity"
        return f"it holds {kind}"
    return None


def few_digits(yours, expected):
    """What float32 leaves of float64."""
    if np.isfinite(yours).all() and same(yours, expected, 2e-6):
        return (
            "it is right to 6 or 7 digits: is something float32 on the way (.float(), torch.tensor(...), a constant)?"
        )
    return None


def nothing_but_zeros(yours, expected):
    return "it is 0 everywhere" if yours.size and not yours.any() and expected.any() else None


def sign(yours, expected):
    return "it has the opposite sign everywhere" if same(yours, -expected) else None


def a_factor(yours, expected):
    """A constant factor, told with its root where that is a whole number."""
    big = np.abs(expected) > 1e-3 * max(1e-300, float(np.abs(expected).max(initial=0)))
    if big.sum() < 2:
        return None
    ratios = yours[big] / expected[big]
    ratio = float(np.median(ratios))
    if abs(ratio) < 1e-9 or abs(ratio - 1) < 1e-6 or not np.allclose(yours, ratio * expected, rtol=1e-6, atol=1e-9):
        return None
    return f"it is {ratio:.4g} times what is expected, everywhere: a factor is missing or is there twice"


def a_shift(yours, expected):
    """A constant added everywhere."""
    apart = yours - expected
    if apart.size < 2 or not np.allclose(apart, apart.flat[0], atol=1e-9) or abs(apart.flat[0]) < 1e-9:
        return None
    return f"{abs(apart.flat[0]):.4g} is {'added' if apart.flat[0] > 0 else 'taken off'} everywhere"


def an_axis(yours, expected):
    for one in range(expected.ndim):
        for two in range(one + 1, expected.ndim):
            if expected.shape[one] == expected.shape[two] and same(yours, np.swapaxes(expected, one, two)):
                return f"axes {one} and {two} are swapped (transposed)"
    return None


def an_order(yours, expected):
    """The same numbers in another order, of an axis or altogether."""
    if expected.size < 3 or np.ptp(expected) < 1e-9:
        return None
    for axis in range(expected.ndim):
        if expected.shape[axis] > 1 and same(yours, np.flip(expected, axis)):
            return f"axis {axis} is in reversed order"
        for by in (1, -1):
            if expected.shape[axis] > 2 and same(yours, np.roll(expected, by, axis)):
                return f"axis {axis} is shifted by one: an index is off by one"
    if same(np.sort(yours, axis=None), np.sort(expected, axis=None)):
        return "the numbers are right but stand in other places: a reshape without the transpose before it?"
    return None


def sums(yours, expected):
    """Rows that ought to sum to 1."""
    if expected.ndim and expected.shape[-1] > 1 and np.allclose(expected.sum(-1), 1) and (expected >= 0).all():
        total = yours.sum(-1)
        if not np.allclose(total, 1):
            return f"its rows are to sum to 1, and sum to {total.min():.4g} to {total.max():.4g}"
    return None


def a_few(yours, expected):
    """Most entries right: where are the others?"""
    wrong = np.abs(yours - expected) > CLOSE * max(1.0, float(np.abs(expected).max(initial=0)))
    if wrong.any() and wrong.mean() <= 0.34 and wrong.size > 3:
        rows = sorted({tuple(int(i) for i in place[:1]) for place in np.argwhere(wrong)})
        if len(rows) < expected.shape[0]:
            told = ", ".join(str(row[0]) for row in rows[:4])
            return f"only row{'s' if len(rows) > 1 else ''} {told} of axis 0 differ{'' if len(rows) > 1 else 's'}"
    return None


SYMPTOMS = (not_finite, few_digits, nothing_but_zeros, sign, a_factor, a_shift, an_axis, an_order, sums, a_few)


def shape_symptom(yours, expected):
    """What a shape other than the expected one looks like, or ""."""
    if yours == () and expected:
        return ": it looks as if a mean or a sum is taken that is not asked for"
    if len(yours) < len(expected) and yours == tuple(size for size in expected if size != 1):
        return ": it looks as if an axis of size 1 is lost (keepdim=True, or unsqueeze)"
    if len(yours) > len(expected) and expected == tuple(size for size in yours if size != 1):
        return ": it looks as if an axis of size 1 is left over (squeeze)"
    if sorted(yours) == sorted(expected):
        return ": it looks as if two axes are swapped (transpose)"
    return ""


def symptom(yours, expected):
    """The first sentence that fits, or None."""
    with np.errstate(all="ignore"):
        return next((said for look in SYMPTOMS if (said := look(yours, expected))), None)
