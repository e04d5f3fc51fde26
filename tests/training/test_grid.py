"""A grid of learning rates: which attempt is kept, what its folder is good for, and kills in the middle of it."""

import contextlib
import json
import shutil
from pathlib import Path

import pytest
import tiny
from kills import killed_before_rename, stopped_at

from minbert.files import UserError
from minbert.training import analysis
from minbert.training.loop import Loop
from minbert.training.run_folder import GRID as RECORD
from minbert.training.scoring import DevExam

BONUS = {1e-3: 2, 1e-4: 4, 1e-2: 0}  # on the dev score, which is from 0 to 1: who wins is no matter of chance
RATES = {"lr-0.001": 1e-3, "lr-0.0001": 1e-4, "lr-0.01": 1e-2}  # folder of the attempt -> its rate, in the grid's order
GRID = ("--lr", "1e-3,1e-4,1e-2")


def prepare(patch):
    """Give each rate its bonus, and draw nothing, which takes longer than all the rest."""
    score = DevExam.score

    def scored(exam, loop):
        found = score(exam, loop)
        return found | {"selection_score": found["selection_score"] + BONUS.get(loop.settings.lr, 0)}

    patch.setattr(DevExam, "score", scored)
    patch.setattr(analysis, "draw", lambda *_: None)


@pytest.fixture(autouse=True)
def _prepared(monkeypatch):
    prepare(monkeypatch)


@pytest.fixture(scope="module")
def argv_of(tiny_model, tiny_data):
    """argv_of(folder, flags...) -> the command line of a short run, or grid, in that folder."""
    flags = ("--model", tiny_model, "--data_dir", tiny_data, "--option", "finetune", "--epochs", 2)
    limits = ("--limit", "quora=16,sst=16", "--checkpoint_minutes", 1e-9, "--keep_state")
    return lambda folder, *more: [*flags, *limits, "--run_dir", folder, *more]


@contextlib.contextmanager
def fits():
    """The folders in which something is trained meanwhile, one entry for each Trainer with steps to do."""
    seen, epoch = [], Loop._train_epoch

    def watched(loop):
        if seen[-1:] != [loop.folder.name]:
            seen.append(loop.folder.name)
        return epoch(loop)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Loop, "_train_epoch", watched)
        yield seen


@pytest.fixture(scope="module")
def finished(tmp_path_factory, argv_of):
    """(folder, Outcome, what was trained) of an unbroken grid. Not to be written to."""
    folder = tmp_path_factory.mktemp("finished") / "grid"
    with pytest.MonkeyPatch.context() as patch, fits() as seen:
        prepare(patch)
        done = tiny.script(*argv_of(folder, *GRID))
    assert done.code == 0, done.err
    return folder, done, seen


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def scores_of(folder):
    return {name: tiny.read_json(folder / name / "scores.json")["selection_score"] for name in RATES}


# ---------------------------------------------------------------------------------------------- which one is kept


def test_lr_of_several_rates_trains_at_each_and_keeps_the_best(finished, tmp_path, argv_of):
    folder, done, seen = finished
    assert seen == list(RATES)
    scores = scores_of(folder)
    best = "lr-0.0001"  # neither the first nor the last
    assert sorted(scores, key=scores.get) == ["lr-0.01", "lr-0.001", best]
    tiny.assert_same_results(folder, folder / best)
    record = tiny.read_json(folder / RECORD)
    assert record["best"] == RATES[best]
    attempts = {name: tiny.read_json(folder / name / "scores.json") for name in RATES}
    assert record["attempts"] == {name.removeprefix("lr-"): said for name, said in attempts.items()}
    assert list(record["attempts"]) == [name.removeprefix("lr-") for name in RATES]
    assert f"best rate {RATES[best]:g} (dev scores: 0.001 {scores['lr-0.001']:.3f}, 0.0001 " in done.out
    alone = tmp_path / "alone"  # an attempt is what the same command with one rate makes
    assert tiny.script(*argv_of(alone, "--lr", RATES[best])).code == 0
    tiny.assert_same_results(alone, folder / best)


