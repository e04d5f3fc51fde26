"""Reference put back: full marks. Blank: none. One function blank: its checks and only its checks are lost."""

import json

import pytest
from assignments_graded import ALL, reference, written

from assignments.school import manifest, tree, worlds
from assignments.school.judging import Check, judge

EVERY = [(name, dialect) for name, each in ALL.items() for dialect in each.dialects]


def blank_files(name, dialect):
    files = tree.handout(ALL[name], ALL, (), dialect)
    return {file: files[file].decode() for file in ALL[name].files(dialect)}


@pytest.mark.parametrize(("name", "dialect"), EVERY)
def test_the_reference_gets_full_marks_and_a_blank_none(grade, tmp_path, name, dialect):
    assignment = ALL[name]
    sources = blank_files(name, dialect)
    nothing = grade.whole(name, written(tmp_path / "blank", sources))
    assert (nothing.points, nothing.most) == (0, assignment.points)
    assert all("not written yet" in check.message for check in nothing.checks)
    for part, target in assignment.parts[dialect].items():  # put back by a script, body after body
        assert part in assignment.hints
        donor = reference(target.file, dialect)
        sources[target.file] = worlds.blanks.put(sources[target.file], target.function, donor)
    whole = grade.whole(name, written(tmp_path / "whole", sources))
    assert [check.message for check in whole.checks if not check.passed] == []
    assert (whole.points, whole.dialect, whole.notes) == (assignment.points, dialect, [])


@pytest.mark.parametrize(("name", "dialect"), EVERY)
def test_public_checks_need_nothing_that_comes_later(grade, name, dialect):
    """In a handout's own tree, with what it builds on and its own parts written, all public checks pass."""
    assignment, given = ALL[name], manifest.before(ALL[name], ALL)
    files = tree.handout(assignment, ALL, given, dialect)
    sources = {path: content.decode() for path, content in files.items() if path.endswith(".py")}
    for target in assignment.parts[dialect].values():
        sources[target.file] = worlds.blanks.put(sources[target.file], target.function, reference(target.file, dialect))
    checks = [Check(**each) for each in json.loads(files["handout.json"])["checks"]]
    with worlds.Folder(sources) as base:
        request = {
            "world": str(base.path),
            "modules": {},
            "base": str(base.path),
            "dialect": dialect,
            "assignment": name,
            "cases": [[check.probe, check.inputs] for check in checks],
            "forbidden": [],
            "seconds": 60,
            "memory": 4 << 30,
            "hidden": [],
        }
        answers = grade.ask(request)["answers"]
    for check, answer in zip(checks, answers, strict=True):
        verdict = judge(check, answer)
        assert verdict.passed, f"{check.name}: {verdict.message}"


@pytest.mark.parametrize(("name", "dialect"), EVERY)
def test_each_function_has_checks_of_its_own_public_and_hidden(grade, name, dialect):
    checks = [each[0] for each in grade.grader(name)._checks[dialect]]
    for part in ALL[name].parts[dialect]:
        mine = [check for check in checks if check.part == part]
        assert {check.hidden for check in mine} == {False, True}, part
        assert all(check.variants for check in mine), part
    names = [(check.part, check.name, check.hidden) for check in checks]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(("name", "dialect"), [each for each in EVERY if each[0] in ("a2", "a3", "a4", "a9")])
def test_one_function_blank_loses_its_checks_alone(grade, tmp_path, name, dialect):
    assignment, blank = ALL[name], blank_files(name, dialect)
    for part, target in assignment.parts[dialect].items():
        sources = {file: reference(file, dialect) for file in assignment.files(dialect)}
        sources[target.file] = worlds.blanks.put(sources[target.file], target.function, blank[target.file])
        result = grade.whole(name, written(tmp_path / part, sources))
        assert {check.part for check in result.checks if not check.passed} == {part}
        assert {check.part for check in result.checks if check.passed} == set(assignment.parts[dialect]) - {part}


@pytest.mark.parametrize(("name", "dialect"), EVERY)
def test_what_one_part_runs_in_does_not_depend_on_the_others(name, dialect):
    """So the same holds for every assignment: the world of a part is the same with the others blank."""
    assignment, blank = ALL[name], blank_files(name, dialect)
    whole = {file: reference(file, dialect) for file in assignment.files(dialect)}
    for part, target in assignment.parts[dialect].items():
        alone = dict(blank)
        alone[target.file] = worlds.blanks.put(blank[target.file], target.function, whole[target.file])
        theirs = worlds.composed(assignment, ALL, dialect, part, alone)[target.file]
        ours = worlds.composed(assignment, ALL, dialect, part, whole)[target.file]
        assert theirs.replace("\n\n", "\n") == ours.replace("\n\n", "\n"), part


def test_chain_uses_the_students_own(tmp_path):
    """A wrong a1 costs a2 its points only under --chain."""
    from assignments_graded import changed

    wrong = {"bert.py": changed("bert.py", "softmax(dim=-1)", "softmax(dim=-2)")}
    alone = worlds.composed(ALL["a2"], ALL, "ours", "layer", wrong)
    chained = worlds.composed(ALL["a2"], ALL, "ours", "layer", wrong, chain=True)
    assert "softmax(dim=-2)" not in alone["bert.py"]
    assert "softmax(dim=-2)" in chained["bert.py"]


@pytest.mark.parametrize(("name", "dialect"), EVERY)
def test_refusing_everything_gets_nothing(grade, name, dialect):
    _gets_nothing(grade, name, dialect, lambda first: "raise ValueError('no')")


@pytest.mark.parametrize(("name", "dialect"), [each for each in EVERY if each[0] in ("a1", "a2", "a3", "a4")])
def test_handing_back_what_came_in_gets_nothing(grade, name, dialect):
    _gets_nothing(grade, name, dialect, lambda first: f"return {first}")


def _gets_nothing(grade, name, dialect, lazy):
    """No check is passed by a function that does none of its work; lazy: its first argument's name -> its body."""
    for part, target in ALL[name].parts[dialect].items():
        source = reference(target.file, dialect)
        arguments = [each.arg for each in worlds.syntax.find(source, target.function).args.args if each.arg != "self"]
        empty = tree.blanks.blank(source, target.function, "none", "x")
        source = empty.replace('raise NotImplementedError("x")', lazy((arguments or ["None"])[0]))
        result = grade(name, part, {target.file: source}, dialect)
        assert [check.name for check in result.checks if check.passed] == [], part
