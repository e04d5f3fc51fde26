"""Every flag is alive: it changes what its help says, in a whole run of a tiny model, and leaves the rest alone.

Pairs, heads and regularizers: test_strategy_flags.py; schedules: test_schedule_flags.py; test_saved_runs.py.
"""

import argparse
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch

from datasets import TASKS, subset
from minbert.files import UserError
from minbert.flags import checks as command_line

BASE = ("--option", "finetune", "--epochs", 1, "--lr", "1e-3")


def weight(trainer, name):
    return dict(trainer.model.named_parameters())[name].detach()


# -------------------------------------------------------------------------------------------- one test for each


def test_lr(run_of):
    (one, _), (two, _) = run_of(), run_of("--lr", "3e-3")
    assert one.rates == [{1e-3}] * 5
    assert two.rates == [{3e-3}] * 5
    assert one.batches == two.batches
    assert one.losses[0] == two.losses[0]  # before the first update nothing differs
    assert all(a[name] != b[name] for a, b in zip(one.losses[1:], two.losses[1:], strict=True) for name in a)


@pytest.mark.parametrize(("option", "lr"), [("pretrain", 1e-3), ("finetune", 1e-5)])
def test_lr_default_depends_on_the_option(option, lr):
    assert tiny.parse("--option", option).lr == lr
    assert tiny.parse("--option", option, "--lr", "0.5").lr == 0.5


def test_epochs(run_of):
    (one, short), (two, long) = run_of(), run_of("--epochs", 3)
    assert (len(short.loop.progress.history), len(long.loop.progress.history)) == (1, 3)
    assert one.losses == two.losses[:5]  # at a constant rate, the longer run begins as the shorter one
    chosen = [np.concatenate([rows["quora"] for rows in two.rows[i : i + 5]]).tolist() for i in (0, 5, 10)]
    assert len(set(map(tuple, chosen))) == 3  # a new order each epoch


def test_batch_size(run_of):
    trace, trainer = run_of("--batch_size", 16)
    assert [[len(rows) for rows in step.values()] for step in trace.rows] == [[16, 16, 13], [4, 16, 13], [16, 5, 13]]
    assert trainer.loop.progress.update == 3


def test_batch_size_per_task(run_of):
    trace, _ = run_of("--batch_size", "sst=10,quora=19,sts=2")
    sizes = {name: [len(step[name]) for step in trace.rows] for name in ("sst", "quora", "sts")}
    assert sizes == {"sst": [10] * 7, "quora": [19, 18, 19, 18, 19, 18, 19], "sts": [2, 2, 2, 2, 2, 2, 1]}


def test_hidden_dropout_prob(run_of):
    (one, low), (two, high) = run_of("--hidden_dropout_prob", 0), run_of("--hidden_dropout_prob", 0.8)
    assert {head.dropout.p for head in low.model.heads.values()} == {0.0}
    assert {head.dropout.p for head in high.model.heads.values()} == {0.8}
    assert {layer.out_dropout.p for layer in high.model.bert.bert_layers} == {0.1}  # the trunk keeps its checkpoint's
    assert one.batches == two.batches
    assert one.losses[0] != two.losses[0]


def test_seed(run_of, tiny_model, tiny_data, tmp_path):
    (one, _), (two, _) = run_of(), run_of("--seed", 7)
    assert one.batches != two.batches
    first, second = (
        tiny.make_trainer(tmp_path / seed, tiny_model, tiny_data, *BASE, "--seed", seed).model
        for seed in ("11711", "7")
    )
    differing = {n for n, value in first.state_dict().items() if not torch.equal(value, second.state_dict()[n])}
    assert differing == {name for name in first.state_dict() if name.startswith("heads.")}


def test_lr_schedule(run_of):
    (one, _), (two, _) = run_of(), run_of("--lr_schedule", "linear")
    assert [rate for (rate,) in two.rates] == pytest.approx([1e-3, 0.8e-3, 0.6e-3, 0.4e-3, 0.2e-3])
    assert one.losses[:2] == two.losses[:2]
    assert one.losses[2] != two.losses[2]


