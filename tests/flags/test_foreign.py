"""Flags that are none: what they are called here, and the nearest of ours."""

import re

import pytest
import tiny

from minbert.files import UserError
from minbert.flags import foreign
from minbert.flags.parser import build_parser

KNOWN = list(build_parser()._option_string_actions)


def said(*argv):
    with pytest.raises(UserError) as caught:
        tiny.parse(*argv)
    return str(caught.value)


@pytest.mark.parametrize(
    ("typed", "line"),
    [
        ("--learning_rate 5e-5", "--learning_rate: here that is --lr"),
        ("--learning-rate=5e-5", "--learning-rate: here that is --lr"),
        ("--num_train_epochs 3", "--num_train_epochs: here that is --epochs"),
        ("--output_dir x", "--output_dir: here that is --run_dir"),
        ("--per_device_train_batch_size 8", "--per_device_train_batch_size: here that is --batch_size"),
        ("--max_seq_length 8", "--max_seq_length: here that is --max_length"),
        ("--model_name_or_path x", "--model_name_or_path: here that is --model"),
        ("--gradient_accumulation_steps 2", "--gradient_accumulation_steps: here that is --accumulate"),
        ("--lr 3e-5 --batch-size 8", "unrecognized argument --batch-size: is it --batch_size? --help lists the flags"),
        ("--epoch_size 8", "unrecognized argument --epoch_size: is it --epochs? --help lists the flags"),
        ("--xyzzy", "unrecognized argument --xyzzy: --help lists the flags"),
        ("extra", "unrecognized argument extra: --help lists the flags"),
    ],
)
def test_an_unknown_flag_is_answered_with_ours(typed, line):
    assert said(*typed.split()) == line


def test_every_foreign_name_is_none_of_ours_and_is_answered_with_flags_that_are():
    for name, here in foreign.ELSEWHERE.items():
        assert f"--{name}" not in KNOWN
        assert set(re.findall(r"--\w+", here)) <= set(KNOWN), name
        assert said(f"--{name}") == f"--{name}: here that is {here}", name


def test_a_command_without_the_flag_does_not_name_it():
    assert foreign.answer("--max_grad_norm", ["--lr", "--epochs"]) == (
        "unrecognized argument --max_grad_norm: --help lists the flags"
    )
