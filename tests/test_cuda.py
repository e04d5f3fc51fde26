"""The whole training path on a CUDA device: no waiting for it between looks at the loss, resumable, same scores."""

import pytest
import tiny
import torch

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]

GPU = ("--option", "finetune", "--use_gpu", "--lr", "1e-3")


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
        ("--smart", "1", "--r_drop", "1"),
        ("--option", "pretrain"),
    ],
    ids=" ".join,
)
def test_a_step_never_waits_for_the_device(trainer_of, more):
    trainer = trainer_of(*GPU, *more)
    trainer.model.train()
    for step in trainer.plan.steps_of(0)[:2]:  # first steps may wait: libraries are set up, memory is found
        trainer.loop.step(step)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for step in trainer.plan.steps_of(0)[2:8]:
            trainer.loop.step(step)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_a_state_goes_there_and_back(trainer_of):
    one = trainer_of(*GPU, "--precision", "fp32")
    one.model.train()
    for step in one.plan.steps_of(0)[:3]:
        one._train_step(step)
    one.save_state()
    other = trainer_of(*GPU, "--precision", "fp32")
    other.folder = one.folder
    other.load_state()
    other.model.train()
    for trainer in (one, other):
        for step in trainer.plan.steps_of(0)[3:6]:
            trainer.loop.step(step)
    ours, theirs = one.model.state_dict(), other.model.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_scores_are_those_of_the_cpu(trainer_of, still_model):
    """Without dropout, in fp32, the first losses agree with the CPU's to rounding."""
    flags = ("--option", "finetune", "--lr", "1e-3", "--hidden_dropout_prob", "0")
    cpu = tiny.trace(trainer_of(*flags, model=still_model))
    gpu = tiny.trace(trainer_of(*flags, "--use_gpu", "--precision", "fp32", model=still_model))
    for a, b in zip(cpu.losses[:10], gpu.losses[:10], strict=True):
        assert a == pytest.approx(b, abs=1e-3)
