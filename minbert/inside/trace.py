"""One forward pass of a BERT, watched: every tensor on its way, under a name, with the statement that made it.

    from minbert.look import trace

    seen = trace(model, tokenizer, "the cat sat")
    seen.tokens()                            # ["[CLS]", "the", "cat", "sat", "[SEP]"]
    seen["softmax", 0]                       # [b, A, t, t], as bert.py had it in model.bert_layers[0]
    seen.part("softmax", layer=0, head=3)    # [T, T] of one text and one head
    print(seen.code("softmax", 0))           # the statement of bert.py, with its line

Nothing is computed a second time: torch hands each call of one of its functions to the `Recorder`, which carries it out
as it is and keeps a copy of the result. Which step a call is, it knows by the parameter that goes in (a dense layer, an
embedding, a LayerNorm) or by the function (softmax, gelu). So it also watches a BertModel that somebody else wrote, as
long as its parameters have these names.
"""

import re
from dataclasses import dataclass, field

import numpy as np
import torch
from torch.overrides import TorchFunctionMode

from minbert.files import UserError
from minbert.inside.source import Statement, files_of, running_in
from minbert.inside.steps import BATCH, BLOCK, HEADS, INPUTS, KIND, RESULTS
from minbert.layers.packing import Packing

MATMULS = ("matmul", "__matmul__", "bmm", "einsum")


@dataclass
class Step:
    """What a step came to: `code` made `tensors`, one of each block of attention, elsewhere a single one."""

    code: Statement
    tensors: list = field(default_factory=list)


class Recorder(TorchFunctionMode):
    """Within `with Recorder(model, ids, mask) as seen:`, `seen.steps` {(name of steps.KINDS, layer or None): Step}
    fills up. Results are the same to the last bit: each function is called as it would be without."""

    def __init__(self, model, ids, mask):
        super().__init__()
        self.steps = {}
        self._files = files_of(model)
        self._modules = {id(p): name.rpartition(".")[0] for name, p in model.named_parameters()}
        self._given = {id(ids): "ids", id(mask): "mask"}
        self._layer = None
        self._made = None, None  # the latest tensor, and the statement that made it
        self._has_scores = False  # after a mask, until its softmax
        self._mixing = False  # after a softmax, until the values are mixed

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        result = function(*args, **kwargs)
        if isinstance(result, torch.Tensor) and (code := running_in(self._files)):
            self._look(function.__name__, args, kwargs, result, code)
            self._made = result, code
        return result

    def _look(self, function, args, kwargs, result, code):
        for value in (*args, *kwargs.values()):
            if id(value) in self._modules:
                return self._look_at_module(self._modules[id(value)], args[0], result, code)
        if args and id(args[0]) in self._given:
            self._keep(self._given.pop(id(args[0])), None, args[0], code)
        elif self._layer is not None:
            self._look_at_function(function, args[0], result, code)
        elif function == "tanh":
            self._keep("pooled", None, result, code)

    def _look_at_module(self, module, given, result, code):
        found = re.fullmatch(r"bert_layers\.(\d+)\.(.+)", module)
        layer, name = (int(found[1]), found[2]) if found else (None, module)
        if name in INPUTS:
            self._keep(INPUTS[name], layer, given, self._maker(given, code))
        if name in RESULTS:
            self._keep(RESULTS[name], layer, result, code)
        self._layer = layer

    def _look_at_function(self, function, given, result, code):
        """Those that no parameter goes into: attention's, once a block, and GELU."""
        if function in MATMULS and self._mixing:
            self._keep("mixture", self._layer, result, code)
            self._mixing = False
        elif function in ("masked_fill", "softmax"):
            if not self._has_scores:
                self._keep("scores", self._layer, given, self._maker(given, code))
            self._keep("masked" if function == "masked_fill" else function, self._layer, result, code)
            self._mixing = function == "softmax"
            self._has_scores = not self._mixing
        elif function == "gelu":
            self._keep("gelu", self._layer, result, code)

    def _maker(self, tensor, code):
        """The statement that made a tensor, if it is the latest one, else `code`, which reads it."""
        made, where = self._made
        return where if tensor is made else code

    def _keep(self, name, layer, tensor, code):
        self.steps.setdefault((name, layer), Step(code)).tensors.append(tensor.detach().to("cpu", copy=True))


