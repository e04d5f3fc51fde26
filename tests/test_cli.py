"""The whole program: what a run prints and leaves behind, and how it takes odd data. Mistakes: test_mistakes.py."""

import importlib.util
import os
import re
import sys
import types

import numpy as np
import pytest
import tiny
import torch
from safetensors.torch import load_file

from bert import BertModel
from datasets import TASKS, Task, fingerprint, read
from minbert import evaluation
from minbert.files import sha256
from minbert.flags import checks as command_line
from minbert.text.tokenization import Tokenizer
from minbert.training import loop as training

FINETUNE = tiny.FINETUNE


@pytest.fixture
def run(tmp_path, tiny_model, tiny_data):
    """run(flags...) -> Outcome of the script on the tiny model and data, in the folder tmp_path/run."""
    return tiny.runner(tmp_path / "run", tiny_model, tiny_data)


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
        *("config.json", "metrics.jsonl", "scores.json", "model.safetensors"),
        *("analysis.json", "analysis.png", "log.jsonl", "report.html"),
    }
    umask = os.umask(0)
    os.umask(umask)
    assert {path.stat().st_mode & 0o777 for path in folder.rglob("*") if path.is_file()} == {0o666 & ~umask}


def test_config_records_flags_versions_model_and_data(finished, tiny_model, tiny_data):
    folder, _ = finished
    config = tiny.read_json(folder / "config.json")
    dests = {action.dest for action in command_line.build_parser()._actions} - {"help", "help_all"}
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
    assert config["data_notes"][0] == f"data from {tiny_data}, as asked for"
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
    assert out.startswith(f"model: {tiny_model}, the folder {tiny_model}\n")
    assert f"\ndata from {tiny_data}, as asked for\n" in out
    assert ["quora", "37", "13", "6"] in [line.split()[:4] for line in out.splitlines()]
    plan = "plan: train everything, simultaneous, 2 epochs of 5 steps, 10 updates; "
    assert f"{plan}an epoch: sst 5 batches of 8, quora 5 batches of 8, sts 5 batches of 8\n" in out


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
            predictions = evaluation.predict(model, name, tokenizer.encode(examples.texts, 512)).values
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


def test_keep_state_keeps_the_last_weights_beside_the_best(run, tmp_path, monkeypatch):
    scores = iter([0.9, 0.1])
    monkeypatch.setattr(evaluation, "selection_score", lambda tasks, dev: next(scores))
    assert run("--keep_state").code == 0
    folder = tmp_path / "run"
    last, best = (load_file(folder / name) for name in ("last.safetensors", "model.safetensors"))
    state = torch.load(folder / "state.pt", weights_only=True)["model"]
    assert last.keys() == best.keys() == state.keys()
    assert all(torch.equal(last[name], state[name]) for name in state)
    assert not torch.equal(last["heads.sst.linear.weight"], best["heads.sst.linear.weight"])
    assert tiny.read_json(folder / "scores.json")["best_epoch"] == 1


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
    assert err == ""  # the bars are for terminals
    assert f"results in {tmp_path / 'run'}" in out
    tiny.assert_same_results(finished[0], tmp_path / "run")


def test_a_run_is_named_by_the_time_and_by_chance(tmp_path, tiny_model, tiny_data, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert tiny.script("--model", tiny_model, "--data_dir", tiny_data, "--epochs", 1).code == 0
    (folder,) = (tmp_path / "runs").iterdir()
    assert re.fullmatch(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d-[0-9a-f]{8}", folder.name)


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
    by_epoch = [name for name, *_ in writers[0].scalars if not name.startswith("step/")]
    assert len(by_epoch) == 2 * (3 + 3 + 1)


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
    assert "2 rows skipped (line 22: no value in column 'sentiment')" in line


def test_rows_over_several_lines_are_counted_and_an_open_quote_ends_it(run, data):
    with open(data / "ids-sst-train.csv", "a") as f:
        f.write('20\tsstx\t"two\nlines"\t3\n')
    done = run(data=data)
    line = next(line for line in done.out.splitlines() if line.startswith("sst train"))
    assert line.endswith(": 1 row over several lines (the first: 22 to 23)")
    with open(data / "ids-sst-train.csv", "a") as f:
        f.write('21\tssty\t"open\t3\n22\tsstz\tlost\t3\n')
    assert "ids-sst-train.csv, lines 24 to 25: a quote" in run("--run_dir", data / "run", data=data).error


def test_a_cell_of_a_megabyte_is_cut_and_counted(run, data):
    path = data / "quora-train.csv"
    path.write_text(path.read_text() + f"37\tlong\t{'good film ' * 100_000}\tbad\t1.0\n")
    done = run(data=data)
    assert done.code == 0
    line = next(line for line in done.out.splitlines() if line.startswith("quora train"))
    assert "1 cut to --max_length" in line


@pytest.mark.filterwarnings("always")
def test_a_constant_sts_prediction_scores_zero(run, data, tmp_path):
    rows = [f"{i}\tsts{i}\tthe dog\tthe cat\t{i}.0\n" for i in range(5)]
    (data / "sts-dev.csv").write_text("\tid\tsentence1\tsentence2\tsimilarity\n" + "".join(rows))
    with pytest.warns(UserWarning, match="constant prediction"):
        assert run(data=data).code == 0
    assert tiny.read_json(tmp_path / "run" / "scores.json")["dev"]["sts"]["pearson"] == 0.0


def test_a_run_too_short_for_the_clock_has_a_table(run, monkeypatch):
    monkeypatch.setattr(training.time, "monotonic", lambda: 1000.0)
    assert run("--option", "pretrain").code == 0


def test_a_task_of_ones_own_is_one_entry(tmp_path, tiny_model, monkeypatch):
    """The README's promise: an entry of TASKS is enough for reader, head, loss, metric and prediction file."""
    taste = Task("taste", "classification", ("bitter", "sweet"), ("meal",), "flavour", "accuracy",
                 {split: f"taste-{split}.csv" for split in ("train", "dev", "test")}, "csv")  # fmt: skip
    monkeypatch.setitem(TASKS, "taste", taste)
    for split, rows in (("train", 12), ("dev", 6), ("test", 4)):
        lines = ["\tid\tmeal" + ("\tflavour" if split != "test" else "")]
        for row in range(rows):
            label = "" if split == "test" else "\t" + taste.labels[row % 2]
            lines.append(f"{row}\t{split}{row}\tthe {'good' if row % 2 else 'bad'} stone{label}")
        (tmp_path / f"taste-{split}.csv").write_text("\n".join(lines) + "\n")
    run = tmp_path / "run"
    argv = ("--tasks", "taste", "--model", tiny_model, "--data_dir", tmp_path, "--run_dir", run, "--epochs", 1)
    assert tiny.script(*argv, "--option", "finetune").code == 0
    assert tiny.read_json(run / "scores.json")["dev"].keys() == {"taste"}
    lines = (run / "predictions" / "taste-test-output.csv").read_text().splitlines()
    assert lines[0] == "id \t Prediction "
    assert len(lines) == 5
