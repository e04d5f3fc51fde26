"""--resume RUN with other flags than the run began with: what is kept, what may change, and a longer end."""

import shutil

import pytest
import tiny
from kills import stop_at

from minbert.flags import checks as command_line

CONSTANT = ("--option", "finetune", "--lr", "1e-3", "--keep_state")


@pytest.fixture(scope="module")
def run_to(tiny_model, tiny_data, tmp_path_factory):
    """run_to(name, flags...) -> the folder of a run at a constant rate, made once. Not to be written to."""
    home = tmp_path_factory.mktemp("runs")

    def run(name, *flags):
        if not (home / name).exists():
            done = tiny.script("--model", tiny_model, "--data_dir", tiny_data, "--run_dir", home / name, *flags)
            assert done.code == 0, done.err
        return home / name

    return run


def last_line(done):
    assert done.code == 2
    return done.err.splitlines()[-1]


def test_a_finished_run_goes_on_to_the_bits_of_a_longer_one(run_to, tmp_path, monkeypatch):
    """Killed in between, too; and its record says what it was planned for."""
    whole = run_to("three", *CONSTANT, "--epochs", 3)
    folder = shutil.copytree(run_to("one", *CONSTANT, "--epochs", 1), tmp_path / "run")
    with monkeypatch.context() as patch:
        stop_at(patch, 2)  # of those after its end
        assert tiny.script("--resume", folder, "--epochs", 3).code == 130
    assert not (folder / "scores.json").exists()
    assert tiny.script("--resume", folder).code == 0
    tiny.assert_same_results(whole, folder)
    config = tiny.read_json(folder / "config.json")
    assert (config["flags"]["epochs"], config["went_on_from"]) == (3, [{"epochs": 1}])


def test_an_extension_that_fell_before_its_first_checkpoint_may_be_extended_again(run_to, tmp_path, monkeypatch):
    folder = shutil.copytree(run_to("one", *CONSTANT, "--epochs", 1), tmp_path / "run")
    state = (folder / "state.pt").read_bytes()
    with monkeypatch.context() as patch:
        stop_at(patch, 2)
        assert tiny.script("--resume", folder, "--epochs", 2).code == 130
    (folder / "state.pt").write_bytes(state)  # as a kill before it would have left it
    assert tiny.script("--resume", folder, "--epochs", 3).code == 0
    tiny.assert_same_results(run_to("three", *CONSTANT, "--epochs", 3), folder)


def test_a_run_whose_patience_was_over_goes_on_with_more(run_to, tmp_path):
    flags = (*CONSTANT, "--lr", "1e-12", "--lr_schedule", "linear", "--epochs", 4)  # no epoch is better than the first
    folder = shutil.copytree(run_to("impatient", *flags, "--patience", 1), tmp_path / "run")
    assert tiny.read_json(folder / "scores.json")["epochs"] == 2
    assert tiny.script("--resume", folder, "--patience", 9).code == 0
    tiny.assert_same_results(run_to("patient", *flags, "--patience", 9), folder)


@pytest.mark.parametrize(
    ("name", "flags", "now", "why"),
    [
        (
            "linear",
            ("--lr_schedule", "linear"),
            ("--epochs", 2),
            "has fallen by --lr_schedule linear",
        ),
        ("annealed", ("--schedule", "annealed"), ("--epochs", 2), "by --schedule annealed"),
        ("tsa", ("--sts_head", "classification", "--tsa", "log"), ("--epochs", 2), "by --tsa log"),
        ("cut", ("--max_steps", 3), ("--epochs", 2), "--max_steps 3 cuts it"),
        ("grid", ("--lr", "1e-3,1e-4"), ("--epochs", 2), "is a grid"),
        ("one", (), ("--epochs", 1, "--lr", "1e-4"), "--lr 0.0001: the run to resume has 0.001; leave the flag out"),
        ("waits", ("--lr", "1e-12", "--epochs", 3, "--patience", 1), ("--epochs", 5), "without a better score; give a"),
        ("two", ("--epochs", 2), ("--epochs", 1), "has done 2; give more to go on"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_go_on_says_why(run_to, tmp_path, name, flags, now, why):
    folder = shutil.copytree(run_to(name, *CONSTANT, "--epochs", 1, *flags), tmp_path / "run")
    before = {path: path.read_bytes() for path in folder.rglob("*.json")}
    assert why in last_line(tiny.script("--resume", folder, *now))
    assert {path: path.read_bytes() for path in folder.rglob("*.json")} == before


def test_without_its_state_a_run_ends_where_it_ended(run_to, tmp_path):
    folder = shutil.copytree(run_to("one", *CONSTANT, "--epochs", 1), tmp_path / "run")
    (folder / "state.pt").unlink()
    assert "has no state.pt to go on from (--keep_state" in last_line(tiny.script("--resume", folder, "--epochs", 2))


def test_flags_left_out_are_those_of_the_run(run_to, tmp_path, tiny_model, tiny_data, monkeypatch):
    """--skip_test once came back on --resume, and TensorBoard stopped."""
    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        stop_at(patch, 2)
        flags = ("--model", tiny_model, "--data_dir", tiny_data, "--run_dir", folder, "--epochs", 1, "--skip_test")
        assert tiny.script(*flags).code == 130
    assert tiny.script("--resume", folder).code == 0
    assert not list((folder / "predictions").glob("*test*"))
    assert not (folder / "state.pt").exists()
    assert not (folder / "last.safetensors").exists()


@pytest.mark.parametrize(
    ("tasks", "scored"), [(["sst"], ["quora", "sts"]), (["rte"], None), (["sts", "quora"], ["sst"])]
)
def test_records_from_before_also_score_had_all_three_heads(tasks, scored):
    record = command_line.to_saved(tiny.options_of("--tasks", ",".join(tasks)))
    assert command_line.digest(record) == command_line.digest({**record, "also_score": scored})  # its state has it
    del record["also_score"]
    assert command_line.checked_flags(record, command_line.build_parser(), "here")["also_score"] == scored
