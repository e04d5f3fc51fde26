"""Checkpoints: against `transformers` both ways on tiny scrambled models, every dialect of file, every misfit."""

import json
from pathlib import Path

import pytest
import torch
import transformers
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from base_bert import BertConfig, from_hugging_face, to_hugging_face
from bert import BertForMaskedLM, BertModel
from minbert.files import UserError

SIZES = {
    "vocab_size": 61,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 40,
    "max_position_embeddings": 32,
    "initializer_range": 0.2,
}


def scrambled(model, seed):
    """Weights far from trivial (std 0.2, noise on biases and LayerNorms), so that a swapped tensor shows."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator) * 0.2
            parameter.copy_(1 + noise if "norm" in name.lower() and name.endswith("weight") else noise)
    return model.eval()


def theirs(cls, seed=0, **sizes):
    return scrambled(cls(transformers.BertConfig(**{**SIZES, **sizes})), seed)


def ours(cls, seed=0):
    return scrambled(cls(BertConfig(**SIZES)), seed)


def batch(seed=0):
    """Four sequences of 3 to 9 tokens, with two token types."""
    generator = torch.Generator().manual_seed(seed)
    mask = (torch.arange(9) < torch.tensor([9, 3, 6, 8])[:, None]).long()
    ids = torch.randint(1, SIZES["vocab_size"], mask.shape, generator=generator) * mask
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": (torch.arange(9) > 2) * mask}


@torch.no_grad()
def gap(reference, model, seed=0):
    """The largest difference of any output at a real token."""
    inputs = batch(seed)
    real = inputs["attention_mask"].bool()
    expected, found = reference(**inputs), model(**inputs)
    gaps = []
    for key in ("last_hidden_state", "pooler_output", "logits"):
        if key in found:
            a, b = expected[key], found[key]
            gaps.append((a - b if a.dim() == 2 else (a - b)[real]).abs().max().item())
    return max(gaps)


@pytest.fixture
def folder(tmp_path):
    """A checkpoint of transformers.BertModel."""
    theirs(transformers.BertModel).save_pretrained(tmp_path)
    return tmp_path


def rewrite(folder, change):
    """Save the folder's tensors again after `change(tensors)`."""
    path = folder / "model.safetensors"
    tensors = load_file(path)
    tensors = change(tensors) or tensors
    save_file({name: value.contiguous() for name, value in tensors.items()}, path)


def refusal(folder, cls=BertModel):
    with pytest.raises(UserError) as caught:
        cls.from_pretrained(folder)
    assert len(str(caught.value).splitlines()) == 1
    assert str(folder) in str(caught.value)
    return str(caught.value)


# ---- against transformers -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_theirs_to_ours(tmp_path, seed):
    reference = theirs(transformers.BertModel, seed, num_hidden_layers=seed)
    reference.save_pretrained(tmp_path)
    model = BertModel.from_pretrained(tmp_path)
    assert not model.training
    assert gap(reference, model, seed) < 1e-5  # measured 1e-6


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_ours_to_theirs(tmp_path, seed):
    model = ours(BertModel, seed)
    model.save_pretrained(tmp_path)
    reference, report = transformers.AutoModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    assert type(reference) is transformers.BertModel
    assert gap(reference.eval(), model, seed) < 1e-5


def test_masked_lm_both_ways(tmp_path):
    reference = theirs(transformers.BertForMaskedLM)
    reference.save_pretrained(tmp_path / "theirs")  # holds no pooler: it does not use one
    model = BertForMaskedLM.from_pretrained(tmp_path / "theirs")
    assert not model.head_is_new
    assert gap(reference, model) < 1e-5
    model.save_pretrained(tmp_path / "ours")
    again = transformers.AutoModelForMaskedLM.from_pretrained(tmp_path / "ours")
    assert gap(again.eval(), model) < 1e-5
    trunk = transformers.AutoModel.from_pretrained(tmp_path / "ours").eval()
    assert gap(trunk, BertModel.from_pretrained(tmp_path / "ours")) < 1e-5


