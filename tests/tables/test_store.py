"""Results as files: the user's beside the project's, in order, and nothing lost when two sweeps write at once."""

import json
import subprocess
import sys

import pytest
from sweeps import TABLE, result_of, shown

import experiments
from minbert.files import UserError
from minbert.tables import jobs, places, store
from minbert.tables.catalogue import TABLES
from minbert.tables.jobs import Job


def job(row, seed=11711, fraction=1.0):
    return Job(TABLE, next(known for known in TABLE.rows if known.name == row), seed, fraction)


EMPTY = {
    "flags": {"dev_limit": {}},
    "model": {"name": "tiny", "sha256": "0"},
    "data": {},
    "data_from": "here",
    "machine": {"device": "abacus"},
    "scores": {"dev": {}, "epochs": 1, "train_seconds": 1.0, "eval_seconds": 1.0},
    "history": [],
}


def made_up(row="plain", seed=11711, fraction=1.0, **more):
    """A result with all that a result needs, and next to nothing in it."""
    return {**EMPTY, "table": "demo", "row": row, "seed": seed, "fraction": fraction, **more}


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def keys(results):
    return [(result["row"], result["seed"], result["fraction"]) for result in results]


ORDER = [
    ("plain", 11711, 1.0), ("plain", 11712, 1.0), ("plain", 11711, 0.5), ("plain", 11711, 0.25),
    ("clipped", 11711, 1.0), ("part", 11712, 1.0), ("gone", 11711, 1.0),
]  # fmt: skip


@pytest.mark.parametrize("entered", [ORDER, ORDER[::-1]])
def test_lines_stand_in_the_order_of_the_rows_whichever_came_first(home, entered):
    for row, seed, fraction in entered:
        store.put(TABLE, made_up(row, seed, fraction))
    assert keys(lines(home / "runs/results/demo.jsonl")) == ORDER
    assert keys(store.load(TABLE)) == ORDER


def test_a_result_takes_the_place_of_the_one_before(home):
    store.put(TABLE, made_up(seed=11712))
    store.put(TABLE, made_up(finished="once"))
    store.put(TABLE, made_up(finished="again"))
    assert store.get(job("plain"))["finished"] == "again"
    assert keys(lines(home / "runs/results/demo.jsonl")) == [("plain", 11711, 1.0), ("plain", 11712, 1.0)]


def test_the_users_result_wins_until_it_is_published(home):
    store.put(TABLE, made_up(finished="the project's"))
    store.put(TABLE, made_up("part", finished="the project's"))
    store.publish(job("plain")), store.publish(job("part"))
    assert not (home / "runs/results/demo.jsonl").exists()
    store.put(TABLE, made_up(finished="the user's"))
    store.put(TABLE, made_up("clipped", finished="the user's"))
    found = {result["row"]: result["finished"] for result in store.load(TABLE)}
    assert found == {"plain": "the user's", "clipped": "the user's", "part": "the project's"}
    assert [result["finished"] for result in store.load_all()] == ["the user's", "the project's", "the user's"]
    assert [result["finished"] for result in lines(home / "results/demo.jsonl")] == ["the project's"] * 2
    store.publish(job("plain"))
    assert [result["finished"] for result in lines(home / "results/demo.jsonl")] == ["the user's", "the project's"]
    assert keys(lines(home / "runs/results/demo.jsonl")) == [("clipped", 11711, 1.0)]
    store.publish(job("plain"))  # nothing left to move
    assert store.get(job("plain"))["finished"] == "the user's"


def test_a_sweep_writes_the_users_results_and_publishes_when_told(script, run, home):
    run()
    assert not (home / "results").exists()
    assert run("--publish", "--only", "plain", "clipped") == 0
    assert len(script.calls) == 3  # what stands is moved, not run again
    assert keys(lines(home / "results/demo.jsonl")) == [("plain", 11711, 1.0), ("clipped", 11711, 1.0)]
    assert keys(lines(home / "runs/results/demo.jsonl")) == [("part", 11711, 1.0)]
    run("--publish", "--seeds", "2")
    assert len(lines(home / "results/demo.jsonl")) == 6
    assert not (home / "runs/results/demo.jsonl").exists()
    assert run("--seeds", "2") == 0
    assert len(script.calls) == 6  # the project's results are as good as the user's


WRITER = """
import json, sys
from pathlib import Path
from minbert.tables import jobs, places, store
from minbert.tables.rows import Row, Table
places.RUNS, first = Path(sys.argv[1]), int(sys.argv[2])
table = Table("demo", "", "", {}, (Row("plain", "", {}),))
empty = json.loads(sys.argv[3])
for seed in range(first, first + 40):
    store.put(table, {**empty, "table": "demo", "row": "plain", "seed": seed, "fraction": 1.0, "padding": "x" * 5000})
"""


