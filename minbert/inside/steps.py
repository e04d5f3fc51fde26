"""The steps on the way from token ids to the pooled vector, in the order of bert.py, and a sentence on each.

Shapes: B texts, T tokens in the longest, N real tokens of all, H hidden size, A heads, D = H / A; b and t are those of
a block (minbert/layers/packing.py).
"""

from dataclasses import dataclass

PACKED, HEADS, BLOCK, BATCH = "packed", "heads", "block", "batch"


@dataclass(frozen=True)
class Kind:
    """A step: its `name`, where it is (`room`: embedding, layer or pooler), what it is called and does, and its shape.

    form: how a text's part is found in the tensor. PACKED [N, K], a row a token; HEADS [N, H], the same, the heads side
    by side, D columns each; BLOCK [b, A, t, ...]; BATCH, a row a text.
    """

    name: str
    room: str
    form: str
    shape: str
    title: str
    told: str


KINDS = (
    Kind("ids", "embedding", BATCH, "[B, T]", "Token ids",
         "The words cut into pieces that the vocabulary knows, each as its number. [CLS] begins a text, [SEP] ends "
         "it."),
    Kind("mask", "embedding", BATCH, "[B, T]", "Attention mask",
         "1 for a token, 0 for a pad. Pads are dropped here: from now on a row is a real token."),
    Kind("word", "embedding", PACKED, "[N, H]", "Word embedding",
         "The row of the table that belongs to the id: the same vector wherever the token stands."),
    Kind("position", "embedding", PACKED, "[N, H]", "Position embedding",
         "A vector for the place in the text. Without it, “dog bites man” and “man bites dog” would be one."),
    Kind("type", "embedding", PACKED, "[N, H]", "Token type embedding",
         "One vector for the first text of a pair, another for the second."),
    Kind("sum", "embedding", PACKED, "[N, H]", "Sum",
         "What, where and which of two, added up in the same H numbers."),
    Kind("embedded", "embedding", PACKED, "[N, H]", "LayerNorm",
         "Each row brought to mean 0 and variance 1, then scaled and shifted by learned numbers. "
         "This goes into layer 1."),
    Kind("query", "layer", HEADS, "[N, H]", "Query q",
         "What each token looks for. H numbers, of which D belong to each head; here are those of the chosen one."),
    Kind("key", "layer", HEADS, "[N, H]", "Key k", "What each token offers to those that look."),
    Kind("value", "layer", HEADS, "[N, H]", "Value v", "What each token gives to those that look at it."),
    Kind("scores", "layer", BLOCK, "[b, A, t, t]", "Scores q kᵀ / √D",
         "Row i, column j: how well the query of token i fits the key of token j. √D keeps them from growing with D."),
    Kind("masked", "layer", BLOCK, "[b, A, t, t]", "Mask",
         "Columns of pads become −∞, so that the softmax makes exactly 0 of them."),
    Kind("softmax", "layer", BLOCK, "[b, A, t, t]", "Softmax: the attention",
         "Each row becomes probabilities with sum 1: how much of every token is taken."),
    Kind("mixture", "layer", BLOCK, "[b, A, t, D]", "Mixture",
         "The values, mixed by these probabilities. This is where tokens learn of each other; nowhere else."),
    Kind("dense", "layer", PACKED, "[N, H]", "Dense after attention",
         "The heads side by side, through one linear layer that lets them speak together."),
    Kind("residual", "layer", PACKED, "[N, H]", "Residual sum",
         "What came in is added again: the layer only has to learn what to change."),
    Kind("norm", "layer", PACKED, "[N, H]", "LayerNorm", "Every row brought back to a common scale."),
    Kind("inner", "layer", PACKED, "[N, 4H]", "Inner dense layer",
         "Each token alone, into four times as many numbers."),
    Kind("gelu", "layer", PACKED, "[N, 4H]", "GELU",
         "x Φ(x): what is clearly negative becomes nearly 0, what is positive stays."),
    Kind("outer", "layer", PACKED, "[N, H]", "Outer dense layer", "And back to H numbers."),
    Kind("residual2", "layer", PACKED, "[N, H]", "Second residual sum", "Again what came in is added."),
    Kind("norm2", "layer", PACKED, "[N, H]", "LayerNorm: the layer's result",
         "This goes into the next layer; after the last it is the hidden state of each token."),
    Kind("cls", "pooler", BATCH, "[B, H]", "The state of [CLS]", "One row a text: what stands for all of it."),
    Kind("pooled", "pooler", BATCH, "[B, H]", "tanh(dense)",
         "A last linear layer, squeezed between −1 and 1: the vector that heads read."),
)  # fmt: skip
KIND = {kind.name: kind for kind in KINDS}

# Which step a module's result is, and which its input.
RESULTS = {
    "word_embedding": "word",
    "pos_embedding": "position",
    "tk_type_embedding": "type",
    "embed_layer_norm": "embedded",
    "self_attention.query": "query",
    "self_attention.key": "key",
    "self_attention.value": "value",
    "attention_dense": "dense",
    "attention_layer_norm": "norm",
    "interm_dense": "inner",
    "out_dense": "outer",
    "out_layer_norm": "norm2",
}
INPUTS = {
    "embed_layer_norm": "sum",
    "attention_layer_norm": "residual",
    "out_layer_norm": "residual2",
    "pooler_dense": "cls",
}
