"""AdamW by hand, and learning-rate schedules.

Kingma and Ba, "Adam: A Method for Stochastic Optimization" (2015), Algorithm 1, in the efficient form that ends its
section 2; Loshchilov and Hutter, "Decoupled Weight Decay Regularization" (2019), Algorithm 2.

Read `update_` first: it is the whole method, for one tensor. `AdamW.step` only walks over the parameters.
An update does little arithmetic on much memory, so its cost is how often it passes over that memory: `update_` makes
few passes and works in place. With `AdamW(..., compiled=True)` torch.compile makes one of them, in compiled_adamw.py.
"""

import math
import re

import torch

from minbert.layers import compiled_adamw

CHUNK = 1 << 20  # floats; parameter, gradient, both moments and a scratch of 4 MB each stay in the processor's cache


def update_(parameter, gradient, m, v, step_size, decay, beta1, beta2, eps):
    """One AdamW step on one tensor, in place. The tensors share a shape; the rest are plain numbers.

        m <- beta1 m + (1 - beta1) g          running mean of the gradient
        v <- beta2 v + (1 - beta2) g^2        running mean of its square
        p <- p - alpha_t m / (sqrt(v) + eps)  alpha_t is `step_size`, eps stands outside the bias correction
        p <- p - lr weight_decay p            the decay last; `decay` is lr weight_decay

    In Loshchilov and Hutter's Algorithm 2, line 12, both terms are taken from the old p; here the decay sees the new
    one, as in the course's reference. `step_size_and_decay` computes the two numbers.
    """
    m.lerp_(gradient, 1 - beta1)
    v.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
    parameter.addcdiv_(m, v.sqrt().add_(eps), value=-step_size)
    if decay:
        # Not p.mul_(1 - decay): near 1 a float32 has steps of 6e-8, and the usual decays are about 1e-7.
        parameter.add_(parameter, alpha=-decay)


def step_size_and_decay(step, lr, betas, weight_decay, correct_bias):
    """alpha_t = lr sqrt(1 - beta2^t) / (1 - beta1^t) at step t = 1, 2, ... (lr itself without the bias correction),
    and the share lr weight_decay of itself that a parameter loses."""
    step_size = lr
    if correct_bias:
        step_size *= math.sqrt(1 - betas[1] ** step) / (1 - betas[0] ** step)
    return step_size, lr * weight_decay


