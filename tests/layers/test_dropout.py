"""Dropout's random numbers drawn once more. (What dropout is, is tested in test_packing.py, beside what it runs on.)"""

import torch

from minbert.layers.dropout import Dropout, drawn_again


def test_every_call_draws_what_the_first_one_drew():
    dropout, x = Dropout(0.5), torch.ones(1000)
    torch.manual_seed(1)
    expected, after = dropout(x), torch.rand(3)
    torch.manual_seed(1)
    again = drawn_again(lambda scale: scale * dropout(x), "cpu")
    assert torch.equal(again(1), expected)
    assert torch.equal(torch.rand(3), after)  # the first call is as if it had not been watched
    assert torch.equal(again(2), 2 * expected)
    assert torch.equal(again(3), 3 * expected)
    rest = torch.rand(3)
    torch.manual_seed(1)
    dropout(x)
    torch.rand(3)
    assert torch.equal(rest, torch.rand(3))  # the others have left no trace
