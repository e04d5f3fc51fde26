"""--config FILE: flags out of YAML, JSON or a run's config.json, with the command line's own on top."""

import builtins
import json

import pytest
import tiny

from minbert.files import UserError
from minbert.flags import checks as command_line


def written(folder, name, text):
    (folder / name).write_text(text)
    return folder / name


def refused(path, *argv):
    with pytest.raises(UserError) as caught:
        tiny.parse("--config", path, *argv)
    return str(caught.value)


YAML = """
# a recipe
option: finetune
tasks: [sst, sts]
batch_size: {sst: 8, sts: 4}
lr: 2e-5
limit: {sst: 0.5}
pcgrad: true
compile: no
patience: null
"""
VALUES = {
    **{"option": "finetune", "tasks": ["sst", "sts"], "batch_size": {"sst": 8, "sts": 4}, "lr": 2e-5},
    **{"limit": {"sst": 0.5}, "pcgrad": True, "compile": False, "patience": None},
}


@pytest.mark.parametrize("name", ["f.yaml", "f.json"])
def test_config_is_what_its_flags_would_be(tmp_path, name):
    if name == "f.yaml":
        pytest.importorskip("yaml")
    path = written(tmp_path, name, YAML if name == "f.yaml" else json.dumps(VALUES))
    typed = "--run_dir x --option finetune --tasks sst,sts --batch_size sst=8,sts=4 --lr 2e-5 --limit sst=0.5 --pcgrad"
    given, ours = tiny.options_of(*typed.split()), tiny.options_of("--run_dir", "x", "--config", path)
    assert command_line.to_saved(ours) == command_line.to_saved(given)
    assert set(ours.given) == {*given.given, "config"}
    assert {name: value for name, value in vars(tiny.parse("--config", path)).items() if name in VALUES} == VALUES


def test_flags_of_the_command_line_win_wherever_they_stand(tmp_path):
    path = written(tmp_path, "f.json", '{"epochs": 3, "lr": 1}')
    for argv in (("--epochs", 7, "--config", path), (f"--config={path}", "--epochs", 7)):
        options = tiny.parse(*argv)
        assert (options.epochs, options.lr) == (7, 1)


@pytest.mark.parametrize(
    "flags",
    [
        ("--option", "finetune", "--lr", "1e-05", "--limit", "sst=0.5", "--sst_dev_out", "out.csv", "--epochs", 3),
        ("--label_scheme", "independent", "--lr", "2e-5,3e-5"),
        ("--mean_teacher", "kl", "--labels_per_class", 3, "--option", "finetune"),
        ("--tasks", "sst", "--also_score", "sts"),
    ],
    ids=str,
)
def test_a_run_s_config_gives_the_same_run_elsewhere(tmp_path, flags):
    made = command_line.to_saved(tiny.options_of("--run_dir", "there", *flags))
    path = written(tmp_path, "config.json", json.dumps({"flags": made, "model": {"name": "m", "sha256": "0"}}))
    again = command_line.to_saved(tiny.options_of("--config", path, "--run_dir", "here"))
    assert again == {**made, "run_dir": "here", "sst_dev_out": None}


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("f.json", '{"learning_rate": 1}', "--learning_rate: here that is --lr"),
        ("f.json", '{"epochs": "many"}', "argument --epochs: 'many': expected a whole number above 0"),
        ("f.json", '{"epochs": {"a": {"b": [null]}}}', "--epochs cannot be"),
        ("f.json", '{"resume": "runs/x"}', "--resume belongs on the command line"),
        ("f.json", '{"config": "f.json"}', "--config belongs on the command line"),
        ("f.json", '{"pcgrad": 3}', "--pcgrad takes no value: say true or false, not 3"),
        ("f.json", "[1]", "not a file of flags"),
        ("f.json", '{"flags": {"epochs": "many"}}', "its record says --epochs"),
        ("f.yaml", "epochs: [", "not a file of flags"),
        ("f.yaml", "just words", "expected lines of flag: value"),
        ("f.yaml", "a: &x [1]\nb: *x\n", "alias"),
        ("f.yaml", "[" * 60_000, "too many brackets"),
        ("f.yaml", "epochs: " + "3" * (1 << 16), "more than 64 KiB"),
        ("f.yaml", "\0", "not a file of flags"),
    ],
    ids=lambda value: value[:30],
)
def test_a_file_that_is_none_ends_in_a_line_that_names_it(tmp_path, name, text, why):
    if name == "f.yaml":
        pytest.importorskip("yaml")
    line = refused(path := written(tmp_path, name, text))
    assert why in line
    assert str(path) in line
    assert "\n" not in line


def test_no_file_and_no_yaml(tmp_path, monkeypatch):
    assert "no such file" in refused(tmp_path / "none.json")
    imported = builtins.__import__

    def without_yaml(name, *args, **more):
        if name == "yaml":
            raise ImportError(name)
        return imported(name, *args, **more)

    monkeypatch.setattr(builtins, "__import__", without_yaml)
    assert "YAML needs the package pyyaml: pip install pyyaml, or use JSON" in refused(tmp_path / "f.yaml")
