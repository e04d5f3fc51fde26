"""In-domain pretraining: runs by what they read, learn and write; the masks and the loss are in test_masking.py."""

import gzip
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
from itertools import pairwise

import kills
import numpy as np
import pytest
import tiny
import torch
import transformers
from own_text import rows_of, written
from safetensors.torch import load_file

import pretraining
from bert import BertForMaskedLM
from minbert.masked_lm import text, trainer
from minbert.masked_lm.masking import masked_batch
from minbert.text.tokenization import Tokenizer

MAIN = tiny.SCRIPT


@pytest.fixture(autouse=True, scope="module")
def the_script():
    """tiny.script and its kin run pretraining.py here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiny, "SCRIPT", str(tiny.ROOT / "pretraining.py"))
        yield


@pytest.fixture
def argv_of(tmp_path, tiny_model, tiny_data):
    """argv_of(name, flags...) -> the command line of a short run in the folder `name`."""

    def argv(name, *flags, model=tiny_model):
        source = () if "--text" in flags else ("--data_dir", tiny_data)
        return [
            "--model",
            model,
            *source,
            "--run_dir",
            tmp_path / name,
            "--epochs",
            2,
            "--lr",
            "1e-2",
            "--keep_state",
            *flags,
        ]

    return argv


@pytest.fixture(scope="module")
def finished(tmp_path_factory, tiny_model, tiny_data, the_script):
    """An unbroken run of two epochs. Not to be written to."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    done = tiny.script(
        "--model", tiny_model, "--data_dir", tiny_data, "--run_dir", folder, "--epochs", 2, "--keep_state"
    )
    assert done.code == 0, done.err
    return folder


def sequences_of(checkpoint, *argv):
    """(the text that these flags name, tokenizer, flags)."""
    options, source, _ = pretraining.check(pretraining.parse([*map(str, argv)]))
    tokenizer = Tokenizer.from_folder(checkpoint)
    data, _ = text.read_text(*source, options.tasks, options.data)
    return text.encode(data, tokenizer, options.model.max_length), tokenizer, options


def make_run(folder, checkpoint, *argv):
    """What `pretrain` sets up before it trains, in `folder`."""
    folder.mkdir(exist_ok=True)
    sequences, tokenizer, options = sequences_of(checkpoint, *argv)
    torch.manual_seed(options.schedule.seed)
    model = BertForMaskedLM.from_pretrained(checkpoint)
    return trainer.MaskedLMTrainer(model, tokenizer, sequences, options, folder)


def token_lists(sequences):
    return [tuple(sequences.ids[start:stop].tolist()) for start, stop in pairwise(sequences.offsets)]


# ------------------------------------------------------------------------------------------------------ the result


def test_the_decoder_is_the_word_embedding(finished):
    saved = load_file(finished / "bert" / "model.safetensors")
    vocabulary = saved["bert.embeddings.word_embeddings.weight"].shape
    assert sum(value.shape == vocabulary for value in saved.values()) == 1
    model = BertForMaskedLM.from_pretrained(finished / "bert")
    assert sum(p.shape == vocabulary for p in model.parameters()) == 1
    theirs = transformers.BertForMaskedLM.from_pretrained(finished / "bert")
    assert theirs.get_output_embeddings().weight is theirs.get_input_embeddings().weight


def test_the_result_is_a_checkpoint_for_all(finished, tiny_model, tiny_data, tmp_path, monkeypatch):
    ours = BertForMaskedLM.from_pretrained(finished / "bert")
    assert not ours.head_is_new
    theirs, report = transformers.BertForMaskedLM.from_pretrained(finished / "bert", output_loading_info=True)
    assert not report["missing_keys"]
    ids = torch.tensor([[2, 9, 4, 30, 3]])
    assert (ours(ids)["logits"] - theirs.eval()(ids).logits).abs().max() < 1e-5
    before, after = load_file(tiny_model / "model.safetensors"), load_file(finished / "bert" / "model.safetensors")
    same = {name for name, value in before.items() if torch.equal(value, after[f"bert.{name}"])}
    assert same == {"pooler.dense.weight", "pooler.dense.bias"}  # kept; all else was trained
    monkeypatch.setattr(tiny, "SCRIPT", MAIN)
    run = tiny.runner(tmp_path / "run", finished / "bert", tiny_data)
    assert run("--epochs", 1, "--limit", "sst=4,quora=4,sts=4").code == 0


