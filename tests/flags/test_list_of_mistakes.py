"""Mistakes of a first week, over all four scripts: each is one line, which mistakes.txt has beside the command.

Mistakes that need a file to be spoiled, a disk to fill up or a run to fail half-way: test_mistakes.py.
"""

import shlex
from pathlib import Path

import pytest
import tiny

LIST = Path(__file__).with_name("mistakes.txt")
LINES = [line for line in LIST.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
COMMANDS = [line.removeprefix("$ ") for line in LINES[::2]]
ANSWERS = LINES[1::2]

SST = "\tid\tsentence\tsentiment\n"
FILES = {
    "mail.csv": b"subject,kind\nbuy now,spam\nhello,work\nhi,work\n",
    "one.csv": b"subject,kind\nbuy now,spam\nbuy,spam\n",
    "stars.csv": f"{SST}0\ta\tgood film\t3\n1\tb\tbad film\t7\n".encode(),
    "latin.csv": f"{SST}0\ta\tcafé\t1\n".encode("latin-1"),
    "empty.csv": b"",
    "texts.tsv": b"id\tsentence\na\tthe dog\n",
    "odd.yaml": b"learning_rate: 1e-3\n",
    "value.json": b'{"epochs": "many"}',
    "full/thesis.txt": b"years of work",
}


@pytest.fixture
def here(tmp_path, tiny_model, tiny_data, monkeypatch):
    """The current folder, with FILES, a model and the data of the course."""
    (tmp_path / "full").mkdir()
    for name, content in FILES.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "model").symlink_to(tiny_model)
    (tmp_path / "data").symlink_to(tiny_data)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return tmp_path


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(("command", "answer"), list(zip(COMMANDS, ANSWERS, strict=True)), ids=COMMANDS)
def test_a_mistake_is_answered_in_its_line(here, monkeypatch, command, answer):
    name, *flags = shlex.split(command)
    before = contents(here)
    monkeypatch.setattr(tiny, "SCRIPT", str(tiny.ROOT / name))
    line = tiny.script(*flags).error  # exit code 2, no traceback, and that line alone
    if answer.endswith(" ..."):
        assert line.startswith(answer.removesuffix("..."))
    else:
        assert line == answer
    assert contents(here) == before


def test_the_list_is_long_and_says_nothing_twice():
    assert len({(command.split()[0], answer) for command, answer in zip(COMMANDS, ANSWERS, strict=True)}) >= 110
    assert len(set(COMMANDS)) == len(COMMANDS)
    scripts = [command.split()[0] for command in COMMANDS]
    counts = {name: scripts.count(name) for name in scripts}
    assert counts.keys() == {"multitask_classifier.py", "pretraining.py", "augmentation.py", "experiments.py"}
    assert min(counts.values()) >= 14
