"""What follows a run: --init, which trains on from it, --evaluate, --predict with its files, and minbert.load."""

import io
import itertools
import json
import shutil
import signal
import subprocess
import sys
import time

import pytest
import tiny
import torch
from safetensors.torch import load_file

import minbert
from datasets import FIVE_STARS, TASKS, read
from minbert import evaluation
from minbert.files import UserError
from minbert.training.run_folder import find_model
from multitask_classifier import build_model

pytestmark = pytest.mark.filterwarnings("ignore:a constant prediction")  # of so few examples
CHOICES = ("--pairs", "absdiff", "--pooling", "mean", "--sts_head", "ordinal6", "--sst_head", "coral")
RUNS = {"fused": tiny.FINETUNE, "separate": ("--option", "pretrain", "--epochs", 2, "--lr", "1e-2", *CHOICES)}


@pytest.fixture(scope="module")
def run(tmp_path_factory, tiny_data):
    """run(flags...) -> (the folder of a finished run, its Outcome)."""
    folder, numbers = tmp_path_factory.mktemp("runs"), itertools.count()

    def finished(*flags):
        run_dir = folder / str(next(numbers))
        done = tiny.script("--data_dir", tiny_data, "--run_dir", run_dir, *flags)
        assert done.code == 0, done.err
        return run_dir, done

    return finished


@pytest.fixture(scope="module", params=RUNS)
def saved(run, request, tiny_model):
    """The folder of a finished run. Not to be written to, but for its `evaluation`."""
    folder, _ = run("--model", tiny_model, *RUNS[request.param])
    return folder


@pytest.fixture(scope="module")
def heads_first(run, tiny_model):
    """The folder of a run that trained the heads on a frozen trunk. Not to be written to."""
    folder, _ = run("--model", tiny_model, "--option", "pretrain", "--epochs", 1, "--lr", "1e-2")
    return folder


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# ----------------------------------------------------------------------------------------------------------- --init


def built(*flags):
    """The model that a run with these flags begins with, {name: tensor}."""
    options = tiny.options_of(*flags)
    return build_model(find_model(options.model), options).state_dict()


def test_init_begins_with_the_trunk_and_the_heads_of_the_run(heads_first, tiny_model, capsys):
    found, saved = built("--init", heads_first), load_file(heads_first / "model.safetensors")
    assert capsys.readouterr().out == f"weights of {heads_first}\n"
    assert found.keys() == saved.keys()
    assert all(torch.equal(found[name], saved[name]) for name in found)
    fresh = built("--model", tiny_model)
    assert all(torch.equal(found[name], fresh[name]) == name.startswith("bert.") for name in found)


def test_init_leaves_a_head_of_another_shape_fresh_and_says_so(heads_first, tiny_model, capsys):
    flags = ("--sts_head", "classification", "--tasks", "cfimdb,sst", "--also_score", "quora,sts")
    found, saved = built("--init", heads_first, *flags), load_file(heads_first / "model.safetensors")
    assert capsys.readouterr().out == f"weights of {heads_first}; fresh heads for cfimdb, sts\n"
    fresh = built("--model", tiny_model, *flags)
    assert found.keys() == fresh.keys()
    for name, value in found.items():
        expected = fresh if name.startswith(("heads.cfimdb.", "heads.sts.")) else saved
        assert torch.equal(value, expected[name]), name


def test_init_leaves_out_the_heads_of_other_tasks(heads_first):
    found, saved = built("--init", heads_first, "--tasks", "cfimdb"), load_file(heads_first / "model.safetensors")
    assert {name.split(".")[1] for name in found if name.startswith("heads.")} == {"cfimdb"}
    assert all(torch.equal(value, saved[name]) for name, value in found.items() if name.startswith("bert."))


