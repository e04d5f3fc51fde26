"""BERT's configuration, its initialisation, and reading and writing its checkpoints.

The architecture is Devlin et al. 2019, "BERT: Pre-training of Deep Bidirectional Transformers" (section 3); this file
knows its sizes and the names of its parameters, not how they are used (that is `bert.py`).

A checkpoint is a Hugging Face folder: `config.json` beside `model.safetensors` or `pytorch_model.bin`. Many hands have
written such files, so reading accepts a `bert.` prefix or none, the first releases' `gamma` and `beta`, half precision,
and the course's own parameter names; and it refuses, in one line, whatever it would have to guess about. Damaged and
harmful files are the business of `minbert/weights.py`.
"""

import re
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save
from torch import nn
from torch.nn import init
from torch.overrides import TorchFunctionMode

from minbert.files import UserError, short, write_json, written_whole
from minbert.hub import find_checkpoint
from minbert.readers import read_json
from minbert.weights import read_tensors

# Beyond these a config.json is damaged: far over any model's, and still small enough for a product of two in 64 bits.
LIMITS = {int: 1 << 24, float: 1, "num_hidden_layers": 1000}


@dataclass
class BertConfig:
    """The sizes and rates of one BERT, under Hugging Face's names. Defaults: bert-base-uncased."""

    vocab_size: int = 30522
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-12
    pad_token_id: int = 0

    def __post_init__(self):
        for field in fields(self):
            value = getattr(self, field.name)
            kinds = (int,) if field.type is int else (int, float)
            if type(value) not in kinds:  # not isinstance: True is no number here
                raise UserError(f"{field.name} is {short(value)}, expected {field.type.__name__}")
            least = 1 if field.type is int and field.name != "pad_token_id" else 0
            limit = LIMITS.get(field.name, LIMITS[field.type])
            if not least <= value < limit:
                raise UserError(f"{field.name} is {short(value)}, out of range: at least {least}, below {limit}")
        if self.hidden_size % self.num_attention_heads:
            raise UserError(
                f"hidden_size {self.hidden_size} is not divisible by num_attention_heads {self.num_attention_heads}"
            )
        if self.pad_token_id >= self.vocab_size:
            raise UserError(f"pad_token_id {self.pad_token_id} is outside the vocabulary of {self.vocab_size}")

    @classmethod
    def from_file(cls, path):
        """Read a Hugging Face config.json. UserError names the file and what in it this BERT is not."""
        values = read_json(path, "the config.json of a Hugging Face checkpoint", "get the checkpoint again")
        ours = {  # what the code computes, whatever the file says; what the file leaves out is BERT's custom
            "model_type": ("bert",),
            "hidden_act": ("gelu", "gelu_python"),  # both the exact one, x Phi(x)
            "position_embedding_type": ("absolute",),
            "is_decoder": (False,),
            "add_cross_attention": (False,),
        }
        for key, accepted in ours.items():
            if values.get(key, accepted[0]) not in accepted:
                raise UserError(f"{path}: {key} is {short(values[key])}, but this is BERT with {key} {accepted[0]!r}")
        required = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
        if missing := [key for key in required if key not in values]:
            raise UserError(f"{path}: {', '.join(missing)} missing")
        try:
            return cls(**{field.name: values[field.name] for field in fields(cls) if field.name in values})
        except UserError as error:
            raise UserError(f"{path}: {error}") from None

    def to_dict(self, architecture="BertModel"):
        """The contents of a config.json that `transformers` reads."""
        return {
            "architectures": [architecture],
            "model_type": "bert",
            "hidden_act": "gelu",
            "position_embedding_type": "absolute",
            **asdict(self),
        }


