"""What the courses' bert.py takes by `from utils import *`: the additive mask, and the names that come along."""

from typing import Dict, List, Optional, Tuple, Union

import torch
from torch import Tensor, nn

__all__ = ["Dict", "List", "Optional", "Tensor", "Tuple", "Union", "get_extended_attention_mask"]
__all__ += ["get_parameter_dtype", "nn", "torch"]


def get_parameter_dtype(module):
    """The dtype of a module's first parameter."""
    return next(module.parameters()).dtype


def get_extended_attention_mask(attention_mask, dtype):
    """[B, T] of 1 and 0, or [B, T, T] -> [B, 1, 1, T] or [B, 1, T, T]: 0 for a token, -10000 for a pad; it is added to
    the scores."""
    mask = attention_mask[:, None] if attention_mask.dim() == 3 else attention_mask[:, None, None]
    return (1.0 - mask.to(dtype)) * -10000.0
