"""BERT in numpy, float64, on padded batches: what answers.py of a1, a2, a3 and a9 compute their expected values with.

Each step can be told to go wrong in a known way, by name (`but`), so that a mismatch can be compared with the mistakes
that students make. Shapes as in bert.py; a mask [B, T] is 1 for a token and 0 for a pad.
"""

import math

import numpy as np

ERF = np.vectorize(math.erf, otypes=[float])


def softmax(x, axis=-1):
    with np.errstate(invalid="ignore"):  # a row of -inf comes to NaN, as torch has it
        e = np.exp(x - np.max(x, axis=axis, keepdims=True))
        return e / e.sum(axis=axis, keepdims=True)


def gelu(x):
    return 0.5 * x * (1 + ERF(x / math.sqrt(2)))


def gelu_tanh(x):
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def layer_norm(x, weight, bias, eps, but=""):
    mean = x.mean(-1, keepdims=True)
    variance = ((x - mean) ** 2).mean(-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + eps) * weight + bias


def dense(x, weights, name):
    return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def square(x):
    """What stands in for dropout where it acts: see probing.marked_dropout."""
    return x * x


def attend(q, k, v, mask, but="", drop=None):
    """q, k, v [B, A, T, D], mask [B, T] -> [B, A, T, D]. drop: what dropout does, or None in eval mode."""
    _, A, T, D = q.shape
    drop = drop or (lambda x: x)
    if but in ("q and k are swapped",):
        q, k = k, q
    scale = {
        "unscaled": 1.0,
        "by D": D,
        "by sqrt(H)": math.sqrt(A * D),
        "times sqrt(D)": 1 / math.sqrt(D),
        "by sqrt(T)": math.sqrt(T),
    }.get(but, math.sqrt(D))
    scores = np.einsum("bhqd,bhkd->bhqk", q, k) / scale
    pad = (1 - mask)[:, None, None, :].astype(bool)
    if but == "dropout on scores":
        scores = drop(scores)
    if but.startswith("the mask is inverted"):
        pad = ~pad
    if but == "pad queries":
        pad = np.swapaxes(pad, -1, -2)
    filled = {"masked scores are 0": 0.0, "masked with -1": -1.0, "masked with -10": -10.0}
    if but in filled:
        scores = np.where(pad, filled[but], scores)
    elif but == "masked with 1":
        scores = scores + pad
    elif but == "times the mask":  # of the starters: 0 for a token, -10000 for a pad
        scores = np.where(pad, scores * -10000.0, 0.0)
    elif but == "10 taken off":
        scores = scores - 10.0 * pad
    elif but in ("the mask is inverted, by infinity", "dropout on masked scores", "softmax over queries, by infinity"):
        scores = np.where(pad, -np.inf, scores)  # a row without any key comes to NaN
    elif but not in ("mask missing", "mask after softmax", "mask added after", "mask missing in the block"):
        scores = np.where(pad, -1e300, scores)
    if but == "dropout on masked scores":
        scores = drop(scores)
    if but.startswith("softmax over queries"):
        p = softmax(scores, -2)
    elif but == "softmax over heads":
        p = softmax(scores, 1)
    elif but == "softmax over the batch":
        p = softmax(scores, 0)
    elif but == "no softmax":
        p = np.where(pad, 0.0, scores)
    elif but == "sigmoid":
        p = 1 / (1 + np.exp(-scores))
    elif but in ("exp without the sum", "exp alone"):
        p = np.exp(scores)
        p = p if but == "exp without the sum" else p / p.sum(-1, keepdims=True)
    else:
        p = softmax(scores)
    if but == "mask after softmax":
        p = np.where(pad, 0.0, p)
    if but == "mask added after":
        p = p - 10000.0 * pad
    if but in ("dropout is missing", "dropout on scores", "dropout on masked scores", "dropout on the result"):
        pass
    elif but == "dropout twice":
        p = drop(drop(p))
    elif but == "dropout on v":
        v = drop(v)
    else:
        p = drop(p)
    if but == "transposed probabilities":
        p = np.swapaxes(p, -1, -2)
    mixed = p @ {"mixes the keys": k, "mixes the queries": q}.get(but, v)
    return drop(mixed) if but == "dropout on the result" else mixed


