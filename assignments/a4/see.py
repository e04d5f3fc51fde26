"""Two ways down a long narrow valley: plain gradient descent, and your AdamW."""

import sys

import torch

from optimizer import AdamW

STEPS, WIDTH = 120, 60


def loss_of(p):
    """A valley fifty times as steep across as it is along."""
    return 0.5 * (p[0] ** 2 + 50 * p[1] ** 2)


def descend(make):
    p = torch.nn.Parameter(torch.tensor([3.0, 1.0]))
    optimizer, losses = make([p]), []
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = loss_of(p)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def main():
    plain = descend(lambda p: torch.optim.SGD(p, lr=0.035))  # 0.04 would be too much for the steep side
    ours = descend(lambda p: AdamW(p, lr=0.15))
    print("step  loss of gradient descent (-) and of AdamW (+)")
    for step in range(0, STEPS, 8):
        for losses, mark in ((plain, "-"), (ours, "+")):
            bars = mark * int(WIDTH * (losses[step] / losses[0]) ** 0.33)
            print(f"{step if mark == '-' else '':4}  {losses[step]:8.4f} {bars}")


if __name__ == "__main__":
    try:
        main()
    except NotImplementedError as error:
        sys.exit(str(error))
