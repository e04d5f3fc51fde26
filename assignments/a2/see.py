"""One layer learns whether the first and the last token have the same colour: only attention can tell."""

import json
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from assignments.school.student import student_of

COLOURS, T, B, STEPS = 4, 5, 64, 300


def main():
    torch.manual_seed(0)
    student = student_of(json.loads(Path(__file__).with_name("handout.json").read_text())["dialect"])
    config = student.config({"hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 64})
    embedding, layer, head = nn.Embedding(COLOURS + T, 32), student.bert.BertLayer(config), nn.Linear(32, 2)
    parameters = [*embedding.parameters(), *layer.parameters(), *head.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=3e-3)
    for step in range(STEPS + 1):
        colours = torch.randint(COLOURS, (B, T))  # [B, T]
        label = (colours[:, 0] == colours[:, -1]).long()
        flip = torch.rand(B) < 0.35  # about half of the answers are yes
        colours[flip, -1], label[flip] = colours[flip, 0], 1
        x = embedding(colours) + embedding(COLOURS + torch.arange(T))  # [B, T, H]
        hidden = student.run(layer, x, torch.ones(B, T, dtype=torch.long))
        loss = F.cross_entropy(head(hidden[:, 0]), label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 30 == 0:
            print(f"step {step:3}  loss {loss.item():.3f}  " + "#" * int(60 * loss.item()))


if __name__ == "__main__":
    try:
        main()
    except NotImplementedError as error:
        sys.exit(str(error))
