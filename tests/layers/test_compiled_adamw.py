"""compiled_adamw.py: when it compiles and what it takes. That its numbers are right is in test_optimizer.py."""

import shutil

import pytest
import torch

from minbert.files import UserError
from minbert.layers import compiled_adamw
from minbert.layers.compiled_adamw import SMALL, pays
from optimizer import AdamW, learning_rate_factor, set_learning_rate

needs_compiler = pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs a C++ compiler, no g++ here")


@pytest.mark.slow
@needs_compiler
def test_compiled_once_whatever_the_sizes_rates_and_steps(monkeypatch):
    """More tensors than a batch, from 1 to 5000 numbers, a schedule, changing decay: nothing compiles again."""
    monkeypatch.setattr(compiled_adamw, "SMALL", 1)
    monkeypatch.setattr(compiled_adamw, "BATCH", 4)
    parameters = [torch.randn(n, requires_grad=True) for n in (5000, 1, 2, 3, 40, 64, 1000, 7, 8, 9, 384)]
    ours = AdamW([{"params": parameters[:3], "weight_decay": 0.1}, {"params": parameters[3:]}], compiled=True)
    with torch.compiler.set_stance("fail_on_recompile"):
        for step in range(6):
            set_learning_rate(ours, learning_rate_factor("linear", step, 5, warmup=0.4))  # ends with rate 0
            for parameter in parameters:
                parameter.grad = torch.randn_like(parameter)
            ours.step()


def test_large_tensors_in_one_piece_are_compiled():
    def four(tensor):
        return [tensor] * 4

    assert pays(four(torch.zeros(SMALL + 1)))
    assert pays(four(torch.zeros(SMALL, 2)))
    assert not pays(four(torch.zeros(SMALL)))
    assert not pays(four(torch.zeros(2, SMALL).T))
    assert not pays([*[torch.zeros(SMALL, 2)] * 3, torch.zeros(2, SMALL).T])  # one of the four lies otherwise


def test_a_missing_compiler_is_one_line(monkeypatch):
    def broken(*_):
        raise RuntimeError("InvalidCxxCompiler: No working C++ compiler found\nand much more")

    monkeypatch.setattr(compiled_adamw, "_compiled", lambda: broken)
    with pytest.raises(UserError, match=r"^torch.compile does not work here .*found\): install .*--compile out$"):
        AdamW([torch.zeros(3)], compiled=True)
