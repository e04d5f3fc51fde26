"""The attention map of six words under two heads, drawn with your attention function."""

import json
import sys
from pathlib import Path

import torch

from assignments.school.student import student_of

WORDS = ["the", "old", "cat", "saw", "the", "dog"]
KINDS = torch.eye(4)[[0, 1, 2, 3, 0, 2]]  # [t, 4]: article, adjective, noun, verb
SHADES = " ░▒▓█"


def maps():
    """The probabilities of two heads [2, t, t]: one matches kinds of words, the other looks at the word before."""
    t = len(WORDS)
    kinds = torch.nn.functional.pad(KINDS, (0, t - 4))
    places = torch.eye(t)
    before = places[[0, *range(t - 1)]]
    q = torch.stack([kinds, before])[None] * 8  # [1, A, t, D]
    k = torch.stack([kinds, places])[None]
    v = torch.eye(t).expand(1, 2, t, t)  # mixing unit vectors shows the probabilities themselves
    student = student_of(json.loads(Path(__file__).with_name("handout.json").read_text())["dialect"])
    sizes = {"hidden_size": 2 * t, "num_attention_heads": 2}
    return student.attend(sizes, q.double(), k.double(), v.double(), None)[0]


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
