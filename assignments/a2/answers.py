"""What a2 must give: self-attention and the layer in numpy, and what known mistakes give."""

import numpy as np

from assignments.school import reference as R
from assignments.school.judging import Check

WRONG_ATTENTION = {
    "merged without transpose": "the heads are put side by side without the transpose back to [b, t, A, D]",
    "merged D before A": "the heads are merged with D before A: their numbers are interleaved",
    "heads in reversed order": "the heads are put side by side in reversed order",
    "split without transpose": "[b, t, H] is viewed as [b, A, t, D] at once: view it as [b, t, A, D], then transpose",
    "heads interleaved": "[b, t, H] is viewed as [b, t, D, A]: a head's D numbers stand next to each other",
    "query and key swapped": "query and key are swapped",
    "split and merged without transpose": "[b, t, H] is viewed as [b, A, t, D] at once, and back: view it as "
    "[b, t, A, D], then transpose",
    "values are x": "the values are x itself: they come from self.value",
    "values from key": "the values come from self.key",
    "values from query": "the values come from self.query",
    "keys from query": "the keys come from self.query",
    "keys from value": "the keys come from self.value",
    "queries from value": "the queries come from self.value",
    "key and value swapped": "key and value are swapped",
    "query and value swapped": "query and value are swapped",
    "mask missing": "pads of the block get attention: block.is_pad is not passed on",
    "mask missing in the block": "pads of the block get attention: block.is_pad is not passed on",
    "a residual too many": "x is added here already: the residual belongs to the layer",
    "mean over heads": "the heads are averaged: they belong side by side",
    "unscaled": "the scores are not divided by sqrt(D)",
}
WRONG_LAYER = {
    "norms swapped": "the two LayerNorms are swapped",
    "one norm for both": "attention_layer_norm is used for both sums",
    "the second norm for both": "out_layer_norm is used for both sums",
    "pre-norm": "LayerNorm comes before each part (pre-norm, as in GPT-2): BERT's comes after each sum",
    "attention: no residual": "x is not added to the attention (no first residual connection)",
    "out: no residual": "y is not added to the feed-forward's output (no second residual connection)",
    "second residual from x": "the second sum adds the layer's input x: it adds y, the result of the first",
    "attention: no dense": "attention_dense is missing",
    "attention: no LayerNorm": "the first LayerNorm is missing",
    "out: no LayerNorm": "the second LayerNorm is missing",
    "attention: LayerNorm before the sum": "the first LayerNorm acts before x is added: it comes after the sum",
    "out: LayerNorm before the sum": "the second LayerNorm acts before y is added: it comes after the sum",
    "tanh gelu": "GELU is the tanh approximation: BERT's is the exact one",
    "relu": "it is ReLU where GELU belongs",
    "silu": "it is SiLU where GELU belongs",
    "tanh": "it is tanh where GELU belongs",
    "sigmoid for gelu": "it is a sigmoid where GELU belongs",
    "gelu with 1.702": "GELU is the approximation x sigmoid(1.702 x): BERT's is the exact one",
    "no gelu": "GELU is missing",
    "gelu at the end": "GELU acts after out_dense: it stands between the two dense layers",
    "gelu twice": "GELU acts twice",
    "no feed forward": "the feed-forward part is missing",
    "no attention": "the attention part is missing",
    "feed forward reads attention": "the feed-forward part reads the attention in place of y",
    "attention: the output is the residual": "what is added and what goes through dense are swapped",
}
PLACES = {
    "dropout is missing": "{} dropout is missing",
    "dropout on the sum": "{} dropout acts on the sum, the residual included: it belongs on dense's output",
    "dropout at the end": "{} dropout acts after LayerNorm: it belongs on the dense layer's output",
    "dropout before dense": "{} dropout acts before the dense layer: it belongs after it",
    "dropout on the residual": "{} dropout acts on the residual: it belongs on the dense layer's output",
}


def sizes_of(A, D, inner, p=0.0):
    return {"hidden_size": A * D, "num_attention_heads": A, "intermediate_size": inner, "hidden_dropout_prob": p}


def batch(random, lengths, H):
    T = max(lengths)
    mask = R.mask_of(lengths, T)
    return {"x": random.normal(size=(len(lengths), T, H)) * mask[..., None], "mask": mask}


def attention(name, random, A, D, lengths, probe="self_attention"):
    H = A * D
    inputs = {"sizes": sizes_of(A, D, H), "weights": R.attention_weights(random, H), **batch(random, lengths, H)}
    made = lambda but="": {"the result": R.self_attention(inputs["x"], inputs["mask"], inputs["weights"], A, but)}
    wrong = [(text, made(but)) for but, text in WRONG_ATTENTION.items()]
    if probe == "in_small_blocks":
        text = "the blocks' results stand in reversed order: they belong in that of packing.blocks"
        wrong.append((text, {"the result": blocks_reversed(made()["the result"], lengths)}))
    if len(lengths) > 1 and probe != "alone":
        wrong += [
            (
                "rows come back in another order: the blocks' results must stand in packed order",
                {"the result": made()["the result"][::-1]},
            )
        ]
    return Check(name, "self_attention", probe, inputs, made(), wrong)