def test_tensors_name_by_name(tmp_path):
    """Every tensor, under the name written out here from the two codes rather than through our own table."""
    reference = theirs(transformers.BertForPreTraining)
    reference.save_pretrained(tmp_path)
    state, expected = BertForMaskedLM.from_pretrained(tmp_path).state_dict(), reference.state_dict()
    pairs = {
        "bert.word_embedding.weight": "bert.embeddings.word_embeddings.weight",
        "bert.pos_embedding.weight": "bert.embeddings.position_embeddings.weight",
        "bert.tk_type_embedding.weight": "bert.embeddings.token_type_embeddings.weight",
        "decoder_bias": "cls.predictions.bias",
    }
    modules = {
        "bert.embed_layer_norm": "bert.embeddings.LayerNorm",
        "bert.pooler_dense": "bert.pooler.dense",
        "transform_dense": "cls.predictions.transform.dense",
        "transform_layer_norm": "cls.predictions.transform.LayerNorm",
    }
    for n in range(SIZES["num_hidden_layers"]):
        for mine, its in (
            ("self_attention.query", "attention.self.query"),
            ("self_attention.key", "attention.self.key"),
            ("self_attention.value", "attention.self.value"),
            ("attention_dense", "attention.output.dense"),
            ("attention_layer_norm", "attention.output.LayerNorm"),
            ("interm_dense", "intermediate.dense"),
            ("out_dense", "output.dense"),
            ("out_layer_norm", "output.LayerNorm"),
        ):
            modules[f"bert.bert_layers.{n}.{mine}"] = f"bert.encoder.layer.{n}.{its}"
    for mine, its in modules.items():
        for leaf in ("weight", "bias"):
            pairs[f"{mine}.{leaf}"] = f"{its}.{leaf}"
    assert pairs.keys() == state.keys()
    for mine, its in pairs.items():
        assert torch.equal(state[mine], expected[its]), mine
        assert to_hugging_face(mine) == its
        assert from_hugging_face(its) == from_hugging_face(mine) == mine.removeprefix("bert.")


# ---- dialects -------------------------------------------------------------------------------------------------------


def old_names(tensors):
    return {k.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): v
            for k, v in tensors.items()}  # fmt: skip


DIALECTS = {
    "as it is": lambda t: t,
    "prefix": lambda t: {f"bert.{k}": v for k, v in t.items()},
    "gamma and beta": old_names,
    "position_ids": lambda t: {**t, "embeddings.position_ids": torch.arange(32)[None]},
    "pretraining heads": lambda t: {
        **{f"bert.{k}": v for k, v in old_names(t).items()},
        "cls.predictions.bias": torch.ones(61),
        "cls.predictions.transform.LayerNorm.gamma": torch.ones(24),
        "cls.predictions.decoder.weight": torch.ones(61, 24),
        "cls.seq_relationship.weight": torch.ones(2, 24),
    },
    "the course's names": lambda t: {from_hugging_face(k): v for k, v in t.items()},
    "a student's": lambda t: {
        **{f"bert.{from_hugging_face(k)}": v for k, v in t.items()},
        "bert.position_ids": torch.arange(32)[None],
    },
    "double": lambda t: {k: v.double() for k, v in t.items()},
}


@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin"])
@pytest.mark.parametrize("dialect", DIALECTS)
def test_dialects(folder, dialect, file):
    expected = BertModel.from_pretrained(folder).state_dict()
    rewrite(folder, DIALECTS[dialect])
    if file == "pytorch_model.bin":
        torch.save(load_file(folder / "model.safetensors"), folder / file)
        (folder / "model.safetensors").unlink()
    found = BertModel.from_pretrained(folder).state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_half_precision_is_widened(folder, half):
    expected = BertModel.from_pretrained(folder).state_dict()
    rewrite(folder, lambda t: {k: v.to(half) for k, v in t.items()})
    found = BertModel.from_pretrained(folder).state_dict()
    assert all(found[name].dtype == torch.float32 for name in found)
    assert all(torch.equal(found[name], expected[name].to(half).float()) for name in expected)


def test_safetensors_comes_before_bin(folder):
    expected = BertModel.from_pretrained(folder).state_dict()
    torch.save({k: v + 1 for k, v in load_file(folder / "model.safetensors").items()}, folder / "pytorch_model.bin")
    found = BertModel.from_pretrained(folder).state_dict()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_tied_copies_must_agree(tmp_path):
    theirs(transformers.BertForMaskedLM).save_pretrained(tmp_path)

    def copies(tensors, shift):
        tensors["cls.predictions.decoder.bias"] = tensors["cls.predictions.bias"].clone()
        tensors["cls.predictions.decoder.weight"] = tensors["bert.embeddings.word_embeddings.weight"] + shift

    rewrite(tmp_path, lambda t: copies(t, 0.0))
    BertForMaskedLM.from_pretrained(tmp_path)
    rewrite(tmp_path, lambda t: copies(t, 1.0))
    assert "cls.predictions.decoder.weight" in refusal(tmp_path, BertForMaskedLM)


