"""What a head looks at, in words, and what training moved: on cases whose answers are known."""

import math

import pytest
import torch

from bert import BertModel
from minbert.inside import heads
from minbert.inside.changes import relative_changes

TOKENS = ["[CLS]", "the", "cat", "sat", "[SEP]"]


def looking(to):
    """[5, 5]: token i looks at token to(i) alone."""
    attention = torch.zeros(5, 5)
    attention[range(5), [min(max(to(i), 0), 4) for i in range(5)]] = 1
    return attention


@pytest.mark.parametrize(
    ("attention", "said"),
    [
        (looking(lambda i: i + 1), "mostly the next token (0.80)"),  # the last has none
        (looking(lambda i: i - 1), "mostly the previous token (0.80)"),
        (looking(lambda i: i), "mostly the token itself (1.00)"),
        (looking(lambda i: 0), "mostly [CLS] (1.00)"),
        (looking(lambda i: 4), "mostly [SEP] (1.00)"),
        (torch.full((5, 5), 0.2), "all tokens nearly alike"),
        (looking(lambda i: (i * 2 + 2) % 5), "a mixture"),
    ],
)
def test_kinds_of_heads(attention, said):
    assert heads.in_words(attention, TOKENS) == said


def test_shares_of_an_attention_that_is_even():
    found = heads.shares(torch.full((5, 5), 0.2), TOKENS)
    neighbours, others = pytest.approx(4 * 0.2 / 5), pytest.approx(0.2)  # four tokens have a next one
    assert found == {
        "the next token": neighbours,
        "the previous token": neighbours,
        "the token itself": others,
        "[CLS]": others,
        "[SEP]": others,
    }


def test_entropy():
    assert heads.entropy(torch.eye(5)) == 0
    assert heads.entropy(torch.full((5, 5), 0.2)) == pytest.approx(math.log(5))


def test_moved_is_the_share_that_went_elsewhere():
    before = torch.stack([looking(lambda i: 0), looking(lambda i: 0), looking(lambda i: 0)])
    after = torch.stack([looking(lambda i: 0), looking(lambda i: 4), (looking(lambda i: 0) + looking(lambda i: 1)) / 2])
    assert heads.moved(before, after).tolist() == [0, 1, 0.5]


def test_relative_changes(tiny_model):
    before, after = (BertModel.from_pretrained(tiny_model) for _ in range(2))
    with torch.no_grad():
        for parameter in after.bert_layers[1].self_attention.key.parameters():
            parameter *= 1.25
        after.pooler_dense.weight.neg_()
        after.pooler_dense.bias.neg_()
    found = relative_changes(before, after)
    key_of_layer = _length(before, "bert_layers.1.self_attention.key") / _length(before, "bert_layers.1")
    assert set(found["layers"][0].values()) == {0.0}
    assert {part: change for part, change in found["layers"][1].items() if change} == {
        "key": pytest.approx(0.25),
        "all": pytest.approx(0.25 * key_of_layer),
    }
    assert {part: change for part, change in found["rest"].items() if change} == {"pooler": pytest.approx(2)}


def _length(model, module):
    return math.sqrt(sum(p.double().square().sum().item() for p in model.get_submodule(module).parameters()))