def test_heads_first_then_all_is_two_commands(run, heads_first, tiny_model):
    before = contents(heads_first)
    folder, done = run("--init", heads_first, *tiny.FINETUNE)
    assert contents(heads_first) == before
    assert f"model: {heads_first / 'bert'}, the best epoch of {heads_first}\n" in done.out
    assert f"weights of {heads_first}\n" in done.out
    first, second = (load_file(path / "bert" / "model.safetensors") for path in (heads_first, folder))
    at_first = load_file(tiny_model / "model.safetensors")
    assert all(torch.equal(first[name], at_first[name]) for name in first)
    assert not any(torch.equal(second[name], first[name]) for name in second if "weight" in name)
    fresh, _ = run("--model", tiny_model, *tiny.FINETUNE)
    assert tiny.metrics(folder)[0]["loss"] != tiny.metrics(fresh)[0]["loss"]


# ------------------------------------------------------------------------------------------------------- --evaluate


def test_evaluate_finds_the_scores_and_the_predictions_of_the_run(saved):
    before = contents(saved)
    done = tiny.script("--evaluate", saved)
    assert done.code == 0, done.err
    after = contents(saved)
    assert {name: after.pop(name) for name in before} == before
    one, two = (tiny.read_json(folder / "scores.json") for folder in (saved, saved / "evaluation"))
    assert set(two) == {"mean", "score", "dev", "baseline"}
    assert two == {name: one[name] for name in two}
    same = {name for name in before if name.startswith(("predictions/", "analysis"))}
    assert set(after) == {f"evaluation/{name}" for name in same | {"scores.json"}}
    assert {name: after[f"evaluation/{name}"] for name in same} == {name: before[name] for name in same}
    assert f"sst     accuracy  {one['dev']['sst']['accuracy']:8.3f}" in done.out


def test_evaluate_on_other_data_into_another_folder(saved, tmp_path):
    data = tiny.make_data(tmp_path / "data", seed=5)
    done = tiny.script("--evaluate", saved, "--data_dir", data, "--dev_limit", "quora=4", "--run_dir", tmp_path / "out")
    assert done.code == 0, done.err
    assert tiny.read_json(tmp_path / "out" / "scores.json")["dev"] != tiny.read_json(saved / "scores.json")["dev"]
    predictions = (tmp_path / "out" / "predictions" / "para-dev-output.csv").read_text()
    assert len(predictions.splitlines()) == 1 + 4


def test_evaluate_overwrites_no_run(saved, heads_first):
    before = contents(heads_first)
    for folder in (saved, heads_first):
        assert "scores would be lost" in tiny.script("--evaluate", saved, "--run_dir", folder).error
    assert contents(heads_first) == before


def test_evaluate_needs_and_changes_nothing_outside(run, tiny_model, tmp_path):
    """Neither the run that this one began with, nor its prediction files, which belong to the run itself."""
    first, _ = run("--model", tiny_model, "--option", "pretrain", "--epochs", 1)
    outside = tmp_path / "mine.csv"
    folder, _ = run("--init", first, "--option", "pretrain", "--epochs", 1, "--sst_dev_out", outside)
    first.rename(tmp_path / "elsewhere")
    said = outside.read_bytes()
    outside.write_text("mine")
    done = tiny.script("--evaluate", folder)
    assert done.code == 0, done.err
    assert outside.read_text() == "mine"
    assert (folder / "evaluation" / "predictions" / "sst-dev-output.csv").read_bytes() == said


def test_evaluate_knows_the_tasks_of_the_run(run, tiny_model, tmp_path):
    folder, _ = run("--model", tiny_model, "--option", "pretrain", "--epochs", 1, "--tasks", "cfimdb")
    done = tiny.script("--evaluate", folder, "--dev_limit", "cfimdb=3", "--run_dir", tmp_path / "out")
    assert done.code == 0, done.err
    assert list(tiny.read_json(tmp_path / "out" / "scores.json")["dev"]) == ["cfimdb"]
    names = {path.name for path in (tmp_path / "out" / "predictions").iterdir()}
    assert {"cfimdb-dev-output.csv", "pretrain-cfimdb-dev-out.csv"} <= names
    assert "--dev_limit names sst" in tiny.script("--evaluate", folder, "--dev_limit", "sst=3").error