def test_the_config_of_the_grid_says_what_was_asked_for_and_what_was_chosen(finished):
    folder, _, _ = finished
    best = tiny.read_json(folder / RECORD)["best"]
    config = tiny.read_json(folder / "config.json")
    assert config["flags"] == tiny.read_json(folder / RECORD)["flags"]
    assert (config["flags"]["lr"], config["rate"]) == (list(RATES.values()), best)
    attempt = tiny.read_json(folder / f"lr-{best:g}" / "config.json")
    assert {name: config[name] for name in ("model", "data")} == {name: attempt[name] for name in ("model", "data")}
    assert not (folder / "state.pt").exists()  # the grid has no state of its own to go on from


@pytest.mark.parametrize(
    ("scores", "best"), [([0.5, 0.75, 0.75], 1), ([0.5, 0.5, 0.5], 0), ([0.25, 0.5, 0.75], 2), ([-0.5, -0.25, -1], 1)]
)
def test_the_best_dev_score_wins_and_the_first_of_equals(finished, tmp_path, scores, best):
    """The attempts are done already; only what they came to is changed."""
    folder = shutil.copytree(finished[0], tmp_path / "grid")
    for name, score in zip(RATES, scores, strict=True):
        said = tiny.read_json(folder / name / "scores.json") | {"selection_score": score, "told": name}
        (folder / name / "scores.json").write_text(json.dumps(said))
    with fits() as seen:
        done = tiny.script("--resume", folder)
    assert (done.code, seen) == (0, [])
    assert tiny.read_json(folder / RECORD)["best"] == [*RATES.values()][best]
    assert tiny.read_json(folder / "scores.json")["told"] == [*RATES][best]
    for name in ("model.safetensors", "last.safetensors", "bert/model.safetensors", "predictions/sst-dev-output.csv"):
        assert (folder / name).read_bytes() == (folder / [*RATES][best] / name).read_bytes()


def test_one_rate_is_no_grid(tmp_path, argv_of):
    assert tiny.parse("--lr", "1e-3").lr == 1e-3
    assert tiny.script(*argv_of(tmp_path / "run", "--lr", "1e-3", "--epochs", 1)).code == 0
    assert not (tmp_path / "run" / RECORD).exists()
    assert not list((tmp_path / "run").glob("lr-*"))


# --------------------------------------------------------------------------------------- what the folder is good for


def test_the_folder_of_a_grid_is_that_of_a_run(finished, tmp_path, tiny_data):
    folder = shutil.copytree(finished[0], tmp_path / "grid")
    before = contents(folder)
    done = tiny.script("--evaluate", folder)
    assert done.code == 0, done.err
    said, saved = tiny.read_json(folder / "evaluation" / "scores.json"), tiny.read_json(folder / "scores.json")
    assert said["dev"] == saved["dev"]
    assert said["mean"] == saved["mean"]
    for path in (folder / "predictions").iterdir():
        assert (folder / "evaluation" / "predictions" / path.name).read_bytes() == path.read_bytes()
    assert {name: content for name, content in contents(folder).items() if "evaluation" not in name} == before

    (tmp_path / "lines").write_text("a good film\nthe dog can run\tone cat\n")
    best = f"lr-{tiny.read_json(folder / RECORD)['best']:g}"
    answers = [tiny.script("--predict", run, "--input", tmp_path / "lines").out for run in (folder, folder / best)]
    assert answers[0] == answers[1]
    assert "a good film\n    sst " in answers[0]


def test_a_run_may_begin_with_the_best_of_a_grid(finished, tmp_path, tiny_data):
    folder, _, _ = finished
    flags = ("--data_dir", tiny_data, "--run_dir", tmp_path / "run", "--epochs", 1, "--tasks", "cfimdb")
    done = tiny.script("--init", folder, *flags)
    assert done.code == 0, done.err
    assert f"weights of {folder}; fresh heads for cfimdb" in done.out


