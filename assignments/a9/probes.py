"""How a9 is asked: masks drawn over long texts, perplexity of given losses, and the masked-LM head."""

from types import SimpleNamespace

import numpy as np
import torch

SPECIAL = {"pad": 0, "cls": 1, "sep": 2, "mask": 3}


def tokenizer_of(vocab_size):
    return SimpleNamespace(**SPECIAL, vocab_size=vocab_size)


def mask_tokens(student, inputs):
    """One long text, made from a seed; what came in, what came out."""
    made = np.random.default_rng(inputs["seed"])
    ids = made.integers(0, inputs["vocab_size"], size=inputs["n"]).astype(np.int64)
    ids[::20], ids[19::20] = SPECIAL["cls"], SPECIAL["sep"]
    given = ids.copy()
    hidden, chosen = student.masking.mask_tokens(given, tokenizer_of(inputs["vocab_size"]), np.random.default_rng(5))
    return {
        "ids": ids,
        "hidden": hidden,
        "chosen": chosen,
        "mask": np.array([SPECIAL["mask"]]),
        "special": np.array(list(SPECIAL.values())),
        "untouched": np.array([float(np.array_equal(ids, given))]),
    }


def masked_batch(student, inputs):
    """A batch of texts of different lengths: where labels, places and hidden tokens fit together."""
    made = np.random.default_rng(inputs["seed"])
    lengths = made.permutation(np.arange(5, 5 + inputs["texts"]))
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    ids = made.integers(4, 1000, size=offsets[-1]).astype(np.int32)
    sequences = student.tokenization.Sequences(ids, np.zeros(len(ids), np.uint8), offsets)
    rows = made.permutation(inputs["texts"])[: inputs["rows"]]
    found = student.masking.masked_batch(sequences, rows, tokenizer_of(1000), np.random.default_rng(7), "cpu")
    tokens, places, labels = found
    was = student.packing.pack(sequences.take(rows)).ids
    unchosen = torch.ones(len(was), dtype=torch.bool)
    unchosen[places] = False
    share = float((tokens.ids[places] == SPECIAL["mask"]).double().mean()) if len(places) else 0.0
    return {
        "labels are what stood at their places": torch.tensor(float(torch.equal(labels, was[places]))),
        "tokens elsewhere stay as they were": torch.tensor(float(torch.equal(tokens.ids[unchosen], was[unchosen]))),
        "most of the chosen are [MASK]": torch.tensor(float(0.6 < share < 0.95)),
        "tokens": torch.tensor(float(len(tokens.ids))),
        "about 15 % are chosen": torch.tensor(float(0.08 < len(places) / len(was) < 0.23)),
    }


def perplexity(student, inputs):
    exam = [(None, losses, None) for losses in inputs["losses"]]
    return {
        "the perplexity": torch.tensor(float(student.masking.perplexity(lambda tokens, losses, labels: losses, exam)))
    }


def model_of(student, inputs):
    config = student.base_bert.BertConfig(**inputs["sizes"])
    model = student.bert.BertForMaskedLM(config)
    model.load_state_dict(inputs["weights"], strict=False)
    return model.double().eval()


def predict(student, inputs):
    return {"the logits": model_of(student, inputs).predict(inputs["hidden"])}


def losses(student, inputs):
    """The losses at some places, with the trunk's states given."""
    model = model_of(student, inputs)
    model.bert.encode_packed = lambda tokens: tokens
    found = model.losses(inputs["hidden"], inputs["places"], inputs["labels"])
    return {"the losses": found}