def test_skip_test_leaves_the_test_predictions_to_evaluate(run, tiny_model):
    flags = ("--model", tiny_model, "--option", "pretrain", "--epochs", 1)
    (folder, _), (whole, _) = run(*flags, "--skip_test"), run(*flags)
    one, two = contents(folder / "predictions"), contents(whole / "predictions")
    assert one == {name: content for name, content in two.items() if "-test-" not in name} != two
    assert tiny.read_json(folder / "scores.json")["dev"] == tiny.read_json(whole / "scores.json")["dev"]
    assert tiny.script("--evaluate", folder).code == 0
    assert contents(folder / "evaluation" / "predictions") == two


# -------------------------------------------------------------------------------------------- --predict and --input


def of_dev(data, task, folder, row):
    """(the line to ask, the value that the run predicted) of a row of a dev set."""
    path = data / TASKS[task].files["dev"]
    cells = path.read_text(encoding="utf-8").splitlines()[1 + row].split("\t")
    short = {"quora": "para"}.get(task, task)
    told = (folder / "predictions" / f"{short}-dev-output.csv").read_text().splitlines()[1 + row]
    return "\t".join(cells[2:-1]), float(told.split(" , ")[1])


def test_predict_says_what_each_head_of_the_run_said_of_its_dev_set(saved, tiny_data, tmp_path):
    for row in range(4):
        asked = {task: of_dev(tiny_data, task, saved, row) for task in ("sst", "quora", "sts")}
        (tmp_path / "lines").write_text("\n".join(line for line, _ in asked.values()), encoding="utf-8")
        done = tiny.script("--predict", saved, "--input", tmp_path / "lines")
        assert done.code == 0, done.err
        sst, quora, sts = (line.replace("\t", " | ") for line, _ in asked.values())
        answers = done.out[done.out.index(sst) :].splitlines()
        assert [line for line in answers if not line.startswith("    ")] == [sst, quora, sts]
        heads = [line.split()[0] for line in answers if line.startswith("    ")]
        assert heads == ["sst", "quora", "sts", "quora", "sts"]
        assert answers[1].split(maxsplit=1)[1].startswith(FIVE_STARS[int(asked["sst"][1])] + " ")
        assert answers[3].split()[1] == TASKS["quora"].labels[int(asked["quora"][1])]
        assert answers[7].split()[1] == f"{asked['sts'][1]:.2f}"


class Terminal(io.BytesIO):
    """Somebody types these lines: `seen` is what stood on the screen before each."""

    def __init__(self, text):
        super().__init__(text.encode())
        self.seen = []

    buffer = property(lambda self: self)

    def isatty(self):
        return True

    def readline(self, most=-1):
        self.seen.append(sys.stdout.getvalue())
        return super().readline(most)


def test_input_is_a_file_or_what_is_typed(saved, tmp_path, monkeypatch):
    text = "a good film\nthe dog can run\tone cat\n"
    (tmp_path / "lines").write_text(text)
    of_file = tiny.script("--predict", saved, "--input", tmp_path / "lines")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    piped = tiny.script("--predict", saved)
    assert (piped.code, piped.out) == (0, of_file.out)
    monkeypatch.setattr(sys, "stdin", typed := Terminal(text))
    assert tiny.script("--predict", saved).out == of_file.out
    assert "a good film\n    sst" in typed.seen[1]  # answered before the next line is read


def test_format_is_the_same_on_the_screen_and_in_a_file(saved, tmp_path):
    (tmp_path / "lines").write_text("a good film\nthe dog can run\tone cat\n")
    for form in ("text", "json", "tsv"):
        asked = ("--predict", saved, "--input", tmp_path / "lines", "--format", form)
        done = tiny.script(*asked, "--output", tmp_path / form)
        assert (done.code, done.out) == (0, f"{tmp_path / form}: 2 lines answered\n"), done.err
        assert tiny.script(*asked).out == (tmp_path / form).read_text()


def test_a_reader_that_goes_away_is_no_error(saved):
    """`| head`"""
    reading = tiny.start("--predict", saved, "--format", "json", stdin=subprocess.PIPE)
    reading.stdin.write("a good film\n" * 1000)
    reading.stdin.flush()
    assert json.loads(reading.stdout.readline())["line"] == 1
    reading.stdout.close()
    reading.stdin.write("a good film\n" * 1000)
    reading.stdin.close()
    assert (reading.wait(), reading.stderr.read()) == (141, "")