# ------------------------------------------------------------------------------------------------ kills and resuming


def test_a_grid_killed_at_any_of_its_own_files_goes_on(finished, tmp_path, argv_of):
    """Between the end of the last attempt and the end of the grid."""
    files = killed_before_rename(0, *argv_of(tmp_path / "all", *GRID))
    own = [name for name in files if "/lr-" not in name][1:]  # the first is grid.json before any attempt
    assert len(own) > 10
    for number in range(1, len(own) + 1):
        folder = shutil.copytree(finished[0], tmp_path / str(number))
        for name in own:
            Path(name.replace(str(tmp_path / "all"), str(folder))).unlink(missing_ok=True)
        known = tiny.read_json(finished[0] / RECORD)
        begun = {name: value for name, value in known.items() if name not in ("best", "attempts")}
        (folder / RECORD).write_text(json.dumps(begun))
        with fits() as seen:
            assert len(killed_before_rename(number, "--resume", folder)) == number - 1
            done = tiny.script("--resume", folder)
        assert (done.code, seen) == (0, [])
        assert tiny.read_json(folder / RECORD) == known
        same, whole = contents(folder), contents(finished[0])
        assert same.pop("report.html") != whole.pop("report.html")  # it has the folder's name
        assert same == whole


def test_an_attempt_killed_between_its_last_files_is_finished_first(finished, tmp_path, argv_of):
    argv = argv_of(tmp_path / "all", *GRID)
    files = killed_before_rename(0, *argv)
    first = [i for i, name in enumerate(files, start=1) if "/lr-0.001/" in name]
    for number in first[-4:]:  # the trunk and the scores
        folder = tmp_path / str(number)
        killed_before_rename(number, *argv_of(folder, *GRID))
        assert not (folder / "lr-0.0001").exists()
        assert tiny.script("--resume", folder).code == 0
        assert contents(folder).keys() == contents(finished[0]).keys()
        tiny.assert_same_results(folder / "lr-0.001", finished[0] / "lr-0.001")


def test_a_kill_before_the_first_file_leaves_a_folder_that_may_be_used_again(tmp_path, argv_of):
    argv = argv_of(tmp_path / "grid", "--lr", "1e-3,1e-2", "--epochs", 1)
    assert killed_before_rename(1, *argv) == []
    assert sorted(path.suffix for path in (tmp_path / "grid").iterdir()) == ["", ".part"]  # the lock's file, and half
    assert tiny.script(*argv, "--resume").code == 0
    assert not list((tmp_path / "grid").rglob(".*"))


def comparable(folder):
    """What a grid's record says, times and places aside."""
    record = tiny.read_json(folder / RECORD)
    for said in record["attempts"].values():
        said.update(dict.fromkeys(tiny.TIMES, 0))
    return {**record, "flags": {**record["flags"], "run_dir": ""}}


@pytest.mark.parametrize("again", ["the same line", "the folder alone"])
@pytest.mark.parametrize(
    ("update", "where", "done_before"),
    [(3, "epoch 2 after 1", 0), (6, "epoch 1 after 2", 1), (11, "epoch 2 after 1", 2)],
)
def test_a_grid_that_was_stopped_goes_on_without_repeating(
    finished, tmp_path, argv_of, update, where, done_before, again
):
    folder, argv = tmp_path / "grid", argv_of(tmp_path / "grid", *GRID)
    stopped = stopped_at(update, *argv)
    assert f"stopped in {where} of 2 steps" in stopped.out
    done_names, left = [*RATES][:done_before], [*RATES][done_before:]
    before = {name: contents(folder / name) for name in done_names}
    with fits() as seen:
        done = tiny.script(*argv, "--resume") if again == "the same line" else tiny.script("--resume", folder)
    assert done.code == 0, done.err
    assert seen == left
    assert {name: contents(folder / name) for name in done_names} == before
    assert comparable(folder) == comparable(finished[0])
    tiny.assert_same_results(folder, finished[0])