def test_warmup(run_of):
    _, trainer = run_of("--lr_schedule", "linear", "--warmup", 0.4, "--epochs", 2)
    trace, _ = run_of("--lr_schedule", "linear", "--warmup", 0.4, "--epochs", 2)
    rates = [rate for (rate,) in trace.rates]
    assert len(rates) == trainer.plan.updates == 10  # over the whole run, not each epoch
    assert rates.index(max(rates)) == 4
    assert max(rates) == pytest.approx(1e-3)
    np.testing.assert_allclose(np.diff(rates[:5]), 2e-4, rtol=1e-9)
    np.testing.assert_allclose(np.diff(rates[4:]), -1e-3 / 6, rtol=1e-9)


def test_clip(run_of):
    (one, _), (two, _) = run_of(), run_of("--clip", 0.05)
    assert min(one.norms) > 0.05
    assert two.norms == pytest.approx([0.05] * 5, rel=1e-4)
    assert one.losses[0] == two.losses[0]
    wide, _ = run_of("--clip", 1e6)
    assert wide.norms == one.norms
    assert wide.losses == one.losses


def test_weight_decay(run_of):
    """A word that no sentence has gets no gradient: it only decays, by 1 - lr * decay at each of the 5 updates."""
    (one, plain), (two, decayed) = run_of(), run_of("--weight_decay", 0.5)
    name = "bert.word_embedding.weight"
    seen = np.unique(np.concatenate([parts["train"].sequences.ids for parts in plain.data.values()]))
    unseen = np.setdiff1d(np.arange(len(weight(plain, name))), seen)
    assert len(unseen) > 5
    torch.testing.assert_close(weight(decayed, name)[unseen], weight(plain, name)[unseen] * (1 - 0.5e-3) ** 5)
    assert one.losses[0] == two.losses[0]
    assert one.losses[4] != two.losses[4]


def test_no_decay_bias_norm(run_of):
    """After one update: matrices as with decay, biases and LayerNorm as without it."""
    flags = ("--batch_size", 64)  # one step an epoch
    (_, off), (_, on) = run_of(*flags), run_of(*flags, "--weight_decay", 50.0)
    _, spared = run_of(*flags, "--weight_decay", 50.0, "--no_decay_bias_norm")
    for name, value in spared.model.named_parameters():
        assert torch.equal(value, weight(off if value.ndim == 1 else on, name)), name
        assert not torch.equal(value, weight(on if value.ndim == 1 else off, name)), name


def test_patience(run_of):
    flags = ("--tasks", "sst", "--lr", "1e-9", "--epochs", 6)  # nothing is learned, so that no epoch is better
    assert run_of(*flags)[1].loop.progress.epoch == 6
    assert run_of(*flags, "--patience", 2)[1].loop.progress.epoch == 3


def test_max_length(run_of):
    (one, whole), (two, short) = run_of(), run_of("--max_length", 12)
    for name, splits in short.data.items():
        for split, part in splits.items():
            full = whole.data[name][split].sequences.lengths
            assert part.sequences.lengths.tolist() == np.minimum(full, 12).tolist()
            assert part.sequences.truncated == (full > 12).sum()
    assert one.batches == two.batches


def test_limit(run_of):
    (_, whole), (_, cut) = run_of(), run_of("--limit", "quora=9,sst=0.25")
    assert {name: len(splits["train"].examples) for name, splits in cut.data.items()} == {
        "sst": 5,
        "quora": 9,
        "sts": 13,
    }
    kept = subset(whole.data["quora"]["train"].examples, 9)
    assert cut.data["quora"]["train"].examples.ids == kept.ids
    assert len(cut.data["quora"]["train"].sequences) == 9
    for name, splits in cut.data.items():
        assert splits["dev"].examples.ids == whole.data[name]["dev"].examples.ids
    assert len(run_of("--limit", "quora=9,sst=0.25")[0].rows) == 2


def test_dev_limit(run_of):
    (one, whole), (two, cut) = run_of(), run_of("--dev_limit", "quora=4,sts=0.5")
    assert {name: len(splits["dev"].examples) for name, splits in cut.data.items()} == {"sst": 11, "quora": 4, "sts": 4}
    assert cut.data["quora"]["dev"].examples.ids == subset(whole.data["quora"]["dev"].examples, 4).ids
    assert one.losses == two.losses  # training is not touched
    assert len((cut.folder / "predictions" / "para-dev-output.csv").read_text().splitlines()) == 5


