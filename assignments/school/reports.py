"""What a grading came to: a table of text, Gradescope's results.json, otter's files, a CSV of the class."""

import csv
import io
import json
import textwrap
from pathlib import Path

from minbert.files import one_line, write_json, write_text


def table(result, assignment, width=110):
    """One submission as lines of text: part by part, each check with its points and what was wrong."""
    if result.error:
        return f"{result.submission}\n  cannot be graded: {result.error}\n"
    lines = [
        f"{result.submission}: {assignment.name} ({assignment.title}), {result.points:g} of {result.most:g} points"
    ]
    for part in dict.fromkeys(check.part for check in result.checks):
        lines.append(f"  {assignment.parts[result.dialect][part]}")
        for check in (check for check in result.checks if check.part == part):
            hidden = " (hidden)" if check.hidden else ""
            lines.append(
                f"    {'ok   ' if check.passed else 'WRONG'} {check.points:5.2f}/{check.most:.2f}  {check.name}{hidden}"
            )
            if not check.passed:
                lines += textwrap.wrap(
                    one_line(check.message), width, initial_indent=" " * 10, subsequent_indent=" " * 10
                )
    lines += [f"  note: {one_line(note)}" for note in result.notes]
    return "\n".join(lines) + "\n"


def gradescope(result):
    """Gradescope's results.json: hidden checks are visible after the grades are published."""
    if result.error:
        return {"score": 0.0, "output": result.error, "tests": []}
    tests = [
        {
            "number": str(number),
            "name": f"{check.part}: {check.name}",
            "score": check.points,
            "max_score": check.most,
            "status": "passed" if check.passed else "failed",
            "output": one_line(check.message),
            "visibility": "after_published" if check.hidden else "visible",
        }
        for number, check in enumerate(result.checks, 1)
    ]
    notes = "\n".join(one_line(note) for note in result.notes)
    return {"score": result.points, "output": notes, "tests": tests, "stdout_visibility": "hidden"}


def write_results(path, results):
    """results.json: Gradescope's of one submission, or of several a list of them with their names."""
    if len(results) == 1:
        write_json(path, gradescope(results[0]))
    else:
        write_json(path, [{"submission": result.submission, **gradescope(result)} for result in results])


def write_otter(folder, assignment, checks):
    """otter-grader's test files, one a part: OK format, a case for each public check, with its points.

    Each case calls check.py of the handout, which lies beside the notebook or script that otter grades.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for part in dict.fromkeys(check.part for check, _ in checks):
        mine = [(check, points) for check, points in checks if check.part == part]
        cases = [_otter_case(check) for check, _ in mine]
        test = {
            "name": f"{assignment.name}_{part}",
            "points": [points for _, points in mine],
            "suites": [{"cases": cases, "scored": True, "setup": "", "teardown": "", "type": "doctest"}],
        }
        write_text(folder / f"{assignment.name}_{part}.py", "OK_FORMAT = True\n\ntest = " + _python(test) + "\n")


def _otter_case(check):
    code = f">>> import check\n>>> check.passes({check.part!r}, {check.name!r})\nTrue"
    return {"code": code, "hidden": check.hidden, "locked": False}


def _python(value):
    """A literal of Python, indented: JSON's with Python's own words."""
    text = json.dumps(value, indent=4, ensure_ascii=False)
    for theirs, ours in ((": true", ": True"), (": false", ": False"), (": null", ": None")):
        text = text.replace(theirs, ours)
    return text


def write_csv(path, results):
    """A row a submission: its points in all and in each part, and the first thing that was wrong."""
    parts = list(dict.fromkeys(check.part for result in results for check in result.checks))
    out = io.StringIO()
    rows = csv.writer(out, lineterminator="\n")
    rows.writerow(["submission", "points", "of", *parts, "first mistake", "notes"])
    for result in results:
        by_part = {part: round(sum(c.points for c in result.checks if c.part == part), 2) for part in parts}
        wrong = next((check.message for check in result.checks if not check.passed), result.error)
        cells = [
            result.submission,
            result.points,
            result.most,
            *(by_part[part] for part in parts),
            wrong,
            "; ".join(result.notes),
        ]
        rows.writerow([_harmless(cell) for cell in cells])
    write_text(path, out.getvalue())


def _harmless(cell):
    """Text that a spreadsheet does not take for a formula."""
    if not isinstance(cell, str):
        return cell
    text = one_line(cell)
    return f"'{text}" if text[:1] in ("=", "+", "-", "@") else text
