"""bert.py from part to whole: embedding, attention, layer, model, masked-LM head.

Each part first meets what is known of its mistakes (says_why.py), so that the first failure names the cause; then
hand-written references, transformers and committed snapshots.
"""

import contextlib
import copy
import math
from pathlib import Path

import numpy as np
import pytest
import says_why
import torch
import torch.nn.functional as F
import transformers
from real_data import needs, real
from reference import random_batch, random_pair, random_theirs, tiny_config
from torch import nn

from base_bert import to_hugging_face
from bert import BertForMaskedLM, BertLayer, BertModel, BertSelfAttention
from datasets import TASKS, read
from minbert import hub
from minbert.files import UserError
from minbert.layers.dropout import Dropout
from minbert.layers.packing import Packing, from_padded
from minbert.text.tokenization import Tokenizer

GOLDEN = Path(__file__).parent / "golden" / "bert.pt"
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


@pytest.fixture(params=DEVICES)
def device(request):
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    return request.param


def noisy(module, seed=0):
    """Weights that hide nothing: std 0.2 for matrices, noise on biases and LayerNorms."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            noise = 0.2 * torch.randn(parameter.shape, generator=generator)
            parameter.copy_(noise if parameter.dim() > 1 else parameter + noise)
    return module


# ------------------------------------------------------------------------------------------------------- the embedding


def test_embedding():
    says_why.assert_right("a3", "embed")


def test_embedding_by_hand(device):
    model = noisy(BertModel(tiny_config())).double().eval()
    ids, positions, types = torch.tensor([5, 9, 5]), torch.tensor([0, 1, 0]), torch.tensor([0, 1, 1])
    total = torch.stack(
        [
            model.word_embedding.weight[i] + model.pos_embedding.weight[p] + model.tk_type_embedding.weight[t]
            for i, p, t in zip(ids, positions, types, strict=True)
        ]
    )
    centred = total - total.mean(-1, keepdim=True)
    normal = centred / (centred.pow(2).mean(-1, keepdim=True) + model.config.layer_norm_eps).sqrt()
    expected = normal * model.embed_layer_norm.weight + model.embed_layer_norm.bias
    out = copy.deepcopy(model).to(device).embed(ids.to(device), positions.to(device), types.to(device))
    says_why.same("the embedding [N, H]", out, expected, 1e-12)


# ----------------------------------------------------------------------------------------------------------- attention


def test_attention():
    """softmax(Q K^T / sqrt(D)) V: scale, mask, softmax, dropout, gradients, and that nothing is changed in place."""
    says_why.assert_right("a1", "attention")


def test_self_attention():
    """Query, key and value, heads split and merged, each sequence by itself."""
    says_why.assert_right("a2", "self_attention")


def test_attention_equals_a_loop_over_sequences_heads_and_tokens(device):
    """softmax(q . k / sqrt(D)) v, spelled out in numpy in float64, one query at a time."""
    config = tiny_config()
    attention = noisy(BertSelfAttention(config)).double().eval()
    lengths = [5, 2, 8]
    packing = Packing(lengths)
    x = torch.randn(sum(lengths), config.hidden_size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    out = copy.deepcopy(attention).to(device)(x.to(device), Packing(lengths, device)).detach().cpu().numpy()

    def dense(layer, row):
        return layer.weight.detach().numpy() @ row + layer.bias.detach().numpy()

    sequence, rows = packing.sequence, x.numpy()
    size = config.hidden_size // config.num_attention_heads
    for token in range(len(rows)):
        own = np.flatnonzero(sequence == sequence[token])
        for head in range(config.num_attention_heads):
            part = slice(head * size, (head + 1) * size)
            q = dense(attention.query, rows[token])[part]
            scores = np.array([q @ dense(attention.key, rows[other])[part] / math.sqrt(size) for other in own])
            p = np.exp(scores - scores.max()) / np.exp(scores - scores.max()).sum()
            mixed = sum(p[i] * dense(attention.value, rows[other])[part] for i, other in enumerate(own))
            says_why.same(f"the mixture of token {token} in head {head} [D]", out[token, part], mixed, 1e-12)


def test_fused_attention():
    """The same as the plain one in eval mode, with and without pads."""
    random = torch.Generator().manual_seed(4)
    q, k, v = torch.randn(3, 2, 4, 5, 6, dtype=torch.float64, generator=random)  # [b, A, t, D] each
    pads = (torch.arange(5) >= torch.tensor([[5], [3]]))[:, None, None]  # [b, 1, 1, t]
    attention = BertSelfAttention(tiny_config()).eval()
    plain, fused = attention.plain_attention, attention.fused_attention
    mistakes = [
        ("the mask is not used: pads get attention", plain(q, k, v, None)),
        ("the mask is inverted: tokens are hidden and pads attended to", plain(q, k, v, ~pads)),
        ("the scores are not divided by sqrt(D)", plain(q * math.sqrt(6), k, v, pads)),
        ("q and k are swapped", plain(k, q, v, pads)),
    ]
    says_why.same("the fused mixture of padded sequences", fused(q, k, v, pads), plain(q, k, v, pads), 1e-12, mistakes)
    says_why.same("the fused mixture without pads", fused(q, k, v, None), plain(q, k, v, None), 1e-12)


def test_fused_attention_with_dropout_is_equal_in_mean(device):
    """500 draws of each: the means agree within 5 standard errors, and are not the mean without dropout's variance."""
    config = tiny_config(attention_probs_dropout_prob=0.3)
    plain = noisy(BertSelfAttention(config)).train().to(device)
    fused = BertSelfAttention(config, "fused").train().to(device)
    fused.load_state_dict(plain.state_dict())
    lengths = [6, 3, 9]
    packing = Packing(lengths, device)
    torch.manual_seed(3)
    x = torch.randn(sum(lengths), config.hidden_size, device=device)
    with torch.no_grad():
        a = torch.stack([plain(x, packing) for _ in range(500)])
        b = torch.stack([fused(x, packing) for _ in range(500)])
        without = copy.deepcopy(plain).eval()(x, packing)
    error = (a.var(0) / 500 + b.var(0) / 500).sqrt()
    assert ((a.mean(0) - b.mean(0)) / error).abs().max() < 5
    assert ((a.mean(0) - without) / (a.var(0) / 500).sqrt()).abs().max() < 5
    assert (a.std(0) > 0).all()
    assert (b.std(0) > 0).all()
    assert (a.std(0) / b.std(0) - 1).abs().max() < 0.35


