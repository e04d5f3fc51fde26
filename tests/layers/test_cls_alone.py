"""The last layer for [CLS] alone: the same states and gradients as the whole layer's, with B rows in place of N."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from reference import tiny_config
from torch import nn

import multitask_classifier
from bert import BertModel
from datasets import TASKS
from minbert import evaluation
from minbert.layers.cls_alone import encode_cls
from minbert.layers.packing import Packing
from minbert.methods.objective import FrozenEmbeddings
from minbert.text.tokenization import Sequences

LENGTHS = {"in several blocks": 50 * [5, 1, 9, 3, 24, 5, 20], "of one length": [4, 4, 4], "one sequence": [7]}


def bert_and_embedded(lengths, attention="plain"):
    torch.manual_seed(0)
    bert = BertModel(tiny_config(), attention).double().eval()
    for parameter in bert.parameters():
        nn.init.normal_(parameter, std=0.3)
    return bert, torch.randn(sum(lengths), bert.config.hidden_size, dtype=torch.double, requires_grad=True)


@pytest.mark.parametrize("attention", ["plain", "fused"])
@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
def test_states_and_gradients_are_those_of_the_whole_layer(lengths, attention):
    bert, embedded = bert_and_embedded(lengths, attention)
    packing = Packing(lengths)
    read = torch.randn(len(lengths), bert.config.hidden_size, dtype=torch.double)
    found = []
    for states in (bert.encode(embedded, packing)[packing.first], encode_cls(bert, embedded, packing)):
        weights = dict(bert.bert_layers.named_parameters())
        gradients = torch.autograd.grad((states * read).sum(), [embedded, *weights.values()])
        found.append([states, *gradients])
    for whole, alone in zip(*found, strict=True):
        torch.testing.assert_close(alone, whole, rtol=0, atol=1e-11)


def test_what_follows_attention_sees_a_row_a_sequence():
    lengths = LENGTHS["in several blocks"]
    bert, embedded = bert_and_embedded(lengths)
    rows = []
    for layer in bert.bert_layers:
        layer.interm_dense.register_forward_hook(lambda _, inputs, __: rows.append(len(inputs[0])))
    packing = Packing(lengths)
    assert len(packing.blocks) > 1
    encode_cls(bert, embedded, packing)
    assert rows == [sum(lengths)] * (len(bert.bert_layers) - 1) + [len(lengths)]


@pytest.fixture
def asked(monkeypatch):
    """calls: how often the last layer was asked for [CLS] alone; model(...): one that is asked."""
    calls = []
    monkeypatch.setattr(multitask_classifier, "encode_cls", lambda *given: calls.append(1) or encode_cls(*given))

    def made(**choices):
        torch.manual_seed(0)
        bert = BertModel(tiny_config())
        return multitask_classifier.MultitaskBERT(bert, {"sst": TASKS["sst"]}, **choices).eval()

    return SimpleNamespace(model=made, calls=calls)


@pytest.fixture
def sequences():
    lengths = LENGTHS["in several blocks"]
    ids = np.random.default_rng(0).integers(1, tiny_config().vocab_size, sum(lengths))
    return Sequences(ids, np.zeros_like(ids), np.cumsum([0, *lengths]))


def test_scoring_asks_for_cls_alone_and_training_in_fp32_for_everything(asked, sequences):
    model = asked.model()
    learned = model.embed({"sst": sequences})["sst"]
    assert asked.calls == []
    scored = evaluation.embeddings(model, "sst", sequences)
    assert asked.calls == [1]
    torch.testing.assert_close(scored, learned, rtol=0, atol=1e-6)


def test_what_is_learned_from_keeps_its_bits(asked, sequences):
    model = asked.model()
    splits = {split: SimpleNamespace(sequences=sequences) for split in ("train", "dev")}
    frozen = FrozenEmbeddings(model, {"sst": splits})
    whole = model.embed({"sst": sequences})["sst"]
    assert torch.equal(frozen.of("sst", "train"), whole)
    assert torch.equal(evaluation.embeddings(model, "sst", sequences, to_learn_from=True), whole)
    assert asked.calls == []
    frozen.of("sst", "dev")
    assert asked.calls == [1]


def test_bf16_asks_for_cls_alone_and_a_mean_reads_everything(asked, sequences):
    asked.model(precision="bf16").embed({"sst": sequences})
    assert asked.calls == [1]
    evaluation.embeddings(asked.model(pooling="mean"), "sst", sequences)
    assert asked.calls == [1]
