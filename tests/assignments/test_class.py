"""A class is graded as docs/class.md says: the right get full marks, nobody else does, nobody is accused wrongly."""

import csv

import make_class
from assignments_graded import reference

from assignments import grade as command


def test_a_class_of_both_dialects_in_all_forms(grade, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    told = make_class.main(tmp_path / "submissions", "a1", students=15)
    paths = sorted(str(path.relative_to(tmp_path)) for path in (tmp_path / "submissions").iterdir())
    flags = [*paths, "--assignment", "a1", "--csv", "grades.csv", "--quiet", "--jobs", "2"]
    assert command.main(command.build_parser().parse_args(flags)) == 2  # one is no zip
    assert "14 graded, " in capsys.readouterr().out
    with (tmp_path / "grades.csv").open(encoding="utf-8") as file:
        rows = {row["submission"].removeprefix("submissions/")[:3]: row for row in csv.DictReader(file)}
    assert rows.keys() == told.keys()
    for student, what in told.items():
        full = float(rows[student]["points"]) == 12
        assert full == what.startswith("right"), (what, rows[student])
        assert not rows[student]["notes"]
        assert bool(rows[student]["first mistake"]) != full


def test_an_error_is_told_without_reading_a_file_of_the_grader(grade):
    """A traceback's lines come from files; the student would be said to have tried to read them."""
    result = grade("a1", "attention", {"bert.py": reference("bert.py") + "import sys\nsys.exit(0)\n"})
    assert result.checks[0].message.endswith("(sys.exit(0)), in <module>, at: sys.exit(0)")
    assert result.notes == []