# ---------------------------------------------------------------------------------------------------------- mistakes


@pytest.mark.parametrize("rates", ["1e-3,", "1e-3,fast", "1e-3,0", ",", "1e-3,-1", "1e-3;1e-2"])
def test_rates_that_are_none(rates):
    with pytest.raises(UserError, match="--lr"):
        tiny.parse("--lr", rates)


def test_a_rate_given_twice_is_one_attempt(tmp_path, argv_of):
    with fits() as seen:
        done = tiny.script(*argv_of(tmp_path / "grid", "--lr", "1e-3,0.001", "--epochs", 1))
    assert (done.code, seen) == (0, ["lr-0.001"])


def test_other_flags_than_the_grid_s_are_refused(finished, tmp_path, argv_of):
    folder = shutil.copytree(finished[0], tmp_path / "grid")
    before = contents(folder)
    for change in (("--lr", "1e-3,1e-2"), ("--lr", "1e-3"), ("--epochs", 3), ("--seed", 1)):
        line = tiny.script(*argv_of(folder, *GRID, *change), "--resume").error
        assert f"error: {change[0]} " in line
        assert "the run to resume " in line
    assert contents(folder) == before


def test_a_folder_in_use_is_refused(finished, tmp_path, argv_of):
    folder = shutil.copytree(finished[0], tmp_path / "grid")
    before = contents(folder)
    assert "continue that grid with --resume" in tiny.script(*argv_of(folder, *GRID)).error
    assert f"{folder} exists" in tiny.script(*argv_of(folder, "--lr", "1e-3")).error
    assert contents(folder) == before


def test_a_run_is_no_grid_to_resume(finished, tmp_path, argv_of):
    attempt = shutil.copytree(finished[0] / "lr-0.001", tmp_path / "run")
    assert "no grid to continue" in tiny.script("--resume", attempt, *GRID).error
    assert f"no {RECORD} there" in tiny.script("--resume", tmp_path / "nowhere", *GRID).error


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", {"versions": "2.13"}, {"machine": {"threads": "2"}}], ids=str)
def test_a_damaged_record(finished, tmp_path, content):
    folder = shutil.copytree(finished[0], tmp_path / "grid")
    if isinstance(content, dict):
        content = json.dumps({**tiny.read_json(folder / RECORD), **content})
    (folder / RECORD).write_text(content)
    before = contents(folder)
    assert f"{folder / RECORD}: not the record of a grid" in tiny.script("--resume", folder).error
    assert contents(folder) == before


@pytest.mark.parametrize("scores", [[], {"selection_score": "high"}, {"selection_score": None}], ids=str)
def test_damaged_scores_of_an_attempt(finished, tmp_path, scores):
    folder = shutil.copytree(finished[0], tmp_path / "grid")
    path = folder / [*RATES][1] / "scores.json"
    path.write_text(json.dumps({**tiny.read_json(path), **scores} if scores else scores))
    assert f"{path}: not the scores of a finished run (" in tiny.script("--resume", folder).error


def test_another_model_in_the_same_place_is_refused(tmp_path, argv_of):
    model = tiny.make_checkpoint(tmp_path / "model")
    stopped_at(6, *argv_of(tmp_path / "grid", *GRID, "--model", model))
    tiny.make_checkpoint(model, seed=1)
    assert "are not what this grid began with" in tiny.script("--resume", tmp_path / "grid").error


def test_a_mistake_leaves_nothing_in_the_way(tmp_path, argv_of):
    argv = argv_of(tmp_path / "grid", *GRID, "--model", tmp_path / "none")
    assert tiny.script(*argv).error
    assert not (tmp_path / "grid").exists()
    argv = argv_of(tmp_path / "grid", *GRID, "--data_dir", tmp_path / "none")
    assert tiny.script(*argv).error
    done = tiny.script(*argv_of(tmp_path / "grid", "--lr", "1e-3,1e-2", "--epochs", 1))  # the folder is free
    assert done.code == 0, done.err