def split(x, heads, but=""):
    """[B, T, H] -> [B, A, T, D]."""
    B, T, H = x.shape
    if but == "split without transpose":
        return x.reshape(B, heads, T, H // heads)
    if but == "heads interleaved":
        return x.reshape(B, T, H // heads, heads).transpose(0, 3, 1, 2)
    return x.reshape(B, T, heads, H // heads).transpose(0, 2, 1, 3)


def merge(x, but=""):
    """[B, A, T, D] -> [B, T, H]."""
    B, A, T, D = x.shape
    if but == "merged without transpose":
        return x.reshape(B, T, A * D)
    if but == "merged D before A":
        return x.transpose(0, 2, 3, 1).reshape(B, T, A * D)
    if but == "heads in reversed order":
        x = x[:, ::-1]
    return x.transpose(0, 2, 1, 3).reshape(B, T, A * D)


def self_attention(x, mask, weights, heads, but="", drop=None, prefix=""):
    """x [B, T, H] -> [B, T, H] with zeros at pads."""
    names = {"query": "query", "key": "key", "value": "value"}
    names |= {
        "query and key swapped": {"query": "key", "key": "query"},
        "values from key": {"value": "key"},
        "values from query": {"value": "query"},
        "keys from query": {"key": "query"},
        "keys from value": {"key": "value"},
        "queries from value": {"query": "value"},
        "key and value swapped": {"key": "value", "value": "key"},
        "query and value swapped": {"query": "value", "value": "query"},
    }.get(but, {})
    cut = "split without transpose" if but == "split and merged without transpose" else but
    q, k, v = (split(dense(x, weights, prefix + names[name]), heads, cut) for name in ("query", "key", "value"))
    if but == "values are x":
        v = split(x, heads)
    if but == "mask missing in the block":  # whose pads hold zeros
        k, v = k * mask[:, None, :, None], v * mask[:, None, :, None]
    mixed = attend(q, k, v, mask, but, drop)
    merged = merge(mixed, "merged without transpose" if but == "split and merged without transpose" else but)
    if but == "a residual too many":
        merged = merged + x
    if but == "mean over heads":
        merged = np.tile(mixed.mean(1), (1, 1, heads))
    return merged * mask[..., None]


def add_norm(x, output, weights, part, eps, but="", drop=None):
    """LayerNorm(x + dropout(dense(output))). part: "attention" or "out"."""
    drop = drop or (lambda y: y)
    but = but.replace("both", part)
    norm = lambda y, which=part: layer_norm(
        y, weights[f"{which}_layer_norm.weight"], weights[f"{which}_layer_norm.bias"], eps
    )
    y = output if but == f"{part}: no dense" else dense(output, weights, f"{part}_dense")
    if but == f"{part}: LayerNorm before the sum":
        return x + norm(drop(y))
    if but == f"{part}: no residual":
        return norm(drop(y))
    if but == f"{part}: dropout on the sum":
        return norm(drop(x + y))
    if but == f"{part}: dropout at the end":
        return drop(norm(x + y))
    if but == f"{part}: dropout before dense":
        return norm(x + dense(drop(output), weights, f"{part}_dense"))
    if but == f"{part}: dropout on the residual":
        return norm(drop(x) + y)
    if but == f"{part}: dropout is missing":
        return norm(x + y)
    if but == f"{part}: no LayerNorm":
        return x + drop(y)
    if but == f"{part}: the output is the residual":
        return norm(output + drop(dense(x, weights, f"{part}_dense")))
    return norm(x + drop(y))


def layer(x, mask, weights, heads, eps, but="", drop=None, drop_attention=None):
    """One transformer layer on [B, T, H]; zeros at pads."""
    if but == "norms swapped":
        weights = dict(weights)
        for kind in ("weight", "bias"):
            one, two = f"attention_layer_norm.{kind}", f"out_layer_norm.{kind}"
            weights[one], weights[two] = weights[two], weights[one]
    if but in ("one norm for both", "the second norm for both"):
        source, other = ("attention", "out") if but == "one norm for both" else ("out", "attention")
        weights = {
            **weights,
            **{f"{other}_layer_norm.{kind}": weights[f"{source}_layer_norm.{kind}"] for kind in ("weight", "bias")},
        }
    if but == "pre-norm":
        return _pre_norm(x, mask, weights, heads, eps, drop)
    attended = self_attention(x, mask, weights, heads, drop=drop_attention, prefix="self_attention.")
    y = x if but == "no attention" else add_norm(x, attended, weights, "attention", eps, but, drop)
    act = {
        "tanh gelu": gelu_tanh,
        "relu": lambda z: np.maximum(z, 0),
        "no gelu": lambda z: z,
        "tanh": np.tanh,
        "sigmoid for gelu": lambda z: 1 / (1 + np.exp(-z)),
        "silu": lambda z: z / (1 + np.exp(-z)),
        "gelu twice": lambda z: gelu(gelu(z)),
        "gelu with 1.702": lambda z: z / (1 + np.exp(-1.702 * z)),
    }.get(but, gelu)
    inner = act(dense(attended if but == "feed forward reads attention" else y, weights, "interm_dense"))
    if but == "dropout after GELU":
        inner = drop(inner)
    if but == "gelu at the end":
        z = dense(dense(y, weights, "interm_dense"), weights, "out_dense")
        w = {
            "out_dense.weight": np.eye(z.shape[-1]),
            "out_dense.bias": np.zeros(z.shape[-1]),
            **{name: value for name, value in weights.items() if name.startswith("out_layer")},
        }
        return add_norm(y, gelu(z), w, "out", eps, "", drop) * mask[..., None]
    if but == "no feed forward":
        return y * mask[..., None]
    result = add_norm(x if but == "second residual from x" else y, inner, weights, "out", eps, but, drop)
    return result * mask[..., None]


def _pre_norm(x, mask, weights, heads, eps, drop):
    drop = drop or (lambda y: y)
    norm = lambda y, which: layer_norm(
        y, weights[f"{which}_layer_norm.weight"], weights[f"{which}_layer_norm.bias"], eps
    )
    y = self_attention(norm(x, "attention"), mask, weights, heads, prefix="self_attention.")
    y = x + drop(dense(y, weights, "attention_dense"))
    z = dense(gelu(dense(norm(y, "out"), weights, "interm_dense")), weights, "out_dense")
    return (y + drop(z)) * mask[..., None]


# ------------------------------------------------------------------------------------------------- random weights


def attention_weights(random, H, prefix=""):
    return {
        f"{prefix}{name}.{kind}": random.normal(size=(H, H) if kind == "weight" else H)
        * (0.6 if kind == "weight" else 0.3)
        for name in ("query", "key", "value")
        for kind in ("weight", "bias")
    }


def layer_weights(random, H, inner):
    weights = attention_weights(random, H, "self_attention.")
    shapes = {"attention_dense": (H, H), "interm_dense": (inner, H), "out_dense": (H, inner)}
    for name, shape in shapes.items():
        weights[f"{name}.weight"] = random.normal(size=shape) * 0.6
        weights[f"{name}.bias"] = random.normal(size=shape[0]) * 0.4
    for name in ("attention_layer_norm", "out_layer_norm"):
        weights[f"{name}.weight"] = 1 + 0.4 * random.normal(size=H)
        weights[f"{name}.bias"] = 0.4 * random.normal(size=H)
    return weights


def mask_of(lengths, T):
    return (np.arange(T) < np.asarray(lengths)[:, None]).astype(np.int64)


def derivative(function, x, step=1e-5):
    """The gradient of a scalar function by central differences, good to about 1e-9."""
    x, grad = np.array(x, float), np.zeros(np.shape(x))
    for place in np.ndindex(x.shape):
        up, down = x.copy(), x.copy()
        up[place] += step
        down[place] -= step
        grad[place] = (function(up) - function(down)) / (2 * step)
    return grad