def test_a_head_is_gone_on_from(finished, argv_of, tmp_path):
    done = tiny.script(*argv_of("again", "--epochs", 1, model=finished / "bert"))
    assert "the checkpoint's own head" in done.out
    assert "a new head" in tiny.script(*argv_of("new", "--epochs", 1)).out
    last, first = tiny.metrics(finished)[-1], tiny.metrics(tmp_path / "again")[0]
    assert first["perplexity"] == last["perplexity"]  # the same held-out text, the same masks, whatever the run


def test_the_files_say_what_was_done(finished):
    lines, scores = tiny.metrics(finished), tiny.read_json(finished / "scores.json")
    assert [line["epoch"] for line in lines] == [0, 1, 2]
    assert [line["update"] for line in lines] == [0, scores["updates"] // 2, scores["updates"]]
    assert (lines[0]["perplexity"], lines[-1]["perplexity"]) == (scores["perplexity_before"], scores["perplexity"])
    assert lines[0]["loss"] is None
    assert scores["texts"] == 120 - 2  # 20 of SST, 37 pairs of Quora, 13 of STS, of which 2 % are held out
    assert scores["updates"] == 2 * math.ceil(118 / 32)
    assert tiny.read_json(finished / "config.json")["data"]["sst"]["train"]["rows"] == 20


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl"])
def test_columns_of_ones_own_file(tmp_path, tiny_model, suffix):
    rows = rows_of(12, pairs=True)
    path = written(tmp_path / f"a{suffix}", rows)
    found, _, _ = sequences_of(tiny_model, "--train", path, "--text", "subject,reply")
    (tmp_path / "plain.txt").write_text("".join(f"{row['subject']}\n{row['reply']}\n" for row in rows))
    plain, _, _ = sequences_of(tiny_model, "--text", tmp_path / "plain.txt")
    assert token_lists(found) == token_lists(plain)
    one, _, _ = sequences_of(tiny_model, "--train", path, "--text", "reply")
    assert token_lists(one) == token_lists(plain)[1::2]


def test_a_run_on_a_column_is_gone_on_with(tmp_path, tiny_model, argv_of, monkeypatch):
    path = written(tmp_path / "a.csv", rows_of(40))
    flags = ("--train", path, "--text", "subject", "--epochs", 1)
    with monkeypatch.context() as patch:
        kills.stop_at(patch, 1)
        assert tiny.script(*argv_of("run", *flags, "--batch_size", 8)).code == 130
    done = tiny.script("--resume", tmp_path / "run")
    assert done.code == 0, done.err


def test_held_out_text_is_never_trained_on(tmp_path, tiny_model, monkeypatch):
    lines = [f"{a} {b} {c} {a} {b} {c}" for a in tiny.WORDS[:6] for b in tiny.WORDS[6:12] for c in tiny.WORDS[12:16]]
    (tmp_path / "one.txt").write_text("\n".join([*lines, *map(str.upper, lines)]))
    (tmp_path / "two.txt").write_text("\n".join(f"  {line.replace(' ', '  ')} " for line in lines))
    argv = (tiny_model, "--text", f"{tmp_path}/one.txt,{tmp_path}/two.txt", "--epochs", 2)
    run = make_run(tmp_path / "run", *argv)
    trained = []

    def watched(sequences, rows, *rest):
        trained.extend(token_lists(sequences.take(rows)))
        return masked_batch(sequences, rows, *rest)

    monkeypatch.setattr(trainer, "masked_batch", watched)
    run.loop.run()
    held_out = set(token_lists(text.hold_out(sequences_of(*argv)[0])[1]))
    assert len(held_out) == 3  # 2 % of 144 different texts
    assert len(trained) == 2 * (144 - 3)
    assert len(set(trained)) == 144 - 3
    assert not held_out & set(trained)


def test_dev_and_test_text_are_not_read(argv_of, data, tmp_path, finished):
    for path in data.glob("*"):
        if "train" not in path.name or "cfimdb" in path.name:
            path.unlink()
    done = tiny.script(*argv_of("run", "--data_dir", data, "--lr", 5e-5))
    assert done.code == 0, done.err
    assert tiny.metrics(tmp_path / "run")[-1]["perplexity"] == tiny.metrics(finished)[-1]["perplexity"]


def test_forms_of_text(tmp_path, tiny_model):
    (tmp_path / "a.txt").write_text("good film\n\n  the dog  \nwarm stone, cold river\n")
    (tmp_path / "b.tsv").write_text("id\tsentence1\tsentence2\n1\tone cat\ttwo dog\n")
    (tmp_path / "c.csv").write_text('id\tsentence\n1\t"a ""great"" song"\n')
    with gzip.open(tmp_path / "d.jsonl.gz", "wt") as f:
        f.write(json.dumps({"id": "1", "text": "sing<br />run"}) + "\n")
    sequences, tokenizer, _ = sequences_of(tiny_model, "--text", ",".join(map(str, sorted(tmp_path.glob("?.*")))))
    expected = ["good film", "the dog", "warm stone, cold river", "one cat", "two dog", 'a "great" song', "sing run"]
    assert token_lists(sequences) == token_lists(tokenizer.encode([(text,) for text in expected], 512))


def test_texts_are_masked_anew_each_time(tmp_path, tiny_model, monkeypatch):
    (tmp_path / "a.txt").write_text("\n".join(f"the {word} can run far" for word in tiny.WORDS[:40]))
    run = make_run(tmp_path / "run", tiny_model, "--text", tmp_path / "a.txt", "--epochs", 5, "--batch_size", 64)
    seen, losses = [], run.model.losses

    def watched(tokens, chosen, labels):
        if run.model.training:
            seen.append(tuple(chosen.tolist()))
        return losses(tokens, chosen, labels)

    monkeypatch.setattr(run.model, "losses", watched)
    run.loop.run()
    assert len(seen) == len(set(seen)) == 5


def test_perplexity_by_hand(tmp_path, tiny_model):
    """Over all chosen tokens at once, though they are scored in batches of unequal size."""
    texts = [f"{a} {b} {c}" for a in tiny.WORDS[:20] for b in tiny.WORDS[20:40] for c in tiny.WORDS[40:50]]
    (tmp_path / "a.txt").write_text("\n".join(texts))
    run = make_run(tmp_path / "run", tiny_model, "--text", tmp_path / "a.txt", "--seed", 5)
    assert len(run.exam) == 2  # 80 texts, 64 at once
    total, count = 0.0, 0
    for tokens, chosen, labels in run.exam:
        logits = run.model.predict(run.model.bert.encode_packed(tokens)).detach().double().numpy()  # [N, V]
        for place, label in zip(chosen.tolist(), labels.tolist(), strict=True):
            total += np.log(np.exp(logits[place]).sum()) - logits[place, label]
            count += 1
    state = torch.get_rng_state()
    assert run.perplexity() == pytest.approx(math.exp(total / count), rel=1e-5)
    assert torch.equal(state, torch.get_rng_state())
    other = make_run(tmp_path / "other", tiny_model, "--text", tmp_path / "a.txt", "--seed", 6)
    assert all(torch.equal(a[0].ids, b[0].ids) for a, b in zip(run.exam, other.exam, strict=True))


def test_perplexity_falls(argv_of, tmp_path):
    """Texts of one word over and over: what is hidden stands beside it."""
    texts = [" ".join([word] * n) for word in tiny.WORDS[:12] for n in range(4, 14)]
    (tmp_path / "a.txt").write_text("\n".join(texts))
    done = tiny.script(*argv_of("run", "--text", tmp_path / "a.txt", "--epochs", 14, "--batch_size", 16))
    assert done.code == 0, done.err
    scores = tiny.read_json(tmp_path / "run" / "scores.json")
    assert scores["perplexity_before"] > 50
    assert scores["perplexity"] < 3


# ------------------------------------------------------------------------------------------------------- resume


def results(folder):
    state = torch.load(folder / "state.pt", weights_only=True)
    tensors = load_file(folder / "bert" / "model.safetensors") | {"rng": state["rng"]}
    optimizer = {f"{i} {k}": torch.as_tensor(v) for i, s in state["optimizer"]["state"].items() for k, v in s.items()}
    lines = [{k: v for k, v in line.items() if k not in tiny.TIMES} for line in tiny.metrics(folder)]
    scores = {k: v for k, v in tiny.read_json(folder / "scores.json").items() if k not in tiny.TIMES}
    return tensors | optimizer, lines, scores


def assert_same(one, two):
    (tensors, *values), (others, *other_values) = results(one), results(two)
    assert values == other_values
    assert tensors.keys() == others.keys()
    assert not [name for name in tensors if not torch.equal(tensors[name], others[name])]


SMALL = ("--limit", "sst=9,quora=8,sts=4", "--batch_size", 16, "--checkpoint_minutes", 1e-9)


def test_a_kill_at_any_file_leaves_a_run_that_can_be_resumed(tmp_path, argv_of):
    files = kills.killed_before_rename(0, *argv_of("whole", *SMALL))
    assert len(files) > 12
    for number in range(1, len(files) + 1):
        argv = argv_of(str(number), *SMALL)
        assert len(kills.killed_before_rename(number, *argv)) == number - 1
        resumed = tiny.script(*argv, "--resume")
        assert resumed.code == 0, f"killed before {files[number - 1]}: {resumed.err}"
        assert_same(tmp_path / "whole", tmp_path / str(number))


def test_a_stop_in_an_epoch_and_at_its_end(tmp_path, argv_of):
    assert tiny.script(*argv_of("whole", *SMALL)).code == 0
    last = tiny.read_json(tmp_path / "whole" / "scores.json")["updates"]
    for update in (1, last // 2, last // 2 + 1, last):
        argv = argv_of(str(update), *SMALL[:-2])
        assert "continue with --resume" in kills.stopped_at(update, *argv).out
        assert not (tmp_path / str(update) / "scores.json").exists()
        resumed = tiny.script("--resume", tmp_path / str(update))
        assert "resuming after" in resumed.out, resumed.err
        assert_same(tmp_path / "whole", tmp_path / str(update))


def test_a_finished_run_without_its_state_is_not_trained_again(finished, tmp_path, monkeypatch):
    folder = shutil.copytree(finished, tmp_path / "run")
    (folder / "state.pt").unlink()
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    monkeypatch.setattr("minbert.training.loop.Loop.step", None)
    done = tiny.script("--resume", folder)
    assert done.code == 0, done.err
    assert "is finished, and has no state.pt" in done.out
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_sigterm_before_the_first_epoch(tmp_path, argv_of, monkeypatch):
    replace = os.replace

    def replace_and_ask_to_stop(source, target):
        replace(source, target)
        if str(target).endswith("metrics.jsonl"):
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", replace_and_ask_to_stop)
        assert tiny.script(*argv_of("run", *SMALL)).code == 130
    assert "resuming after 0 epochs and 0 steps" in tiny.script("--resume", tmp_path / "run").out
    assert tiny.script(*argv_of("whole", *SMALL)).code == 0
    assert_same(tmp_path / "whole", tmp_path / "run")


# ------------------------------------------------------------------------------------------------ flags, mistakes


def test_every_flag_changes_what_is_learned(tmp_path, argv_of, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    flags = [(), ("--seed", 1), ("--warmup", 0.5), ("--batch_size", 9), ("--lr", 1e-3), ("--epochs", 1)]
    flags += [("--max_length", 8), ("--tasks", "sst"), ("--limit", "quora=7"), ("--precision", "bf16")]
    learned = []
    for number, more in enumerate(flags):
        assert tiny.script(*argv_of(str(number), *more)).code == 0
        learned.append(load_file(tmp_path / str(number) / "bert" / "model.safetensors")["cls.predictions.bias"])
    assert not any(torch.equal(a, b) for i, a in enumerate(learned) for b in learned[:i])


def test_help_needs_no_torch():
    command = [sys.executable, "-X", "importtime", tiny.SCRIPT, "--help"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0
    assert "--warmup" in done.stdout
    assert not re.search(r"\| +torch$", done.stderr, re.M)


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--text", "nowhere.txt"), "nowhere.txt: cannot be read"),
        (("--text", "nowhere.tsv"), "nowhere.tsv: no such file"),
        (("--text", b"\n  \n"), "no text in it"),
        (("--text", b"the film\nTHE FILM\n"), "fewer than two different texts"),
        (("--text", b"a\nb\nc\nd\n"), "too short to hide a token in"),
        (("--text", b"fine\n\xff\xfe\n"), "line 2: bytes that are not UTF-8"),
        (("--text", "a.txt", "--tasks", "sst"), "--tasks is of no use with --text"),
        (("--train", "a.csv"), "--train needs --text COLUMN"),
        (("--train", "a.csv", "--text", "a,b,c"), "--train needs --text COLUMN"),
        (("--train", "nowhere.csv", "--text", "a"), "nowhere.csv: no such file"),
        (("--train", "a.csv", "--text", "a", "--tasks", "sst"), "--tasks is of no use with --text"),
        (("--tasks", "rte"), "--tasks rte: no task with files in --data_dir"),
        (("--tasks", "imdbx"), "--tasks imdbx: no task"),
        (("--tasks", "sst", "--limit", "quora=5"), "--limit names quora"),
        (("--data_dir", "nowhere"), "nowhere"),
        (("--max_length", 513), "--max_length 513"),
        (("--lr", 0), "--lr"),
        (("--epoch", 0), "--epoch"),
        (("--resume", "nowhere"), "no config.json there"),
    ],
)
def test_mistakes(argv_of, tmp_path, flags, says):
    if isinstance(flags[1], bytes):  # what is in the file
        (tmp_path / "text.txt").write_bytes(flags[1])
        flags = ("--text", tmp_path / "text.txt")
    assert says in tiny.script(*argv_of("run", *flags)).error
    assert not (tmp_path / "run").exists()


def test_other_runs_are_not_touched(argv_of, finished, tmp_path):
    folder = shutil.copytree(finished, tmp_path / "run")
    assert "exists: choose another --run_dir" in tiny.script(*argv_of("run")).error
    assert "--seed 3: the run to resume has 11711" in tiny.script("--resume", folder, "--seed", 3).error
    config = tiny.read_json(folder / "config.json")
    config["data"]["sst"]["train"]["sha"] = "0"
    (folder / "config.json").write_text(json.dumps(config))
    assert "is not what this run began with" in tiny.script("--resume", folder).error
    for change in ({"text": [1]}, {"tasks": "sst"}, {"limit": None}, {"lr": True}):
        (folder / "config.json").write_text(json.dumps({**config, "flags": {**config["flags"], **change}}))
        assert f"--resume {folder}: its record says --{next(iter(change))} " in tiny.script("--resume", folder).error
    (folder / "config.json").write_text(json.dumps({**config, "flags": {}}))
    assert "no run of pretraining.py" in tiny.script("--resume", folder).error


def test_a_rate_that_is_too_high(argv_of, tmp_path):
    done = tiny.script(*argv_of("run", "--lr", "1e30"))
    assert (done.code, done.err.splitlines()[-1][:7]) == (2, "error: ")
    assert "Try a lower --lr" in done.err
    assert not (tmp_path / "run" / "bert").exists()