class BertPreTrainedModel(nn.Module):
    """What every model with a BERT inside shares: a config, fresh weights, and checkpoints in Hugging Face's layout."""

    def __init__(self, config):
        super().__init__()
        self.config = config

    def init_weights(self):
        """Fresh weights as in BERT's release: N(0, initializer_range) for matrices, 0 for biases, LayerNorm 1 and 0."""
        for module in self.modules():
            self._init_module(module)

    @torch.no_grad()
    def _init_module(self, module):
        if isinstance(module, (nn.Linear, nn.Embedding)):
            module.weight.normal_(0.0, self.config.initializer_range)
        elif isinstance(module, nn.LayerNorm):
            module.weight.fill_(1.0)
        if isinstance(module, nn.Embedding) and module.padding_idx is not None:
            module.weight[module.padding_idx].zero_()
        for name, parameter in module.named_parameters(recurse=False):
            if name.endswith("bias"):
                parameter.zero_()

    @property
    def dtype(self):
        """That of the parameters: the course's starter asks its model for it."""
        return next(self.parameters()).dtype

    def _load_from_state_dict(self, state_dict, prefix, *rest):
        if "position_ids" not in self._buffers:  # a constant that the course's starter saves with its weights
            state_dict.pop(f"{prefix}position_ids", None)
        super()._load_from_state_dict(state_dict, prefix, *rest)

    @classmethod
    def from_pretrained(cls, name_or_path, **model_options):
        """A model with a checkpoint's weights, on the CPU, fp32, in eval mode.

        `name_or_path` is whatever `hub.find_checkpoint` finds; `model_options` go to the class beside the config.
        A masked-LM model accepts a checkpoint without its head (`head_is_new` is then True: those weights are random)
        and without the pooler it does not use. Everything else must be there and have a home, else UserError.
        """
        found = find_checkpoint(name_or_path)
        config = BertConfig.from_file(found.folder / "config.json")
        path = found.weights
        tensors = read_tensors(path)
        _compare_sizes(path, tensors, config)
        with torch.device("meta"), _NoRandomNumbers():  # the model's shapes, without memory or values
            model = cls(config, **model_options)
        if any(True for _ in model.buffers()):  # constants of a student's model, which have no values on "meta"
            model = cls(config, **model_options)
        state, new = _fit(path, tensors, {name: value.shape for name, value in model.named_parameters()})
        model.load_state_dict(state, strict=False, assign=True)
        for module in model.modules():
            if any(parameter.is_meta for parameter in module.parameters(recurse=False)):
                module.to_empty(device="cpu", recurse=False)
                model._init_module(module)
        model.head_is_new = "decoder_bias" in new
        return model.eval()

    def save_pretrained(self, folder):
        """Write config.json and model.safetensors, each whole or not at all, for `transformers` and ourselves."""
        folder = Path(folder)
        state = {
            to_hugging_face(name): value.detach().to("cpu", torch.float32).contiguous()
            for name, value in self.named_parameters()
        }
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with written_whole(folder / "model.safetensors") as temporary:
                temporary.write_bytes(save(state, metadata={"format": "pt"}))
            write_json(folder / "config.json", self.config.to_dict(type(self).__name__))
        except (OSError, SafetensorError) as error:
            raise UserError(
                f"{folder}: cannot write the checkpoint ({error}); make room or choose another folder"
            ) from None


# ---- names ----------------------------------------------------------------------------------------------------------

NAMES = [  # (Hugging Face's, the course's and ours), in an order in which plain replacement is right both ways
    ("embeddings.word_embeddings", "word_embedding"),
    ("embeddings.position_embeddings", "pos_embedding"),
    ("embeddings.token_type_embeddings", "tk_type_embedding"),
    ("embeddings.LayerNorm", "embed_layer_norm"),
    ("encoder.layer", "bert_layers"),
    ("attention.self", "self_attention"),
    ("attention.output.dense", "attention_dense"),
    ("attention.output.LayerNorm", "attention_layer_norm"),
    ("intermediate.dense", "interm_dense"),
    ("output.dense", "out_dense"),
    ("output.LayerNorm", "out_layer_norm"),
    ("pooler.dense", "pooler_dense"),
    ("cls.predictions.transform.dense", "transform_dense"),
    ("cls.predictions.transform.LayerNorm", "transform_layer_norm"),
    ("cls.predictions.bias", "decoder_bias"),
]
OLD_NAMES = [("LayerNorm.gamma", "LayerNorm.weight"), ("LayerNorm.beta", "LayerNorm.bias")]
TIED = [  # second names of one parameter; a file may hold both, but they must agree
    ("cls.predictions.decoder.weight", "embeddings.word_embeddings.weight"),
    ("cls.predictions.decoder.bias", "cls.predictions.bias"),
]
HEAD = ("transform_dense.", "transform_layer_norm.", "decoder_bias")  # the masked-LM head's parameters begin so
POOLER = ("pooler_dense.",)


def to_hugging_face(name):
    """Our parameter name as Hugging Face writes it; a leading `bert.` stays."""
    for theirs, ours in NAMES:
        name = name.replace(ours, theirs)
    return name


