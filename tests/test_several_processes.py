"""Several processes train one model as one process does: same weights, same scores, one state."""

import contextlib
import os
import signal
import time
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import several
import tiny
import torch
from safetensors.torch import load_file
from unlabelled_text import flags_for

from minbert import launch
from minbert.files import UserError, write_json
from minbert.flags.checks import to_saved
from minbert.layers.packing import pack
from minbert.processes import ALONE, Part, Processes, counted_together, here, join, tokens_among_all
from minbert.text.tokenization import SentencePairs, Sequences

UNEVEN = "--batch_size sst=3,quora=5,sts=1"  # of two processes one has more of a batch, or all of it
CLASSES = "--sts_head classification --model {wild} --batch_size 5"  # a model of which TSA and UDA keep some
UDA = f"{CLASSES} --uda_threshold 0.3 {{uda}}"
ROWS = [
    *(f"--schedule {name} {UNEVEN}" for name in ("simultaneous", "sequential", "round_robin", "balanced_round_robin")),
    *(f"--schedule {name} {UNEVEN}" for name in ("in_turn", "mtdnn_upsample", "mtdnn", "annealed")),
    "--pcgrad --batch_size 5",
    f"--pcgrad {UNEVEN}",
    f"--smart 1 {UNEVEN}",
    f"--r_drop 1 {UNEVEN}",
    f"--clip 0.1 --accumulate 3 {UNEVEN}",
    "--layer_decay 0.9 --lr_schedule linear --warmup 0.3 --weight_decay 0.1 --no_decay_bias_norm",
    f"{CLASSES} --tsa exp",
    UDA,
    f"{UDA} --uda_mean kept --unlabeled_batch_size 3",
    f"{UDA} --mean_teacher kl --tsa exp --r_drop 1",
    "--mean_teacher mse --labels_per_class 1 --batch_size 3 --unlabeled_batch_size 1",
    "--mean_teacher bregman",
    "--mean_teacher mse {fresh} --token_cache {cache}",  # which the two make
    f"--option pretrain {UNEVEN}",
    "--pairs concat --sts_head cosine --sst_head coral",
    "--pairs dot_attention --pooling mean --head_bias prior",
]
STILL = "--lr 1e-30"  # which no weight can tell from 0
COMMON = "--option finetune --epochs 1 --lr 1e-4 --hidden_dropout_prob 0"


# ------------------------------------------------------------------------------------------------------ one of several


def process(rank, count):
    """One that has not been joined to others."""
    made = object.__new__(Processes)
    made.rank, made.count = rank, count
    return made


@pytest.mark.parametrize(("rows", "count"), [(8, 2), (7, 2), (7, 3), (2, 3), (1, 2)])
def test_each_row_counts_in_one_process(rows, count):
    parts = [process(rank, count).share(np.arange(rows) + 10) for rank in range(count)]
    counted = np.concatenate([part.rows[: part.counted] for part in parts])
    assert sorted(counted) == [*range(10, 10 + rows)]
    assert max(part.counted for part in parts) - min(part.counted for part in parts) <= 1
    assert all(len(part.rows) == max(part.counted, 1) and part.whole == rows for part in parts)


def test_parts_of_a_mean_sum_up_to_it():
    losses = torch.tensor([1.0, 2.0, 6.0, 7.0])
    for count in (1, 2, 3, 5):
        parts = [process(rank, count).share(np.arange(4)) for rank in range(count)]
        assert sum(part.weigh(losses[part.rows].mean()) for part in parts).item() == pytest.approx(4)
        twice = [part.twice() for part in parts]
        assert sum(part.weigh(losses[part.rows].mean()) for part in twice).item() == pytest.approx(4)


def test_a_borrowed_row_stays_out_of_a_common_mean():
    none, two = Part(np.array([4]), 0, 1, np.array([0])), Part(np.array([1, 3]), 2, 4, np.array([0, 2]))
    keys, whole = counted_together({"train": none, "unlabelled": two})
    assert (keys, whole.counted, whole.whole) == (["unlabelled"], 2, 5)
    keys, whole = counted_together({"train": none, "unlabelled": none})
    assert (keys, whole.weigh(7.0)) == (["train"], 0)


