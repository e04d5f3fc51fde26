"""bf16: the context that multiplies matrices in it, and which processors do so faster than in fp32.

A bf16 number is a float32 whose mantissa is cut from 23 bits to 7: the same range, two to three decimal digits. Matrix
products read bf16 and sum in fp32; weights, moments, losses and the statistics inside softmax and LayerNorm stay fp32
(Kalamkar et al. 2019, "A Study of BFLOAT16 for Deep Learning Training", section 3).
"""

import torch

CPU_UNITS = {"amx_bf16": "AMX", "avx512_bf16": "AVX512-BF16"}  # as torch calls them -> as people do


def autocast(device, precision):
    """The context in which trunk and heads run: linear layers and attention in bf16 where `precision` is "bf16"."""
    return torch.autocast(torch.device(device).type, torch.bfloat16, enabled=precision == "bf16")


def bf16_unit(device):
    """What a device multiplies bf16 matrices with, or None where torch would imitate it, many times slower than fp32.
    It is asked what it has and never timed: a run's bits must not depend on how busy the machine is."""
    if torch.device(device).type == "cuda":
        return "tensor cores" if torch.cuda.is_bf16_supported(including_emulation=False) else None
    has = torch.cpu.get_capabilities()
    return next((unit for name, unit in CPU_UNITS.items() if has.get(name)), None)


def precision_told(device, precision):
    """The precision of a run and why, for its first lines."""
    unit = bf16_unit(device)
    if precision == "bf16":
        return f"precision: bf16 matrix products by {unit}, weights and losses in fp32"
    return "precision: fp32" + (f" (--precision bf16 would use {unit}, which is faster)" if unit else "")
