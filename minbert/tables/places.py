"""Where a sweep reads and writes. Git ignores everything under runs/."""

from pathlib import Path

HERE = Path(__file__).parents[2]
RESULTS = HERE / "results"
RUNS = HERE / "runs"


def experiments():
    """The folder of the runs that rows of tables came to, of plain models and of changed copies of texts."""
    return RUNS / "experiments"


def pictures(table):
    """The folder of a table's pictures."""
    return RESULTS / table.name
