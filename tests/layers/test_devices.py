"""--device, and what is done for Apple's GPUs, by a stand-in for torch's MPS: none of this has run on one."""

import types

import pytest
import tiny
import torch

from minbert.files import UserError
from minbert.flags import checks as command_line
from minbert.layers import devices
from minbert.training import run_folder


@pytest.fixture
def here(monkeypatch):
    """here("cuda", ...) -> from now on this machine has those devices."""

    def have(*kinds):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: "cuda" in kinds)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: "mps" in kinds)

    return have


@pytest.mark.parametrize(
    ("kinds", "asked", "runs_on"),
    [
        ((), "cpu", "cpu"),
        ((), "auto", "cpu"),
        (("cuda",), "auto", "cuda"),
        (("mps",), "auto", "mps"),
        (("cuda", "mps"), "auto", "cuda"),
        (("cuda",), "cuda", "cuda"),
        (("cuda",), "cpu", "cpu"),
        (("mps",), "mps", "mps"),
    ],
)
def test_device(here, kinds, asked, runs_on):
    here(*kinds)
    options = tiny.options_of("--device", asked)
    assert options.model.runs_on == runs_on
    if runs_on != "mps":  # by either name the same run
        same = tiny.options_of("--use_gpu") if runs_on == "cuda" else tiny.options_of()
        saved = (command_line.to_saved(one) | {"run_dir": 0} for one in (options, same))
        assert next(saved) == next(saved)


def test_what_is_not_here_or_contradicts_is_refused(here):
    here()
    for kind in ("cuda", "mps"):
        with pytest.raises(UserError, match="this machine has n"):
            run_folder.check_device(tiny.options_of("--device", kind).model, "--use_gpu:")
    for line in ("--use_gpu --device cpu", "--device mps --compile", "--device mps --precision bf16"):
        with pytest.raises(UserError, match="--device"):
            tiny.options_of(*line.split())
    resumed = command_line.parse(["--resume", "x", "--device", "cpu"])
    saved = command_line.to_saved(tiny.options_of("--use_gpu"))
    with pytest.raises(UserError, match="--use_gpu False: the run to resume has True"):
        command_line.resumed(resumed, saved)


def test_mps_keeps_its_random_state_and_has_no_float64(monkeypatch):
    kept = [torch.tensor([1, 2], dtype=torch.uint8)]
    monkeypatch.setattr(
        torch,
        "mps",
        types.SimpleNamespace(get_rng_state=lambda: kept[0].clone(), set_rng_state=lambda s: kept.append(s)),
    )
    states = devices.random_states(torch.device("mps"))
    devices.set_random_states(torch.device("mps"), states)
    assert torch.equal(kept[1], torch.tensor([1, 2], dtype=torch.uint8))
    assert devices.random_states(torch.device("cpu")) == []
    assert devices.readable("mps") == "cpu"

    class OnMps:
        """A tensor there: it can come to the CPU, and be no float64 before."""

        device = torch.device("mps")

        def cpu(self):
            return torch.ones(2)

    assert devices.double(OnMps()).dtype == torch.float64
    assert devices.double(torch.ones(2)).dtype == torch.float64
