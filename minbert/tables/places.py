"""Where a sweep reads and writes. Git ignores everything under runs/."""

from pathlib import Path

HERE = Path(__file__).parents[2]
RESULTS = HERE / "results"  # the project's own
RUNS = HERE / "runs"


def experiments():
    """The folder of the runs that rows of tables came to, of plain models and of changed copies of texts."""
    return RUNS / "experiments"


def user_results():
    """The folder of the user's own results."""
    return RUNS / "results"


def pictures(table):
    """The folder of a table's pictures."""
    return RUNS / "pictures" / table.name