def test_option(run_of):
    (one, fine), (two, frozen) = run_of(), run_of("--option", "pretrain")
    assert (sum(one.trunk_passes), sum(two.trunk_passes)) == (5, 0)
    assert one.batches == two.batches
    assert not torch.equal(weight(fine, "bert.pooler_dense.bias"), weight(frozen, "bert.pooler_dense.bias"))


@pytest.mark.parametrize(("mode", "option"), [("last-linear-layer", "pretrain"), ("full-model", "finetune")])
def test_fine_tune_mode_is_the_later_course_s_name_for_option(mode, option):
    plain, alias = tiny.options_of("--option", option), tiny.options_of("--fine-tune-mode", mode)
    same = {"run_dir": 0, "fine_tune_mode": None}
    assert command_line.to_saved(alias) | same == command_line.to_saved(plain) | same
    assert (plain.model.mode, alias.model.mode) == (option, mode)
    assert tiny.options_of("--fine_tune_mode", mode, "--option", option).model == alias.model


def test_tasks(run_of):
    trace, trainer = run_of("--tasks", "sts,sst")
    assert [list(rows) for rows in trace.rows] == [["sts", "sst"]] * 3
    assert list(trainer.model.heads) == list(trainer.data) == list(trainer.loop.progress.history[0]["dev"])
    assert list(trainer.data) == ["sts", "sst"]
    _, alone = run_of("--tasks", "cfimdb")
    assert list(alone.model.heads) == ["cfimdb"]
    assert sorted(path.name for path in (alone.folder / "predictions").iterdir()) == [
        "cfimdb-dev-output.csv",
        "finetune-cfimdb-dev-out.csv",
    ]


def test_attention(run_of, tmp_path_factory):
    """The fused kernel is the same function; with dropout it draws other numbers, so here there is none."""
    still = tiny.make_checkpoint(
        tmp_path_factory.mktemp("still"), hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0
    )
    (one, plain), (two, fused) = (run_of("--attention", kind, model=still) for kind in ("plain", "fused"))
    kinds = [{t.model.bert.bert_layers[0].self_attention.attention.__name__} for t in (plain, fused)]
    assert kinds == [{"plain_attention"}, {"fused_attention"}]
    for a, b in zip(one.losses, two.losses, strict=True):
        assert a == pytest.approx(b, abs=1e-5)


def test_model(run_of, tmp_path_factory):
    other = tiny.make_checkpoint(tmp_path_factory.mktemp("other"), seed=1)
    (one, _), (two, _) = run_of(), run_of(model=other)
    assert one.batches == two.batches
    assert one.losses[0] != two.losses[0]


def test_compile_reaches_the_optimizer(monkeypatch, tmp_path, tiny_model, tiny_data):
    from minbert.training import trainer as training

    class Watched(training.AdamW):
        def __init__(self, groups, lr, compiled):
            super().__init__(groups, lr=lr)
            self.was_asked = compiled

    monkeypatch.setattr(training, "AdamW", Watched)
    for flags, asked in (((), False), (("--compile",), True)):
        assert tiny.make_trainer(tmp_path, tiny_model, tiny_data, *BASE, *flags).loop.optimizer.was_asked is asked


def test_checkpoint_minutes(tmp_path, tiny_model, tiny_data, monkeypatch):
    saved = {}
    for minutes in (10, 1e-9):
        trainer = tiny.make_trainer(tmp_path, tiny_model, tiny_data, *BASE, "--checkpoint_minutes", minutes)
        saved[minutes] = []
        save = trainer.loop.save
        monkeypatch.setattr(
            trainer.loop, "save", lambda t=trainer, m=minutes, s=save: saved[m].append(t.loop.progress.step) or s()
        )
        trainer.fit()
    assert saved == {10: [0], 1e-9: [1, 2, 3, 4, 5, 0]}  # at the end of the epoch, and after each step


