"""The controls: the updates that their notes name, and the copies that are none."""

import math
from types import SimpleNamespace

import pytest

from minbert.tables.catalogue import TABLES
from minbert.tables.common import THOUSANDS
from minbert.tables.controls import CONTROL_TABLES, FEW_SST2, LABELS_UPDATES, STEPS
from minbert.tables.jobs import resolve
from minbert.tables.rows import find_row, flags_of
from minbert.training.plan import Plan

ROWS = {"rte": 2490, "mnli": 4000, "qqp": 4000, "sst2": 4000}


def updates(table, row, rows):
    return Plan(SimpleNamespace(**resolve(flags_of(table, find_row(table, row)))), rows).updates


def test_they_are_among_the_tables():
    assert {table.name for table in CONTROL_TABLES} <= set(TABLES)


@pytest.mark.parametrize(("row", "expected"), [("summed", 500), ("summed-1500", 1500), ("per-task", 1500)])
def test_steps_are_compared_at_equal_updates(row, expected):
    assert updates(STEPS, row, {task: THOUSANDS[task] for task in ("sst", "quora", "sts")}) == expected
    assert "clip" not in flags_of(STEPS, find_row(STEPS, row))


@pytest.mark.parametrize("task", ROWS)
def test_a_plain_model_has_as_many_updates_as_a_schemes_trunk(task):
    trunk = TABLES["labels1-cpu"]
    flags = flags_of(trunk, find_row(trunk, "soft_probability"))
    on_the_union = flags["epochs"] * math.ceil(sum(ROWS.values()) / flags["batch_size"])
    assert updates(LABELS_UPDATES, "plain", {task: ROWS[task]}) == on_the_union == 906


def test_few_labels_have_the_steps_and_copies_that_are_named():
    assert updates(FEW_SST2, "tsa-uda", {"sst2": 100}) == 1500
    found = {row.name: flags_of(FEW_SST2, row).get("uda") for row in FEW_SST2.rows}
    assert found["tsa-uda"] == "sst2=eda({glue_dir}/SST-2/train.tsv)"
    assert found["tsa-uda-same"] == "sst2=tfidf@0({glue_dir}/SST-2/train.tsv)"
    assert found["tsa-uda-mlm"] == "sst2=mlm({glue_dir}/SST-2/train.tsv)"
