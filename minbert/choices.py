"""What a user may choose among, by name, with the words that `--help` says of each.

These are the choices whose code needs torch, told without it, so that the command line is read at once: each name is a
key of the table beside the code (pairs.JOINS, heads.SCORE_HEADS, semi_supervised.CONSISTENCIES, ...), and a test holds
the two together. Schedules and label schemes need no torch; their own files say what there is.
"""

ATTENTION = {
    "plain": "attention written out",
    "fused": "torch's kernel, the same function",
    "varlen": "on a GPU in bf16, where attention drops nothing out, the kernel for packed tokens, else as fused",
}

JOINS = {  # of the embeddings u and v of a pair whose sentences are encoded separately: pairs.py
    "concat": "[u; v]",
    "absdiff": "|u - v|",
    "cosine": "cos(u, v)",
    "dot_attention": "attention between the two",
}
PAIRS = {"fused": "[CLS] A [SEP] B [SEP]", **JOINS}

POOLING = {"cls": "the pooler over [CLS]", "mean": "the mean hidden state"}

CLASS_STEPS = {"classification": 0.2, "ordinal6": 1.0}  # scores told as classes: the distance between two of them
STS_HEADS = {
    "regression": "5 sigmoid(logit)",
    "linear": "the raw logit",
    "cosine": "5 cos(u, v)",
    "classification": "26 classes 0.0, 0.2 ... 5.0",
    "ordinal6": "6 classes 0 ... 5",
}
STS_COSINES = {
    "scaled": "5 cos",
    "shifted": "5 (cos + 1) / 2",
    "embedding": "that, trained with CosineEmbeddingLoss",
}
STS_PREDICTIONS = {"argmax": "the likeliest class", "expectation": "the mean of the classes under p"}
SST_HEADS = {"softmax": "five classes", "coral": "the five sentiments as ranks, CORAL ordinal regression"}

HEAD_BIASES = {"default": "torch's own, near 0", "prior": "what fits the training labels where the text says nothing"}

LR_SCHEDULES = {"constant": "the same rate throughout", "linear": "warm-up, then linear decay to 0"}
TSA_SCHEDULES = {"linear": "evenly", "log": "most of it early", "exp": "most of it late"}
CONSISTENCIES = {
    "kl": "symmetric KL",
    "mse": "squared error of logits",
    "mse_prob": "squared error of probabilities",
    "bregman": "the proximal point method's settings",
}


def told(choices):
    """{name: what it is} as a flag's help says it: "name: what it is; ..."."""
    return "; ".join(f"{name}: {what}" for name, what in choices.items())