class AdamW(torch.optim.Optimizer):
    """AdamW (see `update_`) for floating-point tensors of any shape on any device.

    params        tensors, or parameter groups: dicts with "params" and any of the other arguments for these alone
    lr            learning rate, at least 0
    betas         decay rates of the two running means, each in [0, 1)
    eps           added to sqrt(v), at least 0
    weight_decay  share of each parameter that a step with lr 1 would take off, at least 0
    correct_bias  divide out that m and v start at zero (Kingma and Ba, section 3)
    compiled      update with torch.compile: equal to float rounding and on a CPU two to three times as fast, after
                  some seconds of compiling. The state is the same, so a run may switch either way. UserError where
                  torch.compile does not work, which on a CPU mostly means that there is no C++ compiler.

    A parameter without a gradient is left alone and its step count stands still. State per parameter: `step` (int),
    `exp_avg` (m) and `exp_avg_sq` (v), torch's own names. No step waits for the GPU.
    Raises ValueError for an argument out of range, RuntimeError for a sparse gradient.
    """

    def __init__(
        self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-6, weight_decay=0.0, correct_bias=True, compiled=False
    ):
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "correct_bias": correct_bias,
        }
        self.compiled = compiled
        super().__init__(params, defaults)
        if compiled:
            compiled_adamw.compile_now(self.param_groups)

    def add_param_group(self, param_group):
        """As torch's, which calls it for every group it is built with; checks the group's values besides."""
        _check_values({**self.defaults, **param_group})
        super().add_param_group(param_group)

    def __getstate__(self):
        return {**super().__getstate__(), "compiled": self.compiled}  # torch's copies only what it knows

    @torch.no_grad()
    def step(self, closure=None):
        """Update every parameter that has a gradient. `closure`, as torch has it: a function that computes the
        gradients and returns the loss, which is handed back."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for (step, _, _), tensors in self._tensors_by_step(group).items():
                numbers = step_size_and_decay(
                    step, group["lr"], group["betas"], group["weight_decay"], group["correct_bias"]
                )
                self._update(tensors, *numbers, *group["betas"], group["eps"])
        return loss

    def _tensors_by_step(self, group):
        """Count this step, and sort the group's tensors: {(step, dtype, device): [(parameter, gradient, m, v), ...]}.
        Parameters that sat out some steps (another task's head) have a smaller count and another step size."""
        by_step = {}
        for parameter in group["params"]:
            gradient = parameter.grad
            if gradient is None:
                continue
            if gradient.is_sparse:
                raise RuntimeError("AdamW takes no sparse gradients: build the embedding with sparse=False")
            state = self.state[parameter]
            if not state:
                state["step"] = 0
                state["exp_avg"] = torch.zeros_like(parameter)
                state["exp_avg_sq"] = torch.zeros_like(parameter)
            state["step"] += 1
            key = state["step"], parameter.dtype, parameter.device
            tensors = parameter.detach(), gradient, state["exp_avg"], state["exp_avg_sq"]
            by_step.setdefault(key, []).append(tensors)
        return by_step

    def _update(self, tensors, *numbers):
        """`update_` on a list of (parameter, gradient, m, v), the large ones compiled if so wanted."""
        if self.compiled:
            large = [four for four in tensors if compiled_adamw.pays(four)]
            tensors = [four for four in tensors if not compiled_adamw.pays(four)]
            compiled_adamw.update_(large, *numbers)
        for four in tensors:
            for pieces in _pieces(four):
                update_(*pieces, *numbers)


def _pieces(tensors):
    """Tensors of one shape cut alike into pieces that a CPU's cache holds; those of a GPU, strided and short ones stay
    whole."""
    if tensors[0].is_cpu and tensors[0].numel() > CHUNK and all(tensor.is_contiguous() for tensor in tensors):
        return zip(*(tensor.view(-1).split(CHUNK) for tensor in tensors), strict=True)
    return [tensors]


def _check_values(group):
    """ValueError for values that cannot be meant; `not 0 <= x` also refuses NaN."""
    for name in ("lr", "eps", "weight_decay"):
        if not 0 <= group[name] < math.inf:
            raise ValueError(f"AdamW: {name} must be a finite number of at least 0, not {group[name]}")
    if len(group["betas"]) != 2 or not all(0 <= beta < 1 for beta in group["betas"]):
        raise ValueError(f"AdamW: betas must be two numbers of at least 0 and under 1, not {group['betas']}")


EMBEDDING = re.compile(r"(^|\.)((word|pos|tk_type)_embedding|embed_layer_norm)\.")  # names of bert.BertModel
LAYER = re.compile(r"(?:^|\.)bert_layers\.(\d+)\.")


def parameter_groups(model, weight_decay, decay_everything=True, lr=None, layer_decay=1.0):
    """The model's parameters as groups for `AdamW`: one group that decays, as in the course, or with
    `decay_everything=False` a second that does not: biases and LayerNorm's weights, that is, the vectors.

    `layer_decay` below 1 lets the lower layers, which know the language in general, learn more slowly: layer l of L
    gets lr * layer_decay ** (L + 1 - l), with the embeddings as l = 0 and all that is no layer (pooler, heads) as
    L + 1. Then there are such groups for each l, lowest first, each with its "lr". Howard and Ruder 2018, "Universal
    Language Model Fine-tuning for Text Classification", section 3.2, "discriminative fine-tuning" (each layer 1 / 2.6
    of the one above); Clark et al. 2020, "ELECTRA", appendix B (0.8 for the base model, 0.9 for the large).
    ValueError for a `layer_decay` outside (0, 1], or below 1 without `lr`.
    """
    if not 0 < layer_decay <= 1:
        raise ValueError(f"layer_decay must be over 0 and at most 1, not {layer_decay}")
    if layer_decay < 1 and lr is None:
        raise ValueError(f"layer_decay {layer_decay} needs lr, the learning rate of the heads")
    named = list(model.named_parameters())
    top = 1 + max((int(number) + 1 for name, _ in named for number in LAYER.findall(name)), default=0)  # L + 1
    groups = {}  # (layer, is a vector that shall not decay) -> parameters
    for name, parameter in named:
        layer = _layer(name, top) if layer_decay < 1 else top
        groups.setdefault((layer, not decay_everything and parameter.ndim <= 1), []).append(parameter)
    result = []
    for layer, spared in sorted(groups):
        group = {"params": groups[layer, spared], "weight_decay": 0.0 if spared else weight_decay}
        if layer_decay < 1:
            group["lr"] = lr * layer_decay ** (top - layer)
        result.append(group)
    return result


def _layer(name, top):
    """The layer that a parameter of this name belongs to: 0 for the embeddings, 1 to L, or `top`."""
    match = LAYER.search(name)
    if match:
        return int(match[1]) + 1
    return 0 if EMBEDDING.search(name) else top


# Schedules: what to multiply the learning rate by at a step = 0, 1, ..., total_steps - 1. warmup: a share of the steps.


def constant(step, total_steps, warmup):
    """1 at every step; `warmup` is not used."""
    return 1.0


def linear(step, total_steps, warmup):
    """With T = total_steps and W = warmup * T, rounded: up from 0 before the first step to 1 at step W, then down to 0
    after the last. Step 0 gets 1 / (W + 1), which is 1 without warm-up; step W is the only one to get 1; the last,
    T - 1, gets 1 / (T - W). No step gets 0, which would be wasted; any after the last does. W is at most T - 1: a
    warm-up over all steps ends in 1."""
    peak = min(round(warmup * total_steps), total_steps - 1)
    rise = (step + 1) / (peak + 1)
    fall = (total_steps - step) / (total_steps - peak)
    return max(0.0, min(rise, fall))


LR_SCHEDULES = {"constant": constant, "linear": linear}


def learning_rate_factor(kind, step, total_steps, warmup=0.0):
    """The factor that the schedule called `kind` has at `step` = 0, 1, ..., total_steps - 1, after a warm-up over this
    share of the steps. Raises ValueError for another kind, a negative step, no steps, or a warm-up outside [0, 1]."""
    if kind not in LR_SCHEDULES:
        raise ValueError(f"learning-rate schedule must be {' or '.join(map(repr, LR_SCHEDULES))}, not {kind!r}")
    if step < 0 or total_steps < 1:
        raise ValueError(f"learning-rate schedule needs a step from 0 of at least one, not {step} of {total_steps}")
    if not 0 <= warmup <= 1:
        raise ValueError(f"warm-up must be a share of the steps between 0 and 1, not {warmup}")
    return LR_SCHEDULES[kind](step, total_steps, warmup)


def set_learning_rate(optimizer, factor):
    """Set every group's `lr` to `factor` times its own first one, which is kept in the group as `initial_lr` (and so
    in the optimizer's state_dict). Call it before each step with `learning_rate_factor(...)`."""
    for group in optimizer.param_groups:
        group["lr"] = group.setdefault("initial_lr", group["lr"]) * factor
