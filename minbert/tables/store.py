"""Results as files: results/TABLE/ROW/seed-N.json, one for each row, seed and fraction of a table."""

import json

from minbert.files import UserError, write_json
from minbert.tables import places
from minbert.tables.jobs import Job
from minbert.tables.rows import find_row


def load(table):
    """The table's results, in the order of its rows."""
    paths = [
        path for row in table.rows for path in sorted((places.RESULTS / table.name / row.name).glob("seed-*.json"))
    ]
    return sorted(map(_read, paths), key=lambda r: ([row.name for row in table.rows].index(r["row"]), -r["fraction"]))


def load_all():
    """The results of all tables."""
    return [_read(path) for path in sorted(places.RESULTS.glob("*/*/seed-*.json"))]


def get(job):
    """The job's result, or None."""
    path = _path(job)
    return _read(path) if path.exists() else None


def put(table, result):
    """Write a result of the table, in place of an earlier one of the same row, seed and fraction."""
    path = _path(Job(table, find_row(table, result["row"]), result["seed"], result["fraction"]))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, result)


def _path(job):
    return places.RESULTS / job.table.name / job.row.name / f"{job.name}.json"


def _read(path):
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path}: not JSON ({error}); delete it, and its row runs again") from None
