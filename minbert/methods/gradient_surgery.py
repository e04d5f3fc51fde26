"""PCGrad: where the gradients of two tasks point against each other, take the conflicting part out.

Yu et al. 2020, "Gradient Surgery for Multi-Task Learning" (NeurIPS), Algorithm 1.

Shapes: T tasks, P numbers in the parameters that tasks share.
"""

import torch

from minbert.processes import ALONE


def project(gradients, generator=None):
    """The sum of the tasks' gradients after surgery: [T, P] -> [P].

    For each task i, over the other tasks j in random order:

        if g_i . g_j < 0:    g_i <- g_i - (g_i . g_j) / |g_j|^2 g_j    with the g_j that came in, unprojected

    which leaves g_i at a right angle to g_j. Without a conflict this is the plain sum. Every g_i stays a combination
    of the gradients that came in, so only its T weights change: the P numbers are read twice, not for each pair.
    The order is drawn from `generator`, by default torch's global one on the CPU, which a checkpoint saves.
    """
    smallest = torch.finfo(gradients.dtype).tiny
    products = gradients @ gradients.T  # [T, T]: all that the projections need to know of the P numbers
    weights = torch.eye(len(gradients), dtype=gradients.dtype, device=gradients.device)  # row i: g_i out of all g_j
    for i in range(len(gradients)):
        for j in torch.randperm(len(gradients), generator=generator).tolist():
            if j != i:
                against = torch.dot(weights[i], products[j]).clamp(
                    max=0
                )  # 0 if they agree; an `if` would wait for a GPU
                weights[i, j] -= against / products[j, j].clamp_min(smallest)  # a zero gradient divides nothing
    return weights.sum(dim=0) @ gradients


def backward(losses, parameters, processes=ALONE):
    """Forward and backward task by task, then `project`: leaves the result in each parameter's `grad`.

    losses      one function for each task, without arguments: runs the task's own forward pass and returns the scalar
                to differentiate. Its graph is gone before the next one is built.
    processes   which hold parts of the batches (processes.py): each task's gradient is summed over them before surgery
    parameters  those to train. Surgery is for those that more than one task's gradient reaches, the paper's shared
                theta: a head of one task has no conflicts, keeps its gradient, and takes no part in the products.

    `grad` is overwritten, not added to; it is None where no task's gradient reaches. Returns the losses, detached.
    Holds every task's gradients at once, twice: 2 T P numbers.
    """
    parameters = [parameter for parameter in parameters if parameter.requires_grad]
    values, by_task = [], []
    for loss in losses:
        value = loss()
        gradients = torch.autograd.grad(value, parameters, allow_unused=True)  # None where it does not reach
        whole = iter(processes.sum([gradient for gradient in gradients if gradient is not None]))
        by_task.append([None if gradient is None else next(whole) for gradient in gradients])
        values.append(value.detach())

    shared = []  # which parameters, by index
    for index, gradients in enumerate(zip(*by_task, strict=True)):
        reached = [gradient for gradient in gradients if gradient is not None]
        parameters[index].grad = reached[0] if reached else None
        if len(reached) > 1:
            shared.append(index)

    if shared:
        sizes = [parameters[index].numel() for index in shared]
        flat = parameters[shared[0]].new_zeros(len(losses), sum(sizes))  # [T, P]
        for row, gradients in zip(flat, by_task, strict=True):
            for piece, index in zip(row.split(sizes), shared, strict=True):
                if gradients[index] is not None:
                    piece.view_as(parameters[index]).copy_(gradients[index])
        for piece, index in zip(project(flat, processes.generator).split(sizes), shared, strict=True):
            parameters[index].grad = piece.view_as(parameters[index])
    return values
