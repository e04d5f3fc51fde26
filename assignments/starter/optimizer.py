"""AdamW in the form of the course's starters: the whole method in `step`."""

import math

import torch
from torch.optim import Optimizer


class AdamW(Optimizer):
    """Loshchilov and Hutter 2019, Algorithm 2, with the efficient bias correction of Kingma and Ba 2015, section 2."""

    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-6, weight_decay=0.0, correct_bias=True):
        for name, value, fits in (
            ("lr", lr, lr >= 0),
            ("betas", betas, all(0 <= beta < 1 for beta in betas)),
            ("eps", eps, eps >= 0),
        ):
            if not fits:
                raise ValueError(f"AdamW: {name} is {value}, out of range")
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "correct_bias": correct_bias,
        }
        super().__init__(params, defaults)

    def step(self, closure=None):
        """One update of every parameter that has a gradient. closure: computes the gradients and returns the loss.

        m <- beta1 m + (1 - beta1) g,    v <- beta2 v + (1 - beta2) g^2
        alpha_t = lr sqrt(1 - beta2^t) / (1 - beta1^t) with t = 1, 2, ... (lr alone without correct_bias)
        p <- p - alpha_t m / (sqrt(v) + eps),    then p <- p - lr weight_decay p
        """
        loss = None if closure is None else closure()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                if p.grad.is_sparse:
                    raise RuntimeError("AdamW takes no sparse gradients")
                # BEGIN SOLUTION a4
                grad, state = p.grad.data, self.state[p]
                if not state:
                    state["t"], state["m"], state["v"] = 0, torch.zeros_like(p), torch.zeros_like(p)
                state["t"] += 1
                beta1, beta2 = group["betas"]
                state["m"].mul_(beta1).add_(grad, alpha=1 - beta1)
                state["v"].mul_(beta2).addcmul_(grad, grad, value=1 - beta2)
                alpha = group["lr"]
                if group["correct_bias"]:
                    alpha *= math.sqrt(1 - beta2 ** state["t"]) / (1 - beta1 ** state["t"])
                p.data.addcdiv_(state["m"], state["v"].sqrt() + group["eps"], value=-alpha)
                p.data.sub_(p.data, alpha=group["lr"] * group["weight_decay"])
                # END SOLUTION
        return loss
