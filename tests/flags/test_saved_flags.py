"""Flags that were typed are saved, and read again by later versions."""

import json

import pytest

from minbert.flags import checks as command_line
from minbert.flags.parser import DEFAULTS, build_parser

TYPED = [  # every kind of value that a flag may have
    [],
    ["--lr", "1e-7,2e-5", "--batch_size", "sst=4,quora=8,sts=2", "--limit", "sst=0.00001,quora=1,sts=1.0"],
    ["--option", "finetune", "--pcgrad", "--tasks", "sst, quora", "--sst_train", "a b=c.csv", "--clip", "1"],
    ["--label_scheme", "plain", "--tasks", "rte,mnli", "--plain_lr", "1e-5", "--seed", str(2**63 - 1)],
    ["--option", "finetune", "--uda", "sst=my file=1.tsv", "--uda_threshold", "0", "--fine-tune-mode", "full-model"],
]


@pytest.mark.parametrize("words", TYPED, ids=str)
def test_whatever_was_typed_may_be_saved_and_read(words):
    saved = json.loads(json.dumps(command_line.to_saved(command_line.check(command_line.parse(words)))))
    found = command_line.checked_flags(saved, build_parser(), "here")
    assert {name: found[name] for name in saved} == saved
    assert found.keys() - saved.keys() == set(command_line.NOT_SAVED)


def test_flags_that_are_no_more_are_left_out_and_new_ones_have_their_default():
    found = command_line.checked_flags({"epochs": 3, "gone": [], "self": 1, "given": 0}, build_parser(), "here")
    assert found["epochs"] == 3
    assert found == {**DEFAULTS, "epochs": 3}