def test_two_processes_that_write_one_table_at_once_lose_nothing(home):
    command = [sys.executable, "-c", WRITER, str(places.RUNS)]
    words = [[*command, first, json.dumps(EMPTY)] for first in ("0", "100")]
    writers = [subprocess.Popen(each, cwd=places.HERE) for each in words]
    assert [writer.wait(timeout=60) for writer in writers] == [0, 0]
    assert [result["seed"] for result in store.load(TABLE)] == [*range(40), *range(100, 140)]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('{"half', "line 2: not a result (it is not JSON: Unterminated string"),
        ("\xff", "line 2: not a result (it is not JSON: bytes that are not UTF-8); delete the line, and its row runs"),
        ("<<<<<<< HEAD", "line 2: not a result (it is not JSON: "),
        ("[" * 100_000, "line 2: not a result (it is not JSON: nested too deep)"),
        (json.dumps(made_up("part"))[:-1] + ', "seed": 2}', "line 2: not a result (it is not JSON: the key 'seed' com"),
        (
            json.dumps(made_up("part", fraction=float("nan"))),
            "line 2: not a result (it is not JSON: 'NaN' is no number",
        ),
        (json.dumps(made_up("part", fraction="1")), "line 2: not a result (fraction is '1', expected int or float)"),
        (json.dumps(made_up("part", seed=[1])), "line 2: not a result (seed is [1], expected int)"),
        (json.dumps(made_up("part", model=None)), "line 2: not a result (model is no object)"),
        (json.dumps(made_up("part", flags={})), "line 2: not a result (flags has no dev_limit)"),
        (json.dumps(made_up("part", data={"sst": {"dev": {}}})), "line 2: not a result (dev has no file, sha256)"),
        (json.dumps(made_up("part", history=[[]])), "line 2: not a result (an item of history is no object)"),
        (json.dumps(made_up("part", attempts={"x": EMPTY})), "line 2: not a result (an attempt at a rate that is no"),
        (json.dumps(made_up("part", masked_lm={})), "line 2: not a result (masked_lm has no scores)"),
        ("[1]", "line 2: not a result (it is no object)"),
        ('{"table": "demo", "row": "plain"}', "line 2: not a result (it has no data, data_from, flags, fraction"),
        (json.dumps(made_up(table="other")), "line 2: not a result (it is of table other)"),
        (json.dumps(made_up()), "line 2: a second result of row plain, seed 11711, fraction 1; delete one of the two"),
    ],
)
@pytest.mark.parametrize("whose", ["results", "runs/results"])
def test_a_damaged_line_is_named_before_anything_runs(script, run, home, capsys, whose, line, problem):
    path = home / whose / "demo.jsonl"
    path.parent.mkdir(parents=True)
    path.write_bytes(json.dumps(made_up()).encode() + b"\n" + line.encode("latin-1") + b"\n")
    for command in (run, lambda: experiments.main(["show", "demo"])):
        assert command() == 2
        (said,) = capsys.readouterr().err.splitlines()
        assert said.startswith(f"error: {path}, {problem}")
    assert script.calls == []
    before = path.read_bytes()
    if whose == "runs/results":
        with pytest.raises(UserError):
            store.put(TABLE, made_up("part"))
    assert path.read_bytes() == before


@pytest.mark.parametrize("dev", [{"sst": {"accuracy": "high", "f1": 3}}, {"sst": {"f1": [None]}}, {"sst": {"f1": {}}}])
def test_figures_that_are_no_numbers_are_shown_as_none(home, capsys, dev):
    flags = jobs.resolve(job("plain").flags)
    result = made_up(
        flags=flags, scores={**EMPTY["scores"], "dev": dev, "score": []}, history=[{"epoch": 1, "dev": dev}]
    )
    store.put(TABLE, result)
    _, rows = shown(capsys)
    assert [rows["Plain"][heading].split()[0] for heading in ("SST", "score")] == ["–", "–"]
    assert rows["Plain"]["seeds"] == "1"


def test_a_row_is_published_with_the_one_it_starts_from(home):
    table = TABLES["kalicki1-cpu"]
    rows = {row.name: row for row in table.rows}
    for name in ("in_turn-heads", "in_turn", "sst"):
        store.put(table, made_up(name, table=table.name))
    store.publish(Job(table, rows["in_turn"], 11711))
    assert keys(lines(home / "results/kalicki1-cpu.jsonl")) == [
        ("in_turn-heads", 11711, 1.0), ("in_turn", 11711, 1.0)
    ]  # fmt: skip
    assert result_of("sst", table=table.name) is not None


@pytest.mark.parametrize("path", sorted(places.RESULTS.iterdir()), ids=lambda path: path.stem)
def test_the_projects_results_are_each_there_once_and_in_order(path, monkeypatch, tmp_path):
    monkeypatch.setattr(places, "RUNS", tmp_path)  # without the user's own
    table, found = TABLES[path.stem], lines(path)
    assert keys(found) == keys(store.load(table))
    assert len(set(keys(found))) == len(found)
    assert {result["row"] for result in found} <= {row.name for row in table.rows}
    assert "/home/" not in path.read_text(encoding="utf-8")
