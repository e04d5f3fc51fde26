"""Heads of a saved run as Hugging Face folders, which `transformers.pipeline` runs to the same answers.

`BertForSequenceClassification` is the pooler over [CLS], dropout and one linear layer, and the pipeline makes a
softmax, a sigmoid or nothing of its logits. A head that says the same in these words becomes FOLDER/TASK:

    config.json  model.safetensors  tokenizer.json  tokenizer_config.json  README.md (a model card)

Any other is refused with the reason; nothing is exported that would answer otherwise there.
"""

import os
import secrets
import shutil
from dataclasses import dataclass

import numpy as np
import torch
from safetensors.torch import save

from base_bert import to_hugging_face
from minbert.files import UNFINISHED, UserError, write_json, write_text, written_whole
from minbert.layers.heads import BinaryHead, ClassesHead, LinearHead, RegressionHead, SoftmaxHead
from minbert.training.model_card import model_card
from minbert.training.saved import RUN, saved_record, saved_scores

SPECIAL = {name: f"[{name.removesuffix('_token').upper()}]" for name in
           ("cls_token", "sep_token", "pad_token", "mask_token", "unk_token")}  # fmt: skip


@dataclass(frozen=True)
class Classifier:
    """A head in the words of `BertForSequenceClassification`: outputs by name, the weight [C, H] and bias [C] of its
    linear layer, and the problem_type that decides what the pipeline makes of the logits."""

    names: tuple
    weight: torch.Tensor
    bias: torch.Tensor
    problem_type: str


def export_heads(run, out, model, tokenizer, options):
    """Yield a sentence on each head of a saved run's `model`, as its folder below `out` is written, or on why there is
    none. Raises UserError where a folder is there already, or no head can be exported."""
    record, scores = saved_record(run / RUN), saved_scores(run)
    reasons = {name: objection(model, task) for name, task in model.tasks.items()}
    for name in (name for name, reason in reasons.items() if not reason):
        if (out / name).exists():
            raise UserError(f"{out / name}: there already; export into another folder, or remove it")
    if all(reasons.values()):
        raise UserError(f"{run}: no head can be exported: {'; '.join(dict.fromkeys(reasons.values()))}")
    out.mkdir(parents=True, exist_ok=True)
    for name, reason in reasons.items():
        if reason:
            yield f"{name}: not exported: {reason}"
        else:
            head = classifier_of(model.heads[name], model.tasks[name])
            card = model_card(model.tasks[name], head.names, model.heads[name], record, scores, options)
            _write(out / name, model, model.tasks[name], head, tokenizer, options, card)
            yield f"{name}: {out / name}"


def objection(model, task):
    """Why a task's head is none that `BertForSequenceClassification` and the pipeline know, or ""."""
    if model.shares_head:
        return "--label_scheme has one head for all tasks, and labels are decoded from its classes together"
    if model.pooling != "cls":
        return f"--pooling {model.pooling}: BertForSequenceClassification reads the pooler over [CLS] alone"
    if task.is_pair and not model.fused:
        return f"{task.name} encodes the two texts of a pair separately (--pairs), BertForSequenceClassification as one"
    head = model.heads[task.name]
    if isinstance(head, ClassesHead) and head.by != "argmax":
        return f"{task.name} answers with the mean of its classes (--sts_predict), the pipeline with the likeliest one"
    if type(head) not in CLASSIFIERS:
        return f"{task.name} has a {type(head).__name__}, whose logits are no softmax, sigmoid or score of the pipeline"
    return ""


def classifier_of(head, task):
    """The `Classifier` that says what a head says."""
    weight, bias = head.linear.weight.detach().cpu().float(), head.linear.bias.detach().cpu().float()
    return CLASSIFIERS[type(head)](task, head, weight, bias)


def _softmax(task, head, weight, bias):
    return Classifier(task.labels, weight, bias, "single_label_classification")


def _binary(task, head, weight, bias):
    """sigmoid(z) for the second of two classes is the softmax over the logits (0, z)."""
    nothing = torch.zeros_like(weight), torch.zeros_like(bias)
    return Classifier(task.labels, torch.cat([nothing[0], weight]), torch.cat([nothing[1], bias]),
                      "single_label_classification")  # fmt: skip


def _classes(task, head, weight, bias):
    names = tuple(f"{score:g}" for score in np.linspace(head.low, head.high, head.classes))
    return Classifier(names, weight, bias, "single_label_classification")


def _score(task, head, weight, bias):
    """score = low + (high - low) sigmoid(z): the pipeline's sigmoid, which it takes where outputs are independent
    labels, is the share of the range that the card tells how to read."""
    return Classifier((task.name,), weight, bias, "multi_label_classification")


def _raw_score(task, head, weight, bias):
    return Classifier((task.name,), weight, bias, "regression")


CLASSIFIERS = {
    SoftmaxHead: _softmax,
    BinaryHead: _binary,
    ClassesHead: _classes,
    RegressionHead: _score,
    LinearHead: _raw_score,
}


def _write(folder, model, task, head, tokenizer, options, card):
    """The folder, which is there whole or not at all."""
    temporary = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}{UNFINISHED}")
    temporary.mkdir()
    try:
        write_json(temporary / "config.json", _config(model, task, head, options))
        _write_weights(temporary / "model.safetensors", model, head)
        write_text(temporary / "tokenizer.json", tokenizer.to_json())
        write_json(temporary / "tokenizer_config.json", _tokenizer_config(tokenizer, options))
        write_text(temporary / "README.md", card)
        os.rename(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _config(model, task, head, options):
    return {
        **model.bert.config.to_dict("BertForSequenceClassification"),
        "id2label": {str(number): name for number, name in enumerate(head.names)},
        "label2id": {name: number for number, name in enumerate(head.names)},
        "problem_type": head.problem_type,
        "classifier_dropout": options.model.hidden_dropout_prob,
        **({"score_range": list(task.score_range)} if task.kind == "regression" else {}),
    }


def _tokenizer_config(tokenizer, options):
    """A general class: BERT's own would build its rules anew from the vocabulary, instead of reading tokenizer.json."""
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": options.model.max_length,
        "truncation_side": "left" if tokenizer.truncate == "tail" else "right",
        "model_input_names": ["input_ids", "token_type_ids", "attention_mask"],
        "clean_up_tokenization_spaces": False,
        **SPECIAL,
    }


def _write_weights(path, model, head):
    trunk = {f"bert.{to_hugging_face(name)}": value for name, value in model.bert.state_dict().items()}
    tensors = {**trunk, "classifier.weight": head.weight, "classifier.bias": head.bias}
    tensors = {name: value.detach().to("cpu", torch.float32).contiguous() for name, value in tensors.items()}
    with written_whole(path) as temporary:
        temporary.write_bytes(save(tensors, metadata={"format": "pt"}))
