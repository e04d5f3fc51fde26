"""What a3 must give: embedding, layers in a row, pooler, in numpy, and what known mistakes give."""

import numpy as np

from assignments.school import reference as R
from assignments.school.judging import Check

EPS = 1e-5
WRONG_EMBED = {
    "no words": "the word embeddings are missing from the sum",
    "no positions": "the position embeddings are missing from the sum",
    "no types": "the token-type embeddings are missing from the sum",
    "positions from 1": "positions count from 1: the first token's is 0",
    "positions are ids": "the position embedding is looked up with the token ids",
    "positions and types swapped": "the tables of positions and of token types are swapped",
    "one position": "every token gets position 0",
    "types are 1": "every token gets token type 1",
    "types are 0": "every token gets token type 0: types are not used",
    "positions go on": "positions count on from sequence to sequence: each begins with 0",
    "positions reversed": "positions count from the end",
    "no LayerNorm": "LayerNorm is missing",
    "LayerNorm of words": "LayerNorm acts on the word embeddings alone: it comes after the sum",
    "mean": "it is the mean of the three (LayerNorm hides that but for its eps)",
    "times sqrt(H)": 'the word embeddings are multiplied by sqrt(H), as in "Attention Is All You Need": BERT does not',
    "without weight": "LayerNorm's own weight and bias are not used",
    "product": "the three embeddings are multiplied: they are added",
    "sum after LayerNorm": "positions and types are added after LayerNorm",
}


def weights_of(random, H, vocabulary, positions, layers, inner):
    weights = {
        "word_embedding.weight": random.normal(size=(vocabulary, H)),
        "pos_embedding.weight": random.normal(size=(positions, H)),
        "tk_type_embedding.weight": random.normal(size=(2, H)),
        "embed_layer_norm.weight": 1 + 0.4 * random.normal(size=H),
        "embed_layer_norm.bias": 0.4 * random.normal(size=H),
        "pooler_dense.weight": random.normal(size=(H, H)) * 0.5,
        "pooler_dense.bias": random.normal(size=H) * 0.3,
    }
    for index in range(layers):
        weights |= {f"bert_layers.{index}.{name}": value for name, value in R.layer_weights(random, H, inner).items()}
    return weights


def embed(ids, positions, types, weights, but="", drop=None):
    word, pos, kind = (weights[f"{name}_embedding.weight"] for name in ("word", "pos", "tk_type"))
    drop = drop or (lambda x: x)
    norm = lambda x: R.layer_norm(x, weights["embed_layer_norm.weight"], weights["embed_layer_norm.bias"], EPS)
    places = {
        "positions from 1": positions + 1,
        "positions are ids": np.minimum(ids, len(pos) - 1),
        "one position": 0 * positions,
        "positions go on": np.minimum(np.arange(ids.size).reshape(ids.shape), len(pos) - 1),
        "positions reversed": positions.max() - positions,
    }.get(but, positions)
    kinds = {"types are 1": 0 * types + 1, "types are 0": 0 * types}.get(but, types)
    w, p, t = word[ids], pos[places], kind[kinds]
    if but == "positions and types swapped":
        p, t = pos[kinds], kind[np.minimum(places, 1)]
    w = {"no words": 0 * w, "times sqrt(H)": w * w.shape[-1] ** 0.5}.get(but, w)
    p, t = (0 * p if but == "no positions" else p), (0 * t if but == "no types" else t)
    total = {"mean": (w + p + t) / 3, "product": w * p * t}.get(but, w + p + t)
    if but == "no LayerNorm":
        return drop(total)
    if but == "LayerNorm of words" or but == "sum after LayerNorm":
        return drop(norm(w) + p + t)
    if but == "dropout before LayerNorm":
        return norm(drop(total))
    if but == "dropout on words":
        return norm(drop(w) + p + t)
    if but == "without weight":
        return drop(R.layer_norm(total, 1.0, 0.0, EPS))
    return norm(total) if but == "dropout is missing" else drop(norm(total))


