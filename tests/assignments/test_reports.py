"""What a grading is told as: text, Gradescope's JSON, otter's files, a CSV, exit codes."""

import ast
import csv
import json
import runpy
import shutil
import sys

import pytest
from assignments_graded import ALL, changed, reference, written

from assignments import grade as command
from assignments.school import grading, reports
from assignments.school.judging import Check, distinct, judge
from minbert.files import UserError


def result(message="it is all wrong", name="hers"):
    checks = [
        grading.Graded("attention", "one head", 2.5, 2.5, True, "", False),
        grading.Graded("attention", "dropout", 0.0, 1.25, False, message, True),
    ]
    return grading.Result(name, "ours", checks, ["attention: the code tried to use the network"])


def test_the_table():
    assert reports.table(result(), ALL["a1"]) == (
        "hers: a1 (Attention), 2.5 of 3.75 points\n"
        "  BertSelfAttention.plain_attention in bert.py\n"
        "    ok     2.50/2.50  one head\n"
        "    WRONG  0.00/1.25  dropout (hidden)\n"
        "          it is all wrong\n"
        "  note: attention: the code tried to use the network\n"
    )


def test_an_unreadable_one_in_the_table():
    assert "cannot be graded: no zip" in reports.table(grading.Result("his", error="no zip"), ALL["a1"])


def test_gradescope(tmp_path):
    reports.write_results(tmp_path / "results.json", [result("two\nlines \x1b[31m")])
    told = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert told["score"] == 2.5
    assert told["tests"] == [
        {"number": "1", "name": "attention: one head", "score": 2.5, "max_score": 2.5, "status": "passed",
         "output": "", "visibility": "visible"},
        {"number": "2", "name": "attention: dropout", "score": 0.0, "max_score": 1.25, "status": "failed",
         "output": "two lines [31m", "visibility": "after_published"},
    ]  # fmt: skip


def test_a_class_in_one_file(tmp_path):
    reports.write_results(tmp_path / "all.json", [result(), result(name="his")])
    assert [each["submission"] for each in json.loads((tmp_path / "all.json").read_text())] == ["hers", "his"]


def test_the_csv(tmp_path):
    reports.write_csv(tmp_path / "grades.csv", [result("=SUM(A1)"), grading.Result("his", error="no zip")])
    rows = list(csv.reader((tmp_path / "grades.csv").read_text(encoding="utf-8").splitlines()))
    assert rows == [
        ["submission", "points", "of", "attention", "first mistake", "notes"],
        ["hers", "2.5", "3.75", "2.5", "'=SUM(A1)", "attention: the code tried to use the network"],
        ["his", "0", "0", "0", "no zip", ""],
    ]


def test_otter_files_are_python(tmp_path):
    checks = [(Check('a "name"', "attention", "mixture", {}, {}), 1.5)]
    reports.write_otter(tmp_path / "tests", ALL["a1"], checks)
    names = runpy.run_path(str(tmp_path / "tests" / "a1_attention.py"))
    assert names["OK_FORMAT"] is True
    assert names["test"]["points"] == [1.5]
    (case,) = names["test"]["suites"][0]["cases"]
    assert ast.parse(case["code"].splitlines()[1].removeprefix(">>> "))


@pytest.mark.parametrize("name", ALL)
def test_points_sum_to_the_manifest_s(name):
    from assignments.school.public import checks_of

    for dialect in ALL[name].dialects:
        checks = [*checks_of(ALL[name], dialect, False), *checks_of(ALL[name], dialect, True)]
        assert (
            sum(round(100 * points) for points in grading.points_of(ALL[name].points, checks)) == 100 * ALL[name].points
        )


def main(argv):
    return command.main(command.build_parser().parse_args(argv))


def test_the_command_grades_files_and_folders(tmp_path, capsys):
    wrong = written(tmp_path / "wrong", {"bert.py": changed("bert.py", "softmax(dim=-1)", "softmax(dim=-2)")})
    right = written(tmp_path / "right", {"deep/inside/bert.py": reference("bert.py")})
    out = ["--results", str(tmp_path / "r.json"), "--csv", str(tmp_path / "c.csv"), "--otter", str(tmp_path / "otter")]
    assert main([str(wrong), str(right), "--assignment", "a1", "--jobs", "2", "--only-public", *out]) == 0
    said = capsys.readouterr().out
    assert "it looks as if the softmax runs over the queries" in said
    assert f"{right}: a1 (Attention), 12 of 12 points" in said
    assert "2 graded" in said
    assert len(list(csv.reader((tmp_path / "c.csv").open()))) == 3
    assert json.loads((tmp_path / "r.json").read_text())[1]["score"] == 12


def test_it_ends_with_2_where_one_cannot_be_read(tmp_path, capsys):
    assert main([str(tmp_path / "nobody.zip"), "--assignment", "a1", "--jobs", "1"]) == 2
    assert "no such file or folder" in capsys.readouterr().out


def test_where_the_grader_itself_fails_nobody_gets_0_points(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(grading.sys, "executable", shutil.which("false"))
    right = written(tmp_path / "right", {"bert.py": reference("bert.py")})
    assert main([str(right), "--assignment", "a1", "--jobs", "1", "--csv", str(tmp_path / "grades.csv")]) == 2
    assert "cannot be graded" in capsys.readouterr().out
    assert "the grader's own process ended twice" in (tmp_path / "grades.csv").read_text(encoding="utf-8")


def test_unknown_assignments_and_sizes(capsys):
    with pytest.raises(UserError, match="no assignment 'b1': choose among a1, a2"):
        main(["x.py", "--assignment", "b1"])
    for flags in (["--memory", "4X"], ["--seconds", "0"], ["--seconds", "nan"]):
        with pytest.raises(SystemExit):
            command.build_parser().parse_args(["x.py", "--assignment", "a1", *flags])
    assert "is no size: write 512M or 4G" in capsys.readouterr().err
    assert command.size("512M") == 512 << 20


def test_an_answer_of_another_kind_is_wrong_and_says_so():
    check = Check("c", "p", "q", {}, {"x": [1.0, 2.0]})
    for outputs in (None, [], {"x": "text"}, {"x": [[1], [2, 3]]}, {}, {"x": None}):
        verdict = judge(check, {"outputs": outputs})
        assert not verdict.passed
        assert verdict.message
    assert judge(check, {"outputs": {"x": [1.0, 2.0, 3.0]}}).message == "x has the shape [3]; expected [2]"
    assert judge(check, {"outputs": {"x": [float("nan"), 2.0]}}).message.startswith("x: it holds NaN")
    assert judge(check, {"outputs": {"x": [2.0, 4.0]}}).message.startswith("x: it is 2 times what is expected")
    assert judge(check, {"outputs": {"x": [1.0, 2.0 + 1e-9]}}).passed
    assert not judge(check, {"outputs": {"x": [1.0, 2.0 + 1e-6]}}).passed


def test_variants_that_say_nothing_are_left_out():
    right, other = {"x": [1.0]}, {"x": [2.0]}
    check = distinct(Check("c", "p", "q", {}, right, [("the right one", right), ("first", other), ("again", other)]))
    assert [sentence for sentence, _ in check.variants] == ["first"]


def test_help_is_quick_and_imports_no_torch():
    assert "torch" not in command.__dict__
    assert "numpy" not in vars(sys.modules["assignments.school.manifest"])
