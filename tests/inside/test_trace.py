"""A watched forward pass is the forward pass, to the last bit, and every step is where its name says."""

import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import bert
from bert import BertModel
from minbert.files import UserError
from minbert.inside.steps import KINDS, RESULTS
from minbert.inside.trace import batch, trace
from minbert.text.tokenization import Tokenizer

TEXTS = ("the dog was a good dog", "a film", "when does the story begin")  # 8, 4 and 11 tokens
LAYERS = (0, 1)


@pytest.fixture(scope="module")
def opened(tiny_model):
    return BertModel.from_pretrained(tiny_model), Tokenizer.from_folder(tiny_model)


@pytest.fixture(scope="module")
def one(opened):
    return trace(*opened, TEXTS[0])


@pytest.fixture(scope="module")
def three(opened):
    return trace(*opened, *TEXTS)


@pytest.mark.parametrize("texts", [TEXTS[:1], TEXTS, [TEXTS[:2]]], ids=["one", "three", "a pair"])
def test_watching_changes_no_bit(opened, texts):
    model, tokenizer = opened
    seen = trace(model, tokenizer, *texts)
    with torch.no_grad():
        alone = model(*batch(tokenizer, texts, 512))
    for name, value in alone.items():
        assert torch.equal(seen.output[name], value), name


def test_every_step_is_there_in_its_shape(three):
    B, T, N, H, A, D = 3, 11, 23, 16, 2, 8
    sizes = {
        "[B, T]": (B, T), "[N, H]": (N, H), "[N, 4H]": (N, 2 * H),  # the tiny model's inner layer is 2 H wide
        "[b, A, t, t]": (B, A, T, T), "[b, A, t, D]": (B, A, T, D), "[B, H]": (B, H),
    }  # fmt: skip
    for kind in KINDS:
        for layer in LAYERS if kind.room == "layer" else (None,):
            assert three[kind.name, layer].shape == sizes[kind.shape], kind.name
    assert len(three.steps) == len([k for k in KINDS if k.room != "layer"]) + 2 * len(
        [k for k in KINDS if k.room == "layer"]
    )


def test_without_pads_nothing_is_masked(one):
    assert not one.has("masked", 0)
    assert one.has("scores", 0)


def test_modules_gave_these_tensors(opened):
    """torch's own forward hooks, at the same time."""
    model, tokenizer = opened
    hooked, places = {}, []
    for name, module in model.named_modules():
        if isinstance(module, (nn.Linear, nn.LayerNorm, nn.Embedding)):
            places.append(
                module.register_forward_hook(lambda _, given, result, name=name: hooked.update({name: result}))
            )
    try:
        seen = trace(model, tokenizer, *TEXTS)
    finally:
        for place in places:
            place.remove()
    for name, step in RESULTS.items():
        for layer in (None,) if name in hooked else LAYERS:
            module = name if layer is None else f"bert_layers.{layer}.{name}"
            assert torch.equal(seen[step, layer], hooked[module]), module


def test_the_steps_follow_from_each_other(three):
    """The equations of bert.py, on what was seen, to the last bit."""
    assert torch.equal(three["sum"], three["word"] + three["position"] + three["type"])
    given = three["embedded"]
    for layer in LAYERS:
        seen = {name: three[name, layer] for name, of in three.steps if of == layer}
        assert torch.equal(seen["softmax"], seen["masked"].softmax(dim=-1))
        assert torch.equal(seen["residual"], given + seen["dense"])
        assert torch.equal(seen["gelu"], F.gelu(seen["inner"]))
        assert torch.equal(seen["residual2"], seen["norm"] + seen["outer"])
        hidden = seen["masked"] == -math.inf
        assert torch.equal(hidden.all(dim=2)[:, 0], ~three.mask[[1, 0, 2]].bool())  # the shortest comes first
        assert torch.equal(seen["scores"][~hidden], seen["masked"][~hidden])
        given = seen["norm2"]
    assert torch.equal(three["pooled"], three.output["pooler_output"])


@pytest.mark.parametrize("text", [0, 1, 2])
def test_parts_are_those_of_a_text(three, text):
    """Sequences are packed by length, so that a text's place is not its number."""
    length = len(three.tokens(text))
    last = three.part("norm2", 1, text)
    assert torch.equal(last, three.output["last_hidden_state"][text, :length])
    assert torch.equal(three.part("cls", text=text), last[0])
    for head in (0, 1):
        q, k, v = (three.part(name, 1, text, head) for name in ("query", "key", "value"))
        assert q.shape == (length, 8)
        scores = three.part("scores", 1, text, head)[:, :length]
        torch.testing.assert_close(scores, q @ k.T / math.sqrt(8))
        attention = three.part("softmax", 1, text, head)
        torch.testing.assert_close(attention.sum(dim=-1), torch.ones(length))
        torch.testing.assert_close(three.part("mixture", 1, text, head), attention[:, :length] @ v)


