"""What a run may write to, and what never: on the word of a file, nothing outside of its folder."""

import json
import shutil

import pytest
import tiny
from kills import stopped_at
from scheme_runs import arguments

from minbert.files import UserError
from minbert.training import analysis

PREDICTIONS = "id \t Predicted_Sentiment \nx , 1 \n"
FOREIGN = "outside of it; if that may be written to, say so with --"


@pytest.fixture(autouse=True)
def _no_drawing(monkeypatch):
    monkeypatch.setattr(analysis, "draw", lambda *_: None)  # takes longer than all the rest


@pytest.fixture(scope="module")
def argv_of(tiny_model, tiny_data):
    """argv_of(folder, flags...) -> the command line of a short run in that folder."""

    def argv(folder, *flags, data=tiny_data):
        return ["--model", tiny_model, "--data_dir", data, "--run_dir", folder, *tiny.FINETUNE, "--epochs", 1, *flags]

    return argv


@pytest.fixture(scope="module")
def half_done(tmp_path_factory, argv_of):
    """A folder with a run that was stopped, "run", and a grid that was, "grid". Not to be written to."""
    home = tmp_path_factory.mktemp("half")
    stopped_at(2, *argv_of(home / "run"))
    stopped_at(7, *argv_of(home / "grid", "--lr", "1e-3,1e-2"))
    return home


@pytest.fixture
def home(half_done, tmp_path):
    return shutil.copytree(half_done, tmp_path / "home")


@pytest.fixture
def victim(tmp_path):
    path = tmp_path / "victim" / ".bashrc"
    path.parent.mkdir()
    path.write_text("years of work")
    return path


def edit(record, **flags):
    saved = tiny.read_json(record)
    saved["flags"] |= {name: str(value) for name, value in flags.items()}
    record.write_text(json.dumps(saved))


# -------------------------------------------------------------------------------------------- on the word of a file


@pytest.mark.parametrize("there", [True, False], ids=["a file", "no file"])
@pytest.mark.parametrize("what", ["run", "grid"])
def test_an_output_that_a_record_names_is_not_written(home, victim, what, there):
    if not there:
        victim.unlink()
    edit(home / what / ("grid.json" if what == "grid" else "config.json"), sst_dev_out=victim, run_dir=victim.parent)
    line = tiny.script("--resume", home / what).error
    assert line.startswith(
        f"error: {home / what}: its record says --sst_dev_out {victim}, which is {FOREIGN}sst_dev_out"
    )
    assert [path.read_text() for path in victim.parent.iterdir()] == ["years of work"] * there


def test_nor_is_one_that_an_attempt_s_record_names(home, victim):
    edit(home / "grid" / "lr-0.01" / "config.json", sst_dev_out=victim)
    assert tiny.script("--resume", home / "grid").code == 0
    assert victim.read_text() == "years of work"


def test_an_output_that_is_named_again_is_written(home, tmp_path):
    out = tmp_path / "mine.csv"
    edit(home / "run" / "config.json", sst_dev_out=out, sts_dev_out=home / "run" / "own" / "sts.csv")
    assert FOREIGN in tiny.script("--resume", home / "run", "--sts_dev_out", tmp_path / "sts.csv").error
    done = tiny.script("--resume", home / "run", "--sst_dev_out", out)
    assert done.code == 0, done.err
    assert out.read_text().startswith("id \t ")
    assert (home / "run" / "own" / "sts.csv").read_text().startswith("id \t ")  # in the run, so nobody has to ask


def test_an_output_may_be_named_anew(home, tmp_path):
    edit(home / "run" / "config.json", sst_dev_out="/nowhere/any/more.csv")
    assert tiny.script("--resume", home / "run", "--sst_dev_out", tmp_path / "new.csv").code == 0
    assert (tmp_path / "new.csv").is_file()


def test_plain_models_are_not_trained_where_a_record_says(tmp_path, tiny_model, tiny_data, victim):
    argv = arguments(tiny_model, tiny_data, tiny.make_glue_data(tmp_path / "glue"), tmp_path / "run", "soft_predicted")
    stopped_at(2, *argv)
    edit(tmp_path / "run" / "config.json", plain_dir=victim.parent)
    assert f"{FOREIGN}plain_dir" in tiny.script("--resume", tmp_path / "run").error
    assert [path.name for path in victim.parent.iterdir()] == [".bashrc"]
    done = tiny.script("--resume", tmp_path / "run", "--plain_dir", tmp_path / "plain_models")
    assert done.code == 0, done.err


@pytest.mark.parametrize("name", ["predictions", "bert"])
def test_a_link_in_a_run_does_not_lead_out_of_it(home, tiny_model, tmp_path, name):
    outside = shutil.copytree(tiny_model, tmp_path / "outside")
    before = {path.name: path.read_bytes() for path in outside.iterdir()}
    (home / "run" / name).symlink_to(outside)
    assert f"{home / 'run' / name}: a link to a folder outside" in tiny.script("--resume", home / "run").error
    assert {path.name: path.read_bytes() for path in outside.iterdir()} == before
    (home / "run" / name).unlink()
    assert tiny.script("--resume", home / "run").code == 0
    (home / "run" / "evaluation").symlink_to(tmp_path / "home")
    assert "a link to a folder outside" in tiny.script("--evaluate", home / "run").error
    assert {path.name for path in home.iterdir()} == {"run", "grid"}