def embed_inputs(random, H, B, T, two_types, p=0.0):
    sizes = {
        "hidden_size": H,
        "num_attention_heads": 2,
        "intermediate_size": H,
        "num_hidden_layers": 1,
        "vocab_size": 30,
        "max_position_embeddings": 16,
        "hidden_dropout_prob": p,
    }
    ids = random.integers(1, 30, size=(B, T))
    types = (np.arange(T) >= T // 2)[None] * np.ones((B, 1), int) if two_types else np.zeros((B, T), int)
    return {"sizes": sizes, "weights": weights_of(random, H, 30, 16, 1, H), "ids": ids, "types": types.astype(int)}


def embedding(name, inputs, probe="embed", drop=None, dialect=""):
    ids, types = inputs["ids"], inputs["types"]
    positions = np.broadcast_to(np.arange(ids.shape[1]), ids.shape)
    at = lambda but="": {"the embedding": embed(ids, positions, types, inputs["weights"], but, drop)}
    if drop is None:
        wrong = [(text, at(but)) for but, text in WRONG_EMBED.items()]
        if probe == "embed_in_eval_mode":
            wrong = [
                (
                    "dropout acts in eval mode too",
                    {"the embedding": embed(ids, positions, types, inputs["weights"], "", R.square)},
                )
            ]
        return Check(name, "embed", probe, inputs, at(), wrong, dialect=dialect)
    count = lambda but, times: {**at(but), "how often dropout acted": np.array(times)}
    wrong = [
        ("dropout acts before LayerNorm: it comes after it, last", count("dropout before LayerNorm", 1.0)),
        ("dropout acts on the word embeddings alone", count("dropout on words", 1.0)),
        ("dropout is missing", count("dropout is missing", 0.0)),
    ]
    return Check(name, "embed", "embed_dropout", inputs, count("", 1.0), wrong)


def later_positions(random):
    inputs = embed_inputs(random, 6, 2, 4, True)
    inputs["positions"] = np.array([[0, 2, 5, 9], [3, 4, 8, 15]])
    flat = [inputs[name].ravel() for name in ("ids", "positions", "types")]
    at = lambda but="": {"the embedding": embed(*flat, inputs["weights"], but)}
    counted = {"the embedding": embed(flat[0], np.arange(8), flat[2], inputs["weights"])}
    wrong = [("positions are counted here: they are given, since packed tokens stand in another order", counted)]
    return Check(
        "positions as they are given",
        "embed",
        "later_positions",
        inputs,
        at(),
        wrong + [(t, at(b)) for b, t in WRONG_EMBED.items() if b != "positions from 1"],
        dialect="ours",
    )


def encoding(name, random, layers, lengths):
    H, mask = 4, R.mask_of(lengths, max(lengths))
    sizes = {"hidden_size": H, "num_attention_heads": 2, "intermediate_size": 6, "num_hidden_layers": layers}
    weights = weights_of(random, H, 30, 16, layers, 6)
    x = random.normal(size=(*mask.shape, H)) * mask[..., None]

    def walk(order, same=False, residual=False):
        hidden = x
        for index in order:
            own = {
                key.removeprefix(f"bert_layers.{index}."): value
                for key, value in weights.items()
                if key.startswith(f"bert_layers.{index}.")
            }
            after = R.layer(x if same else hidden, mask, own, 2, EPS)
            hidden = after + hidden if residual else after
        return {"the last layer's states": hidden}

    wrong = [
        ("only the first layer runs: return after the loop, not in it", walk([0])),
        ("every layer reads the embedding: each reads what the one before it wrote", walk(range(layers), same=True)),
        (
            "each layer's input is added to its result once more: the residuals are in the layer",
            walk(range(layers), residual=True),
        ),
        ("the layers run in reversed order", walk(reversed(range(layers)))),
        ("the last layer is left out", walk(range(layers - 1))),
        ("the first layer is left out", walk(range(1, layers))),
        ("the first layer runs every time", walk([0] * layers)),
        ("the last layer runs every time", walk([layers - 1] * layers)),
        ("no layer runs: the embedding comes back", {"the last layer's states": x}),
    ]
    inputs = {"sizes": sizes, "weights": weights, "x": x, "mask": mask}
    return Check(name, "encode", "encode", inputs, walk(range(layers)), wrong)


def pooling(name, random, B, H):
    weights = weights_of(random, H, 30, 16, 1, H)
    sizes = {"hidden_size": H, "num_attention_heads": 2, "intermediate_size": H, "num_hidden_layers": 1}
    cls = random.normal(size=(B, H)) * 1.5
    inner = R.dense(cls, weights, "pooler_dense")
    at = lambda x: {"the pooled vectors": x}
    wrong = [
        ("tanh is missing", at(inner)),
        ("the dense layer is missing", at(np.tanh(cls))),
        ("tanh acts before the dense layer", at(R.dense(np.tanh(cls), weights, "pooler_dense"))),
        ("it is a sigmoid where tanh belongs", at(1 / (1 + np.exp(-inner)))),
        ("it is ReLU where tanh belongs", at(np.maximum(inner, 0))),
        ("it is GELU where tanh belongs", at(R.gelu(inner))),
        ("nothing is done: the state of [CLS] comes back", at(cls)),
    ]
    return Check(name, "pool", "pool", {"sizes": sizes, "weights": weights, "cls": cls}, at(np.tanh(inner)), wrong)


def checks(random, hidden):
    if not hidden:
        inputs = embed_inputs(random, 4, 2, 3, False, p=0.25)
        return [
            embedding("words, positions, types and LayerNorm", inputs),
            embedding("two texts, two token types", embed_inputs(random, 4, 2, 4, True), dialect="ours"),
            embedding("dropout comes last", inputs, drop=R.square),
            encoding("two layers, one after the other", random, 2, [3, 2]),
            pooling("tanh of a dense layer", random, 2, 4),
        ]
    inputs = embed_inputs(random, 6, 3, 5, False, p=0.375)
    return [
        embedding("a wider embedding", inputs),
        embedding("dropout, at another rate", inputs, drop=R.square),
        embedding("dropout is off in eval mode", inputs, "embed_in_eval_mode"),
        later_positions(random),
        encoding("three layers, one after the other", random, 3, [4, 1, 2]),
        pooling("tanh of a wider dense layer", random, 3, 6),
    ]