def test_truncate(run_of):
    (one, _), (two, head), (three, tail) = (
        run_of(*more) for more in (("--max_length", 12), ("--max_length", 12, "--truncate", "head"),
                                   ("--max_length", 12, "--truncate", "tail"))
    )  # fmt: skip
    assert one.losses == two.losses != three.losses
    for name in ("sst", "quora"):
        kept, left = (t.data[name]["train"].sequences for t in (head, tail))
        assert list(kept.lengths) == list(left.lengths)
        assert (kept.ids != left.ids).any()


def test_precision_and_use_gpu():
    assert tiny.parse().precision == "fp32"
    assert tiny.parse("--use_gpu").precision == "bf16"
    assert tiny.parse("--use_gpu", "--precision", "fp32").precision == "fp32"
    assert tiny.parse("--precision", "bf16").precision == "bf16"
    assert tiny.parse(*BASE, "--use_gpu", "--smart", "1").precision == "fp32"
    with pytest.raises(UserError, match="--smart needs --precision fp32"):
        tiny.parse(*BASE, "--precision", "bf16", "--smart", "1")


ELSEWHERE = {  # flags whose tests run the whole script: test_cli.py and test_resume.py
    *("use_gpu", "device", "data_dir", "glue_dir", "run_dir", "resume", "tensorboard", "help", "help_all", "config"),
    *("keep_state", "log_every", "head_bias"),  # test_going_on.py, test_step_log.py, test_prior.py
    "token_cache",  # test_token_cache_runs.py
    *(f"{prefix}_{split}" for prefix in ("sst", "para", "sts") for split in ("train", "dev", "test")),
    *(f"{prefix}_{split}_out" for prefix in ("sst", "para", "sts") for split in ("dev", "test")),
    *("predictions_dir", "dev_out", "test_out"),  # test_course_outputs.py
}
BESIDE = (  # more tests of flags
    *("test_strategy_flags.py", "test_schedule_flags.py", "../training/test_saved_runs.py"),
    *("test_semi_supervised_flags.py", "../training/test_pseudo_labels.py", "../training/test_plain_models.py"),
    *("../training/test_grid.py", "../training/test_export.py", "test_own_task_flags.py"),
)


def test_every_flag_has_a_test():
    code = "".join(Path(__file__).parent.joinpath(name).read_text(encoding="utf-8") for name in BESIDE)
    tests = {*globals(), *re.findall(r"^def (test_\w+)", code, re.MULTILINE)}
    flags = {action.option_strings[-1].lstrip("-").replace("-", "_") for action in command_line.build_parser()._actions}
    assert {flag for flag in flags - ELSEWHERE if not any(test.startswith(f"test_{flag}") for test in tests)} == set()


# ----------------------------------------------------------------------------------------------- as a whole


def test_no_flag_is_a_bool_in_disguise():
    """`type=bool` reads "False" as true: a switch takes no value."""
    for action in command_line.build_parser()._actions:
        assert action.type is not bool
        assert action.help, action.option_strings
        if isinstance(action.default, bool):
            assert isinstance(action, argparse._StoreTrueAction)


def test_defaults_are_the_course_s():
    options = tiny.parse()
    expected = {"option": "pretrain", "epochs": 10, "batch_size": 8, "hidden_dropout_prob": 0.3, "seed": 11711}
    expected |= {"clip": None, "weight_decay": 0.0, "lr_schedule": "constant", "warmup": 0.0, "patience": None}
    assert {name: getattr(options, name) for name in expected} == expected
    assert options.tasks == ["sst", "quora", "sts"]


