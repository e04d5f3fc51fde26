"""The attention map of six words under two heads, drawn with your `plain_attention`."""

import sys

import torch

from base_bert import BertConfig
from bert import BertSelfAttention

WORDS = ["the", "old", "cat", "saw", "the", "dog"]
KINDS = torch.tensor([[1, 0, 0], [0, 0, 1], [0, 1, 0], [0, 0, 1], [1, 0, 0], [0, 1, 0]], dtype=torch.float)  # [t, 3]
SHADES = " ░▒▓█"


def maps():
    """The probabilities of two heads [2, t, t]: one matches kinds of words, the other looks at the word before."""
    t = len(WORDS)
    kinds = torch.nn.functional.pad(KINDS, (0, t - 3))
    places = torch.eye(t)
    before = torch.roll(places, -1, 0)
    before[0] = places[0]
    before[1:] = places[:-1]
    q = torch.stack([kinds, before])[None] * 8  # [1, A, t, D]
    k = torch.stack([kinds, places])[None]
    v = torch.eye(t).expand(1, 2, t, t)  # mixing unit vectors shows the probabilities themselves
    config = BertConfig(hidden_size=2 * t, num_attention_heads=2)
    return BertSelfAttention(config).eval().plain_attention(q, k, v, None)[0]


def main():
    try:
        found = maps()
    except NotImplementedError as error:
        sys.exit(str(error))
    for title, head in zip(("words of the same kind", "the word before"), found, strict=True):
        print(f"\n{title}\n" + " " * 6 + " ".join(f"{word:>4}" for word in WORDS))
        for word, row in zip(WORDS, head, strict=True):
            print(f"{word:>5} " + " ".join(SHADES[min(4, int(float(p) * 5))] * 4 for p in row))


if __name__ == "__main__":
    main()