def test_attention_probabilities_have_a_dropout_rate_of_their_own():
    model = BertModel(tiny_config(hidden_dropout_prob=0.2, attention_probs_dropout_prob=0.3))
    for name, module in model.named_modules():
        if isinstance(module, Dropout):
            assert module.p == (0.3 if name.endswith("self_attention.dropout") else 0.2), f"the rate of {name}"


# ------------------------------------------------------------------------------------------------------------- a layer


def test_layer():
    """Residuals, LayerNorms, GELU, and where dropout acts."""
    says_why.assert_right("a2", "layer")


def test_layer_equals_torchs_encoder_layer(device):
    """torch.nn.TransformerEncoderLayer with the same weights (it stacks q, k, v), one sequence at a time."""
    config = tiny_config()
    layer = noisy(BertLayer(config)).double().eval()
    theirs = nn.TransformerEncoderLayer(
        config.hidden_size,
        config.num_attention_heads,
        config.intermediate_size,
        activation="gelu",
        layer_norm_eps=config.layer_norm_eps,
        batch_first=True,
        dtype=torch.float64,
    ).eval()
    attention = layer.self_attention
    with torch.no_grad():
        stacked = [attention.query, attention.key, attention.value]
        theirs.self_attn.in_proj_weight.copy_(torch.cat([p.weight for p in stacked]))
        theirs.self_attn.in_proj_bias.copy_(torch.cat([p.bias for p in stacked]))
    theirs.self_attn.out_proj.load_state_dict(layer.attention_dense.state_dict())
    theirs.norm1.load_state_dict(layer.attention_layer_norm.state_dict())
    theirs.linear1.load_state_dict(layer.interm_dense.state_dict())
    theirs.linear2.load_state_dict(layer.out_dense.state_dict())
    theirs.norm2.load_state_dict(layer.out_layer_norm.state_dict())
    x = torch.randn(1, 9, config.hidden_size, dtype=torch.float64)
    out = layer.to(device)(x[0].to(device), Packing([9], device)).cpu()
    says_why.same("the layer's output [N, H]", out, theirs(x)[0], 1e-12)


