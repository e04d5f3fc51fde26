"""Devices: which are here, and what Apple's (MPS) does otherwise than the CPU and CUDA: it has no float64.

MPS is written for, and tested by a stand-in: no run of this project has been on one.
"""

import torch


def best():
    """The device that --device auto means."""
    return next(kind for kind in ("cuda", "mps", "cpu") if is_here(kind))


def is_here(kind):
    """Whether torch can use a device of that kind on this machine."""
    return {"cuda": torch.cuda.is_available, "mps": torch.backends.mps.is_available}.get(kind, lambda: True)()


def double(tensor):
    """In float64; on the CPU, where the tensor's own device has none."""
    return (tensor.cpu() if tensor.device.type == "mps" else tensor).double()


def readable(device):
    """Where a file's tensors, float64 among them, can be read to for that device."""
    return "cpu" if torch.device(device).type == "mps" else device


def random_states(device):
    """The states of the random generators of all devices of that kind, but the CPU's."""
    if device.type == "cuda":
        return torch.cuda.get_rng_state_all()
    return [torch.mps.get_rng_state()] if device.type == "mps" else []


def set_random_states(device, states):
    """Back to what `random_states` gave."""
    states = [state.cpu() for state in states]
    if device.type == "cuda":
        torch.cuda.set_rng_state_all(states)
    elif device.type == "mps":
        torch.mps.set_rng_state(*states)
