"""Tensors as numbers of a page: rounded to a number of places, kept as 16-bit integers, and written in base64.

A value v is kept as round(v * 10^places), so that the page shows v with exactly these places, and never a digit that
the tensor does not have.
"""

import base64

import numpy as np

from minbert.files import UserError

MOST_PLACES = 4
INFINITE = -(1 << 15)  # stands for minus infinity: a masked score
LIMIT = (1 << 15) - 1


def encoded(tensor, places=MOST_PLACES):
    """A tensor of any shape -> {"shape", "places", "most", "data"}.

    places: as many as all values have room for in 16 bits, at most those asked for (negative ones round to tens).
    most: the 99th percentile of |v|, for colours; a few very large values would leave the others pale.
    UserError for NaN and +infinity.
    """
    values = tensor.detach().cpu().numpy().astype(np.float64)
    if np.isnan(values).any() or np.isposinf(values).any():
        raise UserError("the model computes NaN or infinity; its weights are damaged, get the checkpoint again")
    finite = np.abs(values[np.isfinite(values)])
    largest = finite.max() if finite.size else 0.0
    while largest * 10.0**places > LIMIT - 1:
        places -= 1
    whole = np.full(values.shape, INFINITE)
    whole[np.isfinite(values)] = np.rint(values[np.isfinite(values)] * 10.0**places)
    return {
        "shape": list(values.shape),
        "places": places,
        "most": float(f"{np.percentile(finite, 99):.3g}") if finite.size else 1.0,
        "data": base64.b64encode(whole.astype("<i2").tobytes()).decode("ascii"),
    }


def decoded(kept):
    """What a page shows of it: float64 of the same shape, rounded."""
    whole = np.frombuffer(base64.b64decode(kept["data"]), "<i2").reshape(kept["shape"])
    return np.where(whole == INFINITE, -np.inf, whole / 10.0 ** kept["places"])
