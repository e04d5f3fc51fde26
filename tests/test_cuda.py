"""The whole training path on a CUDA device: no waiting for it between looks at the loss, resumable, same scores."""

import contextlib

import pytest
import tiny
import torch

on_gpu = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]
DEVICES = [pytest.param((), id="cpu"), pytest.param(("--use_gpu",), id="cuda", marks=on_gpu)]
TRAIN = ("--option", "finetune", "--lr", "1e-3")


@contextlib.contextmanager
def waiting_is_an_error():
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    "more",
    [
        (),
        ("--attention", "fused"),
        ("--clip", "1"),
        ("--precision", "fp32"),
        ("--pairs", "dot_attention", "--pooling", "mean"),
        ("--pairs", "concat", "--sts_head", "cosine", "--sst_head", "coral"),
        ("--sts_head", "classification", "--schedule", "sequential"),
        ("--pcgrad",),
        ("--smart", "1"),
        ("--r_drop", "1"),
        ("--option", "pretrain"),
    ],
    ids=" ".join,
)
def test_a_step_never_waits_for_the_device(trainer_of, device, more):
    """On a CPU, which has nothing to wait for, it is the test itself that is tried."""
    trainer = trainer_of(*TRAIN, *device, *more)
    trainer.model.train()
    for step in trainer.plan.steps_of(0)[:2]:  # first steps may wait: libraries are set up, memory is found
        trainer.loop.step(step)
    with waiting_is_an_error() if device else contextlib.nullcontext():
        for step in trainer.plan.steps_of(0)[2:8]:
            trainer.loop.step(step)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_state_goes_there_and_back(trainer_of, device, precision):
    one, other = (trainer_of(*TRAIN, *device, "--precision", precision) for _ in range(2))
    one.model.train()
    for number, step in enumerate(one.plan.steps_of(0)[:6]):
        if number == 3:
            one.loop.save()
        one.loop.step(step)
    other.loop.folder = one.folder
    other.loop.resume()  # and with it the state of the random numbers
    other.model.train()
    for step in other.plan.steps_of(0)[3:6]:
        other.loop.step(step)
    ours, theirs = one.model.state_dict(), other.model.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_scores_are_those_of_the_cpu(trainer_of, still_model):
    """Without dropout, in fp32, the first losses agree with the CPU's to rounding."""
    flags = ("--option", "finetune", "--lr", "1e-3", "--hidden_dropout_prob", "0")
    cpu = tiny.trace(trainer_of(*flags, model=still_model))
    gpu = tiny.trace(trainer_of(*flags, "--use_gpu", "--precision", "fp32", model=still_model))
    for a, b in zip(cpu.losses[:10], gpu.losses[:10], strict=True):
        assert a == pytest.approx(b, abs=1e-3)
