"""All tables by name, and what must hold of each."""

import difflib
from dataclasses import replace
from itertools import combinations

from minbert.files import UserError
from minbert.tables.controls import CONTROL_TABLES
from minbert.tables.jobs import resolve
from minbert.tables.labels import LABEL_TABLES
from minbert.tables.rows import MINBERT, RECIPE, find_row, flags_of
from minbert.tables.semi import SEMI_TABLES
from minbert.tables.strategies import STRATEGY_TABLES

TABLES = {
    table.name: table for table in (MINBERT, RECIPE, *STRATEGY_TABLES, *LABEL_TABLES, *SEMI_TABLES, *CONTROL_TABLES)
}


def find_table(name):
    """The table of that name, checked."""
    if name not in TABLES:
        near = difflib.get_close_matches(name, TABLES, n=1)
        raise UserError(f"no table {name}; {f'is it {near[0]}?' if near else 'experiments.py list has their names'}")
    check_table(TABLES[name])
    return TABLES[name]


def check_table(table):
    """Raise UserError unless the table says what it seems to say.

    The names are unique; every row is a valid command; every figure of a paper has a column; a row that starts from
    another's weights stands below it; every row with a base differs from it in exactly the flags it lists. All that
    without the budget, which leaves different any two rows that are.
    """
    names = [row.name for row in table.rows]
    if len(set(names)) < len(names):
        raise UserError(f"table {table.name} names a row twice: {', '.join(names)}")
    if unknown := set(table.budget) - set(names):
        raise UserError(f"table {table.name}, budget: there is no row {', '.join(sorted(unknown))}")
    full = {row.name: _resolved(replace(table, budget={}), row) for row in table.rows}
    for row in table.rows:
        _check_row(table, row, full)
    cut = {row.name: _resolved(table, row) for row in table.rows}
    for one, other in combinations(names, 2):
        if _differing(full[one], full[other]) and not _differing(cut[one], cut[other]):
            raise UserError(f"table {table.name}: its budget makes {one} and {other} the same")


def _check_row(table, row, full):
    """`full`: row -> its resolved flags without the budget, in the order of the rows."""
    where, names = f"table {table.name}, row {row.name}", list(full)
    if unknown := set(row.paper) - set(table.columns):
        raise UserError(f"{where}: the table has no column {', '.join(sorted(unknown))}")
    if row.init is not None and row.init not in names[: names.index(row.name)]:
        raise UserError(f"{where}: starts from {row.init}, which is no row above it")
    if row.base is None:
        return
    differing = _differing(full[row.name], full[find_row(table, row.base).name])
    if differing != set(row.flags):
        raise UserError(
            f"{where}: says it varies {', '.join(sorted(row.flags))} of {row.base}, "
            f"but differs from it in {', '.join(sorted(differing)) or 'nothing'}"
        )


def _resolved(table, row):
    try:
        return resolve(flags_of(table, row))
    except UserError as error:
        raise UserError(f"table {table.name}, row {row.name}: {error}") from None


def _differing(one, other):
    return {name for name in one if name != "run_dir" and one[name] != other[name]}