def test_long_texts_go_in_blocks_of_their_own(opened):
    texts = "dog " * 200, "cat " * 150
    seen = trace(*opened, *texts)
    assert [tensor.shape[-1] for tensor in seen["softmax", 0]] == [152, 202]
    for text, length in enumerate((202, 152)):
        assert seen.part("softmax", 1, text, 0).shape == (length, length)


def test_the_code_is_the_source(three):
    lines = Path(bert.__file__).read_text(encoding="utf-8").splitlines()
    for (name, layer), step in three.steps.items():
        code = three.code(name, layer)
        assert code.file == "bert.py"
        assert [line.strip() for line in code.text.splitlines()] == [
            line.strip() for line in lines[code.first - 1 :][: len(code.text.splitlines())]
        ]
        assert step.code == code


@pytest.mark.parametrize(
    ("name", "layer", "function", "words"),
    [
        ("ids", None, "BertModel.forward", "from_padded"),
        ("sum", None, "BertModel.embed", "total = "),
        ("query", 0, "BertSelfAttention.forward", "self.query(x)"),
        ("scores", 1, "BertSelfAttention.plain_attention", "k.transpose(-2, -1)"),
        ("masked", 1, "BertSelfAttention.plain_attention", "masked_fill"),
        ("softmax", 1, "BertSelfAttention.plain_attention", "softmax"),
        ("mixture", 0, "BertSelfAttention.plain_attention", "@ v"),
        ("gelu", 0, "BertLayer.after_attention", "F.gelu"),
        ("cls", None, "BertModel.forward", "tokens.packing.first"),
        ("pooled", None, "BertModel.pool", "tanh"),
    ],
)
def test_the_code_made_it(three, name, layer, function, words):
    code = three.code(name, layer)
    assert code.function == function
    assert words in code.text
    assert str(code).startswith(f"bert.py:{code.first}, {function}\n")


class Otherwise(bert.BertSelfAttention):
    """The same attention in other words, as a student may write it."""

    def plain_attention(self, q, k, v, is_pad):
        scores = torch.einsum("bhqd,bhkd->bhqk", q, k) / math.sqrt(q.shape[-1])
        if is_pad is not None:
            scores = scores.masked_fill(is_pad, -math.inf)
        return torch.einsum("bhqk,bhkd->bhqd", F.softmax(scores, dim=-1), v)

    def forward(self, x, packing):
        return super().forward(x, packing)


def test_somebody_else_s_model_is_watched(opened, three):
    model, tokenizer = BertModel(opened[0].config), opened[1]
    for layer in model.bert_layers:
        layer.self_attention = Otherwise(model.config)
    model.load_state_dict(opened[0].state_dict())
    seen = trace(model, tokenizer, *TEXTS)
    for name in ("scores", "softmax", "mixture"):
        torch.testing.assert_close(seen[name, 1], three[name, 1], atol=1e-5, rtol=1e-4)
    assert seen.code("softmax", 0).file == "test_trace.py"
    assert "einsum" in seen.code("mixture", 0).text


def test_a_model_in_training_goes_on_training(opened):
    model, tokenizer = opened
    expected = trace(model, tokenizer, TEXTS[0])
    model.train()
    try:
        seen = trace(model, tokenizer, TEXTS[0])
        assert all(module.training for module in model.modules())
    finally:
        model.eval()
    assert torch.equal(seen["norm2", 1], expected["norm2", 1])  # without dropout


def test_tokens_and_types_of_a_pair(opened):
    seen = trace(*opened, ("a dog", "a cat"))
    assert seen.tokens() == ["[CLS]", "a", "dog", "[SEP]", "a", "cat", "[SEP]"]
    assert seen.types.tolist() == [[0, 0, 0, 0, 1, 1, 1]]


@pytest.mark.parametrize(
    ("texts", "told"),
    [
        ((), "no text to look at"),
        (("  ",), "the text '  ' is empty"),
        (("\u200b",), "no token that this model reads"),
        (("dog " * 600,), "more than 512 tokens"),
        (("a \udcff",), "is not UTF-8"),
        ((("a", ""),), "is empty"),
    ],
)
def test_mistakes(opened, texts, told):
    with pytest.raises(UserError, match=told):
        trace(*opened, *texts)


def test_fused_attention_keeps_no_scores(tiny_model, opened):
    fused = BertModel.from_pretrained(tiny_model, attention="fused")
    with pytest.raises(UserError, match="keeps no scores"):
        trace(fused, opened[1], TEXTS[0])


def test_a_name_that_is_none_is_answered_with_those_there_are(one):
    with pytest.raises(KeyError, match=r"there are .*word.* in layers 0 to 1"):
        one["scores"]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_model_on_a_gpu_is_watched_from_here(tiny_model, opened, three):
    seen = trace(BertModel.from_pretrained(tiny_model).cuda(), opened[1], *TEXTS)
    for name, layer in three.steps:
        assert seen[name, layer].device.type == "cpu"
        torch.testing.assert_close(seen[name, layer], three[name, layer], atol=1e-4, rtol=1e-3)
    assert torch.equal(seen.part("norm2", 1, 2), seen.output["last_hidden_state"][2])