class Trace:
    """A watched forward pass over B texts.

    steps      {(name, layer or None): Step}, in the order in which they came about
    output     what the model returned: {"last_hidden_state": [B, T, H], "pooler_output": [B, H]}
    ids, mask, types    [B, T] what it was given
    heads      A

    All tensors are on the CPU, wherever the model is.
    """

    def __init__(self, steps, output, given, vocabulary, heads, device="cpu"):
        self.steps, self.output, self.heads = steps, output, heads
        self.ids, self.mask, self.types = given
        self._words = {id: token for token, id in vocabulary.items()}
        self._lengths = self.mask.sum(dim=1).tolist()
        self._packing = Packing(self._lengths, device)  # as the model's: blocks are larger on a GPU

    def __len__(self):
        return len(self._lengths)

    @property
    def layers(self):
        """How many there are."""
        return 1 + max(layer for _, layer in self.steps if layer is not None)

    def tokens(self, text=0):
        """The tokens of a text, without pads."""
        return [self._words[id] for id in self.ids[text, : self._lengths[text]].tolist()]

    def __getitem__(self, key):
        """trace["word"], trace["query", 2]: the tensor as the model had it, pads and all; of attention that went in
        several blocks, a list. Raises KeyError with the names there are."""
        tensors = self._step(*((key,) if isinstance(key, str) else key)).tensors
        return tensors[0] if len(tensors) == 1 else tensors

    def code(self, name, layer=None):
        """The statement that made it."""
        return self._step(name, layer).code

    def _step(self, name, layer=None):
        if (name, layer) not in self.steps:
            known = ", ".join(dict.fromkeys(name for name, _ in self.steps))
            raise KeyError(f"no {name!r} of layer {layer}; there are {known}, in layers 0 to {self.layers - 1}")
        return self.steps[name, layer]

    def has(self, name, layer=None):
        return (name, layer) in self.steps

    def part(self, name, layer=None, text=0, head=None):
        """A text's own part of a tensor: [T, K] of its T tokens, [H] of the pooler's; of attention [A, T, ...]. With
        `head`, that head's alone: [T, D] or [T, T]. The attention of a text in a block with longer ones keeps the
        columns of pads: [T, t]."""
        step, form = self._step(name, layer), KIND[name].form
        length = self._lengths[text]
        if form == BATCH:
            return step.tensors[0][text]
        if form == BLOCK:
            block, row = self._place(text)
            part = step.tensors[block][row][:, :length]  # [A, t, ...] -> [A, T, ...]
            return part if head is None else part[head]
        rows = np.flatnonzero(self._packing.sequence == text)
        part = step.tensors[0][torch.from_numpy(rows)]  # [T, K]
        if form != HEADS or head is None:
            return part
        return part.view(length, self.heads, -1)[:, head]  # [T, A * D] -> [T, D]

    def _place(self, text):
        """(which block of attention, which row of it) a text is in."""
        row = self._packing.order.tolist().index(text)
        for number, block in enumerate(self._packing.blocks):
            if row < block.b:
                return number, row
            row -= block.b


def trace(model, tokenizer, *texts):
    """Watch a forward pass over one text, or several in one batch: Trace. A tuple (a, b) is a pair in one sequence.

    model: a BertModel, or what has one as `.bert`. It is put into eval mode for the time. Raises UserError for a text
    without a token or with more than the model has positions, and for a model that keeps no scores.
    """
    bert = getattr(model, "bert", model)
    given = batch(tokenizer, texts, bert.config.max_position_embeddings)
    device, was_training = bert.word_embedding.weight.device, bert.training
    ids, mask, types = (one.to(device) for one in given)
    try:
        with torch.no_grad(), Recorder(bert.eval(), ids, mask) as recorder:
            output = {name: value.cpu() for name, value in bert(ids, mask, types).items()}
    finally:
        bert.train(was_training)
    if ("softmax", 0) not in recorder.steps:
        raise UserError('no softmax was seen: a model with attention="fused" keeps no scores; load it with "plain"')
    return Trace(recorder.steps, output, given, tokenizer.vocabulary, bert.config.num_attention_heads, device)


def batch(tokenizer, texts, most):
    """Texts, or pairs as tuples, as ids, mask and types [B, T] long. UserError for none, an empty one, and one of more
    than `most` tokens."""
    texts = [(text,) if isinstance(text, str) else tuple(text) for text in texts]
    if not texts:
        raise UserError("no text to look at")
    rows = []
    for text in texts:
        told = " | ".join(text)
        told = repr(told if len(told) <= 40 else f"{told[:40]}...")
        if any("\ud800" <= letter <= "\udfff" for part in text for letter in part):
            raise UserError(f"the text {told} is not UTF-8")
        if not all(part.strip() for part in text):
            raise UserError(f"the text {told} is empty; give one with a word in it")
        rows.append(tokenizer.encode([text], most + 1))
        if (count := len(rows[-1].ids)) > most:
            raise UserError(f"the text {told} has more than {most} tokens; give a shorter one")
        if count <= 2:
            raise UserError(f"the text {told} holds no token that this model reads")
    T = max(len(row.ids) for row in rows)
    ids, mask, types = torch.full((len(rows), T), tokenizer.pad), *torch.zeros(2, len(rows), T, dtype=torch.long)
    for place, row in enumerate(rows):
        count = len(row.ids)
        ids[place, :count] = torch.from_numpy(row.ids.astype(np.int64))
        types[place, :count] = torch.from_numpy(row.types.astype(np.int64))
        mask[place, :count] = 1
    return ids, mask, types
