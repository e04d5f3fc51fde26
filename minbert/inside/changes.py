"""How far training moved the weights: ||after - before|| / ||before|| of each part of a BERT, in Frobenius's norm."""

import math
import re

PARTS = {  # a layer's modules, as the columns of a table
    "query": ("self_attention.query",),
    "key": ("self_attention.key",),
    "value": ("self_attention.value",),
    "dense": ("attention_dense",),
    "inner": ("interm_dense",),
    "outer": ("out_dense",),
    "LayerNorms": ("attention_layer_norm", "out_layer_norm"),
}
OUTSIDE = {
    "word embedding": ("word_embedding",),
    "position embedding": ("pos_embedding",),
    "token type embedding": ("tk_type_embedding",),
    "embeddings' LayerNorm": ("embed_layer_norm",),
    "pooler": ("pooler_dense",),
}


def relative_changes(before, after):
    """Two BertModels of one shape -> {"layers": [{part: change} of each layer, with "all" of it], "rest": {part:
    change}}. 0: nothing moved; 1: as far as the weights are long."""
    old, new = dict(before.named_parameters()), dict(after.named_parameters())

    def change(begins):
        names = [name for name in old if name.startswith(tuple(f"{begin}." for begin in begins))]
        moved = math.hypot(*((new[name].detach() - old[name].detach()).norm().item() for name in names))
        length = math.hypot(*(old[name].detach().norm().item() for name in names))
        return moved / length if length else 0.0

    count = 1 + max(int(found[1]) for name in old if (found := re.match(r"bert_layers\.(\d+)\.", name)))
    layers = [
        {
            **{part: change([f"bert_layers.{n}.{module}" for module in modules]) for part, modules in PARTS.items()},
            "all": change([f"bert_layers.{n}"]),
        }
        for n in range(count)
    ]
    return {"layers": layers, "rest": {part: change(modules) for part, modules in OUTSIDE.items()}}
