"""Layer-wise learning-rate decay: optimizer.parameter_groups with layer_decay below 1."""

import pytest
import torch

from base_bert import BertConfig
from bert import BertModel
from optimizer import AdamW, learning_rate_factor, parameter_groups, set_learning_rate

EMBEDDINGS = ["word_embedding", "pos_embedding", "tk_type_embedding", "embed_layer_norm"]
CONFIG = BertConfig(
    vocab_size=11,
    hidden_size=4,
    num_hidden_layers=12,  # two digits: bert_layers.1 and bert_layers.11 differ
    num_attention_heads=2,
    intermediate_size=8,
    max_position_embeddings=6,
)


class Model(torch.nn.Module):
    """A trunk under `bert.`, with a head."""

    def __init__(self):
        super().__init__()
        self.bert = BertModel(CONFIG)
        self.heads = torch.nn.ModuleDict({"sst": torch.nn.Linear(4, 5)})


@pytest.mark.parametrize("make", [Model, lambda: BertModel(CONFIG)], ids=["under bert.", "the trunk itself"])
@pytest.mark.parametrize("decay_everything", [True, False])
def test_each_parameter_gets_the_rate_of_its_layer(make, decay_everything):
    model = make()
    groups = parameter_groups(model, 0.01, decay_everything, lr=2.0, layer_decay=0.5)
    rate = {id(p): group["lr"] for group in groups for p in group["params"]}
    decay = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    assert len(rate) == sum(len(group["params"]) for group in groups) == len(list(model.parameters()))
    trunk = getattr(model, "bert", model)
    expected = {id(p): 2.0 for p in model.parameters()}  # pooler and heads
    for name in EMBEDDINGS:
        expected |= {id(p): 2.0 * 0.5**13 for p in getattr(trunk, name).parameters()}
    for number, layer in enumerate(trunk.bert_layers, start=1):
        expected |= {id(p): 2.0 * 0.5 ** (13 - number) for p in layer.parameters()}
    assert rate == expected  # powers of two: exact
    assert decay == {id(p): 0.01 if decay_everything or p.ndim > 1 else 0.0 for p in model.parameters()}
    assert len(groups) == 14 * (1 if decay_everything else 2)
    assert [group["lr"] for group in groups] == sorted(group["lr"] for group in groups)


def test_no_decay_is_what_it_was():
    model = Model()
    for decay_everything in (True, False):
        plain = parameter_groups(model, 0.01, decay_everything)
        told = parameter_groups(model, 0.01, decay_everything, lr=1e-3, layer_decay=1.0)
        assert [list(group) for group in told] == [["params", "weight_decay"]] * (1 if decay_everything else 2)
        assert [[id(p) for p in group["params"]] for group in told] == [[id(p) for p in g["params"]] for g in plain]
        assert [group["weight_decay"] for group in told] == [0.01, 0.0][: len(told)]
    assert [id(p) for p in parameter_groups(model, 0.01)[0]["params"]] == [id(p) for p in model.parameters()]


def test_updates_shrink_towards_the_embeddings_under_a_schedule():
    """AdamW's first step is lr * sign(gradient), so each parameter moves by its own rate."""
    model = Model()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = AdamW(parameter_groups(model, 0.0, lr=0.1, layer_decay=0.5), lr=0.1, eps=0.0)
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    set_learning_rate(optimizer, learning_rate_factor("linear", 5, 10))  # half of the way down
    optimizer.step()
    moved = {name: (before[name] - p.detach()).mean().item() for name, p in model.named_parameters()}
    assert moved["heads.sst.weight"] == pytest.approx(0.05, rel=1e-5)
    assert moved["bert.pooler_dense.bias"] == pytest.approx(0.05, rel=1e-5)
    assert moved["bert.bert_layers.11.out_dense.weight"] == pytest.approx(0.025, rel=1e-5)
    assert moved["bert.bert_layers.10.self_attention.query.bias"] == pytest.approx(0.0125, rel=1e-5)
    assert moved["bert.word_embedding.weight"] == pytest.approx(0.05 * 0.5**13, rel=1e-2)  # float32: small beside p


@pytest.mark.parametrize("wrong", [{"lr": 1.0, "layer_decay": 0.0}, {"lr": 1.0, "layer_decay": 1.1}])
def test_out_of_range(wrong):
    with pytest.raises(ValueError, match="at most 1"):
        parameter_groups(Model(), 0.0, **wrong)


def test_needs_a_rate():
    with pytest.raises(ValueError, match="needs lr"):
        parameter_groups(Model(), 0.0, layer_decay=0.9)