# ----------------------------------------------------------------------------------------------------------- the model


def test_encoder():
    """The layers, one after the other."""
    says_why.assert_right("a3", "encode")


def test_pooler():
    says_why.assert_right("a3", "pool")


@pytest.mark.parametrize("attention", ["plain", "fused"])
def test_snapshots(attention, device):
    """Outputs of embedding, attention, layer and model on fixed weights and inputs (tests/golden/make_golden.py)."""
    golden = torch.load(GOLDEN, weights_only=True, map_location=device)
    model = BertModel(tiny_config(), attention=attention).eval().to(device)
    model.load_state_dict(golden["weights"])
    ids, mask, types, x = (golden[name] for name in ("ids", "mask", "types", "x"))
    packing, layer = Packing(mask.sum(1).tolist(), device), model.bert_layers[0]
    with torch.no_grad():
        out = {
            "embedding": model.embed(ids[0], torch.arange(ids.shape[1], device=device), types[0]),
            "attention": layer.self_attention(x, packing),
            "layer": layer(x, packing),
            **model(ids, mask, types),
        }
    for name, value in out.items():
        says_why.same(f"{name} of the snapshot", value, golden[name], 5e-6)


def weighted_sum(out, mask, seed=5):
    """A scalar with a different gradient at every real output."""
    generator = torch.Generator().manual_seed(seed)
    hidden, pooled = out["last_hidden_state"], out["pooler_output"]
    w = torch.randn(hidden.shape, generator=generator).to(hidden) * mask.unsqueeze(-1)
    return (hidden * w).sum() + (pooled * torch.randn(pooled.shape, generator=generator).to(pooled)).sum()


@pytest.mark.parametrize("attention", ["plain", "fused"])
@pytest.mark.parametrize("lengths", [(7, 3, 12, 1, 12), (9,), (4, 4, 4), (1, 1)])
def test_outputs_and_gradients_equal_transformers(tmp_path, lengths, attention, device):
    ours, theirs = random_pair(tmp_path)
    ours = _with_attention(ours, attention).to(device)
    theirs = theirs.to(device)
    ids, mask, types = (t.to(device) for t in random_batch(lengths=lengths))
    out, expected = compare_outputs(ours, theirs, ids, mask, types)
    weighted_sum(out, mask).backward()
    weighted_sum(expected, mask).backward()
    compare_gradients(ours, theirs)


def compare_outputs(ours, theirs, ids, mask, types):
    """Every stage within 1e-5 of the reference's, from the embedding up: the first one that is not is where to look.
    Returns both models' outputs."""
    packed, cells = from_padded(ids, mask, types)
    inputs = []  # of each layer, [N, H]
    with contextlib.ExitStack() as hooks:
        for layer in ours.bert_layers:
            hooks.enter_context(layer.register_forward_pre_hook(lambda _, given: inputs.append(given[0])))
        out = ours(ids, mask, types)
    expected = theirs(input_ids=ids, attention_mask=mask, token_type_ids=types, output_hidden_states=True)
    names = ["the embedding", *(f"the output of layer {number}" for number in range(len(ours.bert_layers)))]
    untyped = [("all token types are taken for 0", ours.embed(packed.ids, packed.positions, 0 * packed.types))]
    for name, stage, known in zip(names, inputs, expected.hidden_states, strict=False):
        says_why.same(f"{name} [N, H]", stage, known.flatten(0, 1)[cells], 1e-5, untyped if stage is inputs[0] else [])
    real, hidden, pooled = mask.bool(), out["last_hidden_state"], expected.pooler_output
    says_why.same("last_hidden_state at tokens [N, H]", hidden[real], expected.last_hidden_state[real], 1e-5)
    says_why.same("last_hidden_state at pads", hidden[~real], torch.zeros_like(hidden[~real]), 0)
    shortest_first = [("rows stand in packed order, shortest first", pooled[packed.packing.order])]
    says_why.same("pooler_output [B, H]", out["pooler_output"], pooled, 1e-5, shortest_first)
    return out, {name: expected[name] for name in out}


