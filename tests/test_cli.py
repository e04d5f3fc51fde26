"""The whole program: what a run leaves behind, and what a user's mistakes and odd data are answered with."""

import importlib.util
import os
import re
import resource
import shutil
import sys
import types

import numpy as np
import pytest
import tiny
import torch
from safetensors.torch import load_file

import evaluation
import options as command_line
import training
from base_bert import BertConfig
from bert import BertModel
from datasets import TASKS, Tokenizer, fingerprint, read
from files import sha256

FINETUNE = ("--option", "finetune", "--lr", "1e-3", "--epochs", 2)


@pytest.fixture
def run(tmp_path, tiny_model, tiny_data):
    """run(flags...) -> Outcome of the script on the tiny model and data, in the folder tmp_path/run."""

    def run(*argv, model=tiny_model, data=tiny_data):
        return tiny.script("--model", model, "--data_dir", data, "--run_dir", tmp_path / "run", *FINETUNE, *argv)

    return run


@pytest.fixture
def data(tmp_path, tiny_data):
    """A copy of the tiny data, to be spoiled."""
    return shutil.copytree(tiny_data, tmp_path / "data")


@pytest.fixture(scope="module")
def finished(tmp_path_factory, tiny_model, tiny_data):
    """A finished run's folder and Outcome. Not to be written to."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    done = tiny.script("--model", tiny_model, "--data_dir", tiny_data, "--run_dir", folder, *FINETUNE)
    assert done.code == 0, done.err
    return folder, done


# --------------------------------------------------------------------------------------------- what a run leaves


def test_the_files_of_a_run(finished):
    folder, _ = finished
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    outputs = {f"predictions/{task}-{split}-output.csv" for task in ("sst", "para", "sts") for split in ("dev", "test")}
    trunk = {"bert/config.json", "bert/model.safetensors", "bert/vocab.txt"}
    assert names == outputs | trunk | {
        *("config.json", "metrics.jsonl", "scores.json", "state.pt", "model.safetensors", "last.safetensors"),
    }
    umask = os.umask(0)
    os.umask(umask)
    assert {path.stat().st_mode & 0o777 for path in folder.rglob("*") if path.is_file()} == {0o666 & ~umask}


def test_config_records_flags_versions_model_and_data(finished, tiny_model, tiny_data):
    folder, _ = finished
    config = tiny.read_json(folder / "config.json")
    dests = {action.dest for action in command_line.build_parser()._actions} - {"help"}
    assert set(config["flags"]) == dests - set(command_line.NOT_SAVED)
    assert config["flags"]["lr"] == 1e-3
    assert config["flags"]["tasks"] == ["sst", "quora", "sts"]
    assert config["flags"]["clip"] is None
    assert config["versions"] == {
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "numpy": np.__version__,
    }
    assert config["model"] == {
        "name": str(tiny_model),
        "source": f"the folder {tiny_model}",
        "sha256": sha256(tiny_model / "model.safetensors"),
    }
    assert set(config["data"]) == {"sst", "quora", "sts"}
    for name, splits in config["data"].items():
        assert set(splits) == {"train", "dev", "test"}
        for split, about in splits.items():
            path = tiny_data / TASKS[name].files[split]
            assert about["file"] == str(path)
            assert about["rows"] == dict(zip(("train", "dev", "test"), tiny.ROWS[name], strict=True))[split]
            assert about["sha"] == fingerprint(read(TASKS[name], path, split))
    assert config["machine"]["threads"] == torch.get_num_threads()


def test_metrics_are_a_line_an_epoch(finished):
    folder, _ = finished
    lines = tiny.metrics(folder)
    assert [line["epoch"] for line in lines] == [1, 2]
    assert [line["update"] for line in lines] == [5, 10]
    for line in lines:
        assert set(line["loss"]) == set(line["dev"]) == {"sst", "quora", "sts"}
        assert line["mean"] == pytest.approx(
            (line["dev"]["sst"]["accuracy"] + line["dev"]["quora"]["accuracy"] + line["dev"]["sts"]["pearson"]) / 3
        )
        assert line["score"] == line["selection_score"]
    assert lines[0]["seconds"] <= lines[1]["seconds"]
    assert lines[0]["tokens"] * 1.5 < lines[1]["tokens"]


def test_scores_and_the_final_table_are_those_of_the_best_epoch(finished, tiny_data):
    folder, done = finished
    scores, lines = tiny.read_json(folder / "scores.json"), tiny.metrics(folder)
    best = max(lines, key=lambda line: line["selection_score"])
    assert scores["dev"] == best["dev"]
    assert (scores["best_epoch"], scores["mean"], scores["score"]) == (best["epoch"], best["mean"], best["score"])
    assert (scores["epochs"], scores["updates"], scores["tokens"]) == (2, 10, lines[-1]["tokens"])
    labels = read(TASKS["sst"], tiny_data / "ids-sst-dev.csv", "dev").labels
    assert scores["baseline"]["sst"] == np.bincount(labels).max() / len(labels)
    assert scores["baseline"]["sts"] == 0.0
    for name, metric in (("sst", "accuracy"), ("quora", "accuracy"), ("sts", "pearson")):
        row = f"{name} +{metric} +{best['dev'][name][metric]:.3f} +{scores['baseline'][name]:.3f}"
        assert re.search(row, done.out), done.out
    assert f"mean of the three {best['mean']:.3f}, score with (STS + 1) / 2 {best['score']:.3f}" in done.out
    assert "tokens/s" in done.out


def test_a_run_says_first_what_it_trains_and_on_what(finished, tiny_model, tiny_data):
    out = finished[1].out
    assert out.startswith(f"model: {tiny_model}, the folder {tiny_model}\ndata from {tiny_data}, as asked for\n")
    assert "quora train: 37 examples" in out
    assert "2 epochs of 5 updates, simultaneous: sst 3 batches of 8, quora 5 batches of 8, sts 2 batches of 8" in out


def load_best(folder, tiny_data):
    """The run's best model, rebuilt from its folder alone, and the tokenizer saved beside it."""
    trunk = folder / "bert"
    model = tiny.multitask_classifier.MultitaskBERT(
        BertModel.from_pretrained(trunk), {name: TASKS[name] for name in ("sst", "quora", "sts")}
    )
    state = load_file(folder / "model.safetensors")
    assert all(torch.equal(value, state[f"bert.{name}"]) for name, value in model.bert.state_dict().items())
    model.load_state_dict(state)
    return model, Tokenizer.from_folder(trunk)


