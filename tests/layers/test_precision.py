"""bf16: what runs in it and what does not, and which processors are asked for it."""

import pytest
import tiny
import torch
from steps import one_step

from minbert.files import UserError
from minbert.flags.parser import build_parser
from minbert.layers import precision
from minbert.training.run_folder import check_device

TRAIN = ("--option", "finetune", "--lr", "1e-3", "--hidden_dropout_prob", "0")


@pytest.fixture
def has(monkeypatch):
    """has(names...): a CPU with these capabilities."""
    return lambda *names: monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: dict.fromkeys(names, True))


@pytest.mark.parametrize(
    ("names", "unit"),
    [(["avx512_f"], None), (["avx512_bf16"], "AVX512-BF16"), (["avx512_bf16", "amx_bf16"], "AMX"), ([], None)],
)
def test_a_cpu_is_asked_what_it_has(has, names, unit):
    has(*names)
    assert precision.bf16_unit("cpu") == unit
    model = tiny.options_of("--precision", "bf16").model
    if unit:
        check_device(model, "")
        assert precision.precision_told("cpu", "bf16") == (
            f"precision: bf16 matrix products by {unit}, weights and losses in fp32"
        )
        assert precision.precision_told("cpu", "fp32") == (
            f"precision: fp32 (--precision bf16 would use {unit}, which is faster)"
        )
    else:
        with pytest.raises(UserError, match="--precision bf16: this CPU has no unit for it"):
            check_device(model, "")
        assert precision.precision_told("cpu", "fp32") == "precision: fp32"
    check_device(tiny.options_of("--precision", "fp32").model, "")


def test_a_run_says_which(tmp_path, tiny_model, tiny_data, has):
    has("avx512_bf16")
    argv = ("--model", tiny_model, "--data_dir", tiny_data, *TRAIN, "--epochs", 1)
    assert "\nprecision: bf16 matrix" in tiny.script(*argv, "--precision", "bf16", "--run_dir", tmp_path / "a").out
    assert "\nprecision: fp32 (" in tiny.script(*argv, "--run_dir", tmp_path / "b").out
    has()  # and the run's own precision is what it is evaluated with
    assert (
        "has no unit" in tiny.script("--evaluate", tmp_path / "a", "--data_dir", tiny_data).error
    )  # its own precision
    assert tiny.script("--evaluate", tmp_path / "a", "--data_dir", tiny_data, "--precision", "fp32").code == 0


def test_weights_gradients_and_losses_stay_fp32_and_close(trainer_of, still_model):
    """Products of bf16 keep 8 bits: the gradients agree with fp32's to a few hundredths of the largest, and differ."""
    terms, gradients = one_step(trainer_of(*TRAIN, model=still_model))
    trainer = trainer_of(*TRAIN, "--precision", "bf16", model=still_model)
    terms16, gradients16 = one_step(trainer)
    assert all(p.dtype == torch.float32 for p in trainer.model.parameters())
    assert terms16.keys() == terms.keys()
    for name, term in terms.items():
        assert terms16[name] == pytest.approx(term, rel=0.02)
        assert terms16[name] != term
    assert gradients16.keys() == gradients.keys()
    for name, gradient in gradients.items():
        assert gradients16[name].dtype == torch.float32
        if not name.endswith("key.bias"):  # the true gradient is 0
            error = (gradients16[name] - gradient).norm() / gradient.norm()
            assert error < 0.06, name


def test_what_runs_in_which(trainer_of, monkeypatch):
    """Linear layers and attention's products in bf16; LayerNorm and the residual stream in fp32."""
    trainer = trainer_of(*TRAIN, "--precision", "bf16")
    layer, seen = trainer.model.bert.bert_layers[0], {}
    for name in ("attention_dense", "interm_dense", "attention_layer_norm", "out_layer_norm"):
        module = getattr(layer, name)
        module.register_forward_hook(lambda module, args, out, name=name: seen.__setitem__(name, out.dtype))
    attend = layer.self_attention.attention
    monkeypatch.setattr(layer.self_attention, "attention", lambda q, *rest: seen.update(q=q.dtype) or attend(q, *rest))
    one_step(trainer)
    half, single = torch.bfloat16, torch.float32
    assert seen == {"q": half, "attention_dense": half, "attention_layer_norm": single, "interm_dense": half,
                    "out_layer_norm": single}  # fmt: skip


def test_the_flags_own_text_names_the_units():
    text = " ".join(build_parser().format_help().split())
    assert f"a CPU with {' or '.join(precision.CPU_UNITS.values())}" in text