def compare_gradients(ours, theirs):
    """Each parameter's gradient within 3e-5 of the largest of that parameter's reference."""
    reference = dict(theirs.named_parameters())
    for name, parameter in ours.named_parameters():
        grad = reference[to_hugging_face(name)].grad
        # A key's bias shifts all scores of a query alike, so its true gradient is 0: compare absolutely.
        scale = 1.0 if name.endswith("key.bias") else grad.abs().max()
        assert parameter.grad is not None, f"{name} gets no gradient"
        says_why.same(f"the gradient of {name}", parameter.grad / scale, grad / scale, 3e-5)


def _with_attention(model, kind):
    other = BertModel(model.config, attention=kind).eval()
    other.load_state_dict(model.state_dict())
    return other


@needs("cs224n")
def test_real_weights_equal_transformers_on_real_sentences_and_pairs(device):
    try:
        found = hub.find_checkpoint("minilm")
    except UserError as error:
        pytest.skip(str(error))
    ours = BertModel.from_pretrained(found.folder).to(device)
    theirs = transformers.BertModel.from_pretrained(found.folder, attn_implementation="eager").eval().to(device)
    tokenizer = Tokenizer.from_folder(found.folder)
    for name in ("sst", "quora"):
        task = TASKS[name]
        texts = read(task, real("cs224n", task.files["dev"]), "dev").texts[:64]
        sequences = tokenizer.encode(texts, 128)
        mask = torch.arange(int(sequences.lengths.max())) < torch.from_numpy(sequences.lengths)[:, None]
        ids, types = torch.zeros_like(mask, dtype=torch.long), torch.zeros_like(mask, dtype=torch.long)
        ids[mask], types[mask] = torch.from_numpy(sequences.ids).long(), torch.from_numpy(sequences.types).long()
        assert len(set(sequences.lengths)) > 10
        ours.zero_grad()
        theirs.zero_grad()
        out, expected = compare_outputs(ours, theirs, ids.to(device), mask.long().to(device), types.to(device))
        weighted_sum(out, mask.to(device)).backward()
        weighted_sum(expected, mask.to(device)).backward()
        compare_gradients(ours, theirs)


def test_position_is_the_column_even_with_holes_in_the_mask(device):
    model = noisy(BertModel(tiny_config())).eval().to(device)
    ids = torch.tensor([[5, 6, 7, 8]], device=device)
    holed = model(ids, torch.tensor([[1, 0, 1, 1]], device=device))["last_hidden_state"][0, [0, 2, 3]]
    kept = torch.tensor([0, 2, 3], device=device)
    hidden = model.embed(ids[0, kept], kept, torch.zeros_like(kept))
    says_why.same("hidden states where a column is no token", holed, model.encode(hidden, Packing([3], device)), 1e-6)


def test_defaults_are_no_pads_and_type_0(device):
    model = noisy(BertModel(tiny_config())).eval().to(device)
    ids = random_batch(lengths=(4, 4))[0].to(device)
    out = model(ids)
    same = model(ids, torch.ones_like(ids), torch.zeros_like(ids))
    other = model(ids, torch.ones_like(ids), torch.ones_like(ids))
    assert torch.equal(out["pooler_output"], same["pooler_output"]), "without mask and types: no pads, and type 0"
    assert not torch.allclose(out["pooler_output"], other["pooler_output"]), "token types are not used"