def test_prediction_files_are_those_of_the_best_model(finished, tiny_data, tmp_path):
    folder, _ = finished
    model, tokenizer = load_best(folder, tiny_data)
    for name, short in (("sst", "sst"), ("quora", "para"), ("sts", "sts")):
        for split in ("dev", "test"):
            examples = read(TASKS[name], tiny_data / TASKS[name].files[split], split)
            predictions = evaluation.predict(model, name, tokenizer.encode(examples.texts, 512))
            evaluation.write_predictions(tmp_path / "out.csv", TASKS[name], examples.ids, predictions)
            written = folder / "predictions" / f"{short}-{split}-output.csv"
            if name == "sts":  # real numbers: printed in full, equal up to rounding
                rows = [line.split(" , ") for line in written.read_text().splitlines()[1:]]
                assert [row[0] for row in rows] == examples.ids
                np.testing.assert_allclose([float(row[1]) for row in rows], predictions, atol=1e-6)
            else:
                assert written.read_bytes() == (tmp_path / "out.csv").read_bytes()
    heading, *rows = (folder / "predictions" / "para-test-output.csv").read_text().splitlines(keepends=True)
    assert heading == "id \t Predicted_Is_Paraphrase \n"
    assert all(re.fullmatch(r"quoratest\d{4} , [01]\.0 \n", row) for row in rows)


