"""The kernel for packed tokens, with the plain attention in its place: it is asked rightly, and only where it fits."""

import copy
import math

import numpy as np
import pytest
import tiny
import torch

from bert import BertModel
from minbert.layers import varlen
from minbert.layers.packing import Packing, pack
from minbert.layers.varlen import fits, use_varlen
from minbert.text.tokenization import Sequences

LENGTHS = [5, 1, 9, 2, 9]


def kernel(q, k, v, starts, starts_of_keys, longest, longest_key):
    """varlen_attn in a loop: [N, A, D] each -> [N, A, D]."""
    assert starts.dtype == starts_of_keys.dtype == torch.int32
    assert longest == longest_key == int(starts.diff().max())
    mixed = []
    for start, stop in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True):
        one, keys, values = (part[start:stop].transpose(0, 1) for part in (q, k, v))  # [A, t, D]
        scores = one @ keys.transpose(1, 2) / math.sqrt(q.shape[-1])
        mixed.append((scores.softmax(-1) @ values).transpose(0, 1))
    return torch.cat(mixed)


@pytest.fixture
def model(tiny_model):
    return BertModel.from_pretrained(tiny_model).double()


@pytest.fixture
def tokens():
    offsets = np.concatenate([[0], np.cumsum(LENGTHS)])
    ids = np.random.default_rng(0).integers(5, 60, offsets[-1]).astype(np.int32)
    return pack(Sequences(ids, np.zeros(len(ids), np.uint8), offsets))


def test_boundaries():
    packing = Packing(LENGTHS)
    assert packing.boundaries.tolist() == [0, 1, 3, 8, 17, 26]
    assert packing.longest == 9


def test_it_is_the_attention_in_blocks_and_so_are_gradients(model, tokens, monkeypatch):
    monkeypatch.setattr(varlen, "varlen_attn", kernel)
    monkeypatch.setattr(varlen, "fits", lambda attention, x: True)
    model.eval()
    other = use_varlen(copy.deepcopy(model))
    one, two = model.encode_packed(tokens), other.encode_packed(tokens)
    assert torch.allclose(one, two, rtol=0, atol=1e-12)
    one.square().sum().backward()
    two.square().sum().backward()
    for mine, theirs in zip(model.parameters(), other.parameters(), strict=True):
        if mine.grad is not None:
            assert torch.allclose(mine.grad, theirs.grad, rtol=1e-9, atol=1e-9)
    assert model.state_dict().keys() == other.state_dict().keys()


def test_a_copy_has_its_own_weights(model, tokens, monkeypatch):
    """A mean teacher is one."""
    monkeypatch.setattr(varlen, "varlen_attn", kernel)
    monkeypatch.setattr(varlen, "fits", lambda attention, x: True)
    teacher = copy.deepcopy(use_varlen(model.eval()))
    before = teacher.encode_packed(tokens)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2)
    assert torch.equal(teacher.encode_packed(tokens), before)


def test_where_it_fits(model, monkeypatch):
    attention = model.bert_layers[0].self_attention.float()

    class OnGpu:
        device = torch.device("cuda", 0)

    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda kind: precision is not None)
    monkeypatch.setattr(torch, "get_autocast_dtype", lambda kind: precision)
    capability, precision = (9, 0), torch.bfloat16
    assert fits(attention.eval(), OnGpu)
    assert not fits(attention.train(), OnGpu)  # it would drop out
    attention.dropout.p = 0.0
    assert fits(attention, OnGpu)
    precision = None
    assert not fits(attention, OnGpu)  # fp32
    assert fits(attention.bfloat16(), OnGpu)
    capability = (7, 5)
    assert not fits(attention, OnGpu)
    capability = (9, 0)
    assert not fits(attention, torch.zeros(1))
    monkeypatch.setattr(varlen, "varlen_attn", None)
    assert not fits(attention, OnGpu)


def test_on_a_cpu_a_run_is_that_of_fused(tmp_path, tiny_model, tiny_data):
    for kind in ("fused", "varlen"):
        done = tiny.runner(tmp_path / kind, tiny_model, tiny_data)("--attention", kind, "--tasks", "sst", "--epochs", 1)
        assert done.code == 0, done.err
    tiny.assert_same_results(tmp_path / "fused", tmp_path / "varlen")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_a_gpu_it_is_the_attention_in_blocks(tiny_model, monkeypatch):
    model = BertModel.from_pretrained(tiny_model).cuda().eval()
    other, calls = use_varlen(copy.deepcopy(model)), []
    real = varlen.varlen_attn
    monkeypatch.setattr(varlen, "varlen_attn", lambda *args: calls.append(1) or real(*args))
    offsets = np.concatenate([[0], np.cumsum(LENGTHS)])
    ids = np.random.default_rng(0).integers(5, 60, offsets[-1]).astype(np.int32)
    tokens = pack(Sequences(ids, np.zeros(len(ids), np.uint8), offsets), "cuda")
    with torch.autocast("cuda", torch.bfloat16):
        one, two = model.encode_packed(tokens), other.encode_packed(tokens)
    assert len(calls) == len(model.bert_layers)
    assert (one.float() - two.float()).abs().max() < 0.05
