"""pretraining.py with --token_cache: the bits of a run without it, where the text is small, and a kill and resume."""

import shutil

import kills
import numpy as np
import pytest
import tiny
import torch

from minbert.masked_lm import large_text
from minbert.masked_lm.text import hold_out
from minbert.methods import block_shuffle
from minbert.methods.schedules import Batches
from minbert.text.stored import Mapped, StoredSequences
from minbert.text.tokenization import Sequences


@pytest.fixture(autouse=True)
def the_script(monkeypatch):
    """tiny.script runs pretraining.py here."""
    monkeypatch.setattr(tiny, "SCRIPT", str(tiny.ROOT / "pretraining.py"))


@pytest.fixture
def text(tmp_path):
    random = np.random.default_rng(3)
    lines = [" ".join(random.choice(tiny.WORDS, random.integers(3, 17))) for _ in range(120)]
    (tmp_path / "a.txt").write_text("\n".join([*lines, lines[0], ""]) + "\n")
    (tmp_path / "b.tsv").write_text("id\tsentence\n" + "".join(f"{i}\t{line} dog\n" for i, line in enumerate(lines)))
    return f"{tmp_path / 'a.txt'},{tmp_path / 'b.tsv'}"


@pytest.fixture
def run(tmp_path, tiny_model, text):
    """run(name, flags...) -> the Outcome of a short run in the folder `name`."""

    def go(name, *flags):
        return tiny.script(*argv(name, *flags))

    def argv(name, *flags):
        shared = ("--model", tiny_model, "--run_dir", tmp_path / name, "--epochs", 2, "--lr", "1e-2", "--keep_state")
        return (*shared, "--text", text, "--batch_size", 16, *flags)

    go.argv = argv
    return go


def test_a_small_text_comes_to_the_same_bits(run, tmp_path):
    cache = ("--token_cache", tmp_path / "cache")
    plain, first, second = run("plain"), run("first", *cache), run("second", *cache)
    assert (plain.code, first.code, second.code) == (0, 0, 0), first.err
    tiny.assert_same_results(tmp_path / "plain", tmp_path / "first")
    tiny.assert_same_results(tmp_path / "plain", tmp_path / "second")
    assert "b.tsv: 120 rows\n" in first.out
    one, two = (tiny.read_json(tmp_path / name / "config.json") for name in ("first", "second"))
    assert one["data"] == two["data"]
    assert [splits["train"]["rows"] for splits in one["data"].values()] == [121, 120]


@pytest.mark.parametrize("blocks", [(1024, 256), (8, 3)])
def test_a_stopped_run_goes_on_to_the_same_bits(run, tmp_path, monkeypatch, blocks):
    """In one buffer of blocks and in many, which has another order."""
    monkeypatch.setattr(block_shuffle, "BLOCK", blocks[0])
    monkeypatch.setattr(block_shuffle, "BLOCKS", blocks[1])
    cache = ("--token_cache", tmp_path / "cache")
    assert run("whole", *cache).code == 0
    assert run("plain").code == 0
    kills.stopped_at(21, *run.argv("stopped", *cache))
    resumed = tiny.script("--resume", tmp_path / "stopped")
    assert resumed.code == 0, resumed.err
    tiny.assert_same_results(tmp_path / "whole", tmp_path / "stopped")
    weights = [tiny.results(tmp_path / name)["bert"] for name in ("whole", "plain")]
    same = all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
    assert same == (blocks[0] == 1024)


def test_a_kill_while_tokens_are_made(run, tmp_path):
    """At every rename of a run until its first epoch; then the same command, and the bits of an unbroken run."""
    cache = ("--token_cache", tmp_path / "cache")
    assert run("plain").code == 0
    for number in (1, 2, 3, 4):
        assert len(kills.killed_before_rename(number, *run.argv(f"run{number}", *cache))) == number - 1
        resumed = run(f"run{number}", *cache, "--resume")
        assert resumed.code == 0, resumed.err
        tiny.assert_same_results(tmp_path / "plain", tmp_path / f"run{number}")
        for folder in ("tokens", "texts"):
            for path in [*(tmp_path / "cache" / folder).glob("*")]:
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def test_text_that_changed_is_not_gone_on_with(run, tmp_path):
    cache = ("--token_cache", tmp_path / "cache")
    kills.stopped_at(5, *run.argv("run", *cache))
    with (tmp_path / "a.txt").open("a") as f:
        f.write("the dog\n")
    assert "a.txt" in tiny.script("--resume", tmp_path / "run").error


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--token_cache", "x"), "--token_cache needs --text"),
        (("--token_cache", "FILE", "--text", "FILE"), "a file, where a folder is to be"),
    ],
)
def test_mistakes(tiny_model, tmp_path, flags, said):
    (tmp_path / "f.txt").write_text("the dog\nthe cat\n")
    flags = [str(tmp_path / "f.txt") if flag == "FILE" else flag for flag in flags]
    assert said in tiny.script("--model", tiny_model, "--run_dir", tmp_path / "run", *flags).error


# ------------------------------------------------------------------------------------------------- what is held out


def sequences_of(count, tmp_path):
    """(stored, in memory) the same `count` sequences of two tokens."""
    for name, array in (("ids", np.arange(2 * count, dtype=np.int32)), ("offsets", 2 * np.arange(count + 1))):
        array.tofile(tmp_path / name)
    with (tmp_path / "ids").open("rb") as ids, (tmp_path / "offsets").open("rb") as offsets:
        stored = StoredSequences(tmp_path, Mapped(ids, np.int32), None, Mapped(offsets, np.int64), 2 * count)
    ids = np.arange(2 * count, dtype=np.int32)
    return stored, Sequences(ids, np.zeros(2 * count, np.uint8), 2 * np.arange(count + 1))


def test_the_same_texts_are_held_out(tmp_path):
    stored, plain = sequences_of(777, tmp_path)
    for one, two in zip(large_text.hold_out(stored), hold_out(plain), strict=True):
        assert one.take(np.arange(len(two))).ids.tolist() == two.ids.tolist()


def test_of_many_only_so_many_are_held_out(tmp_path, monkeypatch):
    monkeypatch.setattr(large_text, "MOST_HELD_OUT", 10)
    stored, _ = sequences_of(2000, tmp_path)
    text, held_out = large_text.hold_out(stored)
    assert (len(text), len(held_out)) == (1990, 10)
    everything = [*text.take(np.arange(1990)).ids, *held_out.ids]
    assert sorted(everything) == list(range(4000))


def test_steps_are_no_list():
    from minbert.flags.parser import DEFAULTS, Options

    schedule = Options.of({**DEFAULTS, "epochs": 3, "batch_size": 4, "max_steps": None}).schedule
    plan = large_text.LargePlan(schedule, {"text": 10**9})
    updates = plan.updates_of(1)
    assert len(updates) == 250_000_000
    assert plan.updates == 750_000_000
    assert list(updates[249_999_998:]) == [[[("text", 249_999_998)]], [[("text", 249_999_999)]]]
    assert list(plan.steps_of(0)[2:4]) == [[("text", 2)], [("text", 3)]]
    small = large_text.LargePlan(schedule, {"text": 21})
    rows = [small.batches["text"](0, index).tolist() for ((_, index),) in small.steps_of(0)]
    assert rows == [Batches("text", 21, 4, schedule.seed)(0, index).tolist() for index in range(6)]
