"""report.html of tables: the paper's figures beside ours as a dot plot, every seed a dot, to be filtered by table and
by method.

A row that has no results yet stays, and says so: what is open is part of what a table says.
"""

from minbert.flags.fields import defaults_of
from minbert.flags.groups import Heads
from minbert.flags.methods import PseudoLabels, Regularizers, SemiSupervised
from minbert.report import page
from minbert.report.frame import around, short, steps
from minbert.tables import places
from minbert.tables.report import cells_of, circumstances, collect, label, legend, mean_and_deviation, untreated
from minbert.tables.rows import flags_of

WIDTH, MARGIN = 140, 7  # of the picture in a cell
METHODS = {  # flags of a row by which it can be found
    *defaults_of([Heads, Regularizers, SemiSupervised, PseudoLabels]),
    *("option", "schedule", "layer_decay", "labels_per_class", "train_on_augmented", "init"),
}


def write_tables(tables, path=None):
    """Write the report of these tables into the file at `path`. Returns a sentence on it."""
    path = path or places.RUNS / "report.html"
    if not page.can_render():
        return f"no report was written: {page.MISSING}"
    path.parent.mkdir(parents=True, exist_ok=True)
    blocks = [_block(table) for table in tables]
    blocks.sort(key=lambda block: all(row["open"] for row in block["rows"]))  # those without any results come last
    methods = sorted({method for block in blocks for row in block["rows"] for method in row["methods"]})
    page.write(path, "tables.html", tables=blocks, methods=methods)
    return f"report: {path}"


def _block(table):
    """What the template shows of one table."""
    lines = collect(table)
    scales = {heading: scale for heading in table.columns if (scale := _scale(table, heading, lines))}
    return {
        "name": table.name,
        "title": table.title,
        "reference": table.reference,
        "told": [legend(table, lines), *filter(None, [table.note])],
        "columns": {heading: _ticks(scale) for heading, scale in scales.items()},
        "rows": [_row(table, line, lines, scales) for line in lines],
    }


def _scale(table, heading, lines):
    """(lowest, highest) of what is drawn in a column: ours with their seeds, and the paper's; None where there is
    nothing."""
    values = [value for line in lines for value in line.values(table.columns[heading])]
    values += [line.row.paper[heading] for line in lines if heading in line.row.paper]
    return around(values, 0.08) if values else None


def _ticks(scale):
    return [{"x": _right(value, scale), "label": short(value)} for value in steps(*scale, 3)]


def _right(value, scale):
    low, high = scale
    return round(MARGIN + (value - low) / (high - low) * (WIDTH - 2 * MARGIN), 1)


def _row(table, line, lines, scales):
    told = dict(zip(table.columns, cells_of(table, line), strict=True))
    fraction, seeds, epochs, minutes = circumstances(line)
    return {
        "name": line.row.name,
        "title": label(line, lines),
        "note": line.row.note,
        "open": not line.results,
        "stale": bool(line.stale),
        "untreated": untreated(line),
        "methods": sorted({*flags_of(table, line.row), *(["init"] if line.row.init else [])} & METHODS),
        "cells": [_cell(table, line, heading, told[heading], scale) for heading, scale in scales.items()],
        "beside": {"fraction": fraction, "seeds": seeds, "epochs": epochs, "minutes": minutes},
    }


def _cell(table, line, heading, told, scale):
    """One figure: as text, and as places of its dots. `told`: as in the Markdown table."""
    values, paper = line.values(table.columns[heading]), line.row.paper.get(heading)
    cell = {"heading": heading, "text": told, "seeds": [_right(value, scale) for value in values]}
    cell["paper"] = None if paper is None else {"value": paper, "x": _right(paper, scale)}
    cell["ours"] = None
    if values:
        mean, deviation = mean_and_deviation(values)
        ends = [max(scale[0], mean - (deviation or 0)), min(scale[1], mean + (deviation or 0))]
        cell["ours"] = {"value": mean, "x": _right(mean, scale), "ends": [_right(end, scale) for end in ends]}
    cell["sentence"] = _sentence(table, heading, values, paper)
    return cell


def _sentence(table, heading, values, paper):
    """The picture of a cell in words."""
    ours = f"seeds {', '.join(f'{value:.3f}' for value in values)}" if values else "no result"
    return f"{heading}: {ours}" + ("" if paper is None else f"; {table.reference} {paper:.3f}")
