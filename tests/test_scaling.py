"""benchmarks/scaling.py: the model of time and memory, without measuring."""

import importlib.util
import sys

import pytest
import tiny

from base_bert import BertConfig
from bert import BertModel


@pytest.fixture
def scaling(monkeypatch):
    spec = importlib.util.spec_from_file_location("scaling", tiny.ROOT / "benchmarks" / "scaling.py")
    loaded = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "scaling", loaded)
    spec.loader.exec_module(loaded)
    return loaded


def test_parameters_are_those_of_a_model(scaling):
    size = scaling.Size(layers=3, hidden=24, heads=2, vocab=50, positions=40)
    config = BertConfig(
        vocab_size=50,
        hidden_size=24,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=96,
        max_position_embeddings=40,
    )
    model = BertModel(config)
    assert size.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert size.dense == sum(parameter.numel() for parameter in model.bert_layers.parameters())
    assert scaling.BASE.parameters == 109_482_240  # Devlin et al. 2019: 110M


def test_time_and_memory_by_hand(scaling):
    size = scaling.Size(layers=2, hidden=10, heads=2, vocab=100, positions=50)
    assert size.dense == 2 * (1200 + 130)
    assert size.parameters == 2660 + 154 * 10 + 100 + 10
    assert scaling.flops(size, 5, 7) == 5 * (6 * 2660 + 12 * 2 * 10 * 7)
    machine = scaling.Machine(
        flop=1e-3, activation=2.0, parameter=3.0, layer=5.0, program=1000, kept=7, scores=11, link=4
    )
    one = 1e-3 * scaling.flops(size, 40, 7) + 2 * 40 * 2 * 10 + 3 * 4310 + 5 * 2
    assert scaling.step_time(size, 40, 7, machine) == pytest.approx(one)
    four = 1e-3 * scaling.flops(size, 10, 7) + 2 * 10 * 2 * 10 + 3 * 4310 + 5 * 2 + 2 * 3 / 4 * 4 * 4310 / 4
    assert scaling.step_time(size, 40, 7, machine, 4) == pytest.approx(four)
    assert scaling.time_of(4000, size, 40, 7, machine) == pytest.approx(100 * one)
    assert scaling.memory_of(size, 40, 7, machine) == 1000 + 16 * 4310 + 40 * 2 * (7 * 10 + 11 * 2 * 7)
    assert scaling.memory_of(size, 40, 7, machine, 4) == 1000 + 16 * 4310 + 10 * 2 * (7 * 10 + 11 * 2 * 7)


def test_a_machine_is_found_again_by_its_steps(scaling):
    machine = scaling.Machine(3e-12, 2e-9, 4e-10, 0.002, 3e8, 90.0, 6.0)
    points = scaling.FITTED
    seconds = [scaling.step_time(point.size, point.tokens, point.length, machine) for point in points]
    bytes = [scaling.memory_of(point.size, point.tokens, point.length, machine) for point in points]
    found = scaling.fitted(points, seconds, bytes)
    for name in ("flop", "activation", "parameter", "layer", "program", "kept", "scores"):
        assert getattr(found, name) == pytest.approx(getattr(machine, name), rel=1e-6)
    checked = [scaling.step_time(p.size, p.tokens, p.length, found) for p in scaling.CHECKED]
    assert checked == pytest.approx([scaling.step_time(p.size, p.tokens, p.length, machine) for p in scaling.CHECKED])


def test_no_cost_is_below_0(scaling):
    machine = scaling.Machine(3e-12, -2e-9, 4e-10, 0.002, 3e8, 90.0, 6.0)
    points = scaling.FITTED
    seconds = [scaling.step_time(point.size, point.tokens, point.length, machine) for point in points]
    found = scaling.fitted(points, seconds, [1e9] * len(points))
    assert min(found.flop, found.activation, found.parameter, found.layer, found.program, found.kept, found.scores) >= 0
    assert found.flop > 0


def test_points_to_check_are_not_those_fitted(scaling):
    assert not {*scaling.FITTED} & {*scaling.CHECKED}
    assert {point.hidden for point in scaling.CHECKED} <= {256, 384, 512}


def test_what_it_tells(scaling, capsys):
    scaling.tell()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + 9
    page = (tiny.ROOT / "docs" / "scaling.md").read_text(encoding="utf-8")
    for line in lines[1:]:
        assert f"| {line} |" in page