def from_hugging_face(name):
    """A file's parameter name as BertModel (or the masked-LM head) has it, without `bert.`; our own names stay."""
    for old, new in OLD_NAMES + TIED + NAMES:
        name = name.replace(old, new)
    return name.removeprefix("bert.")


# ---- reading --------------------------------------------------------------------------------------------------------


class _NoRandomNumbers(TorchFunctionMode):
    """Inside this context, modules are built with no values drawn: the checkpoint's are to follow.

    It saves up to a second for bert-base, and spares torch's compiler, which random numbers "on" meta would wake.
    """

    draws = (init.normal_, init.uniform_, init.kaiming_uniform_, torch.Tensor.normal_, torch.Tensor.uniform_)

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func in self.draws:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **(kwargs or {}))


SEEN_IN = {  # (the tensor, the axis) that shows a size
    "vocab_size": ("word_embedding.weight", 0),
    "hidden_size": ("word_embedding.weight", 1),
    "max_position_embeddings": ("pos_embedding.weight", 0),
    "type_vocab_size": ("tk_type_embedding.weight", 0),
    "intermediate_size": ("bert_layers.0.interm_dense.weight", 0),
}


def _compare_sizes(path, tensors, config):
    """UserError where the file and its config.json differ in a size: before a model is built, which for a damaged
    config.json may take hours. What the file lacks is left to `_fit`."""
    shapes = {from_hugging_face(key): tensor.shape for key, tensor in tensors.items()}
    sizes = {size: shapes[name][axis] for size, (name, axis) in SEEN_IN.items() if len(shapes.get(name, ())) == 2}
    if layers := [int(found[1]) for name in shapes if (found := re.match(r"bert_layers\.(\d{1,9})\.", name))]:
        sizes["num_hidden_layers"] = max(layers) + 1
    asked = {size: getattr(config, size) for size in sizes}
    if wrong := [f"{size} {asked[size]}, the tensors {sizes[size]}" for size in sizes if sizes[size] != asked[size]]:
        raise UserError(f"{path}: config.json says {'; '.join(wrong)}; take both files from one checkpoint")


def _fit(path, tensors, shapes):
    """Give every tensor of a file its home in the model.

    tensors {name in the file: tensor} -> (state {name in the model: fp32 tensor}, new: names that stay to be
    initialised). `shapes` {name in the model: shape}. UserError for whatever does not fit.
    """
    homes = {name.removeprefix("bert."): name for name in shapes}
    has_head = "decoder_bias" in homes
    state, foreign, misfits = {}, [], []
    for key, tensor in tensors.items():
        name = from_hugging_face(key)
        of_head = key.startswith("cls.") or name.startswith(HEAD)
        if name.endswith("position_ids") or key.startswith("cls.seq_relationship.") or (of_head and not has_head):
            continue
        if name not in homes:
            foreign.append(key)
        elif tensor.shape != shapes[homes[name]]:
            misfits.append(f"{key} (expected {list(shapes[homes[name]])}, found {list(tensor.shape)})")
        elif tensor.dtype not in (torch.float32, torch.float16, torch.bfloat16, torch.float64):
            misfits.append(f"{key} (expected floats, found {str(tensor.dtype).removeprefix('torch.')})")
        else:
            own = tensor.to(torch.float32, copy=True)  # a copy: tensors of a file are windows into it
            if homes[name] in state and not torch.equal(state[homes[name]], own):
                raise UserError(f"{path}: {key} differs from the parameter it must be tied to, {to_hugging_face(name)}")
            state[homes[name]] = own
    missing = [name for name in shapes if name not in state]
    new = []
    if has_head:
        for group in (HEAD, POOLER):  # each may be absent, but not in part
            names = [home for name, home in homes.items() if name.startswith(group)]
            if set(names) <= set(missing):
                new += names
    missing = [to_hugging_face(name) for name in missing if name not in new]
    for what, found in (
        ("wrong size or type for config.json", misfits),
        ("no place in the model", foreign),
        ("missing", missing),
    ):
        if found:
            more = f" and {len(found) - 5} more" if len(found) > 5 else ""
            raise UserError(
                f"{path}: {what}: {', '.join(found[:5])}{more}; this is not a whole BERT checkpoint for its config.json"
            )
    return state, new
