"""Two rows of a table compared seed by seed: the paired t interval (Student 1908, "The Probable Error of a Mean").

A seed fixes the same initial weights, order of examples and kept labels for both rows, so that much of what moves one
figure moves the other too. The differences d_i of the n seeds that both rows have, and not the two means, are compared:

    d = mean of d_i,   SE = s / sqrt(n) with s the sample standard deviation of d_i,   interval d -+ t(0.975, n - 1) SE
"""

import statistics

from minbert.files import UserError
from minbert.tables.report import Line, collect, grid, is_on_part, mean_text
from minbert.tables.rows import find_row

# Student's t by degrees of freedom, n - 1: the quantiles 0.975, of a 95 % interval, and 0.8.
T = {1: (12.706, 1.376), 2: (4.303, 1.061), 3: (3.182, 0.978), 4: (2.776, 0.941), 5: (2.571, 0.920), 6: (2.447, 0.906)}
T |= {7: (2.365, 0.896), 8: (2.306, 0.889), 9: (2.262, 0.883), 10: (2.228, 0.879), 12: (2.179, 0.873)}
T |= {15: (2.131, 0.866), 20: (2.086, 0.860), 30: (2.042, 0.854)}
FEWEST = 3  # seeds, for a claim
FEWEST_DRAWN = 5  # where the seed also draws which labels are kept
HEADINGS = ("difference", "95 % interval", "could have seen", "seeds", "")


def paired(one, other):
    """(d, half the 95 % interval, the smallest difference that would probably have been seen) of two lists of figures,
    one a seed. Of one seed only d: the others are None.

    The last is (t(0.975) + t(0.8)) SE: were the true difference that large, four of five such comparisons would have an
    interval without 0 (nearly: the exact figure needs the non-central t).
    """
    differences = [a - b for a, b in zip(one, other, strict=True)]
    if len(differences) < 2:
        return differences[0], None, None
    error = statistics.stdev(differences) / len(differences) ** 0.5
    wide, power = T[max(known for known in T if known < len(differences))]  # too few degrees of freedom: the wider
    return statistics.fmean(differences), wide * error, (wide + power) * error


def verdict(difference, half, seeds, drawn=False):
    """ "differs" if the interval leaves 0 out, otherwise "not seen"; "no claim" of too few seeds. drawn: whether the
    seed draws the labels too."""
    if seeds < (FEWEST_DRAWN if drawn else FEWEST):
        return "no claim"
    return "differs" if abs(difference) > half else "not seen"


def compare(table, one, other, headings=None):
    """Two rows as Markdown, column by column over the seeds that both have: means, and `paired`'s figures.

    Rows are compared on the same fraction, model and data only. Raises UserError where no seed has both.
    """
    if unknown := [heading for heading in headings or () if heading not in table.columns]:
        raise UserError(f"table {table.name} has no column {unknown[0]}; its columns: {', '.join(table.columns)}")
    rows = [find_row(table, name) for name in (one, other)]
    lines = collect(table)
    first, second = ([line for line in lines if line.row == row and line.results] for row in rows)
    matching = [(a, b) for a in first for b in second if _comparable(a, b)]
    if not matching:
        raise UserError(f"{one} and {other} of table {table.name} have no seed, model and data in common: run both")
    told = [["", one, other, *HEADINGS]]
    for a, b in matching:
        told += _lines_of(a, b, {heading: table.columns[heading] for heading in headings or table.columns})
    return f"## {rows[0].title} against {rows[1].title}\n\n{grid(told)}\n"


def _lines_of(one, other, columns):
    """The cells of two lines of results, a list for each column that both have in all common seeds."""
    seeds = sorted(_seeds(one) & _seeds(other))
    pair = [_of_seeds(line, seeds) for line in (one, other)]
    share = f" ({one.fraction:g} of the training rows)" if one.fraction < 1 else ""
    drawn = any(result["flags"].get("labels_per_class") for line in pair for result in line.results)
    for heading, path in columns.items():
        values = [line.values(path) for line in pair]
        if all(len(found) == len(seeds) for found in values):
            mark = "*" if any(is_on_part(line, path) for line in pair) else ""
            yield [heading + mark + share, *map(mean_text, values), *_difference(*values, drawn)]


def _difference(one, other, drawn):
    difference, half, smallest = paired(one, other)
    if half is None:
        return [f"{difference:+.3f}", "", "", "1", "no claim"]
    interval = f"{difference - half:+.3f} to {difference + half:+.3f}"
    word = verdict(difference, half, len(one), drawn)
    return [f"{difference:+.3f}", interval, f"{smallest:.3f}", str(len(one)), word]


def _of_seeds(line, seeds):
    """A line with the results of these seeds alone, in their order."""
    by_seed = {result["seed"]: result for result in line.results}
    return Line(line.row, [by_seed[seed] for seed in seeds])


def _seeds(line):
    return {result["seed"] for result in line.results}


def _comparable(one, other):
    """Whether two lines have a seed, the fraction, the model and the content of the files that both use in common."""
    a, b = one.results[0], other.results[0]
    return (
        bool(_seeds(one) & _seeds(other))
        and one.fraction == other.fraction
        and a["model"]["sha256"] == b["model"]["sha256"]
        and all(_digests(a)[file] == _digests(b)[file] for file in _digests(a).keys() & _digests(b).keys())
    )


def _digests(result):
    return {(task, split): s["sha256"] for task, splits in result["data"].items() for split, s in splits.items()}
