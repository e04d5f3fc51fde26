"""One interface to a student's code, whichever dialect it is in: padded batches, the course's parameter names.

    ours     this project's: packed tokens, keys that are pads as a mask of bool
    starter  the course's: padded [B, T, H] all the way, an additive mask [B, 1, 1, T]

Everything is float64. Shapes as in bert.py: B sequences, T tokens, H hidden size, A heads, D = H / A.
"""

import importlib
from unittest import mock

import torch

MODULE_SIZES = {
    "vocab_size": 30,
    "num_hidden_layers": 2,
    "max_position_embeddings": 16,
    "layer_norm_eps": 1e-5,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}


def student_of(dialect):
    return {"ours": Ours, "starter": Starter}[dialect]()


class Student:
    """What both have in common."""

    def __getattr__(self, name):
        """`student.heads`: a module of the student's tree by its alias, imported when first used."""
        if name in MODULES:
            return importlib.import_module(MODULES[name])
        raise AttributeError(name)

    def loaded(self, module, weights, train):
        """A module with these weights, {name: tensor}; every one must find its place."""
        _, unexpected = module.load_state_dict(weights, strict=False)
        if unexpected:
            raise AttributeError(f"there is no parameter {', '.join(unexpected)}: names are part of the interface")
        return module.double().train(train)


MODULES = {
    "bert": "bert",
    "base_bert": "base_bert",
    "optimizer": "optimizer",
    "labeling": "labeling",
    "heads": "minbert.layers.heads",
    "pairs": "minbert.layers.pairs",
    "packing": "minbert.layers.packing",
    "dropout": "minbert.layers.dropout",
    "semi": "minbert.methods.semi_supervised",
    "regularizers": "minbert.methods.regularizers",
    "schedules": "minbert.methods.schedules",
    "surgery": "minbert.methods.gradient_surgery",
    "masking": "minbert.masked_lm.masking",
    "tokenization": "minbert.text.tokenization",
}


class Ours(Student):
    dialect = "ours"

    def config(self, sizes):
        return self.base_bert.BertConfig(**{**MODULE_SIZES, **sizes})

    @property
    def dropouts(self):
        return (self.dropout.Dropout,)

    def attend(self, sizes, q, k, v, is_pad, train=False):
        """q, k, v [B, A, T, D], is_pad [B, T] or None -> the heads' mixtures [B, A, T, D]."""
        attention = self.bert.BertSelfAttention(self.config(sizes)).double().train(train)
        pads = None if is_pad is None else is_pad[:, None, None]
        mixed = attention.plain_attention(q, k, v, pads)
        if tuple(mixed.shape) != tuple(v.shape):
            raise ValueError(f"it returned the shape {list(mixed.shape)}; expected [b, A, t, D] = {list(v.shape)}")
        return mixed

    def attention(self, sizes, weights, x, mask, train=False, block_scores=None):
        """x [B, T, H], mask [B, T] of 1 and 0 -> [B, T, H] with zeros at pads. block_scores: how many scores a block
        of sequences may have, for several small blocks in place of one."""
        module = self.loaded(self.bert.BertSelfAttention(self.config(sizes)), weights, train)
        with mock.patch.dict(self.packing.BLOCK_SCORES, {"cpu": block_scores} if block_scores else {}):
            return self.run(module, x, mask)

    def layer(self, sizes, weights, x, mask, train=False):
        return self.run(self.loaded(self.bert.BertLayer(self.config(sizes)), weights, train), x, mask)

    def run(self, module, x, mask):
        """A layer or its attention on x [B, T, H], mask [B, T] of 1 and 0 -> [B, T, H] with zeros at pads."""
        B, T, _ = x.shape
        tokens, cells = self.packing.from_padded(torch.zeros(B, T, dtype=torch.long), mask)
        hidden = module(x.flatten(0, 1)[cells], tokens.packing)
        return self.packing.to_padded(hidden, cells, B, T)

    def model(self, sizes, weights, train=False):
        return self.loaded(self.bert.BertModel(self.config(sizes)), weights, train)

    def embed(self, model, ids, types):
        """ids, types [B, T] -> [B, T, H]."""
        positions = torch.arange(ids.shape[1]).expand_as(ids)
        return model.embed(ids.flatten(), positions.flatten(), types.flatten()).view(*ids.shape, -1)

    def encode(self, model, x, mask):
        B, T, _ = x.shape
        tokens, cells = self.packing.from_padded(torch.zeros(B, T, dtype=torch.long), mask)
        return self.packing.to_padded(model.encode(x.flatten(0, 1)[cells], tokens.packing), cells, B, T)


class Starter(Student):
    dialect = "starter"
    dropouts = ()

    def config(self, sizes):
        return importlib.import_module("config").BertConfig(**{**MODULE_SIZES, **sizes})

    def extended(self, mask):
        """mask [B, T] of 1 and 0 -> what is added to the scores [B, 1, 1, T]: 0, or a large negative number."""
        return (1.0 - mask[:, None, None, :].double()) * -10000.0

    def attend(self, sizes, q, k, v, is_pad, train=False):
        attention = self.bert.BertSelfAttention(self.config(sizes)).double().train(train)
        mask = torch.ones(q.shape[0], q.shape[2]) if is_pad is None else (~is_pad).double()
        mixed = attention.attention(k, q, v, self.extended(mask))  # [B, T, H], the heads side by side
        B, A, T, D = q.shape
        if tuple(mixed.shape) != (B, T, A * D):
            raise ValueError(f"attention returned the shape {list(mixed.shape)}; expected [B, T, H] = {[B, T, A * D]}")
        return mixed.view(B, T, A, D).transpose(1, 2)

    def add_norm(self, sizes, weights, x, output, train=False):
        layer = self.loaded(self.bert.BertLayer(self.config(sizes)), weights, train)
        return layer.add_norm(x, output, layer.attention_dense, layer.attention_dropout, layer.attention_layer_norm)

    def layer(self, sizes, weights, x, mask, train=False):
        layer = self.loaded(self.bert.BertLayer(self.config(sizes)), weights, train)
        return self.run(layer, x, mask)

    def run(self, module, x, mask):
        return module(x, self.extended(mask).to(x.dtype)) * mask.unsqueeze(-1)

    def model(self, sizes, weights, train=False):
        return self.loaded(self.bert.BertModel(self.config(sizes)), weights, train)

    def embed(self, model, ids, types):
        return model.embed(ids)