# ---------------------------------------------------------------------------------------------- what a kill left

HALF = ".abcd_123.part"


def test_what_a_kill_left_half_written_goes_and_nothing_else(home, tmp_path):
    out = tmp_path / "out" / "sst.csv"
    (home / "run" / "predictions").mkdir(exist_ok=True)
    left = [home / "run" / f".state.pt{HALF}", home / "run" / "predictions" / f".sts-dev-output.csv{HALF}"]
    left += [home / "grid" / f".grid.json{HALF}", home / "grid" / "lr-0.01" / f".x{HALF}"]
    left += [out.with_name(f".sst.csv{HALF}")]
    kept = [home / "run" / ".movie.part", home / "run" / "mine" / f".thesis{HALF}", out.with_name(f".sts.csv{HALF}")]
    for path in left + kept:
        path.parent.mkdir(exist_ok=True)
        path.write_text("half")
    assert tiny.script("--resume", home / "run", "--sst_dev_out", out).code == 0
    assert tiny.script("--resume", home / "grid").code == 0
    assert not [path for path in left if path.exists()]
    assert all(path.exists() for path in kept)


@pytest.mark.parametrize(("rates", "record"), [("1e-3", "config.json"), ("1e-3,1e-9", "grid.json")])
def test_a_new_run_takes_away_its_own_alone(tmp_path, argv_of, rates, record):
    (tmp_path / "run").mkdir()
    for name in (f".{record}{HALF}", ".movie.part", f".thesis{HALF}"):
        (tmp_path / "run" / name).write_text("half")
    assert tiny.script(*argv_of(tmp_path / "run", "--lr", rates)).code == 0
    assert {path.name for path in (tmp_path / "run").glob(".*")} == {".movie.part", f".thesis{HALF}"}


# -------------------------------------------------------------------------------------------------- over other files


def test_only_a_prediction_file_is_replaced(tmp_path, argv_of, victim):
    line = tiny.script(*argv_of(tmp_path / "run", "--sst_dev_out", victim)).error
    assert line.startswith(f"error: {victim}: holds something else, which would be lost; choose another file")
    assert victim.read_text() == "years of work"
    assert not (tmp_path / "run").exists()
    for content in (PREDICTIONS, ""):
        victim.write_text(content)
        shutil.rmtree(tmp_path / "run", ignore_errors=True)
        assert tiny.script(*argv_of(tmp_path / "run", "--sst_dev_out", victim)).code == 0
        assert victim.read_text().startswith("id \t Predicted_Sentiment \nsstdev0000 , ")


def test_a_file_that_comes_to_be_while_it_trains_is_not_replaced(tmp_path, argv_of, victim, monkeypatch):
    content = victim.read_text()
    victim.unlink()
    step = tiny.multitask_classifier.train_to_the_end

    def write_first(*arguments):
        victim.write_text(content)
        step(*arguments)

    main = tiny.multitask_classifier
    monkeypatch.setattr(main, "train_to_the_end", write_first)
    options = tiny.options_of(*argv_of(tmp_path / "run", "--sst_dev_out", victim))
    with pytest.raises(UserError, match="holds something else"):
        main.train_one(options)
    assert victim.read_text() == content


@pytest.mark.parametrize("name", ["ids-sst-dev.csv", "quora-train.csv", "sts-test-student.csv"])
def test_an_output_does_not_take_an_input_s_place(tmp_path, argv_of, data, name):
    before = (data / name).read_bytes()
    assert "error: " in tiny.script(*argv_of(tmp_path / "run", "--sst_dev_out", data / name, data=data)).error
    assert (data / name).read_bytes() == before
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("spelled", ["x.csv", "../data/x.csv", "link.csv"])
def test_not_even_one_that_looks_like_predictions(tmp_path, argv_of, data, spelled):
    rows = (data / "ids-sst-dev.csv").read_text().splitlines()[1:]
    lines = ["id \t sentence\tsentiment", *(row.split("\t", 1)[1] for row in rows)]
    (data / "x.csv").write_text("\n".join(lines) + "\n")
    (data / "link.csv").symlink_to(data / "x.csv")
    before = (data / "x.csv").read_bytes()
    flags = ("--sst_dev", data / "x.csv", "--sst_test_out", data / spelled)
    line = tiny.script(*argv_of(tmp_path / "run", *flags, data=data)).error
    assert line == f"error: --sst_test_out {data / spelled}: the run reads that file; choose another one to write"
    assert (data / "x.csv").read_bytes() == before


def test_a_grid_s_output_is_that_of_its_best_attempt(tmp_path, argv_of):
    out = tmp_path / "sst.csv"
    folder = tmp_path / "grid"
    assert tiny.script(*argv_of(folder, "--lr", "1e-3,1e-9", "--sst_dev_out", out)).code == 0
    assert tiny.read_json(folder / "grid.json")["best"] == 1e-3
    said = [folder / f"lr-{rate}" / "predictions" / "sst-dev-output.csv" for rate in ("0.001", "1e-09")]
    assert said[0].read_bytes() != said[1].read_bytes()
    assert out.read_bytes() == said[0].read_bytes()