def test_new_head(folder):
    torch.manual_seed(0)
    model = BertForMaskedLM.from_pretrained(folder)
    assert model.head_is_new
    assert torch.equal(model.bert.pooler_dense.weight, load_file(folder / "model.safetensors")["pooler.dense.weight"])
    assert model.transform_dense.weight.std().item() == pytest.approx(0.2, rel=0.15)  # 576 draws: 5 sigma
    assert torch.equal(model.transform_layer_norm.weight, torch.ones(24))
    assert not any(p.any() for p in (model.transform_dense.bias, model.transform_layer_norm.bias, model.decoder_bias))
    assert all(p.requires_grad and not p.is_meta for p in model.parameters())


def test_missing_pooler_and_half_a_head_are_refused(tmp_path):
    theirs(transformers.BertForMaskedLM).save_pretrained(tmp_path)
    assert "missing: pooler.dense.weight, pooler.dense.bias;" in refusal(tmp_path)
    rewrite(tmp_path, lambda t: {k: v for k, v in t.items() if k != "cls.predictions.transform.dense.bias"})
    assert "missing: cls.predictions.transform.dense.bias" in refusal(tmp_path, BertForMaskedLM)


# ---- what reading and writing leave alone ---------------------------------------------------------------------------


def test_reading_draws_no_random_numbers_and_owns_its_memory(folder):
    before = torch.get_rng_state()
    model = BertModel.from_pretrained(folder)
    assert torch.equal(before, torch.get_rng_state())
    assert all(p.requires_grad and p.device.type == "cpu" for p in model.parameters())
    content = (folder / "model.safetensors").read_bytes()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
    assert (folder / "model.safetensors").read_bytes() == content


def test_options_go_to_the_class(folder):
    with pytest.raises(ValueError, match="choose plain or fused"):
        BertModel.from_pretrained(folder, attention="loud")


def test_written_file(tmp_path):
    model = ours(BertModel)
    model.save_pretrained(tmp_path / "new" / "folder")
    path = tmp_path / "new" / "folder" / "model.safetensors"
    with safe_open(path, "pt") as file:
        assert file.metadata() == {"format": "pt"}
    assert sorted(p.name for p in path.parent.iterdir()) == ["config.json", "model.safetensors"]
    assert path.stat().st_mode == (path.parent / "config.json").stat().st_mode
    config = json.loads((path.parent / "config.json").read_text())
    assert config["architectures"] == ["BertModel"]
    assert BertConfig.from_file(path.parent / "config.json") == model.config


def test_views_of_one_buffer_are_written_alone(tmp_path):
    """A flat optimizer makes every parameter a view of one buffer; the file must hold each once."""
    model = ours(BertModel)
    model.save_pretrained(tmp_path / "plain")
    flat = torch.cat([p.detach().flatten() for p in model.parameters()])
    start = 0
    for parameter in model.parameters():
        parameter.data = flat[start : start + parameter.numel()].view(parameter.shape)
        start += parameter.numel()
    model.save_pretrained(tmp_path / "flat")
    files = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("plain", "flat")]
    assert files[0] == files[1]