def test_result_does_not_depend_on_padding_or_company(device):
    model = noisy(BertModel(tiny_config())).eval().to(device)
    ids, mask, types = (t.to(device) for t in random_batch(lengths=(7, 3, 12, 1, 12)))
    wide = (t.to(device) for t in random_batch(lengths=(7, 3, 12, 1, 12), T=20))
    out = model(ids, mask, types)
    wide_ids, wide_mask, wide_types = wide
    wide_ids[:, :12] = torch.where(mask.bool(), ids, wide_ids[:, :12])  # other ids at the pads
    wider = model(wide_ids, wide_mask, wide_types)
    says_why.same("pooler_output with more pads", wider["pooler_output"], out["pooler_output"], 2e-6)
    for row, length in enumerate((7, 3, 12, 1, 12)):
        alone = model(ids[row : row + 1, :length], token_type_ids=types[row : row + 1, :length])
        own = {
            "pooler_output": out["pooler_output"][[row]],
            "last_hidden_state": out["last_hidden_state"][[row], :length],
        }
        for name, value in alone.items():
            says_why.same(f"{name} of sequence {row} by itself, against that in a batch", value, own[name], 2e-6)


@pytest.mark.parametrize("where", ["embed_dropout", "attention_dropout", "out_dropout", "dropout"])
def test_each_dropout_is_alive_and_only_in_training(where, device):
    rates = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    model = noisy(BertModel(tiny_config(**rates))).train().to(device)
    ids, mask, types = (t.to(device) for t in random_batch())
    still = model(ids, mask, types)["pooler_output"]
    assert torch.equal(still, model(ids, mask, types)["pooler_output"]), "something draws where all rates are 0"
    for name, module in model.named_modules():
        if name.split(".")[-1] == where:
            module.p = 0.5
    assert not torch.allclose(still, model(ids, mask, types)["pooler_output"]), f"{where} does nothing in training"
    assert torch.equal(still, model.eval()(ids, mask, types)["pooler_output"]), f"{where} acts in eval mode too"


def test_a_row_without_tokens_and_a_sequence_too_long_are_refused():
    model = BertModel(tiny_config())
    with pytest.raises(ValueError, match="at least one token"):
        model(torch.ones(2, 3, dtype=torch.long), torch.tensor([[1, 1, 0], [0, 0, 0]]))
    with pytest.raises(ValueError, match="32 positions"):
        model(torch.ones(1, 33, dtype=torch.long))
    with pytest.raises(ValueError, match="plain or fused"):
        BertModel(tiny_config(), attention="flash")


# -------------------------------------------------------------------------------------------------- the masked-LM head


@pytest.mark.parametrize("part", ["predict", "losses"])
def test_masked_lm_head(part):
    says_why.assert_right("a9", part)


def test_masked_lm_equals_transformers(tmp_path, device):
    theirs = random_theirs(tmp_path, model_class=transformers.BertForMaskedLM).to(device)
    ours = BertForMaskedLM.from_pretrained(tmp_path).to(device)
    ids, mask, types = (t.to(device) for t in random_batch())
    real = mask.bool()
    labels = torch.where(real, ids, -100)
    logits = ours(ids, mask, types)["logits"]
    expected = theirs(input_ids=ids, attention_mask=mask, token_type_ids=types, labels=labels)
    says_why.same("logits [N, V]", logits[real], expected.logits[real], 1e-5)
    loss = F.cross_entropy(logits[real], ids[real])
    assert abs(loss - expected.loss) < 1e-5
    loss.backward()
    expected.loss.backward()
    ours_grad, their_grad = ours.bert.word_embedding.weight.grad, theirs.bert.embeddings.word_embeddings.weight.grad
    largest = their_grad.abs().max()
    says_why.same("the word embedding's gradient, of both its uses", ours_grad / largest, their_grad / largest, 3e-5)
    assert "decoder" not in "".join(
        n for n, _ in ours.named_parameters() if "weight" in n
    )  # tied: no matrix of its own
