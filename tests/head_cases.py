"""The heads that tests/layers/test_heads.py and test_class_heads.py ask, each with embeddings and labels."""

import numpy as np
import torch

from datasets import TASKS
from minbert.layers.heads import make_head
from minbert.layers.pairs import JOINS

B, H = 7, 6
COSINES = ("scaled", "shifted", "embedding")
# name -> task, make_head's choices
HEADS = {
    "softmax": ("sst", {}),
    "coral": ("sst", {"sst_head": "coral"}),
    "binary": ("quora", {}),
    "regression": ("sts", {}),
    "linear": ("sts", {"sts_head": "linear"}),
    "classification": ("sts", {"sts_head": "classification"}),
    "expectation": ("sts", {"sts_head": "classification", "sts_predict": "expectation"}),
    "ordinal6": ("sts", {"sts_head": "ordinal6"}),
    **{f"cosine {how}": ("sts", {"pairs": "concat", "sts_head": "cosine", "sts_cosine": how}) for how in COSINES},
    **{f"binary {join}": ("quora", {"pairs": join}) for join in JOINS},
    **{f"regression {join}": ("sts", {"pairs": join}) for join in JOINS},
}
WITH_CLASSES = {"softmax": 5, "coral": 5, "binary": 2, "classification": 26, "expectation": 26, "ordinal6": 6}


def head_of(name, dropout=0.0, seed=1):
    task, choices = HEADS[name]
    torch.manual_seed(seed)
    return make_head(TASKS[task], H, dropout, **choices).double()


def embeddings_for(head, seed=2, examples=B):
    torch.manual_seed(seed)
    sequences = 1 if head.join is None else 2
    return torch.randn(examples, sequences, H, dtype=torch.float64, requires_grad=True)


def labels_of(name):
    """Scores come as float32, as the reader of the files gives them."""
    task = TASKS[HEADS[name][0]]
    if task.kind == "regression":
        return torch.tensor([0.0, 5.0, 2.5, 1.3, 4.9, 0.2, 3.0])
    return torch.arange(B) * 3 % len(task.labels)


def sigmoid(z):
    return 1 / (1 + np.exp(-z))
