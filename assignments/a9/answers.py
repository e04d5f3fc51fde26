"""What a9 must give: what holds of any masks, perplexity, and the masked-LM head in numpy."""

import math

import numpy as np

from assignments.school import reference as R
from assignments.school.judging import Check
from assignments.school.views import masking

SPECIAL = (0, 1, 2, 3)
MASK = 3
SHARES = (80, 10, 10)  # % of the chosen that become [MASK], become random, stay; a variant has others


def masks(ids, random, vocabulary, but="", shares=SHARES):
    """A way to mask that is right, or wrong in a known way: (hidden, chosen, ids afterwards)."""
    masked, kept = shares[0] / 100, (shares[0] + shares[2]) / 100
    special = np.isin(ids, SPECIAL) & (but != "special too")
    draw = random.random(len(ids))
    share = {"all chosen": 1.0, "80 % chosen": 0.8, "10 % chosen": 0.1}.get(but, 0.15)
    chosen = np.flatnonzero((draw < share) & ~special)
    fate = draw[chosen] if but == "one draw" else random.random(len(chosen))
    first, second = {
        "always mask": (1.0, 1.0),
        "no mask": (0.0, 0.0),
        "80/20 random": (masked, masked),
        "80/20 same": (masked, 2.0),
        "10/80/10": (0.1, 0.9),
        "10/10/80": (0.1, 0.2),
        "BERT's": (0.8, 0.9),
    }.get(but, (masked, kept))
    hidden = ids.copy()
    hidden[chosen[fate < first]] = MASK
    swapped = chosen[fate >= second]
    if but == "10/80/10":
        swapped = chosen[(fate >= 0.1) & (fate < 0.9)]
    few = {"few random": 20}.get(but, vocabulary)
    hidden[swapped] = random.integers(few, size=len(swapped))
    if but == "one random for all":
        hidden[swapped] = random.integers(vocabulary)
    if but == "random order":
        chosen = random.permutation(chosen)
    return hidden, chosen, hidden if but == "in place" else ids


def wrong_masks(shares):
    """{mistake: sentence} with the shares that are asked for."""
    masked, random, kept = shares
    return {
        "special too": "special tokens are chosen too: [CLS], [SEP], [PAD] and [MASK] never are",
        "always mask": f"every chosen token becomes [MASK]: {masked} % do, {random} % are random, {kept} % stay",
        "one draw": "every chosen token becomes [MASK], because one draw decides both: draw again for the chosen",
        "no mask": "no chosen token becomes [MASK]",
        "80/20 random": f"{random + kept} % of the chosen become random: {random} % do, and {kept} % stay",
        "80/20 same": f"{random + kept} % of the chosen stay: {kept} % do, and {random} % become random",
        "10/80/10": f"the shares are in another order: {masked} % [MASK], {random} % random, {kept} % stay",
        "10/10/80": f"the shares are in another order: {masked} % [MASK], {random} % random, {kept} % stay",
        "all chosen": "every token is chosen: 15 % are",
        "80 % chosen": "80 % of the tokens are chosen: 15 % are",
        "BERT's": f"the shares are BERT's, 80, 10 and 10 %: here they are {masked}, {random} and {kept} %",
        "10 % chosen": "10 % of the tokens are chosen: 15 % are",
        "random order": "the places do not ascend",
        "in place": "the ids that came in are changed: work on a copy",
        "few random": "random tokens come from a part of the vocabulary only",
        "one random for all": "one random token is drawn for all: each gets one of its own",
    }


def masking_check(name, seed, n, vocabulary, shares=SHARES):
    random = np.random.default_rng(seed)
    ids = random.integers(0, vocabulary, size=n).astype(np.int64)
    ids[::20], ids[19::20] = 1, 2

    def view(but=""):
        hidden, chosen, after = masks(ids, np.random.default_rng(3), vocabulary, but, shares)
        return masking(
            {
                "ids": ids,
                "hidden": hidden,
                "chosen": chosen,
                "mask": [MASK],
                "special": list(SPECIAL),
                "untouched": [float(np.array_equal(ids, after))],
            }
        )

    inputs = {"seed": seed, "n": n, "vocab_size": vocabulary}
    wrong = [(text, view(but)) for but, text in wrong_masks(shares).items()]
    return Check(name, "mask_tokens", "mask_tokens", inputs, view(), wrong, view="masking", weight=2)


