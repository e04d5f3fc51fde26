"""Where the courses look for predictions, and under which names: --predictions_dir, --fine_tune_mode, CMU's flags."""

import re

import pytest
import tiny

from datasets import TASKS, read

SMALL = ("--epochs", 1, "--lr", "1e-3")


@pytest.fixture
def run(tmp_path, tiny_model, tiny_data):
    """run(flags..., name="run") -> Outcome of a run in tmp_path / name."""

    def start(*argv, name="run"):
        flags = ("--model", tiny_model, "--data_dir", tiny_data, "--run_dir", tmp_path / name)
        return tiny.script(*flags, *SMALL, *argv)

    return start


@pytest.fixture
def bars(tmp_path, tiny_data):
    """CMU's flags for the tiny SST, whose files are written in its form, `label ||| text`."""
    flags = []
    for split in ("train", "dev", "test"):
        rows = read(TASKS["sst"], tiny_data / TASKS["sst"].files[split], split)
        labels = [0] * len(rows) if rows.labels is None else rows.labels
        path = tmp_path / f"sst-{split}.txt"
        path.write_text("".join(f"{label} ||| {text} \n" for label, (text,) in zip(labels, rows.texts, strict=True)))
        flags += [f"--{split}", path]
    return flags


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_three_tasks_are_copied_under_the_names_of_the_multitask_script(run, tmp_path):
    assert run("--predictions_dir", tmp_path / "new" / "predictions").code == 0
    copied = contents(tmp_path / "new" / "predictions")
    names = [f"{task}-{split}-output.csv" for task in ("para", "sst", "sts") for split in ("dev", "test")]
    assert sorted(copied) == names
    assert copied == contents(tmp_path / "run" / "predictions")
    assert run("--predictions_dir", tmp_path / "new" / "predictions", "--seed", 1, name="again").code == 0
    assert contents(tmp_path / "new" / "predictions") == contents(tmp_path / "again" / "predictions")


@pytest.mark.parametrize(
    ("flags", "mode"),
    [
        (("--fine-tune-mode", "last-linear-layer"), "last-linear-layer"),
        (("--fine_tune_mode", "full-model"), "full-model"),
        (("--option", "finetune"), "finetune"),
        ((), "pretrain"),
    ],
)
def test_a_task_alone_is_copied_under_the_names_of_classifier_py(run, tmp_path, flags, mode):
    """And under no other: predictions of the multitask script, which may lie there, stay."""
    place = tmp_path / "predictions"
    place.mkdir()
    (place / "sst-dev-output.csv").write_text("id \t Predicted_Sentiment \nx , 1 \n")
    assert run("--tasks", "sst", "--predictions_dir", place, *flags).code == 0
    names = [f"{mode}-sst-{split}-out.csv" for split in ("dev", "test")]
    assert sorted(contents(place)) == sorted([*names, "sst-dev-output.csv"])
    assert (place / "sst-dev-output.csv").read_text().endswith("x , 1 \n")
    assert (place / names[0]).read_bytes() == (tmp_path / "run" / "predictions" / "sst-dev-output.csv").read_bytes()


def test_a_grid_copies_the_best_attempt_s(run, tmp_path):
    place = tmp_path / "predictions"
    assert run("--lr", "1e-3,1e-9", "--tasks", "sst", "--predictions_dir", place).code == 0
    assert sorted(contents(place)) == ["pretrain-sst-dev-out.csv", "pretrain-sst-test-out.csv"]
    best = tiny.read_json(tmp_path / "run" / "grid.json")["best"]
    attempt = tmp_path / "run" / f"lr-{best:g}" / "predictions"
    assert all(content == (attempt / name).read_bytes() for name, content in contents(place).items())


def test_nothing_else_is_written_over(run, tmp_path):
    place = tmp_path / "predictions"
    place.mkdir()
    (place / "sts-dev-output.csv").write_text("my own notes")
    error = run("--predictions_dir", place).error
    assert "sts-dev-output.csv: holds something else" in error
    assert not (tmp_path / "run").exists()
    assert "cannot be written there" in run("--predictions_dir", place / "sts-dev-output.csv").error


def test_a_record_says_not_where_to_write(run, tmp_path):
    """config.json may be anybody's: to go on, the place is to be named again."""
    place = tmp_path / "predictions"
    assert run("--predictions_dir", place, "--keep_state").code == 0
    again = ("--resume", tmp_path / "run")
    assert "its record says --predictions_dir" in tiny.script(*again).error
    assert tiny.script(*again, "--predictions_dir", place).code == 0


def test_cmu_s_command_line(tmp_path, tiny_model, bars):
    """Its flags, its data and its prediction files, which its next run may replace, but no file of data."""
    out = tmp_path / "out"
    outs = ("--dev_out", out / "sst-dev-output.txt", "--test_out", out / "sst-test-output.txt")
    flags = ("--model", tiny_model, "--option", "finetune", *SMALL, *bars)
    for name in ("one", "two"):
        done = tiny.script(*flags, *outs, "--run_dir", tmp_path / name)
        assert done.code == 0, done.err
    said = (out / "sst-dev-output.txt").read_text().splitlines()
    given = (tmp_path / "sst-dev.txt").read_text().splitlines()
    assert [line.split(" ||| ")[1] for line in said] == [line.split(" ||| ")[1].strip() for line in given]
    assert all(re.match(r"[0-4] \|\|\| ", line) for line in said)
    saved = tiny.read_json(tmp_path / "one" / "config.json")["flags"]
    assert (saved["text"], saved["label"], saved["labels"]) == ("text", "label", ["0", "1", "2", "3", "4"])
    again = tiny.script("--evaluate", tmp_path / "one")
    assert again.code == 0, again.err
    assert (tmp_path / "one" / "evaluation/predictions/own-dev-output.txt").read_text().splitlines() == said
    victim = tmp_path / "sst-other.txt"
    victim.write_text("3 ||| somebody's data\n")
    refused = tiny.script(*flags, "--dev_out", victim, "--run_dir", tmp_path / "three")
    assert "holds something else" in refused.error
    refused = tiny.script(*flags, "--dev_out", bars[3], "--run_dir", tmp_path / "three")
    assert str(bars[3]) in refused.error


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("--dev_out x.txt", "--dev_out is for a run with one task, this has sst, quora, sts"),
        ("--tasks sst --dev_out x --sst_dev_out y", "--dev_out and --sst_dev_out both say where"),
        (
            "--option finetune --fine_tune_mode last-linear-layer",
            "last-linear-layer is --option pretrain",
        ),
        ("--quora_train x.csv", "--quora_train: here that is --para_train"),
        ("--tasks sst --skip_test --test_out x.txt", "--test_out is of no use with --skip_test"),
    ],
)
def test_refusals(flags, said):
    assert said in tiny.script(*flags.split()).error
