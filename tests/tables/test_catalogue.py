"""Tables as data: what a row says of itself is checked, and every table of the project is consistent."""

from dataclasses import replace

import pytest
from sweeps import TABLE

from minbert.files import UserError
from minbert.tables import catalogue, jobs
from minbert.tables.catalogue import TABLES
from minbert.tables.rows import Row, flags_of, split_and_task


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_every_table_of_the_project_is_consistent(table):
    catalogue.check_table(table)


def test_a_row_starts_from_its_base():
    assert flags_of(TABLE, TABLE.rows[1]) == {
        "epochs": 2, "batch_size": 4, "option": "finetune", "lr": 1e-5, "clip": 0.1
    }  # fmt: skip
    without = replace(TABLE, rows=(*TABLE.rows, Row("back", "", {"clip": None}, base="clipped")))
    assert "clip" not in flags_of(without, without.rows[3])
    catalogue.check_table(without)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (Row("x", "", {"option": "pretrain"}, base="plain"), None),
        (Row("x", "", {"clip": 0.1, "lr": 1e-5}, base="plain"), "differs from it in clip"),
        (Row("x", "", {"option": "pretrain", "lr": None}, base="plain"), None),
        (
            Row("x", "", {"lr": None, "option": "pretrain", "seed": 11711}, base="plain"),
            "differs from it in lr, option",
        ),
        (Row("x", "", {"lr": 1e-5}, base="plain"), "differs from it in nothing"),
        (Row("x", "", {"clipp": 0.1}), "--clipp"),
        (Row("x", "", {"option": "both"}), "--option"),
        (Row("x", "", {"warmup": 0.1}), "--lr_schedule linear"),
        (Row("x", "", {}, paper={"CFIMDB": 0.9}), "no column CFIMDB"),
        (Row("x", "", {"clip": 1}, base="absent"), "no row absent"),
        (Row("plain", "", {}), "names a row twice"),
    ],
)
def test_a_row_that_is_not_what_it_says_is_refused(row, message):
    table = replace(TABLE, rows=(*TABLE.rows, row))
    if message is None:
        catalogue.check_table(table)
    else:
        with pytest.raises(UserError, match=message):
            catalogue.check_table(table)


def test_a_flag_that_follows_from_another_must_be_listed():
    free = Row("free", "", {})  # takes --lr from --option
    table = replace(TABLE, rows=(free, Row("frozen", "", {"option": "pretrain"}, base="free")))
    with pytest.raises(UserError, match="varies option of free, but differs from it in lr, option"):
        catalogue.check_table(table)


def test_a_budget_wins_over_every_flag_and_leaves_rows_different():
    small = {"epochs": 1, "limit": "sst=5"}
    table = replace(TABLE, budget={"plain": small, "clipped": small})
    catalogue.check_table(table)  # `clipped` still differs from its base in --clip alone
    assert flags_of(table, TABLE.rows[0]) == {
        "epochs": 1, "batch_size": 4, "option": "finetune", "lr": 1e-5, "limit": "sst=5"
    }  # fmt: skip
    assert flags_of(table, TABLE.rows[1])["clip"] == 0.1
    same = replace(TABLE, budget={"plain": small, "clipped": {**small, "clip": None}})
    with pytest.raises(UserError, match="its budget makes plain and clipped the same"):
        catalogue.check_table(same)
    with pytest.raises(UserError, match="there is no row absent"):
        catalogue.check_table(replace(TABLE, budget={"absent": small}))


def test_a_row_starts_from_the_weights_of_a_row_above_it():
    for init in ("absent", "late", "below"):
        rows = (TABLE.rows[0], Row("late", "", {"clip": 1}, init=init), Row("below", "", {"clip": 2}))
        with pytest.raises(UserError, match=f"starts from {init}, which is no row above it"):
            catalogue.check_table(replace(TABLE, rows=rows))


@pytest.mark.parametrize(
    ("flags", "fraction", "limit"),
    [
        ({}, 1.0, None),
        ({}, 0.25, "sst=0.25,quora=0.25,sts=0.25"),
        ({"limit": "quora=14057"}, 0.25, "sst=0.25,quora=3514,sts=0.25"),
        ({"limit": "quora=0.1"}, 0.05, "sst=0.05,quora=0.005,sts=0.05"),
        ({"tasks": "sst", "limit": "sst=3"}, 0.1, "sst=1"),
        ({"limit": "quora=14057"}, 1.0, "quora=14057"),
    ],
)
def test_a_fraction_becomes_a_limit(flags, fraction, limit):
    job = jobs.Job(replace(TABLE, rows=()), Row("x", "", flags), 11712, fraction)
    assert job.flags.get("limit") == limit
    assert job.flags["seed"] == 11712
    assert job.name == "seed-11712" + (f"-fraction-{fraction}" if fraction < 1 else "")
    jobs.resolve(job.flags)


@pytest.mark.parametrize(
    ("path", "measured"),
    [
        ("dev.sst.accuracy", ("dev", "sst")),
        ("dev.sst.f1.2", ("dev", "sst")),
        ("dev_mismatched.mnli.accuracy", ("dev_mismatched", "mnli")),
        ("teacher.dev.sts.pearson", ("dev", "sts")),
        ("score", ("dev", None)),
        ("teacher.mean", ("dev", None)),
        ("test.score", ("test", None)),
    ],
)
def test_what_a_column_is_measured_on(path, measured):
    assert split_and_task(path) == measured