def test_smart_s_noise_finds_its_tokens():
    """Of every token of the step one process has the noise that all draw for it."""
    random = np.random.default_rng(3)

    def texts(rows):
        lengths = random.integers(1, 9, rows)
        ids = random.integers(0, 1 << 30, lengths.sum()).astype(np.int32)
        return Sequences(ids, np.zeros(len(ids), np.uint8), np.cumsum([0, *lengths]))

    data = {"a": texts(5), "b": SentencePairs(texts(7), texts(7)), "c": texts(1)}
    batch = {"a": np.array([4, 0, 1]), "b": np.array([6, 2, 3, 0, 5]), "c": np.array([0])}

    def tokens(parts):
        own = {key: data[key].take(part.rows) for key, part in parts.items()}
        return pack(Sequences.concatenate([one for taken in own.values() for one in taken.parts])).ids, own

    for twice in (False, True):
        shares = [{key: process(rank, 2).share(rows) for key, rows in batch.items()} for rank in (0, 1)]
        whole = {key: ALONE.share(rows) for key, rows in batch.items()}
        if twice:
            *shares, whole = ({key: part.twice() for key, part in parts.items()} for parts in (*shares, whole))
        all_ids, sequences = tokens(whole)
        for parts in shares:
            count, places = tokens_among_all(parts, sequences)
            assert count == len(all_ids)
            assert torch.equal(all_ids[torch.from_numpy(places)], tokens(parts)[0])


def test_one_process_alone_joins_nothing(trainer_of):
    trainer = trainer_of("--option", "finetune", "--max_steps", 1)
    assert trainer.loop.processes is here() is ALONE
    mean = torch.tensor(3.0)
    assert ALONE.weigh_kept(mean, None, None) is mean
    assert ALONE.share(np.arange(3)).weigh(mean) is mean
    trainer.fit()
    assert not torch.distributed.is_initialized()


# -------------------------------------------------------------------------------------------- two, and one for both


@pytest.fixture(scope="module")
def both(tmp_path_factory, still_model, tiny_data):
    """{row: (folder of one process's training, that of two)}"""
    folder = tmp_path_factory.mktemp("both")
    wild = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "initializer_range": 0.5}
    places = {"wild": tiny.make_checkpoint(folder / "wild", **wild), "cache": folder / "cache"}
    places |= flags_for(folder, tiny_data)
    rows = [[*COMMON.split(), *row.format(**places).split()] for row in (*ROWS, STILL)]
    several.train_together(2, folder / "two", still_model, tiny_data, rows)
    several.train(folder / "one", still_model, tiny_data, rows)
    return {row: (folder / "one" / str(i), folder / "two" / str(i)) for i, row in enumerate((*ROWS, STILL))}


@pytest.mark.parametrize("row", ROWS)
def test_two_processes_train_as_one_does(both, row):
    one, two = ({n: w.double() for n, w in load_file(f / "last.safetensors").items()} for f in both[row])
    apart = sum((one[name] - two[name]).square().sum() for name in one).sqrt()
    size = sum(weights.square().sum() for weights in one.values()).sqrt()
    assert apart / size < 1e-6
    mine, theirs = (tiny.metrics(folder)[-1] for folder in both[row])
    assert mine["loss"] == pytest.approx(theirs["loss"], rel=1e-3, abs=1e-6)
    assert mine["tokens"] == theirs["tokens"]
    if "kept" in mine:
        assert mine["kept"] == pytest.approx(theirs["kept"])
        assert any(0 < share < 1 for share in mine["kept"].values())


def test_two_processes_score_as_one_does(both):
    """From the same weights, to the last bit."""
    one, two = both[STILL]
    assert tiny.metrics(one)[-1]["dev"] == tiny.metrics(two)[-1]["dev"]
    names = sorted(path.name for path in (one / "predictions").iterdir())
    assert len(names) == 3
    for name in names:
        assert (one / "predictions" / name).read_bytes() == (two / "predictions" / name).read_bytes(), name


# ---------------------------------------------------------------------------------------------- the script, as a run

UPDATES = 120
LONG = ("--option", "finetune", "--lr", "1e-3", "--epochs", 2, "--epoch_steps", 60, "--log_every", 1, "--skip_test")