@pytest.mark.parametrize(("task", "option"), [("sst", "finetune"), ("cfimdb", "pretrain")])
def test_single_task_files_have_the_course_s_second_name(run, tmp_path, task, option):
    assert run("--tasks", task, "--option", option).code == 0
    for split in ("dev", "test"):
        names = (f"{task}-{split}-output.csv", f"{option}-{task}-{split}-out.csv")
        one, two = ((tmp_path / "run" / "predictions" / name).read_bytes() for name in names)
        assert one == two
        assert one.startswith(b"id \t Predicted_Sentiment \n")


def test_explicit_data_and_output_files_are_used(run, tmp_path, tiny_data):
    other = tiny.make_data(tmp_path / "other", seed=1)
    flags, outs = [], {}
    for prefix, task in command_line.COURSE_NAMES.items():
        for split in ("train", "dev", "test"):
            flags += [f"--{prefix}_{split}", other / TASKS[task].files[split]]
        for split in ("dev", "test"):
            outs[prefix, split] = tmp_path / "outputs" / f"{prefix}{split}.txt"
            flags += [f"--{prefix}_{split}_out", outs[prefix, split]]
    assert run(*flags).code == 0
    config = tiny.read_json(tmp_path / "run" / "config.json")
    files = {about["file"] for splits in config["data"].values() for about in splits.values()}
    assert files == {str(other / TASKS[task].files[s]) for task in ("sst", "quora", "sts") for s in TASKS[task].files}
    assert set((tmp_path / "outputs").iterdir()) == set(outs.values())
    assert outs["para", "test"].read_text().startswith("id \t Predicted_Is_Paraphrase \nquoratest0000 , ")
    assert not (tmp_path / "run" / "predictions").exists()


def test_the_same_seed_gives_the_same_run(finished, run, tmp_path):
    assert run().code == 0
    tiny.assert_same_results(finished[0], tmp_path / "run")


def test_a_run_of_its_own_process_gives_the_same_too(finished, tmp_path, tiny_model, tiny_data):
    argv = ("--model", tiny_model, "--data_dir", tiny_data, "--run_dir", tmp_path / "run", *FINETUNE)
    threads = str(torch.get_num_threads())
    process = tiny.start(*argv, env=tiny.environment(OMP_NUM_THREADS=threads))
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert "epoch 2/2" in err  # the progress bar
    assert "loss" in err
    assert "tokens/s" in err
    assert f"results in {tmp_path / 'run'}" in out
    tiny.assert_same_results(finished[0], tmp_path / "run")


