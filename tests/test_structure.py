"""The shape of the house: imports go one way, without circles, and files stay readable."""

import ast
import functools
import re
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
from slow import SLOW
from tasks import PREFIXES, TASKS

ROOT = Path(__file__).parents[1]
TESTS = ROOT / "tests"
SCRIPTS = ("multitask_classifier", "pretraining", "augmentation", "experiments")
LIBRARY = ("base_bert", "bert", "optimizer", "datasets", "evaluation", "labeling", "ssl")
FILES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts): path
    for path in [*ROOT.glob("*.py"), *(ROOT / "minbert").rglob("*.py")]
    if path.name != "__init__.py"
}
# The floors, from the ground up. A file may import files of its own floor and of those below it.
FLOORS = (
    (
        "minbert.files",
        "minbert.readers",
        "minbert.locks",
        "minbert.hub",
        "minbert.weights",
        "minbert.web",
        "minbert.script",
        "minbert.launch",
        "minbert.processes",
        "minbert.choices",
        "minbert.evaluation",
        "minbert.layers",
    ),
    LIBRARY,
    ("minbert.text",),
    ("minbert.methods",),
    ("minbert.flags",),
    ("minbert.report",),
    ("minbert.inside",),
    ("minbert.training",),
    ("multitask_classifier", "minbert.masked_lm"),
    ("minbert.augment",),
    ("minbert.tables",),
    ("pretraining", "augmentation", "experiments", "minbert.look"),
)
FORWARDS = {  # names looked up late
    "ssl": {"minbert.methods.semi_supervised"},
    "datasets": {"minbert.text.course"},
    "evaluation": {"minbert.text.course_scores"},
}


@functools.cache
def imports(name):
    """The project's own modules that a file imports, anywhere in it, `importlib.import_module("...")` included."""
    found = set()
    for node in ast.walk(ast.parse(FILES[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Call) and "import_module" in ast.unparse(node.func):
            found |= {argument.value for argument in node.args if isinstance(argument, ast.Constant)}
    return (found & FILES.keys()) - {"ssl"}  # `import ssl` means Python's own


def floor_of(name):
    return next(i for i, rooms in enumerate(FLOORS) if any(f"{name}.".startswith(f"{room}.") for room in rooms))


def test_the_root_holds_the_eight_files_and_three_more_commands():
    assert {name for name in FILES if "." not in name} == {*LIBRARY, *SCRIPTS}


def test_the_project_does_not_lean_on_its_assignments():
    """Sheets and grader stand beside the house: they import it, it does not import them."""
    assert not [name for name, path in FILES.items() if "assignments" in path.read_text(encoding="utf-8")]


def test_the_forwards_are_there():
    for name, targets in FORWARDS.items():
        assert targets <= imports(name)


def test_nobody_needs_the_root_s_evaluation():
    """The course's own file of this name may be copied over it."""
    assert not [name for name in FILES if "evaluation" in imports(name)]


@pytest.mark.parametrize("name", FILES)
def test_imports_go_down(name):
    above = {other for other in imports(name) - FORWARDS.get(name, set()) if floor_of(other) > floor_of(name)}
    assert not above, f"{name} imports {', '.join(sorted(above))} from a floor above it"


def test_no_import_circle():
    graph = {name: imports(name) - FORWARDS.get(name, set()) for name in FILES}
    tuple(TopologicalSorter(graph).static_order())  # raises CycleError


@pytest.mark.parametrize("path", sorted((ROOT / "minbert").rglob("__init__.py")), ids=lambda path: path.parent.name)
def test_an_init_is_one_docstring(path):
    """But for the package's own, which offers `load`, looked up late."""
    docstring, *rest = ast.parse(path.read_text(encoding="utf-8")).body
    assert isinstance(docstring.value.value, str)
    assert [node.name for node in rest] == (["__getattr__"] if path.parent.name == "minbert" else [])


def test_every_folder_of_the_package_has_an_init():
    assert {path.parent for path in (ROOT / "minbert").rglob("*.py")} == {
        path.parent for path in (ROOT / "minbert").rglob("__init__.py")
    }


def test_no_folder_hides_a_script():
    assert not [name for name in (*LIBRARY, *SCRIPTS) if (ROOT / name).is_dir() or (ROOT / "minbert" / name).is_dir()]


def test_tests_mirror_the_tree():
    wings = {path.name for path in (ROOT / "minbert").iterdir() if path.is_dir() and path.name != "__pycache__"}
    beside = {"assignments", "data", "fixtures", "fuzz", "golden", "__pycache__"}
    assert {path.name for path in (ROOT / "tests").iterdir() if path.is_dir()} - beside == wings


def test_no_two_test_files_share_a_name():
    """pytest imports them by it, and would find one twice."""
    names = [path.name for path in TESTS.rglob("test_*.py")]
    assert sorted(set(names)) == sorted(names)


def test_files_can_be_read_in_one_sitting():
    lengths = {
        path: len(path.read_text(encoding="utf-8").splitlines())
        for folder in (".", "minbert/**", "assignments/**", "tests/**", "benchmarks", "data")
        for path in ROOT.glob(f"{folder}/*.py" if folder != "." else "*.py")
    }
    assert not {path.name: length for path, length in lengths.items() if length > 450}
    assert lengths[ROOT / "bert.py"] < 300


def names_of_tests():
    """Every test's name below tests/, without parameters."""
    for path in TESTS.rglob("test_*.py"):
        for name in re.findall(r"^def (test_\w+)", path.read_text(encoding="utf-8"), re.MULTILINE):
            yield f"{path.relative_to(TESTS).as_posix()}::{name}"


def test_every_task_has_a_registered_marker_and_quick_tests(request):
    """What tests/tasks.py names is there and is not slow; a file as a whole may hold some that are."""
    assert TASKS.keys() <= {line.partition(":")[0] for line in request.config.getini("markers")}
    quick = [name for name in names_of_tests() if not name.startswith(tuple(SLOW))]
    for prefix in PREFIXES:
        assert [name for name in quick if name.startswith(prefix.partition("[")[0])], f"{prefix} has no quick tests"


def test_a_task_s_marker_is_on_its_quick_tests_alone(request):
    for item in request.session.items:
        marks = {mark.name for mark in item.iter_markers()}
        asked = "slow" not in marks and item.nodeid.removeprefix("tests/").startswith(tuple(PREFIXES))
        assert len(marks & TASKS.keys()) == asked, item.nodeid


def test_slow_tests_are_there_and_every_folder_has_quick_ones():
    files = {str(path.relative_to(TESTS)): path.read_text(encoding="utf-8") for path in TESTS.rglob("test_*.py")}
    for name in SLOW:
        file, _, test = name.partition("::")
        assert file in files, f"tests/slow.py names {file}, which is not there"
        assert f"def {test}" in files[file], f"tests/slow.py names {name}, which is not there"
    quick = {Path(file).parent for file in files if file not in SLOW}
    assert quick == {Path(file).parent for file in files}