@pytest.fixture(scope="module")
def argv_of(tiny_model, tiny_data):
    """argv_of(folder, flags...) -> the command line of a run of UPDATES with dropout."""
    return lambda folder, *more: ["--model", tiny_model, "--data_dir", tiny_data, "--run_dir", folder, *LONG, *more]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory, argv_of):
    """(the folder of a run by two processes, their Outcomes)"""
    folder = tmp_path_factory.mktemp("unbroken") / "run"
    return folder, several.finished(several.start(2, *argv_of(folder)))


def lines_of(log):
    return log.read_text(encoding="utf-8").count("\n") if log.exists() else 0


def after_updates(folder, number, started):
    """Wait for so many updates more."""
    log = folder / "log.jsonl"
    wanted = lines_of(log) + number
    deadline = time.monotonic() + 60
    while lines_of(log) < wanted:
        assert time.monotonic() < deadline, "no updates"
        assert all(process.poll() is None for process in started), several.finished(started)
        time.sleep(0.005)


def test_two_processes_print_and_write_as_one(unbroken):
    folder, (first, other) = unbroken
    assert (first.code, other.code, other.out) == (0, 0, ""), first.err + other.err
    assert first.out.count("report: ") == 1
    assert len(tiny.metrics(folder)) == 2
    assert lines_of(folder / "log.jsonl") == UPDATES
    assert not [path.name for path in folder.rglob(".*")]
    assert tiny.read_json(folder / "config.json")["machine"]["processes"] == 2


def test_a_signal_and_kills_leave_no_trace(tmp_path, argv_of, unbroken):
    """Of two processes one gets the signal; all end, and go on to the same bits as if nothing had been. torchrun starts
    the same command again, which resumes by itself."""
    folder = tmp_path / "run"
    line = argv_of(folder, "--checkpoint_minutes", 1e-9)
    for rank, number in ((1, signal.SIGTERM), (0, signal.SIGKILL)):
        started = several.start(2, *line, "--resume")
        after_updates(folder, 10, started)
        began = time.monotonic()
        started[rank].send_signal(number)
        outcomes = several.finished(started)
        assert time.monotonic() - began < 20
        hit, other = outcomes[rank], outcomes[1 - rank]
        if number == signal.SIGKILL:
            assert other.error.startswith(f"error: process {1 - rank} of 2: another one has ended, or cannot be")
        else:
            assert [hit.code, other.code] == [130, 130], hit.err + other.err
            assert "; continue with --resume " in outcomes[0].out
    running = several.torchrun(*line, "--resume", restarts=3)  # on a busy machine gloo may give up to connect
    after_updates(folder, 10, [running])
    os.kill(_children_of(running.pid)[1], signal.SIGKILL)
    out, err = running.communicate(timeout=100)
    assert running.returncode == 0, err
    assert out.count("resuming after 0 epochs and ") == 2
    assert lines_of(folder / "log.jsonl") == UPDATES
    tiny.assert_same_results(unbroken[0], folder)


@pytest.mark.parametrize("rank", [0, 1])
def test_a_signal_to_either_saves_once_and_any_number_goes_on(tmp_path, argv_of, rank):
    folder = tmp_path / "run"
    started = several.start(2, *argv_of(folder))
    after_updates(folder, 10, started)
    assert not (folder / "state.pt").exists()
    started[rank].send_signal(signal.SIGTERM)
    first, other = several.finished(started)
    assert (first.code, other.code, other.out, other.err) == (130, 130, "", ""), first.err
    done = torch.load(folder / "state.pt", weights_only=True)["progress"]["update"]
    assert f"stopped in epoch 1 after {done} of 60 steps; continue with --resume" in first.out
    assert lines_of(folder / "log.jsonl") == done
    if rank:
        resumed = several.finished(several.start(3, "--resume", folder))
        assert [outcome.code for outcome in resumed] == [0, 0, 0], resumed[0].err
        said = resumed[0].out
    else:
        resumed = tiny.script("--resume", folder)
        assert resumed.code == 0, resumed.err
        said = resumed.out
    assert f"processes: {3 if rank else 1}, and 2 as it began: " in said
    assert len(tiny.metrics(folder)) == 2
    assert lines_of(folder / "log.jsonl") == UPDATES


