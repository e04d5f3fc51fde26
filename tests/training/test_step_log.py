"""log.jsonl: its lines against a trace of the run, after a stop, after a kill, with lines missing; what it costs."""

import json
import shutil

import numpy as np
import pytest
import tiny
import torch
from kills import stop_at, stopped_at

from minbert.files import UserError
from minbert.methods.objective import Loss
from minbert.training import loop as loops
from minbert.training.step_log import StepLog


def lines_of(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def traced(trainer_of, *flags):
    """(tiny.Trace, the lines of the log, the flags' epochs) of a run that logs every third update."""
    trainer = trainer_of(*tiny.FINETUNE, "--log_every", 3, *flags)
    seen = tiny.trace(trainer)
    return seen, lines_of(trainer.folder / "log.jsonl")


def test_a_line_has_means_since_the_last_and_rate_and_norm_of_its_update(trainer_of):
    seen, lines = traced(trainer_of, "--lr_schedule", "linear")
    assert [line["update"] for line in lines] == list(range(3, len(seen.rates) + 1, 3))
    assert {line["epoch"] for line in lines} == {1, 2}
    for line in lines:
        at = line["update"]
        for task in ("sst", "quora", "sts"):
            values = [losses[task] for losses in seen.losses[at - 3 : at]]
            assert line["loss"][task] == pytest.approx(np.mean(values), rel=1e-12)
        assert {line["rate"]} == seen.rates[at - 1]
        assert line["gradient_norm"] == pytest.approx(seen.norms[at - 1], rel=1e-5)
        assert list(line) == ["update", "epoch", "loss", "rate", "gradient_norm"]


def test_the_norm_is_that_before_clipping(trainer_of):
    """The optimizer sees the clipped one."""
    seen, lines = traced(trainer_of, "--clip", 0.01)
    assert all(line["gradient_norm"] > 0.02 for line in lines)
    assert max(seen.norms) < 0.0101


def test_a_task_that_sat_out_most_steps_is_there_and_the_shares_are(trainer_of):
    """One task a step: three updates are one of each."""
    flags = ("--schedule", "round_robin", "--sts_head", "classification", "--tsa", "linear")
    seen, lines = traced(trainer_of, *flags)
    for line in lines:
        steps = seen.rows[line["update"] - 3 : line["update"]]
        assert {name for rows in steps for name in rows} == set(line["loss"])
        assert {f"{name} TSA kept" for name in line["loss"]} == set(line["kept"])
    assert any(len(line["loss"]) > 1 for line in lines)


def test_the_bits_of_a_run_are_those_of_one_that_never_logs(trainer_of):
    runs = []
    for every in (1, 1000):
        runs.append(trainer_of(*tiny.FINETUNE, "--log_every", every))  # which sets the seed
        runs[-1].fit()
    often, never = (trainer.model.state_dict() for trainer in runs)
    assert all(torch.equal(often[name], never[name]) for name in often)
    assert not (runs[1].folder / "log.jsonl").read_bytes()


@pytest.mark.parametrize("every", [1, 2, 3])
def test_a_stopped_run_ends_with_the_same_log(tmp_path, argv_of, every):
    """Stopped after 7 of 10 updates, with one or two of them in no line yet."""
    flags = ("--epochs", 2, "--log_every", every)
    assert tiny.script(*argv_of(tmp_path / "whole", *flags)).code == 0
    stopped_at(7, *argv_of(tmp_path / "run", *flags))
    assert tiny.script("--resume", tmp_path / "run").code == 0
    whole, resumed = ((tmp_path / name / "log.jsonl").read_bytes() for name in ("whole", "run"))
    assert whole.count(b"\n") == 10 // every
    assert whole == resumed


def test_lines_after_the_checkpoint_are_made_again_not_twice(tmp_path, argv_of, stopped):
    """A kill comes after lines that no checkpoint knows of, the last one cut."""
    log = stopped / "log.jsonl"
    assert tiny.script("--resume", stopped).code == 0
    whole = log.read_bytes()
    again = tmp_path / "again"
    with pytest.MonkeyPatch.context() as patch:
        stop_at(patch, 7)
        assert tiny.script(*argv_of(again, "--epochs", 2)).code == 130
    with open(again / "log.jsonl", "ab") as f:
        f.write(b'{"update": 8}\n{"update": 9, "ep')
    assert tiny.script("--resume", again).code == 0
    assert (again / "log.jsonl").read_bytes() == whole != b""


def test_lines_that_are_gone_are_told_and_the_run_goes_on(tmp_path, argv_of):
    stopped_at(7, *argv_of(tmp_path / "run", "--epochs", 2, "--log_every", 1))
    log = tmp_path / "run" / "log.jsonl"
    content = log.read_bytes()
    for left, lines in ((content[:-9], [1, 2, 3, 4, 5, 6, 8, 9, 10]), (None, [8, 9, 10])):
        copy = shutil.copytree(tmp_path / "run", tmp_path / f"copy{len(lines)}")
        (copy / "log.jsonl").write_bytes(left) if left else (copy / "log.jsonl").unlink()
        resumed = tiny.script("--resume", copy)
        assert resumed.code == 0, resumed.err
        assert f"warning: lines are gone from {copy / 'log.jsonl'}" in resumed.out
        assert [line["update"] for line in lines_of(copy / "log.jsonl")] == lines


def test_nothing_is_written_through_a_link(tmp_path, stopped):
    mine = tmp_path / "diary.txt"
    mine.write_text("dear diary\n")
    (stopped / "log.jsonl").unlink()
    (stopped / "log.jsonl").symlink_to(mine)
    assert "log.jsonl: a link, and a log is not written through one" in tiny.script("--resume", stopped).error
    assert mine.read_text() == "dear diary\n"


def test_steps_that_make_one_update_together_are_its_mean(trainer_of):
    trainer = trainer_of(*tiny.FINETUNE, "--log_every", 1, "--accumulate", 5, "--epochs", 1)
    trainer.fit()
    (line,) = lines_of(trainer.folder / "log.jsonl")  # the epoch's five steps
    assert line["loss"] == {
        name: pytest.approx(value) for name, value in trainer.loop.progress.history[0]["loss"].items()
    }


@pytest.mark.parametrize(
    "log", [{"bytes": -1, "window": []}, {"bytes": 0, "window": [["loss", "sst", ["x"]]]}, {"bytes": 0}, {"window": []}]
)
def test_a_state_with_another_thing_for_its_log(stopped, log):
    state = torch.load(stopped / "state.pt", weights_only=True)
    torch.save({**state, "log": log}, stopped / "state.pt")
    assert "state.pt: not a state of this run" in tiny.script("--resume", stopped).error


def test_a_state_of_before_there_was_a_log(stopped):
    state = torch.load(stopped / "state.pt", weights_only=True)
    del state["log"]
    torch.save(state, stopped / "state.pt")
    assert tiny.script("--resume", stopped).code == 0


def one_update(log, update, value, norm):
    log.add([Loss({("sst", ""): torch.tensor(value)}, {("sst", "UDA kept"): torch.tensor(0.5)}, 1)])
    log.updated(update, 1, 0.1, norm)


def test_the_device_is_waited_for_once_a_line(tmp_path, monkeypatch):
    waits = []
    monkeypatch.setattr(torch.Tensor, "tolist", lambda t, real=torch.Tensor.tolist: waits.append(1) or real(t))
    for wait in ("item", "__float__", "__bool__", "cpu"):
        monkeypatch.setattr(torch.Tensor, wait, lambda *_: pytest.fail("waited for the device"))
    log = StepLog(tmp_path / "log.jsonl", 10)
    for update in range(1, 31):
        one_update(log, update, 1.0, torch.tensor(2.0) if log.is_due(update) else None)
    assert len(waits) == 3


def test_what_is_not_finite_is_null_and_the_line_is_json(tmp_path):
    log = StepLog(tmp_path / "log.jsonl", 1)
    one_update(log, 1, float("inf"), torch.tensor(float("nan")))
    (line,) = lines_of(tmp_path / "log.jsonl")
    assert line["loss"] == {"sst": None}
    assert line["gradient_norm"] is None
    assert line["kept"] == {"sst UDA kept": 0.5}


def test_a_log_that_is_hardly_ever_due_holds_no_tensors(tmp_path):
    log = StepLog(tmp_path / "log.jsonl", 10**6)
    for update in range(1, 251):
        one_update(log, update, 1.0, None)
    held = [value for values in log._window.values() for value in values]
    assert sum(map(torch.is_tensor, held)) == 100  # those of the last 50 updates


def test_tensorboard_gets_every_line(tmp_path):
    class Writer:
        scalars: list = []  # noqa: RUF012

        def add_scalar(self, *words):
            self.scalars.append(words)

    log = StepLog(tmp_path / "log.jsonl", 2, Writer())
    for update in (1, 2, 3):
        one_update(log, update, float(update), torch.tensor(3.0))
    assert Writer.scalars == [
        ("step/loss/sst", 1.5, 2), ("step/kept/sst UDA kept", 0.5, 2), ("step/rate", 0.1, 2),
        ("step/gradient_norm", 3.0, 2),
    ]  # fmt: skip


def test_a_full_gradient_is_not_measured_without_need(trainer_of, monkeypatch):
    """It costs a pass over all of it."""
    measured = []
    norm = loops.get_total_norm
    monkeypatch.setattr(loops, "get_total_norm", lambda *a: measured.append(1) or norm(*a))
    trainer = trainer_of(*tiny.FINETUNE, "--log_every", 4)
    trainer.fit()
    assert len(measured) == trainer.loop.progress.update // 4


def test_a_link_is_refused_by_the_log_itself(tmp_path):
    (tmp_path / "log.jsonl").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="a link"):
        StepLog(tmp_path / "log.jsonl", 1).state_dict()
    assert not (tmp_path / "elsewhere").exists()
