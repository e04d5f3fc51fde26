"""Dropout (Srivastava et al. 2014, JMLR 15) that spends 16 random bits on an element instead of one whole draw.

On a CPU, `torch.nn.Dropout` draws one random number an element on a single thread, which costs a fifth of a training
step of a small BERT. Four elements share one 64-bit draw here. On other devices torch's own kernel is used.
"""

import torch
import torch.nn.functional as F
from torch import nn

STEPS = 1 << 16  # a 16-bit number is below p with a probability that is a multiple of 1 / STEPS


class Dropout(nn.Module):
    """y = x * m / (1 - p) with m ~ Bernoulli(1 - p), independent for each element; y = x in eval mode or at p = 0.

    On a CPU p is rounded to a multiple of 1/65536 (0.1 becomes 0.100006), and the scale uses the rounded p, so that
    the mean of y is exactly x. Reproducible under `torch.manual_seed`, for any number of threads.
    """

    def __init__(self, p):
        super().__init__()
        if not 0 <= p < 1:
            raise ValueError(f"dropout probability {p} is not in [0, 1)")
        self.p = p

    def forward(self, x):
        if not self.training or self.p == 0:
            return x
        if x.device.type != "cpu":
            return F.dropout(x, self.p)
        return x * random_scale(x.shape, self.p, x.dtype)

    def extra_repr(self):
        return f"p={self.p}"


def drawn_again(function, device):
    """`function`, the second and every later call of which draws the random numbers that its first call draws: with the
    same dropout, what two calls differ by is what their arguments differ by."""
    device = torch.device(device)
    states = []

    def call(*arguments):
        if not states:
            states.append((torch.get_rng_state(), torch.cuda.get_rng_state(device) if device.type == "cuda" else None))
            return function(*arguments)
        on_cpu, on_gpu = states[0]
        with torch.random.fork_rng([device] if on_gpu is not None else []):
            torch.set_rng_state(on_cpu)
            if on_gpu is not None:
                torch.cuda.set_rng_state(on_gpu, device)
            return function(*arguments)

    return call


def random_scale(shape, p, dtype=torch.float32):
    """A tensor of `shape` on the CPU: 0 with probability p (rounded to 1/65536), otherwise 1 / (1 - p)."""
    dropped = min(round(p * STEPS), STEPS - 1)  # how many of the 65536 values mean "drop"
    count = shape.numel()
    # Ask for the whole range: plain random_() leaves the top bit 0, and every fourth 16-bit number is then positive.
    bits = torch.empty((count + 3) // 4, dtype=torch.int64).random_(-(2**63), None).view(torch.int16)[:count]
    keep = bits >= dropped - STEPS // 2
    return (keep.view(shape) * (STEPS / (STEPS - dropped))).to(dtype)
