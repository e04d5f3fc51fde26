"""A handout holds what a student needs and no answer, comes out the same each time, and runs up to the first blank."""

import ast
import json
import subprocess
import sys
import zipfile
from functools import cache
from importlib.util import find_spec
from xml.etree import ElementTree

import pytest
from assignments_graded import ALL, reference

from assignments import draw_figures
from assignments.school import blanks, syntax, tree
from minbert.script import in_a_line

EVERY = [(name, dialect) for name, each in ALL.items() for dialect in each.dialects]
LONG = 30  # letters of a line of code that says something
ORDINARY = {"scheme, merging = _chosen(scheme, merging)"}  # a line that no function is asked for


@cache
def handout(name, dialect="ours", given=()):
    return tree.handout(ALL[name], ALL, given, dialect)


@pytest.fixture
def folder(tmp_path):
    def made(*asked, **given):
        for path, content in handout(*asked, **given).items():
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_bytes(content)
        return tmp_path

    return made


def run(folder, *command):
    return subprocess.run([sys.executable, *command], cwd=folder, capture_output=True, text=True, timeout=120)


def statements(source, function):
    """The lines of a function's body as Python writes them, docstring and blanks left out."""
    node = syntax.find(source, function)
    body = node.body[1:] if ast.get_docstring(node) else node.body
    return {line.strip() for statement in body for line in ast.unparse(statement).splitlines()}


@pytest.mark.parametrize(("name", "dialect"), EVERY)
def test_every_name_of_the_manifest_exists_and_has_its_docstring(name, dialect):
    for target in ALL[name].parts[dialect].values():
        node = syntax.find(reference(target.file, dialect), target.function)
        assert ast.get_docstring(node) or target.function.rpartition(".")[0], target


@pytest.mark.parametrize(("name", "dialect"), EVERY)
def test_nothing_in_it_holds_an_answer(name, dialect):
    files = handout(name, dialect)
    texts = {path: content.decode() for path, content in files.items() if path.endswith((".py", ".md", ".toml"))}
    written = {path: {line.strip() for line in ast.unparse(ast.parse(text)).splitlines()}
               for path, text in texts.items() if path.endswith(".py")}  # fmt: skip
    for assignment in ALL.values():
        for target in (*assignment.parts[dialect].values(), *(assignment.drops if dialect == "ours" else ())):
            assert blanks.is_blank(texts[target.file], target.function), target
            kept = statements(texts[target.file], target.function)  # around a part that is the task
            answer = statements(reference(target.file, dialect), target.function) - kept - ORDINARY
            leaked = {line for line in answer if len(line) >= LONG}
            assert not [path for path, lines in written.items() if leaked & lines], f"{target}: {leaked}"
    assert not [path for path in files if path.startswith(("tests/", "results/", "benchmarks/", ".git", "docs/"))]
    of_ours = [path for path in files if path.startswith("assignments/")]
    assert not [path for path in of_ours if "answers" in path or "reference" in path or path.endswith(".json")]
    assert not [path for path in files if "golden" in path]
    assert "SOLUTION" not in "".join(texts.values())


@pytest.mark.parametrize("name", ["a1", "bonus"])
def test_the_same_input_gives_the_same_bytes(name):
    assert tree.handout(ALL[name], ALL) == handout(name)


def test_what_is_given_is_there():
    files = handout("a4", given=("a1", "a2"))
    bert = files["bert.py"].decode()
    assert not blanks.is_blank(bert, "BertSelfAttention.plain_attention")
    assert not blanks.is_blank(bert, "BertLayer.after_attention")
    assert blanks.is_blank(bert, "BertModel.embed")
    assert json.loads(files["handout.json"])["given"] == ["a1", "a2"]


@pytest.mark.parametrize(("name", "dialect"), EVERY)
def test_the_sheet_says_what_the_manifest_says(name, dialect):
    sheet = handout(name, dialect)["HANDOUT.md"].decode()
    assignment = ALL[name]
    assert f"About {assignment.hours} hours, {assignment.points:g} points" in sheet
    assert "{{" not in sheet
    assert "<!--" not in sheet
    assert max(map(len, sheet.splitlines())) <= 120
    for part, target in assignment.parts[dialect].items():
        assert f"| `{target.function}` |" in sheet
        assert sheet.count(f"<details><summary>`{target.function}`, hint") == len(assignment.hints[part])
    figures = {path for path in handout(name, dialect) if path.endswith(".svg")}
    assert all(f"]({figure})" in sheet for figure in figures)