def blocks_reversed(result, lengths):
    """The result [B, T, H] with the tokens of the longest sequence, a block of its own, before the shorter ones'."""
    order = np.argsort(lengths, kind="stable")  # of packed sequences
    rows = [result[i, : lengths[i]] for i in order]
    packed, found, start = np.concatenate([rows[-1], *rows[:-1]]), np.zeros_like(result), 0
    for i in order:
        found[i, : lengths[i]] = packed[start : start + lengths[i]]
        start += lengths[i]
    return found


def layer_inputs(random, A, D, inner, lengths, p=0.0):
    H = A * D
    return {
        "sizes": sizes_of(A, D, inner, p),
        "weights": R.layer_weights(random, H, inner),
        **batch(random, lengths, H),
    }


def layer_result(inputs, but="", drop=None):
    heads, eps = inputs["sizes"]["num_attention_heads"], 1e-5
    return {"the result": R.layer(inputs["x"], inputs["mask"], inputs["weights"], heads, eps, but, drop)}


def layer(name, inputs):
    wrong = [(text, layer_result(inputs, but)) for but, text in WRONG_LAYER.items()]
    return Check(name, "layer", "layer", inputs, layer_result(inputs), wrong, weight=2)


def layer_dropout(name, inputs):
    at = lambda but="", times=2.0: {**layer_result(inputs, but, R.square), "how often dropout acted": np.array(times)}
    wrong = []
    for part, said in (("attention", "the first sum's"), ("out", "the second sum's")):
        wrong += [
            (text.format(said), at(f"{part}: {but}", 1.0 if "missing" in but else 2.0)) for but, text in PLACES.items()
        ]
    wrong.append(("there is no dropout", {**layer_result(inputs), "how often dropout acted": np.array(0.0)}))
    wrong.append(("a third dropout acts after GELU: there are two, one before each sum", at("dropout after GELU", 3.0)))
    both = lambda but: at(f"both: {but}")
    wrong += [(text.format("each sum's"), both(but)) for but, text in PLACES.items() if "missing" not in but]
    return Check(name, "layer", "layer_dropout", inputs, at(), wrong, weight=2)


def layer_in_eval(inputs):
    always = layer_result(inputs, drop=R.square)
    return Check(
        "dropout is off in eval mode",
        "layer",
        "layer_in_eval_mode",
        inputs,
        layer_result(inputs),
        [("dropout acts in eval mode too", always)],
    )


def layer_gradient(inputs, random):
    w = random.normal(size=inputs["x"].shape)
    total = lambda x: float((layer_result({**inputs, "x": x})["the result"] * w).sum())
    found = R.derivative(total, inputs["x"]) * inputs["mask"][..., None]
    return Check(
        "x gets its gradient",
        "layer",
        "gradient",
        {**inputs, "w": w},
        {"the gradient of x": found},
        [("no gradient comes through: a detach, .data or no_grad cuts it off", {"the gradient of x": 0 * found})],
        tolerance=1e-6,
    )


def add_norm_inputs(random, H, p=0.0):
    inputs = layer_inputs(random, 2, H // 2, H, [3, 3], p)
    return {**inputs, "output": random.normal(size=inputs["x"].shape)}


def add_norm(name, inputs, drop=None):
    at = lambda but="": R.add_norm(inputs["x"], inputs["output"], inputs["weights"], "attention", 1e-5, but, drop)
    if drop is None:
        plain = {key: text for key, text in WRONG_LAYER.items() if key.startswith("attention: ")}
        wrong = [(text, {"the result": at(but)}) for but, text in plain.items()]
        return Check(name, "add_norm", "add_norm", inputs, {"the result": at()}, wrong)
    told = lambda but, times: {"the result": at(but), "how often dropout acted": np.array(times)}
    wrong = [
        (text.format("add_norm's"), told(f"attention: {but}", 0.0 if "missing" in but else 1.0))
        for but, text in PLACES.items()
    ]
    return Check(name, "add_norm", "add_norm_dropout", inputs, told("", 1.0), wrong)


def checks(random, hidden):
    if not hidden:
        inputs = layer_inputs(random, 2, 2, 8, [3, 2], p=0.25)
        norm = add_norm_inputs(random, 4, 0.25)
        return [
            attention("two heads, one sequence", random, 2, 3, [3]),
            attention("sequences of different lengths", random, 2, 2, [4, 1, 3]),
            attention("three sequences in two blocks", random, 2, 2, [2, 4, 2], "in_small_blocks"),
            add_norm("the sum and its LayerNorm", norm),
            add_norm("dropout acts on the dense layer's output", norm, R.square),
            layer("the whole layer", inputs),
            layer_dropout("dropout acts on the dense layers' outputs", inputs),
        ]
    inputs = layer_inputs(random, 3, 2, 10, [4, 2, 3], p=0.375)
    norm = add_norm_inputs(random, 6, 0.375)
    return [
        attention("three heads, five sequences in four blocks", random, 3, 2, [2, 5, 1, 5, 3], "in_small_blocks"),
        attention("two heads, four sequences", random, 2, 3, [2, 4, 1, 4]),
        attention("each sequence by itself", random, 2, 3, [3, 2], probe="alone"),
        add_norm("the sum and its LayerNorm, wider", norm),
        add_norm("dropout, at another rate", norm, R.square),
        layer("the whole layer, three heads", inputs),
        layer_dropout("dropout, at another rate", inputs),
        layer_in_eval(inputs),
        layer_gradient(layer_inputs(random, 2, 2, 5, [2, 3]), random),
    ]
