"""A user's mistakes: one line that says what and where, exit code 2, no traceback, and nothing overwritten."""

import contextlib
import json
import os
import re
import resource
import shutil
import subprocess
import sys

import pytest
import tiny
import torch

from optimizer import AdamW

FINETUNE = tiny.FINETUNE


@pytest.fixture
def run(tmp_path, tiny_model, tiny_data):
    """run(flags...) -> Outcome of the script on the tiny model and data, in the folder tmp_path/run."""
    return tiny.runner(tmp_path / "run", tiny_model, tiny_data)


SST_HEADER = "\tid\tsentence\tsentiment\n"
STS_HEADER = "\tid\tsentence1\tsentence2\tsimilarity\n"


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("ids-sst-train.csv", None, "no such file"),
        ("quora-dev.csv", None, "no such file"),
        ("ids-sst-train.csv", SST_HEADER.replace("\t", ",") + "0,a,good film,3\n", "no column 'sentence'"),
        ("ids-sst-dev.csv", "\tid\tsentence\n0\ta\tgood film\n", "no column 'sentiment'"),
        (
            "ids-sst-train.csv",
            SST_HEADER + "0\ta\tgood film\t3\n1\tb\tbad film\t7\n",
            "line 3, column 'sentiment': '7'",
        ),
        ("sts-dev.csv", STS_HEADER + "0\ta\tone\ttwo\t9.1\n", "line 2, column 'similarity': '9.1'"),
        ("sts-train.csv", STS_HEADER + "0\ta\tone\ttwo\tnan\n", "'nan'"),
        ("ids-sst-train.csv", "", "empty"),
        ("ids-sst-train.csv", SST_HEADER, "no usable row"),
        ("quora-train.csv", bytes(range(128, 256)) * 50, "not UTF-8"),
        ("sts-train.csv", STS_HEADER + "0\ta\tone\0\ttwo\t1\n", "NUL"),
    ],
    ids=lambda value: value if isinstance(value, str) and len(value) < 25 else "",
)
def test_bad_data(run, data, tmp_path, name, content, says):
    (data / name).unlink()
    if content is not None:
        (data / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    line = run(data=data).error
    assert name in line
    assert says in line
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("flag", ["--sst_train", "--para_dev", "--sts_test"])
def test_a_file_that_was_named_must_be_there(run, tmp_path, flag):
    assert "no-such.csv: no such file" in run(flag, tmp_path / "no-such.csv").error
    assert not (tmp_path / "run").exists()


def test_a_data_folder_that_is_not_there(run, tmp_path):
    assert "nowhere" in run(data=tmp_path / "nowhere").error


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_use_gpu_without_cuda(run, tmp_path):
    assert run("--use_gpu").error.startswith("error: --use_gpu: this machine has no CUDA device")
    assert not (tmp_path / "run").exists()


def test_tensorboard_without_its_package(run, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)  # its import then fails
    assert "pip install tensorboard" in run("--tensorboard").error
    assert not (tmp_path / "run").exists()


def test_max_length_over_the_model_s_positions(run, tmp_path):
    short = tiny.make_checkpoint(tmp_path / "short", positions=32)
    assert "--max_length 33: " in run("--max_length", 33, model=short).error
    assert run("--max_length", 32, model=short).code == 0


def test_without_max_length_the_model_s_positions_are_the_limit(run, tmp_path):
    short = tiny.make_checkpoint(tmp_path / "short", positions=32)
    assert run(model=short).code == 0
    assert tiny.read_json(tmp_path / "run" / "config.json")["flags"]["max_length"] == 32


def test_a_task_that_does_not_exist(run):
    assert "imdbx: no such task; there are sst," in run("--tasks", "imdbx").error


def test_a_checkpoint_without_weights(run, tmp_path, tiny_model):
    folder = shutil.copytree(tiny_model, tmp_path / "empty")
    (folder / "model.safetensors").unlink()
    assert "model.safetensors" in run(model=folder).error


def test_a_tokenizer_of_another_model(run, tmp_path, tiny_model):
    folder = shutil.copytree(tiny_model, tmp_path / "mixed")
    with (folder / "vocab.txt").open("a") as f:
        f.write("another\nword\n")
    assert "these are not of one checkpoint" in run(model=folder).error


def test_pairs_need_two_token_types(run, tmp_path, tiny_model):
    folder = shutil.copytree(tiny_model, tmp_path / "single")
    config = tiny.read_json(folder / "config.json")
    (folder / "config.json").write_text(json.dumps({**config, "type_vocab_size": 1}))
    assert "one token type" in run(model=folder).error


def test_an_existing_run_is_not_overwritten(run, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.txt").write_text("years of work")
    line = run().error
    assert "exists" in line
    assert "--resume" in line
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["thesis.txt"]


def test_an_empty_folder_may_be_a_run(run, tmp_path):
    (tmp_path / "run").mkdir()
    assert run().code == 0


@pytest.mark.parametrize("name", ["file", "file/below", "file/far/below"])
def test_a_file_in_place_of_the_run_s_folder(run, tmp_path, name):
    (tmp_path / "file").write_text("kept")
    assert str(tmp_path / "file") in run("--run_dir", tmp_path / name).error
    assert (tmp_path / "file").read_text() == "kept"


def last_line(outcome):
    """Of an error in the middle of training, after the progress bar."""
    assert outcome.code == 2, outcome.err
    assert "Traceback" not in outcome.err
    line = outcome.err.splitlines()[-1]
    assert line.startswith("error: "), outcome.err[-500:]
    return line


@pytest.mark.parametrize("kind", ["folder", "pipe", "below a file"])
def test_predictions_that_cannot_be_written(run, tmp_path, kind):
    out = tmp_path / "out"
    if kind == "folder":
        out.mkdir()
    elif kind == "pipe":
        os.mkfifo(out)  # stands for /dev/null: replacing that by a file would be a disaster
    else:
        out.write_text("kept")
    before = out.stat()
    assert "out" in last_line(run("--sst_dev_out", out / "below" if kind == "below a file" else out))
    assert (out.stat().st_mode, out.stat().st_ino) == (before.st_mode, before.st_ino)


@contextlib.contextmanager
def small_disk(size):
    """No file may grow beyond `size` bytes meanwhile: a stand-in for a full disk that needs no rights. As short as
    possible, for the limit holds for pytest's own output too."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("size", [0, 500, 5000, 20_000, 100_000])
def test_a_full_disk(run, tmp_path, size):
    with small_disk(size):
        outcome = run()
    line = last_line(outcome)
    assert re.match(rf"error: {tmp_path}/run/[a-z./]+: File too large", line)
    complete = {path.name: path.stat().st_size for path in (tmp_path / "run").rglob("*") if path.is_file()}
    complete.pop("log.jsonl", None)  # it grows line by line, and may have none yet
    assert all(0 < length <= size for length in complete.values()), complete
    assert not [name for name in complete if name.startswith(".")]  # no half-written file is left behind


@pytest.fixture
def disk(tmp_path):
    """mount(size) -> a folder that is a disk of that size; the same once more makes it another size."""
    (tmp_path / "disk").mkdir()

    def mount(size, *remount):
        options = ",".join([*remount, f"size={size}"])
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", tmp_path / "disk"], capture_output=True)
        if done.returncode:
            pytest.skip("mounting needs root")
        return tmp_path / "disk"

    if shutil.which("mount") is None:
        pytest.skip("there is no command mount")
    yield mount
    subprocess.run(["umount", tmp_path / "disk"], capture_output=True)


@pytest.mark.parametrize(("size", "epochs"), [("180k", 0), ("400k", 1)])
def test_a_disk_that_fills_up_loses_nothing(run, tmp_path, disk, size, epochs):
    """In the first state, and in the second, while the first is there."""
    assert run("--run_dir", tmp_path / "whole").code == 0
    folder = disk(size) / "run"
    assert last_line(run("--run_dir", folder)) == f"error: {folder}/state.pt: No space left on device"
    assert not list(folder.rglob(".*"))
    disk("20m", "remount")
    done = tiny.script("--resume", folder)
    assert done.code == 0, done.err
    assert (f"resuming after {epochs} epochs" in done.out) == (epochs > 0)
    tiny.assert_same_results(tmp_path / "whole", folder)


# ---------------------------------------------------------------------------------------------------- checkpoints


def test_a_truncated_checkpoint(run, tmp_path, tiny_model):
    broken = shutil.copytree(tiny_model, tmp_path / "broken")
    content = (broken / "model.safetensors").read_bytes()
    (broken / "model.safetensors").write_bytes(content[: len(content) // 2])
    assert "model.safetensors" in run(model=broken).error
    assert not (tmp_path / "run").exists()


def test_a_checkpoint_of_another_size(run, tmp_path, tiny_model):
    other = tiny.make_checkpoint(tmp_path / "other", hidden=32)
    shutil.copy(tiny_model / "config.json", other / "config.json")
    assert "config.json says hidden_size 16, the tensors 32" in run(model=other).error


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ("--lr 1e-3,1.0000001e-3", "--lr 0.001,0.0010000001: the attempts at both would be called lr-0.001"),
        ("--weight_decay 1e308", "--weight_decay: '1e308': more than a float holds"),
        ("--lr 1e39", "--lr: '1e39': more than a float holds"),
        ("--lr 1e30 --weight_decay 1e30", "--weight_decay 1e+30 times --lr 1e+30 is more than a float holds"),
        ("--lr 1e30,1 --weight_decay 1e30", "--weight_decay 1e+30 times --lr 1e+30 is more than a float holds"),
        (
            "--epoch_steps 99999999999",
            "--epoch_steps: '99999999999': expected a whole number above 0 and below 10000000",
        ),
        ("--model ~nosuchuser/x", "model ~nosuchuser/x: nobody of that name has a home here"),
    ],
)
def test_numbers_too_large_or_too_close_and_a_home_of_nobody(run, tmp_path, flags, says):
    assert says in run(*flags.split()).error
    assert not (tmp_path / "run").exists()


def test_a_model_that_is_not_there(run, tmp_path):
    assert "model" in run(model=tmp_path / "nowhere").error


# ------------------------------------------------------------------------------------------------ diverging runs


def test_a_loss_that_is_not_finite_names_step_and_task(run, tmp_path):
    """Each update multiplies the weights by 1 - lr * decay = -1e6: six of them overflow a float."""
    done = run("--lr", "1e3", "--weight_decay", "1e3", "--epochs", 3)
    line = last_line(done)
    assert re.search(r"the loss of (sst|quora|sts) is (nan|inf) at update \d+ \(epoch \d\)", line) or re.search(
        r"(bert|heads)\.\S+ is not finite after update \d+", line
    )
    assert "--lr" in line
    state = tmp_path / "run" / "state.pt"
    if state.exists():
        saved = torch.load(state, weights_only=True)["model"]
        assert all(torch.isfinite(value).all() for value in saved.values())


def test_a_huge_rate_ends_in_one_line(run):
    assert "update" in last_line(run("--lr", "1e30"))


def test_after_a_loss_that_is_not_finite_the_last_good_state_is_there(run, tmp_path, monkeypatch):
    update = AdamW.step
    calls = []

    def poisoned(optimizer):
        calls.append(1)
        update(optimizer)
        if len(calls) == 8:  # the third update of the second epoch
            with torch.no_grad():
                optimizer.param_groups[0]["params"][0].fill_(torch.inf)

    monkeypatch.setattr(AdamW, "step", poisoned)
    assert "at update 9 (epoch 2)" in last_line(run())
    saved = torch.load(tmp_path / "run" / "state.pt", weights_only=True)
    assert saved["progress"]["update"] == 5
    assert all(torch.isfinite(value).all() for value in saved["model"].values())
    assert (tmp_path / "run" / "model.safetensors").exists()


def test_an_error_in_mid_training_stands_on_a_line_of_its_own(tmp_path, tiny_model, tiny_data):
    argv = ("--model", tiny_model, "--data_dir", tiny_data, "--run_dir", tmp_path / "run", *FINETUNE, "--lr", "1e30")
    process = tiny.start(*argv)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 2
    assert err.splitlines()[-1].startswith("error: ")
    assert "Traceback" not in err