@pytest.mark.skipif(find_spec("ruff") is None, reason="needs ruff")
@pytest.mark.parametrize(("name", "dialect"), [("a1", "ours"), ("a9", "ours"), ("a2", "starter")])
def test_it_lints(folder, name, dialect):
    made = folder(name, dialect)
    for command in (["check", "--quiet", "."], ["format", "--quiet", "--check", "."]):
        found = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "--no-cache"], cwd=made, capture_output=True, text=True
        )
        assert found.returncode == 0, found.stdout


def test_help_is_there_and_a_run_ends_in_one_line(folder):
    made = folder("a1")
    assert run(made, "multitask_classifier.py", "--help").stdout.startswith("usage: multitask_classifier.py")
    ended = run(made, "see.py")
    assert ended.returncode == 1
    assert ended.stderr == "bert.py: BertSelfAttention.plain_attention is not written yet; it is part of a1\n"


def test_a_run_names_the_assignment_to_write_first():
    sentence = tree.blank_sentence(ALL["a3"].parts["ours"]["embed"], ALL["a3"], ALL)
    assert sentence == ("bert.py: BertModel.embed is not written yet; it is part of a3, which comes after a1, a2")
    assert in_a_line(NotImplementedError(sentence)) == sentence
    assert in_a_line(NotImplementedError()) is None  # an abstract method of ours: a mistake


@pytest.mark.parametrize(("name", "dialect"), EVERY)
def test_a_page_speaks_of_see_py_where_there_is_one(name, dialect):
    files = handout(name, dialect)
    assert ("see.py" in files) == ("python see.py" in files["HANDOUT.md"].decode())


@pytest.mark.parametrize("name", ["a1", "a2"])
def test_see_py_runs_in_both_dialects(folder, name):
    for dialect in ("starter", "ours"):
        made = folder(name, dialect)
        (made / "bert.py").write_text(reference("bert.py", dialect), encoding="utf-8")
        seen = run(made, "see.py")
        assert seen.returncode == 0, seen.stderr
        assert ("████" if name == "a1" else "step 300  loss 0.0") in seen.stdout


@pytest.mark.parametrize(("name", "dialect"), [("a1", "ours"), ("a4", "starter")])
def test_check_and_submit(folder, name, dialect):
    """Blank: every public check says so. With the reference put back: all pass, and the zip holds the files alone."""
    made = folder(name, dialect)
    blank = run(made, "check.py")
    assert blank.returncode == 1
    assert "not written yet" in blank.stdout
    first, second = (run(made, "check.py", "--hint").stdout.splitlines()[-1] for _ in range(2))
    assert first.startswith("hint 1 of 3")
    assert "is still blank" in run(made, "submit.py").stdout
    assert second.startswith("hint 2 of 3")
    for file in ALL[name].files(dialect):
        (made / file).write_text(reference(file, dialect), encoding="utf-8")
    right = run(made, "check.py")
    assert right.returncode == 0, right.stdout
    assert "WRONG" not in right.stdout
    assert "blank" not in run(made, "submit.py").stdout
    assert zipfile.ZipFile(made / f"{name}.zip").namelist() == ALL[name].files(dialect)
    (made / ALL[name].files(dialect)[0]).write_text("def (", encoding="utf-8")
    broken = run(made, "submit.py")
    assert broken.stderr.startswith(f"nothing is packed: {ALL[name].files(dialect)[0]} is no Python (invalid syntax")


def test_check_tells_of_forbidden_names_and_of_an_earlier_part(folder):
    """a2 with a1's fused attention, and with query and key swapped, which the layer then has wrong too."""
    made = folder("a2", given=("a1",))
    wrong = reference("bert.py").replace("[self.query(x), self.key(x)", "[self.key(x), self.query(x)")
    (made / "bert.py").write_text(wrong, encoding="utf-8")
    said = run(made, "check.py").stdout
    assert "bert.py uses torch.nn.functional.scaled_dot_product_attention, which does the work already" in said
    assert said.count("(first make self_attention right, which may be the cause of this too)") == 2
    assert "public checks pass" in run(made, "check.py", "BertLayer.after_attention").stdout


@pytest.mark.parametrize("name", ALL)
def test_each_sheet_has_its_figure_as_it_is_drawn_now(name):
    """Made again by assignments/draw_figures.py; dark pages have colours of their own, and it loads nothing."""
    (figure,) = [path for path in draw_figures.FIGURES if path.startswith(f"{name}/")]
    drawn = str(draw_figures.FIGURES[figure]())
    assert (draw_figures.HERE / f"{figure}.svg").read_text(encoding="utf-8") == drawn
    assert handout(name)[f"{figure.partition('/')[2]}.svg"].decode() == drawn
    assert "prefers-color-scheme: dark" in drawn
    assert drawn.count("http") == 1  # the name of the format
    ElementTree.fromstring(drawn)
