"""What a run says on the screen: tables, columns, plain lines in place of a bar, and the commands after it."""

import io
import shlex
import sys
import types

import pytest
import tiny

from minbert.training import screen


def test_the_data_are_one_table(trainer_of):
    trainer = trainer_of(*tiny.FINETUNE, "--tasks", "sst,cfimdb")
    head, *rows = screen.data_table(trainer.data).splitlines()
    assert head.split() == ["examples", "train", "dev", "test", "tokens", "on", "average"]
    means = {name: f"{splits['train'].sequences.lengths.mean():.0f}" for name, splits in trainer.data.items()}
    assert [row.split() for row in rows] == [
        ["sst", "20", "11", "5", means["sst"]],
        ["cfimdb", "18", "8", "4", means["cfimdb"]],
    ]
    assert len({len(line) for line in rows}) == 1


def test_epochs_stand_in_columns_with_the_change_and_what_is_below_the_baseline_is_marked():
    first = {"epoch": 1, "loss": {"sst": 1.5, "sts": 2.0}, "selection_score": 0.45}
    second = {"epoch": 2, "loss": {"sst": 1.25, "sts": 1.0, "sst smart": 0.5}, "selection_score": 0.5}
    baselines = {"sst": 0.3, "sts": 0.0}
    dev = {"sst": 0.25, "sts": 0.65}, {"sst": 0.2, "sts": 0.7}
    head = screen.epoch_head(baselines)
    one = screen.epoch_line(first, None, (dev[1], None), baselines)
    two = screen.epoch_line(second, first, dev, baselines)
    assert one == "    1    3.500  0.200!         0.700          0.450"
    assert two == "    2    2.750  0.250! +0.050  0.650  -0.050  0.500 +0.050"
    assert head.index("dev sst") == two.index("0.250!")
    assert head.index("dev sts") == two.index("0.650")
    assert head.index("mean") == two.index("0.500 ")
    red = screen.epoch_line(second, first, dev, baselines, colour=True)
    assert red == two.replace("0.250!", "\x1b[31m0.250!\x1b[0m")
    assert screen.terms_beside({**second, "kept": {"sst TSA kept": 0.5}}, ["sst", "sts"]) == (
        "sst smart 0.500, sst TSA kept 0.500"
    )


@pytest.mark.parametrize(
    ("terminal", "variables", "colour"),
    [(True, {}, True), (False, {}, False), (True, {"NO_COLOR": "1"}, False), (True, {"TERM": "dumb"}, False)],
)
def test_colour_is_for_terminals_without_no_color(monkeypatch, terminal, variables, colour):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "stdout", types.SimpleNamespace(isatty=lambda: terminal))
    assert screen.wants_colour() is colour


def test_without_a_terminal_a_plain_line_every_30_seconds_stands_for_the_bar(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr(screen.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    seen = []
    with screen.steps_with_bar("abcdef", "epoch 1/2", 9, 3) as steps:
        for step in steps:
            seen.append(step)
            now[0] += 12
            steps.set_postfix_str("loss 0.500")
    assert seen == list("abcdef")
    assert capsys.readouterr().out == ("epoch 1/2: step 6 of 9, loss 0.500\nepoch 1/2: step 9 of 9, loss 0.500\n")
    assert sys.stderr.getvalue() == ""


def test_the_end_names_the_next_commands_as_this_one_was_typed(tmp_path, monkeypatch):
    folder = tmp_path / "a run"
    folder.mkdir()
    (folder / "report.html").write_text("")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "orig_argv", [".venv/bin/python", "x.py"])
    monkeypatch.setattr(sys, "argv", ["x.py"])
    lines = screen.next_commands(folder).splitlines()
    assert lines[0] == "next:"
    assert shlex.split(lines[1])[:4] == [".venv/bin/python", "x.py", "--predict", "a run"]
    assert shlex.split(lines[2])[:4] == [".venv/bin/python", "x.py", "--evaluate", "a run"]
    assert shlex.split(lines[3])[:5] == [".venv/bin/python", "x.py", "--export", "a run", "FOLDER"]
    assert "load('a run')" in lines[4]
    assert "report.html" in lines[5]
