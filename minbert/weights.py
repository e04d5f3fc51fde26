"""Files of tensors by other hands, read with every check in one place: model.safetensors and pytorch_model.bin.

Such a file may be damaged, cut short, or made to do harm. Nothing in it is executed (a .bin is a pickle, and is read
with weights_only=True), the checksums of a .bin's zip archive are compared before it is opened (torch does not look at
them; the .bin files of torch before 1.6 and safetensors have none), and what comes out is ordinary tensors of finite
numbers, or one line that says what is wrong.
"""

import zipfile
from pathlib import Path

import torch
from safetensors.torch import load_file

from minbert.files import UserError, openable, reading

AGAIN = "get the file again (from the hub's cache, delete the model's whole folder first)"


def read_tensors(path, mend=AGAIN):
    """{name: tensor} of a file as it stands, on the CPU. UserError where it cannot be trusted; `mend`: what to do."""
    path = Path(path)
    tensors = _from_pickle(path, mend) if path.suffix == ".bin" else _from_safetensors(path, mend)
    for name, tensor in tensors.items():
        with reading(path, f"{name} holds numbers of a kind that cannot be read ({tensor.dtype}); {mend}"):
            if not is_plain(tensor):
                raise UserError(f"{path}: {name} is no dense tensor with values of its own; save it as one")
            if not is_finite(tensor):
                raise UserError(f"{path}: {name} holds numbers that are not finite; {mend}")
    return tensors


def _from_safetensors(path, mend):
    with reading(path, f"not a whole safetensors file, damaged or cut short; {mend}"), openable(path) as name:
        return load_file(name)


def _from_pickle(path, mend):
    refused = (
        "refused: damaged, or it holds code beside tensors, which is never executed; "
        f"save it as model.safetensors where you trust it, or {mend}"
    )
    with reading(path, refused):
        if damaged := damaged_member(path):
            raise UserError(f"{path}: damaged: the checksum of {damaged} in it differs; {mend}")
        tensors = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(tensors, dict) or not all(
        isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in tensors.items()
    ):
        raise UserError(f"{path}: not a flat dictionary of tensors; save the model's state_dict() by itself")
    return tensors


def damaged_member(path):
    """The first member of a zip archive whose CRC-32 differs; None where all are whole, or the file is no archive."""
    with open(path, "rb") as file:
        if file.read(4) != b"PK\3\4":  # how torch.load tells
            return None
        with zipfile.ZipFile(file) as archive:
            return archive.testzip()


def is_plain(tensor):
    """Neither sparse, nested, quantized nor without memory, and no few values that pose as a larger tensor's."""
    if tensor.is_nested or tensor.is_quantized or tensor.layout is not torch.strided or tensor.device.type != "cpu":
        return False
    return tensor.numel() * tensor.element_size() <= tensor.untyped_storage().nbytes()


def is_finite(tensor):
    """Also as float32, which the model computes in. (aminmax passes NaN on, in a thirtieth of isfinite's time.)"""
    return not tensor.is_floating_point() or not tensor.numel() or all(x.isfinite() for x in tensor.float().aminmax())