@pytest.mark.parametrize(
    "line",
    [
        "--nonsense",
        "--epochs 0",
        "--epochs 1.5",
        "--epochs",
        "--lr 0",
        "--lr -1",
        "--lr nan",
        "--lr inf",
        "--lr fast",
        "--batch_size 0",
        "--batch_size sst=8",
        "--batch_size sst=8,quora=8,sts=0",
        "--batch_size sst=8,quora=8,sts=8,rte=8",
        "--batch_size sst=8,quora=8,sts=8,sst=9",
        "--hidden_dropout_prob 1",
        "--hidden_dropout_prob -0.1",
        "--seed -1",
        "--seed 99999999999999999999999",
        "--option both",
        "--fine-tune-mode half",
        "--tasks sst,,sts",
        "--tasks rte --sst_train x.csv",
        "--tasks quora --sst_train x.csv",
        "--tasks cfimdb --sts_dev_out x.csv",
        "--sst_dev_out x.csv --sst_test_out x.csv",
        "--max_length 4",
        "--tasks sst,sst",
        "--tasks sst,",
        "--schedule parallel",
        "--lr_schedule sine",
        "--warmup 0.1",
        "--warmup 1 --lr_schedule linear",
        "--clip 0",
        "--weight_decay -1",
        "--weight_decay inf",
        "--no_decay_bias_norm",
        "--patience 0",
        "--max_length 0",
        "--limit 100",
        "--limit sst=0",
        "--limit sst=1.5",
        "--limit sst=nan",
        "--limit imdb=5",
        "--limit cfimdb=5",
        "--tasks sst --limit quora=5",
        "--tasks sst --batch_size sst=4,quora=5",
        "--tasks cfimdb --dev_limit sst=5",
        "--precision bf16 --smart 1",
        "--precision fp16 --use_gpu",
        "--attention flash",
        "--use_gpu yes",
        "--checkpoint_minutes 0",
        "--resume",
        "extra",
    ],
)
def test_flags_that_make_no_sense_are_refused_in_one_line(line):
    with pytest.raises(UserError) as caught:
        tiny.parse(*line.split())
    assert "\n" not in str(caught.value)
    assert "object at" not in str(caught.value)
    if line not in ("extra", "--use_gpu yes"):  # where argparse names the value alone
        flags = [word for word in line.split() if word.startswith("--")]
        assert any(flag in str(caught.value) for flag in flags)


def test_dev_limit_may_name_a_task_that_is_scored_only():
    flags = ("--tasks", "sst", "--also_score", "sts,sst,quora", "--dev_limit", "quora=5")
    assert tiny.parse(*flags).dev_limit == {"quora": 5}
    with pytest.raises(UserError, match="--dev_limit names quora: no use in a run with --tasks sst"):
        tiny.parse("--tasks", "sst", "--dev_limit", "quora=5")


def test_glue_tasks_are_read_from_glue_dir(tmp_path, tiny_model, tiny_data):
    header = "index\tsentence1\tsentence2\tlabel\n"
    folder = tmp_path / "glue" / "RTE"
    folder.mkdir(parents=True)
    for split in ("train", "dev"):
        rows = [f"{i}\tthe dog can run\tone cat {i}\t{'not_' * (i % 2)}entailment\n" for i in range(6)]
        (folder / f"{split}.tsv").write_text(header + "".join(rows))
    trainer = tiny.make_trainer(
        tmp_path / "run", tiny_model, tiny_data, *BASE, "--tasks", "rte,sst", "--glue_dir", tmp_path / "glue"
    )
    assert trainer.data["rte"]["train"].examples.path == folder / "train.tsv"
    assert trainer.data["sst"]["train"].examples.path == tiny_data / TASKS["sst"].files["train"]
    assert list(trainer.data) == ["rte", "sst"]
    trainer.fit()
    assert trainer.loop.progress.history[0]["dev"]["rte"]["accuracy"] == pytest.approx(0.5, abs=0.51)


@pytest.mark.parametrize("argv", [["--help"], ["--epochs", "none"], ["--nonsense"]], ids=" ".join)
def test_help_and_mistakes_answer_without_torch(tmp_path, argv):
    for name in ("torch", "tokenizers", "safetensors", "tqdm"):
        (tmp_path / f"{name}.py").write_text(f"raise SystemExit('{name} was imported')")
    done = subprocess.run(
        [sys.executable, tiny.SCRIPT, *argv],
        capture_output=True,
        text=True,
        timeout=60,
        env=tiny.environment(PYTHONPATH=str(tmp_path)),
    )
    assert "imported" not in done.stderr
    if argv == ["--help"]:
        assert done.returncode == 0
        for action in command_line.build_parser()._actions:
            assert action.option_strings[-1] in done.stdout
    else:
        assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
        assert done.stderr.startswith("error: ")