def _children_of(pid):
    """Processes that it started, in order."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if int(stat.read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(int(stat.parent.name))
    return sorted(found)


# ----------------------------------------------------------------------------------------------------- what it refuses


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("--evaluate runs/x", "--evaluate asks a saved run"),
        ("--predict runs/x", "--predict asks a saved run"),
        ("--export runs/x out", "--export asks a saved run"),
        ("--option finetune", "--run_dir: several processes need one name"),
        ("--run_dir x --label_scheme independent", "--label_scheme trains several models"),
        ("--run_dir x --lr 1e-5,2e-5", "--lr: each of several rates is a run of its own"),
        ("--run_dir x --device mps", "--device mps is for one process"),
        ("--resume", "--resume: which run?"),
    ],
)
def test_it_refuses(monkeypatch, flags, said):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert tiny.script(*flags.split()).error.startswith(f"error: {said}")
    monkeypatch.setenv("RANK", "1")  # the first one tells
    silent = tiny.script(*flags.split())
    assert (silent.code, silent.out, silent.err) == (2, "", "")


def test_it_refuses_to_go_on_with_several_runs(tmp_path, tiny_model, tiny_data, monkeypatch):
    argv = ("--model", tiny_model, "--data_dir", tiny_data, "--run_dir", tmp_path / "grid", "--lr", "1e-3,1e-4")
    assert tiny.script(*argv, "--option", "finetune", "--tasks", "sst", "--max_steps", 1).code == 0
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert tiny.script("--resume", tmp_path / "grid").error.startswith("error: --lr: each of several rates is a run")


def test_processes_that_nobody_started(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    with pytest.raises(UserError, match=r"they do not meet \(.*\); start them with torchrun, or unset WORLD_SIZE"):
        join()
    assert here() is ALONE


def test_a_gpu_for_each(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(UserError, match="this machine has 1, one for each process; --nproc_per_node 1"):
        join(use_gpu=True)


@pytest.mark.parametrize(("given", "restarts", "resumes"), [({}, 0, None), ({}, 2, True), ({"resume": "x"}, 2, "x")])
def test_what_torchrun_starts_again_resumes(monkeypatch, given, restarts, resumes):
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", str(restarts))
    parsed = Namespace(**{"run_dir": "x", "resume": None, **given})
    launch.settle(parsed)
    assert parsed.resume == resumes


def test_two_processes_pretrain_as_one_does(tmp_path, still_model, tiny_data):
    """118 texts: of the last batch, of one, a process has none; and so of the held-out text, which is one batch."""
    script = str(tiny.ROOT / "pretraining.py")
    flags = ("--model", still_model, "--data_dir", tiny_data, "--epochs", 1, "--batch_size", 3, "--lr", 1e-4)
    (one,) = several.finished([tiny.start(*flags, "--run_dir", tmp_path / "one", script=script)])
    first, other = several.finished(several.start(2, *flags, "--run_dir", tmp_path / "two", script=script))
    assert (one.code, first.code, other.code, other.out, other.err) == (0, 0, 0, "", ""), first.err
    mine, theirs = (load_file(tmp_path / name / "bert" / "model.safetensors") for name in ("one", "two"))
    assert all(torch.allclose(mine[name], theirs[name], atol=1e-6) for name in mine)
    for a, b in zip(*(tiny.metrics(tmp_path / name) for name in ("one", "two")), strict=True):
        assert (a["loss"] or 0, a["perplexity"]) == pytest.approx((b["loss"] or 0, b["perplexity"]), rel=1e-6)
        assert (a["epoch"], a["update"], a["tokens"]) == (b["epoch"], b["update"], b["tokens"])


def test_a_resumed_run_joins_as_it_began(monkeypatch, tmp_path):
    """On a GPU, where its record says so and the command line does not."""
    folder, joined = tmp_path / "run", []
    flags = to_saved(tiny.options_of("--run_dir", folder, "--use_gpu", "--option", "finetune"))
    folder.mkdir()
    machine = {"versions": {}, "machine": {"device": "x"}}
    write_json(folder / "config.json", {"flags": flags, "model": {"name": "x", "sha256": "x"}, "data": {}, **machine})
    monkeypatch.setattr("minbert.processes.join", joined.append)
    assert tiny.script("--resume", folder).code == 2  # there is no such device or model
    assert joined == [True]
