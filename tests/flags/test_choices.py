"""The names that a user may choose among are those of the tables beside the code, which torch would have to load."""

import pytest
import torch

import optimizer
from base_bert import BertConfig
from bert import BertModel
from datasets import TASKS
from minbert import choices
from minbert.flags import methods
from minbert.flags.parser import build_parser
from minbert.layers import heads, pairs
from minbert.methods import objective, semi_supervised

TABLES = {
    "JOINS": (choices.JOINS, pairs.JOINS),
    "PAIRS": (choices.PAIRS, {"fused": None, **pairs.JOINS}),
    "STS_HEADS": (choices.STS_HEADS, heads.SCORE_HEADS),
    "LR_SCHEDULES": (choices.LR_SCHEDULES, optimizer.LR_SCHEDULES),
    "TSA_SCHEDULES": (choices.TSA_SCHEDULES, semi_supervised.TSA_SCHEDULES),
    "CONSISTENCIES": (choices.CONSISTENCIES, {**semi_supervised.CONSISTENCIES, "bregman": semi_supervised.BREGMAN}),
    "FROM_COPIES": (methods.FROM_COPIES, objective.FROM_COPIES),
}
FLAGS = {  # whose choices these are
    **{"attention": choices.ATTENTION, "pairs": choices.PAIRS, "pooling": choices.POOLING},
    **{name: getattr(choices, f"{name.upper()}S") for name in ("sts_head", "sts_cosine", "sst_head", "lr_schedule")},
    **{"head_bias": choices.HEAD_BIASES, "sts_predict": choices.STS_PREDICTIONS},
    **{"tsa": choices.TSA_SCHEDULES, "mean_teacher": choices.CONSISTENCIES},
}
SMALL = BertConfig(vocab_size=8, hidden_size=4, num_hidden_layers=1, num_attention_heads=2, intermediate_size=4)


@pytest.mark.parametrize("name", TABLES)
def test_names_are_those_of_the_table_beside_the_code(name):
    told, table = TABLES[name]
    assert list(told) == list(table)


@pytest.mark.parametrize("name", FLAGS)
def test_a_flag_offers_them_and_its_help_says_each(name):
    (action,) = [action for action in build_parser()._actions if action.dest == name]
    assert list(action.choices) == list(FLAGS[name])
    for choice, what in FLAGS[name].items():
        assert f"{choice}: {what}" in action.help


def test_every_table_of_choices_is_tested_here():
    tables = {name for name, value in vars(choices).items() if isinstance(value, dict) and name.isupper()}
    offered = {name for name in tables if any(getattr(choices, name) is table for table in FLAGS.values())}
    assert tables - {"JOINS", "CLASS_STEPS"} == offered


def test_attention():
    in_bert = [kind for kind in choices.ATTENTION if kind != "varlen"]  # which is put on a model of these afterwards
    for kind in in_bert:
        BertModel(SMALL, attention=kind)
    with pytest.raises(ValueError, match=f"choose {' or '.join(in_bert)}$"):
        BertModel(SMALL, attention="flash")


def test_score_heads_with_classes_are_those_that_have_a_step():
    made = {name: heads.make_head(TASKS["sts"], 4, 0.0, pairs="concat", sts_head=name) for name in choices.STS_HEADS}
    assert {name for name, head in made.items() if head.classes} == set(choices.CLASS_STEPS)
    for name, step in choices.CLASS_STEPS.items():
        assert made[name].classes == round(5 / step) + 1


def test_no_two_choices_of_a_head_are_the_same():
    """Loss and prediction of each, on the same outputs."""
    labels = torch.tensor([0.4, 4.2, 2.6])
    cosines = [heads.CosineHead(4, (0.0, 5.0), variant) for variant in choices.STS_COSINES]
    classes = [heads.ClassesHead(4, (0.0, 5.0), 0.0, by=by) for by in choices.STS_PREDICTIONS]
    logits = {1: torch.tensor([[0.3], [-0.2], [0.9]]), 26: torch.linspace(-1, 2, 78).view(3, 26).sin()}
    for some in (cosines, classes):
        said = [(h.losses(z, labels).tolist(), h.predict(z).tolist()) for h in some for z in [logits[h.classes or 1]]]
        assert all(a != b for i, a in enumerate(said) for b in said[:i])


def test_sst_heads():
    kinds = {name: type(heads.make_head(TASKS["sst"], 4, 0.0, sst_head=name)) for name in choices.SST_HEADS}
    assert len(set(kinds.values())) == len(choices.SST_HEADS)
