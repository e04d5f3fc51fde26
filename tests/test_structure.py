"""The shape of the house: imports go one way, files stay readable, the README's map of files is true."""

import ast
import re
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = {path.stem: path for path in ROOT.glob("*.py")}


def imports(path):
    """Names of the project's own modules that a file imports, anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add((node.module or "").split(".")[0])
    return names & (FILES.keys() - {"ssl"})  # `import ssl` means Python's own


def test_no_import_circle():
    tuple(TopologicalSorter({name: imports(path) for name, path in FILES.items()}).static_order())  # raises CycleError


@pytest.mark.parametrize(
    ("room", "stranger"),
    [
        ("bert", {"datasets", "files", "training", "heads", "schedules", "evaluation", "options"}),
        ("optimizer", {"bert", "base_bert", "heads", "datasets", "training"}),
        ("datasets", {"bert", "base_bert", "heads", "training", "packing"}),
        ("schedules", {"bert", "base_bert", "heads", "datasets", "training", "packing"}),
        ("heads", {"training", "files", "evaluation", "bert"}),
        ("evaluation", {"training", "multitask_classifier"}),
        ("options", {"bert", "datasets", "training", "heads"}),
        ("semi_supervised", {"files", "training", "bert"}),
    ],
)
def test_what_each_room_does_not_know(room, stranger):
    assert not imports(FILES[room]) & stranger


def test_files_can_be_read_in_one_sitting():
    lengths = {
        path: len(path.read_text(encoding="utf-8").splitlines())
        for folder in (".", "tests", "benchmarks", "data")
        for path in (ROOT / folder).glob("*.py")
    }
    assert not {path.name: length for path, length in lengths.items() if length > 450}
    assert lengths[ROOT / "bert.py"] < 300


def test_the_readmes_map_lists_every_file_with_about_its_length():
    """Rows of the map look like `| [bert.py](bert.py) | 178 | ... |`; a count may be off by a tenth and ten lines."""
    rows = re.findall(r"^\| \[(\w+\.py)\]\(\1\) \| (\d+) \|", (ROOT / "README.md").read_text(encoding="utf-8"), re.M)
    listed = {name: int(count) for name, count in rows}
    assert listed.keys() == {path.name for path in FILES.values()}
    above = set()
    for name in listed:
        assert imports(ROOT / name) <= above, f"{name} imports a file below it in the README's map"
        above.add(name.removesuffix(".py"))
    for name, count in listed.items():
        actual = len((ROOT / name).read_text(encoding="utf-8").splitlines())
        assert abs(count - actual) <= 10 + actual / 10, f"{name} has {actual} lines, the README says {count}"


def test_the_readme_is_finished_and_its_links_lead_somewhere():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "@@" not in text
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (ROOT / target).exists(), target