def batch_check(name, seed, texts, rows):
    made = np.random.default_rng(seed)
    lengths = made.permutation(np.arange(5, 5 + texts))
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    made.integers(4, 1000, size=offsets[-1])
    chosen = made.permutation(texts)[:rows]
    right = {
        "labels are what stood at their places": np.array(1.0),
        "tokens elsewhere stay as they were": np.array(1.0),
        "most of the chosen are [MASK]": np.array(1.0),
        "tokens": np.array(float(lengths[chosen].sum())),
        "about 15 % are chosen": np.array(1.0),
    }
    wrong = [
        (
            "places and tokens stand in different orders: pack sorts by length, so sort the rows before masking",
            {
                **right,
                **dict.fromkeys(
                    [
                        "labels are what stood at their places",
                        "tokens elsewhere stay as they were",
                        "most of the chosen are [MASK]",
                    ],
                    np.array(0.0),
                ),
            },
        ),
        (
            "the labels are the hidden tokens: they are what stood there before",
            {**right, "labels are what stood at their places": np.array(0.0)},
        ),
        (
            "nothing is masked: the hidden ids are to be packed",
            {**right, "most of the chosen are [MASK]": np.array(0.0)},
        ),
        ("all sequences are taken, not those of the rows", {**right, "tokens": np.array(float(lengths.sum()))}),
    ]
    return Check(name, "masked_batch", "masked_batch", {"seed": seed, "texts": texts, "rows": rows}, right, wrong)


def perplexity_check(name, batches):
    losses, at = np.concatenate(batches), lambda x: {"the perplexity": np.array(x)}
    wrong = [
        (
            "it is the mean of the batches' means: batches of few tokens count too much",
            at(math.exp(np.mean([b.mean() for b in batches]))),
        ),
        ("exp is missing: it is the mean loss", at(losses.mean())),
        ("it is 2 to the power of the loss: the losses are natural logarithms", at(2 ** losses.mean())),
        ("it is the exp of the sum", at(math.exp(min(losses.sum(), 700)))),
        ("it is the mean of exp: first the mean, then exp", at(np.exp(losses).mean())),
        ("it is the mean of the batches' perplexities", at(np.mean([math.exp(b.mean()) for b in batches]))),
        ("only the last batch counts", at(math.exp(batches[-1].mean()))),
        ("only the first batch counts", at(math.exp(batches[0].mean()))),
        ("it has the wrong sign: exp(-loss)", at(math.exp(-losses.mean()))),
        ("it is 10 to the power of the loss", at(10 ** losses.mean())),
    ]
    return Check(name, "perplexity", "perplexity", {"losses": list(batches)}, at(math.exp(losses.mean())), wrong)


def head(h, weights, but=""):
    E = weights["bert.word_embedding.weight"]
    dense = lambda x: x @ weights["transform_dense.weight"].T + weights["transform_dense.bias"]
    norm = lambda x: R.layer_norm(x, weights["transform_layer_norm.weight"], weights["transform_layer_norm.bias"], 1e-5)
    act = {"tanh gelu": R.gelu_tanh, "no gelu": lambda x: x, "relu": lambda x: np.maximum(x, 0), "tanh": np.tanh}.get(
        but, R.gelu
    )
    if but == "no transform":
        x = h
    elif but == "norm first":
        x = act(norm(dense(h)))
    elif but == "norm before dense":
        x = act(dense(norm(h)))
    elif but == "no norm":
        x = act(dense(h))
    elif but == "no dense":
        x = norm(act(h))
    else:
        x = norm(act(dense(h)))
    return x @ E.T + (0 if but == "no bias" else weights["decoder_bias"])


