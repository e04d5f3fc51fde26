"""Results as files: results/TABLE.jsonl, one line for each row, seed and fraction of a table.

Two folders hold such files: results/, the project's own, and runs/results/, the user's, which git ignores. Both are
read as one; where both have the same row, seed and fraction, the user's counts. A new result is the user's until
`publish` moves it among the project's.

The lines of a file stand in the order of the table's rows, so that a change of it is small, and it is replaced as a
whole. Who writes waits for others who do: two sweeps that add to one table at once lose nothing.
"""

import json

from minbert.files import UserError, write_text
from minbert.locks import alone_in
from minbert.readers import NUMBER, misfit, parse_json
from minbert.tables import places
from minbert.training.saved import MODEL, SCORES

OUTCOME = {"scores": SCORES, "history": [{"epoch": int}]}
RESULT = {
    "table": str,
    "row": str,
    "seed": int,
    "fraction": NUMBER,
    "flags": {"dev_limit": {}},
    "model": MODEL,
    "data": {...: {...: {"file": str, "sha256": str, "labels_file?": str, "labels_sha256?": str}}},
    "data_from": str,
    "machine": {"device": str},
    **OUTCOME,
    "attempts?": {...: OUTCOME},
    "masked_lm?": {"scores": dict.fromkeys(("perplexity_before", "perplexity", "epochs", "texts"), NUMBER)},
}


def load(table):
    """The table's results, in the order of its rows. Raises UserError for a damaged line."""
    return _in_order(table, _merged(table.name).values())


def load_all():
    """The results of all tables. Raises UserError for a damaged line."""
    names = {path.stem for folder in (places.RESULTS, places.user_results()) for path in folder.glob("*.jsonl")}
    return [result for name in sorted(names) for result in _merged(name).values()]


def get(job):
    """The job's result, or None. Raises UserError for a damaged line of its table."""
    return _merged(job.table.name).get(_key_of(job))


def put(table, result):
    """Write a result of the table among the user's, in place of an earlier one of the same row, seed and fraction."""
    path = _user_file(table.name)
    with alone_in(path.parent, wait=""):
        _write(path, table, _read(path) | {_key(result): result})


def publish(job):
    """Move the user's result of a job, and of the one it starts from, among the project's."""
    if job.start:
        publish(job.start)
    mine, projects = _user_file(job.table.name), _project_file(job.table.name)
    with alone_in(mine.parent, wait=""):
        own = _read(mine)
        if result := own.pop(_key_of(job), None):
            projects.parent.mkdir(exist_ok=True)
            _write(projects, job.table, _read(projects) | {_key(result): result})
            # Last: killed in between, the result is there twice rather than gone.
            _write(mine, job.table, own) if own else mine.unlink()


def _user_file(name):
    return places.user_results() / f"{name}.jsonl"


def _project_file(name):
    return places.RESULTS / f"{name}.jsonl"


def _key(result):
    return result["row"], result["seed"], result["fraction"]


def _key_of(job):
    return job.row.name, job.seed, job.fraction


def _merged(name):
    """{key: result} of a table; a user's result takes the place of the project's."""
    return _read(_project_file(name)) | _read(_user_file(name))


def _in_order(table, results):
    """Results in the order of the table's rows (those it has no more come last), the whole data before its fractions,
    then by seed."""
    order = {row.name: number for number, row in enumerate(table.rows)}
    return sorted(results, key=lambda r: (order.get(r["row"], len(order)), r["row"], -r["fraction"], r["seed"]))


def _write(path, table, results):
    lines = [
        json.dumps(result, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        for result in _in_order(table, results.values())
    ]
    write_text(path, "".join(f"{line}\n" for line in lines))


def _read(path):
    """{key: result} of a file; of one that is not there, nothing. Raises UserError for a line that is no result."""
    results = {}
    for number, line in enumerate(path.read_bytes().splitlines() if path.exists() else [], 1):
        key, result = _parsed(line, path, number)
        if key in results:
            raise UserError(
                f"{path}, line {number}: a second result of row {key[0]}, seed {key[1]}, fraction {key[2]:g}; "
                "delete one of the two lines"
            )
        results[key] = result
    return results


def _parsed(line, path, number):
    """(key, result) of one line of a file."""
    try:
        result = parse_json(line)
        problem = misfit(result, RESULT) or _oddity(result, path.stem)
    except ValueError as error:
        problem = f"it is not JSON: {error}"
    if problem:
        raise UserError(f"{path}, line {number}: not a result ({problem}); delete the line, and its row runs again")
    return _key(result), result


def _oddity(result, table):
    """What keeps an object of a result's shape from being one of the table of that name; None if nothing does."""
    if result["table"] != table:
        return f"it is of table {result['table']}"
    try:
        return next((f"an attempt at rate {r}" for r in result.get("attempts", {}) if not float(r) > 0), None)
    except ValueError:
        return "an attempt at a rate that is no number"
