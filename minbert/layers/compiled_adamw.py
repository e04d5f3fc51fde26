"""The AdamW update of optimizer.py through torch.compile: equal to float rounding, and faster on a CPU.

An update does little arithmetic on much memory, so its cost is how often it passes over that memory. The compiler makes
one pass of what takes several by hand. A user who learns how AdamW works needs optimizer.py alone.
"""

import functools
import itertools

import torch

from minbert.files import UserError

SMALL = 4096  # floats; biases and LayerNorms cost less plain than the threads a compiled loop wakes for them
BATCH = 20  # tensors a compiled call updates: calling costs more than updating a bias, compiling grows with it


def equations_(tensors, step_size, decay, beta1, beta2, eps):
    """`optimizer.update_` on a list of (parameter, gradient, m, v), written as the equations are, for the compiler.
    `step_size` and `decay` are tensors of shape []; as plain numbers they would be compiled in, again at every step."""
    for parameter, gradient, m, v in tensors:
        m.copy_(beta1 * m + (1 - beta1) * gradient)
        v.copy_(beta2 * v + (1 - beta2) * gradient * gradient)
        stepped = parameter - step_size * m / (v.sqrt() + eps)
        parameter.copy_(stepped - decay * stepped)


@functools.cache
def _compiled():
    return torch.compile(equations_)  # one for all optimizers, made when first wanted


def pays(tensors):
    """Whether a (parameter, gradient, m, v) is worth a compiled update: large, and in one piece of memory each."""
    return tensors[0].numel() > SMALL and all(tensor.is_contiguous() for tensor in tensors)


def update_(tensors, step_size, decay, beta1, beta2, eps):
    """`optimizer.update_` on a list of (parameter, gradient, m, v) for which `pays` is true, of one dtype and device.

    Compiled once for BATCH vectors of any length from 2 up: tensors go in as vectors, and scratch fills up the last
    batch."""
    vectors = [[tensor.view(-1) for tensor in four] for four in tensors]
    while len(vectors) % BATCH:
        vectors.append([vectors[0][0].new_zeros(2) for _ in range(4)])
    step_size, decay = (torch.tensor(number, dtype=torch.float64) for number in (step_size, decay))
    for start in range(0, len(vectors), BATCH):
        _compiled()(vectors[start : start + BATCH], step_size, decay, beta1, beta2, eps)


@torch.no_grad()
def compile_now(groups):
    """Compile on scratch for each kind of tensor in an optimizer's parameter groups: a missing compiler is told before
    the training starts, as a UserError."""
    numbers = [torch.ones((), dtype=torch.float64) for _ in range(2)]
    for group in groups:
        for dtype, device in dict.fromkeys((p.dtype, p.device) for p in group["params"]):
            scratch = torch.zeros(BATCH, 4, 1 << 17, dtype=dtype, device=device)  # short ones would get one thread
            tensors = [[tensor.clone() for tensor in four] for four in scratch]
            for tensor in itertools.chain(*tensors):
                torch._dynamo.mark_dynamic(tensor, 0)
            try:
                _compiled()(tensors, *numbers, *group["betas"], group["eps"])
            except RuntimeError as error:
                reason = str(error).strip().partition("\n")[0]
                raise UserError(
                    f"torch.compile does not work here ({reason}): install a C++ compiler, or leave --compile out"
                ) from error
