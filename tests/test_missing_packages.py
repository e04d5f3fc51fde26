"""A package that is missing ends every script in one line that names what mends it; and what `pip install .` says."""

import subprocess
import sys
from pathlib import Path

import pytest

from minbert import script

ROOT = Path(__file__).parents[1]
RUNS = {
    "multitask_classifier.py": ("numpy", ["--option", "finetune"]),
    "pretraining.py": ("torch", []),
    "data/download.py": ("tqdm", ["--only", "none"]),
    "assignments/grade.py": ("torch", ["x.py", "--assignment", "a1"]),
    "benchmarks/train_step.py": ("torch", []),
    "benchmarks/prediction.py": ("transformers", []),
}


def run_without(package, path, *argv):
    """A script in a Python that has no such package: (exit code, output, error)."""
    code = (
        "import runpy, sys\n"
        f"class No:\n    def find_spec(self, name, *_):\n        if name == {package!r}:\n"
        f"            raise ModuleNotFoundError('no', name=name)\n"
        "sys.meta_path.insert(0, No())\n"
        f"sys.argv = {[str(ROOT / path), *argv]!r}\nsys.path[0] = {str((ROOT / path).parent)!r}\n"
        f"runpy.run_path({str(ROOT / path)!r}, run_name='__main__')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("path", RUNS)
def test_a_missing_package_is_told_in_a_line_with_what_mends_it(path):
    package, argv = RUNS[path]
    code, _, err = run_without(package, path, *argv)
    assert code == 2, err
    (line,) = err.splitlines()
    assert line.startswith(f"error: {sys.executable} has no package {package}; ")
    assert "make run" in line or "pip install -r" in line


def test_a_module_of_ours_that_is_missing_is_our_mistake():
    assert script.in_a_line(ModuleNotFoundError("no", name="minbert.gone")) is None
    assert "has no package torch; " in script.in_a_line(ModuleNotFoundError("no", name="torch.nn"))


def test_pip_install_says_how_to_use_the_clone():
    code = "import sys; sys.path.insert(0, '.ci'); import clone_only; clone_only.get_requires_for_build_wheel()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("minBERT is not installed but runs from its clone: `make run` there makes .venv")


def test_a_benchmark_ends_a_mistake_in_a_line():
    argv = [sys.executable, ROOT / "benchmarks" / "train_step.py", "--model", "/nowhere"]
    done = subprocess.run(argv, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: model /nowhere: no such folder")