WRONG_HEAD = {
    "tanh gelu": "GELU is the tanh approximation: BERT's is the exact one",
    "no gelu": "GELU is missing",
    "relu": "it is ReLU where GELU belongs",
    "tanh": "it is tanh where GELU belongs",
    "no transform": "the transform (dense, GELU, LayerNorm) is missing",
    "norm first": "LayerNorm comes before GELU: it comes after it",
    "norm before dense": "LayerNorm comes before the dense layer: it comes last",
    "no norm": "LayerNorm is missing",
    "no dense": "the dense layer is missing",
    "no bias": "the bias is missing",
}


def head_inputs(random, H, V, M):
    weights = {
        "bert.word_embedding.weight": random.normal(size=(V, H)),
        "transform_dense.weight": random.normal(size=(H, H)) * 0.6,
        "transform_dense.bias": random.normal(size=H) * 0.4,
        "transform_layer_norm.weight": 1 + 0.4 * random.normal(size=H),
        "transform_layer_norm.bias": 0.4 * random.normal(size=H),
        "decoder_bias": random.normal(size=V),
    }
    sizes = {
        "vocab_size": V,
        "hidden_size": H,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": H,
        "max_position_embeddings": 8,
        "layer_norm_eps": 1e-5,
    }
    return {"sizes": sizes, "weights": weights, "hidden": random.normal(size=(M, H))}


def predictions(name, random, H, V, M):
    inputs = head_inputs(random, H, V, M)
    at = lambda but="": {"the logits": head(inputs["hidden"], inputs["weights"], but)}
    wrong = [(text, at(but)) for but, text in WRONG_HEAD.items()]
    p = R.softmax(at()["the logits"])
    wrong += [
        ("they are probabilities: logits are asked for", {"the logits": p}),
        ("they are logarithms of probabilities: logits are asked for", {"the logits": np.log(p)}),
    ]
    return Check(name, "predict", "predict", inputs, at(), wrong)


def loss_check(name, random, H, V, N, M):
    inputs = head_inputs(random, H, V, N)
    inputs["places"] = np.sort(random.permutation(N)[:M])
    inputs["labels"] = random.integers(0, V, size=M)
    log_p = np.log(R.softmax(head(inputs["hidden"], inputs["weights"])))
    at = lambda x: {"the losses": x}
    right = -log_p[inputs["places"], inputs["labels"]]
    wrong = [
        ("it is the mean: one loss for each place is asked for", at(right.mean())),
        ("it is the sum: one loss for each place is asked for", at(right.sum())),
        ("the places are not used: the first M tokens are taken", at(-log_p[np.arange(M), inputs["labels"]])),
        ("the minus sign is missing", at(-right)),
        (
            "it is the logit, not -log p",
            at(-head(inputs["hidden"], inputs["weights"])[inputs["places"], inputs["labels"]]),
        ),
        ("it is -p, not -log p", at(-np.exp(-right))),
        (
            "the softmax is taken twice: cross_entropy wants logits",
            at(-np.log(R.softmax(np.exp(log_p)))[inputs["places"], inputs["labels"]]),
        ),
    ]
    return Check(name, "losses", "losses", inputs, at(right), wrong, tolerance=1e-5)


def checks(random, hidden, shares=SHARES):
    masked, other, kept = shares
    if not hidden:
        return [
            masking_check(
                f"15 % chosen, of these {masked} % [MASK], {other} % random, {kept} % as they were",
                1,
                60_000,
                5000,
                shares,
            ),
            batch_check("labels and places fit together", 1, 40, 30),
            perplexity_check("three batches", [random.uniform(0, 3, size=n) for n in (2, 5, 1)]),
            predictions("logits of 3 states", random, 4, 6, 3),
            loss_check("losses at 2 of 5 tokens", random, 4, 6, 5, 2),
        ]
    return [
        masking_check("another text, another vocabulary", 2, 60_000, 9000, shares),
        batch_check("labels and places of other texts", 3, 60, 25),
        perplexity_check("five batches", [random.uniform(0, 2, size=n) for n in (7, 1, 1, 3, 2)]),
        predictions("logits of 5 states", random, 6, 9, 5),
        loss_check("losses at 4 of 9 tokens", random, 6, 11, 9, 4),
    ]