def test_output_is_not_there_after_ctrl_c(saved, tmp_path):
    writing = tiny.start("--predict", saved, "--output", tmp_path / "out.txt", stdin=subprocess.PIPE)
    writing.stdin.write("a good film\n" * 1000)
    writing.stdin.flush()
    while not any(path.stat().st_size for path in tmp_path.iterdir()):
        time.sleep(0.01)
    writing.send_signal(signal.SIGINT)
    assert (writing.wait(), writing.stderr.read()) == (130, "interrupted\n")
    assert not [*tmp_path.iterdir()]


# ---------------------------------------------------------------------------------------------------- minbert.load


def test_the_api_says_what_the_run_and_its_prediction_files_say(saved, tiny_data):
    model = minbert.load(saved)
    assert list(model.tasks) == ["sst", "quora", "sts"]
    examples = {name: read(task, tiny_data / task.files["dev"], "dev") for name, task in model.tasks.items()}
    said = model.predict([text for (text,) in examples["sst"].texts])
    assert list(said) == ["sst"]
    scores = tiny.read_json(saved / "scores.json")["dev"]
    hits = [a == FIVE_STARS[b] for a, b in zip(said["sst"].labels, examples["sst"].labels, strict=True)]
    assert sum(hits) / len(hits) == scores["sst"]["accuracy"]
    similar = model.predict(examples["sts"].texts)["sts"].scores
    assert evaluation.pearson(similar, examples["sts"].labels) == pytest.approx(scores["sts"]["pearson"], abs=1e-6)


def test_the_api_needs_a_finished_run(tmp_path):
    with pytest.raises(UserError, match="no finished run is there"):
        minbert.load(tmp_path)
    with pytest.raises(ImportError, match="cannot import name 'save'"):
        from minbert import save  # noqa: F401


# --------------------------------------------------------------------------------------------------------- mistakes


@pytest.mark.parametrize("flag", ["--init", "--evaluate", "--predict"])
@pytest.mark.parametrize("missing", ["all", "bert", "model.safetensors"])
def test_a_run_that_is_not_finished_is_refused(heads_first, tiny_data, tmp_path, flag, missing):
    run = tmp_path / "run"
    if missing != "all":
        run.mkdir()
        for name in {"config.json", "model.safetensors"} - {missing}:
            (run / name).write_bytes((heads_first / name).read_bytes())
    more = ("--data_dir", tiny_data, "--run_dir", tmp_path / "new") if flag == "--init" else ()
    assert f"{run}: no finished run is there" in tiny.script(flag, run, *more).error
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("flag", ["--evaluate", "--predict"])
def test_flags_of_a_wrong_type_are_refused(heads_first, tmp_path, flag):
    run = shutil.copytree(heads_first, tmp_path / "run")
    config = tiny.read_json(run / "config.json")
    (run / "config.json").write_text(json.dumps({**config, "flags": {**config["flags"], "pooling": ["cls"]}}))
    assert f"{run}: its record says --pooling ['cls']" in tiny.script(flag, run).error


@pytest.mark.parametrize("flag", ["--init", "--evaluate", "--predict"])
def test_damaged_weights_are_refused(heads_first, tiny_data, tmp_path, flag):
    for name, content in contents(heads_first).items():
        (tmp_path / "run" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "run" / name).write_bytes(content[:1000] if name == "model.safetensors" else content)
    more = ("--data_dir", tiny_data, "--run_dir", tmp_path / "new") if flag == "--init" else ()
    assert "not a whole safetensors file, damaged" in tiny.script(flag, tmp_path / "run", *more).error


def test_input_that_is_not_there(heads_first, tmp_path):
    assert "none.txt: cannot be read" in tiny.script("--predict", heads_first, "--input", tmp_path / "none.txt").error


def test_input_without_a_line_end(heads_first):
    done = tiny.script("--predict", heads_first, "--input", "/dev/zero")
    assert "/dev/zero, line 1: longer than 16 MiB" in done.error