def test_a_run_is_named_by_the_time(tmp_path, tiny_model, tiny_data, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert tiny.script("--model", tiny_model, "--data_dir", tiny_data, "--epochs", 1).code == 0
    (folder,) = (tmp_path / "runs").iterdir()
    assert re.fullmatch(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d", folder.name)


def test_data_without_a_test_file_is_fine(run, data, tmp_path):
    (data / "ids-sst-test-student.csv").unlink()
    assert run(data=data).code == 0
    assert not (tmp_path / "run" / "predictions" / "sst-test-output.csv").exists()


def test_tensorboard(run, tmp_path, monkeypatch):
    writers = []

    class SummaryWriter:
        def __init__(self, folder):
            self.folder, self.scalars = folder, []
            writers.append(self)

        def add_scalar(self, *scalar):
            self.scalars.append(scalar)

        def flush(self):
            pass

    module = types.ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = SummaryWriter
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    assert run("--tensorboard").code == 0
    assert writers[0].folder == tmp_path / "run" / "tensorboard"
    assert len(writers[0].scalars) == 2 * (3 + 3 + 1)


def test_tensorboard_event_files(run, tmp_path):
    if importlib.util.find_spec("tensorboard") is None:
        pytest.skip("needs the package tensorboard")
    assert run("--tensorboard").code == 0
    assert list((tmp_path / "run" / "tensorboard").glob("events.out.tfevents.*"))


# --------------------------------------------------------------------- odd data: a warning, and the run goes on


def test_a_row_without_a_label_is_skipped_and_counted(run, data, tmp_path):
    with open(data / "ids-sst-train.csv", "a") as f:
        f.write("20\tsstx\tno label\t\n21\tssty\tnor here\n")
    done = run(data=data)
    assert done.code == 0
    line = next(line for line in done.out.splitlines() if line.startswith("sst train"))
    assert "20 examples" in line
    assert "2 rows skipped (line 22: no value in column 'sentiment')" in line


def test_a_cell_of_a_megabyte_is_cut_and_counted(run, data):
    path = data / "quora-train.csv"
    path.write_text(path.read_text() + f"37\tlong\t{'good film ' * 100_000}\tbad\t1.0\n")
    done = run(data=data)
    assert done.code == 0
    line = next(line for line in done.out.splitlines() if line.startswith("quora train"))
    assert "38 examples" in line
    assert "1 cut to --max_length" in line


@pytest.mark.filterwarnings("always")
def test_a_constant_sts_prediction_scores_zero(run, data, tmp_path):
    rows = [f"{i}\tsts{i}\tthe dog\tthe cat\t{i}.0\n" for i in range(5)]
    (data / "sts-dev.csv").write_text("\tid\tsentence1\tsentence2\tsimilarity\n" + "".join(rows))
    with pytest.warns(UserWarning, match="constant prediction"):
        assert run(data=data).code == 0
    assert tiny.read_json(tmp_path / "run" / "scores.json")["dev"]["sts"] == {"pearson": 0.0}


def test_a_run_too_short_for_the_clock_has_a_table(run, monkeypatch):
    monkeypatch.setattr(training.time, "monotonic", lambda: 1000.0)
    assert run("--option", "pretrain").code == 0


# ------------------------------------------------------- mistakes: one line, exit code 2, nothing overwritten


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


def test_max_length_too_short_for_a_pair(run):
    assert "4 tokens" in run("--max_length", 4).error


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


@pytest.fixture
def small_disk():
    """small_disk(bytes): from now on no file may grow beyond this; a stand-in for a full disk that needs no rights."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("size", [0, 500, 5000, 20_000])
def test_a_full_disk(run, tmp_path, small_disk, size):
    small_disk(size)
    line = last_line(run())
    assert "File too large" in line
    complete = {path.name: path.stat().st_size for path in (tmp_path / "run").rglob("*") if path.is_file()}
    assert all(0 < length <= size for length in complete.values())
    assert not [name for name in complete if name.startswith(".")]  # no half-written file is left behind


# ---------------------------------------------------------------------------------------------------- checkpoints


def test_a_truncated_checkpoint(run, tmp_path, tiny_model):
    broken = shutil.copytree(tiny_model, tmp_path / "broken")
    content = (broken / "model.safetensors").read_bytes()
    (broken / "model.safetensors").write_bytes(content[: len(content) // 2])
    assert "model.safetensors" in run(model=broken).error
    assert not (tmp_path / "run").exists()


def test_a_checkpoint_of_another_size(run, tmp_path, tiny_model):
    other = tiny.make_checkpoint(tmp_path / "other", hidden=32)
    config = BertConfig.from_file(tiny_model / "config.json")
    shutil.copy(tiny_model / "config.json", other / "config.json")
    assert config.hidden_size == 16
    assert "wrong size" in run(model=other).error


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
    update = training.AdamW.step
    calls = []

    def poisoned(optimizer):
        calls.append(1)
        update(optimizer)
        if len(calls) == 8:  # the third update of the second epoch
            with torch.no_grad():
                optimizer.param_groups[0]["params"][0].fill_(torch.inf)

    monkeypatch.setattr(training.AdamW, "step", poisoned)
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