def test_failed_write_leaves_the_old_checkpoint(tmp_path, monkeypatch):
    ours(BertModel, 1).save_pretrained(tmp_path)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}

    def full_disk(path, content):
        with open(path, "wb") as file:
            file.write(content[: len(content) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full_disk)
    with pytest.raises(UserError, match="No space left"):
        ours(BertModel, 2).save_pretrained(tmp_path)
    with pytest.raises(UserError, match="cannot write the checkpoint"):
        ours(BertModel).save_pretrained(tmp_path / "config.json" / "folder")
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_fresh_weights():
    torch.manual_seed(0)
    model = BertForMaskedLM(BertConfig(vocab_size=500, hidden_size=96, num_hidden_layers=1, intermediate_size=384))
    for module in model.modules():
        if isinstance(module, nn.Linear):
            n = module.weight.numel()
            assert module.weight.std().item() == pytest.approx(0.02, rel=5 / (2 * n) ** 0.5)  # 5 sigma
            assert not module.bias.any()
        elif isinstance(module, nn.LayerNorm):
            assert torch.equal(module.weight, torch.ones(96))
            assert not module.bias.any()
    words = model.bert.word_embedding.weight
    assert not words[0].any()  # [PAD]
    assert words[1:].std().item() == pytest.approx(0.02, rel=0.02)


# ---- bad checkpoints ------------------------------------------------------------------------------------------------


def test_wrong_shape_and_type(folder):
    rewrite(folder, lambda t: {**t, "embeddings.LayerNorm.weight": torch.ones(23)})
    assert "embeddings.LayerNorm.weight (expected [24], found [23])" in refusal(folder)
    rewrite(folder, lambda t: {**t, "embeddings.word_embeddings.weight": torch.ones(61)})
    assert "embeddings.word_embeddings.weight (expected [61, 24], found [61])" in refusal(folder)
    rewrite(folder, lambda t: {**t, "embeddings.word_embeddings.weight": torch.ones(61, 24, dtype=torch.int8)})
    assert "embeddings.word_embeddings.weight (expected floats, found int8)" in refusal(folder)


def test_keys_without_home(folder):
    extra = {f"sentiment.{n}": torch.ones(1) for n in range(8)}
    rewrite(folder, lambda t: {**t, **extra})
    message = refusal(folder)
    assert (
        "no place in the model: sentiment.0, sentiment.1, sentiment.2, sentiment.3, sentiment.4 and 3 more" in message
    )


def test_missing_parameters(folder):
    rewrite(folder, lambda t: {k: v for k, v in t.items() if "layer.0" not in k})
    message = refusal(folder)
    assert "missing: encoder.layer.0.attention.self.query.weight" in message
    assert "and 11 more" in message  # a layer has 16 parameters


def test_missing_files(folder):
    (folder / "model.safetensors").unlink()
    assert "neither model.safetensors nor pytorch_model.bin" in refusal(folder)
    (folder / "config.json").unlink()
    assert "config.json: no such file" in refusal(folder)


# ---- config ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_act": "gelu_new"}, "hidden_act is 'gelu_new'"),
        ({"hidden_act": "relu"}, "hidden_act is 'relu'"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type is 'relative_key'"),
        ({"model_type": "roberta"}, "model_type is 'roberta'"),
        ({"is_decoder": True}, "is_decoder is True"),
        ({"num_attention_heads": 5}, "hidden_size 24 is not divisible by num_attention_heads 5"),
        ({"hidden_size": "24"}, "hidden_size is '24', expected int"),
        ({"hidden_size": 24.0}, "hidden_size is 24.0, expected int"),
        ({"num_hidden_layers": True}, "num_hidden_layers is True, expected int"),
        ({"num_hidden_layers": 0}, "num_hidden_layers is 0, out of range"),
        ({"vocab_size": None}, "vocab_size is None"),
        ({"hidden_dropout_prob": 1.5}, "hidden_dropout_prob is 1.5, out of range"),
        ({"layer_norm_eps": float("nan")}, "not JSON: 'NaN' is no number of JSON"),
        ({"layer_norm_eps": -1e-12}, "layer_norm_eps is -1e-12, out of range"),
        ({"initializer_range": 1e39}, "initializer_range is 1e+39, out of range: at least 0, below 1"),
        ({"pad_token_id": 61}, "pad_token_id 61 is outside"),
        ({"hidden_size": -24}, "hidden_size is -24, out of range"),
        ({"hidden_size": 10**9}, "hidden_size is 1000000000, out of range: at least 1, below 16777216"),
        ({"vocab_size": 10**19}, "vocab_size is 10000000000000000000, out of range"),
        ({"max_position_embeddings": 2**63}, "max_position_embeddings is 9223372036854775808, out of range"),
        ({"num_hidden_layers": 10**6}, "num_hidden_layers is 1000000, out of range: at least 1, below 1000"),
        ({"hidden_act": "x" * 10**4}, "xxx..., but this is BERT with hidden_act 'gelu'"),
        ({"vocab_size": 10**7}, "config.json says vocab_size 10000000, the tensors 61;"),
        ({"num_hidden_layers": 900}, "config.json says num_hidden_layers 900, the tensors 2;"),
        ({"hidden_size": 27, "intermediate_size": 7}, "says hidden_size 27, the tensors 24; intermediate_size 7, the"),
        ({"max_position_embeddings": 31}, "config.json says max_position_embeddings 31, the tensors 32;"),
        ({"type_vocab_size": 10**6}, "config.json says type_vocab_size 1000000, the tensors 2;"),
    ],
)
def test_config_refusals(folder, monkeypatch, change, message):
    """Before a model is built: 900 layers take seconds, a million hours."""
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    monkeypatch.setattr(BertModel, "__init__", lambda *_: pytest.fail("a model is built"))
    assert message in refusal(folder)


@pytest.mark.parametrize("text", ["", "{", "[1]", "not json", '{"hidden_size": 24}'])
def test_config_that_is_none(folder, text):
    (folder / "config.json").write_text(text)
    assert "config.json" in refusal(folder)
    (folder / "config.json").write_bytes(b"\xff\xfe\0")
    assert "not JSON" in refusal(folder)


def test_old_config_gets_bert_s_custom(tmp_path):
    """The first releases wrote neither model_type nor layer_norm_eps nor pad_token_id."""
    values = {k: v for k, v in SIZES.items() if k != "initializer_range"}
    (tmp_path / "config.json").write_text(json.dumps({**values, "hidden_act": "gelu", "extra": [1]}))
    assert BertConfig.from_file(tmp_path / "config.json") == BertConfig(**values)
