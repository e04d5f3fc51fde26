"""Ways of looking at an answer before it is compared: where an assignment leaves an order or a draw open, the answer is
judged by what it leaves no choice about. Each takes the outputs {name: array} and returns others."""

import numpy as np


def as_it_is(outputs):
    return outputs


def in_any_order(outputs):
    """Rows of two numbers (task, index), sorted: a random order is as good as another."""
    return {name: np.array(sorted(np.asarray(rows).tolist()), dtype=float) for name, rows in outputs.items()}


def shares(outputs):
    """How often each task comes, as a share rounded to a twentieth: draws differ, their frequencies must not."""
    rows = np.asarray(outputs["rounds"])
    counts = np.bincount(rows[:, 0].astype(int), minlength=3)
    walks = [rows[rows[:, 0] == task, 1].tolist() == list(range(int((rows[:, 0] == task).sum()))) for task in range(3)]
    return {
        "share of each task": np.round(counts / len(rows) * 20) / 20,
        "each counts up from 0": np.array(walks, float),
        "draws": np.array([len(rows)], float),
    }


def masking(outputs):
    """What must hold for any draw of masks: shares rounded to the nearest twentieth, and what is certain."""
    ids, hidden, chosen, mask, special = (
        np.asarray(outputs[name]) for name in ("ids", "hidden", "chosen", "mask", "special")
    )
    chosen = chosen.astype(int)
    before, after = ids[chosen], hidden[chosen]
    masked, kept = after == mask, after == before
    twentieths = lambda share: np.array([np.round(share * 20) / 20])
    ordinary = ~np.isin(ids, special)
    untouched = np.delete(hidden, chosen) == np.delete(ids, chosen)
    return {
        "share of ordinary tokens chosen": twentieths(len(chosen) / ordinary.sum()),
        "share of the chosen that become [MASK]": twentieths(masked.mean() if len(chosen) else 0),
        "share of the chosen that stay": twentieths(kept.mean() if len(chosen) else 0),
        "special tokens are chosen": np.array([float((~ordinary[chosen]).any())]),
        "tokens are changed that were not chosen": np.array([float((~untouched).any())]),
        "places ascend": np.array([float((np.diff(chosen) > 0).all())]),
        "the ids that came in are untouched": np.asarray(outputs["untouched"], float),
        "random tokens are of the whole vocabulary": np.array([float(len(np.unique(after[~masked & ~kept])) > 100)]),
    }


VIEWS = {view.__name__: view for view in (as_it_is, in_any_order, shares, masking)}
