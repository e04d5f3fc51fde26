"""A variant is the same each time, its own answers get full marks in it, and another's or the published ones none."""

import json
import re

import pytest
from assignments_graded import ALL, OnePart, reference, written
from test_handouts import run

from assignments.school import manifest, syntax, tree
from assignments.school.variants import TABLE

EVERY = [(name, dialect) for name, each in ALL.items() for dialect in each.dialects]
YEARS = {year: manifest.load(year) for year in range(2027, 2032)}
FIXED = {("a8", "ema_update")}  # a method without arguments
TOLD = {  # what is said of the usual constants in variant 2027
    "update": "the decay saw the new p",
    "step": "the decay saw the new p",
    "mask_tokens": "the shares are BERT's",
}


@pytest.fixture(scope="module")
def grade_2027():
    grade = OnePart(assignments=YEARS[2027])
    yield grade
    grade.close()


def answers(name, dialect, assignments):
    """The files handed in, as the reference of a variant has them."""
    return {file: reference(file, dialect, assignments) for file in ALL[name].files(dialect)}


@pytest.mark.parametrize(("name", "dialect"), EVERY)
def test_its_own_answers_get_full_marks_and_others_none(grade, grade_2027, tmp_path, name, dialect):
    whole = grade_2027.whole(name, written(tmp_path / "own", answers(name, dialect, YEARS[2027])))
    assert [check.message for check in whole.checks if not check.passed] == []
    assert whole.points == ALL[name].points
    for label, others in (("published", ALL), ("next", YEARS[2028])):
        theirs = grade_2027.whole(name, written(tmp_path / label, answers(name, dialect, others)))
        passed = {(name, check.part) for check in theirs.checks if check.passed}
        assert passed <= FIXED
        lost = [check.message for check in theirs.checks if not check.passed]
        assert all("names are part of the interface" in message for message in lost)


def test_the_same_number_gives_the_same_bytes_and_another_does_not():
    once, again, next_year = (tree.handout(YEARS[year]["a4"], YEARS[year]) for year in (2027, 2027, 2028))
    assert once == again
    assert once != next_year


@pytest.mark.parametrize(("name", "dialect"), EVERY)
def test_names_are_new_to_their_function_and_differ_between_five_years(name, dialect):
    for part, target in ALL[name].parts[dialect].items():
        text = _text_of(reference(target.file, dialect), target.function)
        seen = set()
        for assignments in YEARS.values():
            names = assignments[name].variant.names(assignments[name], part)
            here = {old: new for old, new in names.items() if re.search(rf"(?<![\w.]){old}\b", text)}
            assert here or (name, part) in FIXED, f"{part}: nothing varies"
            assert not [new for new in here.values() if re.search(rf"(?<![\w.]){new}\b", text)], part
            found = syntax.arguments(reference(target.file, dialect, assignments), target.function)
            usual = syntax.arguments(reference(target.file, dialect), target.function)
            assert found == [names.get(each, each) for each in usual]
            seen.add(tuple(found))
        assert len(seen) == len(YEARS) or (name, part) in FIXED


def _text_of(source, function):
    node = syntax.find(source, function)
    return "\n".join(source.splitlines()[node.lineno - 1 : node.end_lineno])


def test_the_table_names_what_there_is():
    table = json.loads(TABLE.read_text(encoding="utf-8"))
    assert table["renamed"].keys() == ALL.keys()
    for name, parts in table["renamed"].items():
        assert parts.keys() <= ALL[name].hints.keys()
    assert {each for parts in table["renamed"].values() for names in parts.values() for each in names} == set(
        table["names"]
    )


def test_the_sheet_and_the_check_speak_of_this_variant(tmp_path):
    """Last year's answer in this year's folder: check.py says which names are asked for."""
    for path, content in tree.handout(YEARS[2027]["a1"], YEARS[2027]).items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(content)
    sheet = (tmp_path / "HANDOUT.md").read_text(encoding="utf-8")
    assert "This is variant 2027" in sheet
    assert "`is_pad`" not in sheet
    assert "`pad_keys` is True" in sheet
    (tmp_path / "bert.py").write_text(reference("bert.py"), encoding="utf-8")
    wrong = run(tmp_path, "check.py")
    assert wrong.returncode == 1
    said = "are called self, q, k, v, pad_keys in this handout, not self, q, k, v, is_pad: names are part of the"
    assert said in wrong.stdout
    (tmp_path / "bert.py").write_text(reference("bert.py", "ours", YEARS[2027]), encoding="utf-8")
    right = run(tmp_path, "check.py")
    assert right.returncode == 0, right.stdout


@pytest.mark.parametrize("name", json.loads(TABLE.read_text(encoding="utf-8"))["constants"])
def test_constants_vary_and_say_so(grade_2027, name):
    """Each edit finds its place in a function, on the page or in a hint; an answer with the usual constants is told."""
    options = json.loads(TABLE.read_text(encoding="utf-8"))["constants"][name]
    texts = [_text_of(reference(target.file, dialect), target.function) for dialect in ALL[name].dialects
             for target in ALL[name].parts[dialect].values()]  # fmt: skip
    texts += [hint for hints in ALL[name].hints.values() for hint in hints]
    texts += [path.read_text(encoding="utf-8") for path in (manifest.HERE / name).glob("*.[ms][dv]*")]
    for option in options:
        assert not [old for old, _ in option["edits"] if not any(old.rstrip("\n") in text for text in texts)]
    for dialect in ALL[name].dialects:
        for part, target in ALL[name].parts[dialect].items():
            if part in TOLD:
                mine, usual = reference(target.file, dialect, YEARS[2027]), reference(target.file, dialect)
                names = YEARS[2027][name].variant.names(ALL[name], part)
                renamed = usual
                for old, new in names.items():
                    body = _text_of(usual, target.function)
                    renamed = usual.replace(body, re.sub(rf"(?<![\w.]){old}\b", new, body))
                assert mine != renamed
                checks = grade_2027(name, part, {target.file: renamed}, dialect).checks
                assert any(TOLD[part] in check.message for check in checks)
