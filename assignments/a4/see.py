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
    plain = descend(lambda p: torch.optim.SGD(p, lr=0.01))
    ours = descend(lambda p: AdamW(p, lr=0.15))
    print("step  gradient descent  AdamW")
    for step in range(0, STEPS, 8):
        bars = "+" * int(WIDTH * (ours[step] / ours[0]) ** 0.33)
        print(f"{step:4}  {plain[step]:16.4f}  {ours[step]:.4f} {bars}")


if __name__ == "__main__":
    try:
        main()
    except NotImplementedError as error:
        sys.exit(str(error))
