"""docs/adding.md followed word for word: its code in a copy of the tree, and a short training with its command.

A section's ```diff blocks are applied to the copy, where the old lines of each must stand exactly once; its ```sh block
is what a reader runs then, here on a tiny model and data.
"""

import importlib.util
import re
import shlex
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tiny
import torch
import trees
from safetensors.torch import load_file

import augmentation
from minbert.files import UserError

PAGE = (tiny.ROOT / "docs" / "adding.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
SHORT = "--data_dir data/sample --epochs 1 --lr 1e-3 --skip_test"
# section -> (files of code it may touch, what its command says that is new, what a run without the addition says)
EXAMPLES = {
    "A way to join a pair": (2, "--pairs infersent", "--pairs concat"),
    "An STS head with classes": (2, "--sts_head shared6", "--sts_head ordinal6"),
    "A batch schedule": (1, "--schedule square_root", "--schedule mtdnn"),
    "A learning-rate schedule": (2, "--lr_schedule cosine", "--lr_schedule linear"),
    "A mean-teacher consistency": (2, "--mean_teacher js", "--mean_teacher kl"),
    "A loss for unlabelled text": (3, "--fixmatch", "--uda"),
    "A task": (1, "--tasks sick,sts", "--tasks sts"),
}
FEW = {"A loss for unlabelled text": " --labels_per_class 1 --fixmatch_threshold 0"}  # of so few rows


# -------------------------------------------------------------------------------------------------- reading the page


def blocks(section, language):
    return re.findall(rf"^```{language}\n(.*?)^```$", SECTIONS[section], re.MULTILINE | re.DOTALL)


def edits(section):
    """[(file, [(old lines, new lines)])] of a section's blocks."""
    found = []
    for block in blocks(section, "diff"):
        before, after, rest = block.split("\n", 2)
        file = before.removeprefix("--- a/")
        assert (before, after) == (f"--- a/{file}", f"+++ b/{file}")
        nothing, *places = rest.split("@@\n")
        assert nothing == ""
        found.append((file, [(kept(place, "+"), kept(place, "-")) for place in places]))
    return found


def kept(place, mark):
    """The lines of one place without those that have this mark."""
    lines = place.splitlines()
    assert all(line[:1] in ("", " ", "+", "-") for line in lines), place
    return "".join(f"{line[1:]}\n" for line in lines if line[:1] != mark)


def put_in(path, changes):
    text = path.read_text(encoding="utf-8")
    for old, new in changes:
        assert f"\n{text}".count(f"\n{old}") == 1, f"{path.name} has these lines not once:\n{old}"
        text = text.replace(old, new)
    path.write_text(text, encoding="utf-8")


def commands(section):
    """[[program, argument, ...]] of the section's one block for a shell."""
    (block,) = blocks(section, "sh")
    lines = block.replace("\\\n", "").splitlines()
    assert all(line.startswith("python ") for line in lines)
    return [shlex.split(line)[1:] for line in lines]


# ------------------------------------------------------------------------------------------------- following the page


@pytest.fixture(scope="module")
def desk(tmp_path_factory, tiny_model, tiny_data):
    """A folder where the page's commands can be typed: with data/sample, which is tiny here and has SICK too."""
    folder = tmp_path_factory.mktemp("desk")
    shutil.copytree(tiny_data, folder / "data" / "sample")
    random = np.random.default_rng(0)
    for split, count in (("train", 12), ("dev", 6)):
        lines = ["pair_ID\tsentence_A\tsentence_B\trelatedness_score"]
        for row in range(count):
            texts = (" ".join(random.choice(tiny.WORDS, 6)) for _ in range(2))
            lines.append("\t".join([str(row), *texts, f"{random.uniform(1, 5):.1f}"]))
        (folder / "data" / "sample" / f"sick-{split}.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="module")
def finished(desk, tiny_model):
    """{section: (the tree with its code, the process that ran its command there)}, all of them ended."""
    started = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(desk)
        patch.setenv("OMP_NUM_THREADS", "1")
        for section in EXAMPLES:
            for program, *argv in commands(section)[:-1]:
                assert program == "augmentation.py"
                assert augmentation.main(argv) == 0
            tree = desk / section.replace(" ", "-")
            shutil.copytree(tiny.ROOT / "minbert", tree / "minbert", ignore=shutil.ignore_patterns("__pycache__"))
            for file in [*tiny.ROOT.glob("*.py"), tiny.ROOT / "pyproject.toml"]:
                shutil.copy(file, tree)
            for file, changes in edits(section):
                put_in(tree / file, changes)
            script, *argv = commands(section)[-1]
            more = (SHORT + FEW.get(section, "")).split()
            argv += ["--model", tiny_model, "--run_dir", tree / "run", *more]
            started[section] = tree, trees.start(tree, script, argv, desk, tree / "log")
        for _, process in started.values():
            process.join(timeout=120)
    return started


def test_the_page_s_table_says_how_many_files_of_code_each_addition_touches():
    rows = re.findall(r"^\| \[(.+?)\]\(#(.+?)\) \| .+? \| (\d) \|$", PAGE, re.MULTILINE)
    assert [name[0].upper() + name[1:] for name, _, _ in rows] == list(EXAMPLES) == list(SECTIONS)
    for (_, anchor, said), (section, (most, *_)) in zip(rows, EXAMPLES.items(), strict=True):
        assert anchor == section.lower().replace(" ", "-")
        files = [file for file, _ in edits(section)]
        assert len(set(files)) == len(files) == int(said) <= most
        assert all(file.endswith(".py") and not file.startswith(("docs/", "tests/")) for file in files)


def test_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)#:]+)\)", PAGE):
        assert (tiny.ROOT / "docs" / target).exists(), target


@pytest.mark.parametrize("section", EXAMPLES)
def test_an_addition_is_refused_before_and_changes_the_training_after(section, finished, desk, tiny_model, monkeypatch):
    _, new, old = EXAMPLES[section]
    command = shlex.join(commands(section)[-1][1:])
    assert new in command
    with pytest.raises(UserError):
        tiny.parse(*command.split())

    tree, process = finished[section]
    assert process.exitcode == 0, (tree / "log").read_text()[-2000:]
    trained = load_file(tree / "run" / "model.safetensors")
    tasks = re.search(r"--tasks (\S+)", command)
    assert ",".join(tiny.metrics(tree / "run")[-1]["dev"]) == (tasks[1] if tasks else "sst,quora,sts")

    monkeypatch.chdir(desk)
    older = f"{command} {SHORT}{FEW.get(section, '')}".replace(new, old)
    before = tiny.script(*older.split(), "--model", tiny_model, "--run_dir", tree / "older")
    assert before.code == 0, before.err
    others = load_file(tree / "older" / "model.safetensors")
    assert any(not torch.equal(trained[name], others[name]) for name in others if name.startswith("bert."))


def test_the_code_is_in_the_project_s_style(finished, desk):
    if importlib.util.find_spec("ruff") is None:
        pytest.skip("ruff is not installed")
    for words in (["check"], ["format", "--check", "--diff"]):
        done = subprocess.run([sys.executable, "-m", "ruff", *words, "."], cwd=desk, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout


def test_fixmatch_s_term_is_in_the_log_and_its_flags_are_checked(finished):
    tree, _ = finished["A loss for unlabelled text"]
    last = tiny.metrics(tree / "run")[-1]
    assert last["loss"]["sst FixMatch"] > 0
    assert last["kept"]["sst FixMatch kept"] == 1
    mistakes = {
        "--fixmatch_threshold 0.5": "--fixmatch_threshold is of no use without --fixmatch",
        "--unlabeled sst=x": "--unlabeled is of no use without --uda or --fixmatch or --mean_teacher",
        "--fixmatch sst=x --uda sst=y": "names other copies of these texts",
        "--fixmatch sts=x": "--fixmatch needs classes, but sts has a regression head",
        "--fixmatch rte=x": "--fixmatch names rte: no use in a run with --tasks sst,quora,sts",
    }
    code = "import sys\nfrom minbert.flags import checks\nfor line in sys.argv[1:]:\n    try:\n"
    code += (
        "        checks.check(checks.parse(line.split()))\n    except checks.UserError as error:\n        print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code, *mistakes], cwd=tree, capture_output=True, text=True)
    for said, expected in zip(done.stdout.splitlines(), mistakes.values(), strict=True):
        assert expected in said


@pytest.mark.parametrize("wrong", ["no such line\n", "import torch\n" * 2, "orch\n", "\n"])
def test_lines_that_stand_in_a_file_not_once_are_found(tmp_path, wrong):
    (tmp_path / "code.py").write_text("import torch\n\nx = 1\n\ny = 2\n")
    with pytest.raises(AssertionError, match="not once"):
        put_in(tmp_path / "code.py", [(wrong, "")])
