"""Plain models and their predictions: where they are kept, what they depend on, kills among them, and mistakes."""

import shutil

import numpy as np
import pytest
import tiny
from kills import killed_before_rename, stopped_at
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from scheme_runs import arguments, cache, contents, plain_folder, watched

from minbert.files import UserError
from minbert.hub import resolve
from minbert.text.tokenization import Tokenizer
from minbert.training import analysis, pseudo_labels
from minbert.training.data import read_data
from minbert.training.run_folder import describe_model

ALL = ("mnli-0.001", "sst2-0.001")  # what hard_predicted needs


@pytest.fixture(scope="module")
def glue(tmp_path_factory):
    return tiny.make_glue_data(tmp_path_factory.mktemp("glue"))


@pytest.fixture(scope="module")
def argv_of(tiny_model, tiny_data, glue):
    """argv_of(folder, scheme, flags...) -> the command line of a run in `folder` with its plain models beside it."""
    return lambda folder, scheme, *flags: arguments(tiny_model, tiny_data, glue, folder, scheme, "--keep_state", *flags)


@pytest.fixture(scope="module")
def whole(tmp_path_factory, argv_of):
    """The folder above an unbroken run of soft_predicted, named "run", and its plain models. Not to be written to."""
    home = tmp_path_factory.mktemp("whole")
    watched(*argv_of(home / "run", "soft_predicted"))
    return home


@pytest.fixture
def home(whole, tmp_path):
    """A copy of it, to be spoiled."""
    return shutil.copytree(whole, tmp_path / "home")


@pytest.fixture(autouse=True)
def _no_drawing(monkeypatch):
    monkeypatch.setattr(analysis, "draw", lambda *_: None)  # takes longer than all the rest


# ------------------------------------------------------------------------------------------- what they depend on


def plain_models(glue, tiny_model, *flags):
    """(PlainModels under these flags, the digest of the checkpoint)."""
    options = tiny.options_of("--glue_dir", glue, "--label_scheme", "plain", "--lr", "1e-3", *flags)
    data, _ = read_data(options, Tokenizer.from_folder(tiny_model))
    sha = describe_model(resolve(str(tiny_model)))["sha256"]
    return pseudo_labels.PlainModels(options, data, sha, None), sha


def folders_of(glue, tiny_model, *flags):
    """{task: the name of the folder of its plain model} under these flags."""
    plain, sha = plain_models(glue, tiny_model, *flags)
    names = {task: plain._folder(task, plain.options.optimisation.lr, sha) for task in plain.data}
    assert {path.parent.name for path in names.values()} == {"plain"}  # the default of --plain_dir
    return {task: path.name for task, path in names.items()}


@pytest.mark.parametrize(
    ("flags", "changed"),
    [
        (("--label_scheme", "hard_predicted", "--literal_eq20"), ""),
        (("--run_dir", "elsewhere", "--skip_test", "--checkpoint_minutes", 1), ""),
        (("--tasks", "sst2,mnli,qqp,rte"), ""),
        (("--plain_lr", "1e-3,1e-2"), ""),
        (("--limit", "qqp=5"), "qqp"),
        (("--dev_limit", "rte=5"), "rte"),
        (("--epochs", 3), "rte qqp mnli sst2"),
        (("--seed", 1), "rte qqp mnli sst2"),
        (("--max_length", 20), "rte qqp mnli sst2"),
        (("--option", "finetune"), "rte qqp mnli sst2"),
        (("--lr", "2e-3"), "rte qqp mnli sst2"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, tuple) else None,
)
def test_a_plain_model_has_a_folder_for_all_that_it_depends_on(glue, tiny_model, flags, changed):
    before, now = folders_of(glue, tiny_model), folders_of(glue, tiny_model, *flags)
    assert [task for task in before if before[task] != now[task]] == changed.split()


def test_a_plain_model_is_an_ordinary_run_on_its_task_that_predicts_the_test_set_too(glue, tiny_model, tmp_path):
    """Whatever the run that needs it wants to know: another one may need the rest."""
    wanted = ("--skip_test", "--limit", "qqp=5,rte=3", "--dev_limit", "rte=4", "--plain_dir", tmp_path)
    plain, _ = plain_models(glue, tiny_model, *wanted)
    runs = {options.tasks[0]: options for _, options in plain.missing()}
    assert runs.keys() == {"rte", "qqp", "mnli", "sst2"}
    for task, options in runs.items():
        assert options.tasks == [task]
        assert not options.run.skip_test, f"{task}'s plain model inherits --skip_test"
        assert options.pseudo_labels.label_scheme is None
        assert options.optimisation.lr == 1e-3
    limits = {task: (options.data.limit, options.data.dev_limit) for task, options in runs.items()}
    assert limits == {"rte": ({"rte": 3}, {"rte": 4}), "qqp": ({"qqp": 5}, {}), "mnli": ({}, {}), "sst2": ({}, {})}


def test_other_data_or_another_model_train_anew(home, tmp_path, argv_of, glue):
    other = shutil.copytree(glue, tmp_path / "other")
    path = other / "SST-2" / "train.tsv"
    path.write_text(path.read_text().replace("\t1\n", "\t0\n", 1))  # one label
    assert watched(*argv_of(home / "1", "soft_predicted", "--glue_dir", other)).trained == ["sst2-0.001", "1"]
    model = tiny.make_checkpoint(tmp_path / "model", seed=1)
    assert watched(*argv_of(home / "2", "soft_predicted", "--model", model)).trained == [*ALL, "2"]


def test_plain_dir(home, argv_of):
    assert watched(*argv_of(home / "same", "soft_predicted")).trained == ["same"]
    elsewhere = watched(*argv_of(home / "new", "soft_predicted", "--plain_dir", home / "deep" / "plain_models"))
    assert elsewhere.trained == [*ALL, "new"]
    one, two = contents(home / "plain_models"), contents(home / "deep" / "plain_models")
    assert one.keys() == two.keys()
    for name in one:
        if name.endswith((".safetensors", ".tsv", ".csv", ".zip")):
            assert one[name] == two[name], name
    tiny.assert_same_results(home / "new", home / "run")
    tiny.assert_same_results(home / "same", home / "run")  # whether the plain models were there or not


def test_plain_lr(home, argv_of):
    """Each plain model is tried at each rate, and the best on its own dev set speaks, the first of equals."""
    run = watched(*argv_of(home / "more", "hard_predicted", "--plain_lr", "1e-3,1e-2"))
    assert run.trained == ["mnli-0.01", "sst2-0.01", "more"]  # those at 1e-3 are there
    assert {group["lr"] for group in run.fits[-1].loop.optimizer.param_groups} == {1e-3}
    asked = {teacher: trainer for teacher in ("mnli", "sst2") for trainer in run.fits if teacher in trainer.folder.name}
    for task in asked:
        scores = {}
        for rate in ("0.001", "0.01"):
            (folder,) = (home / "plain_models").glob(f"{task}-{rate}-*")
            scores[folder] = tiny.read_json(folder / "scores.json")["dev"][task]["accuracy"]
        best, *_ = sorted(scores, key=lambda folder: -scores[folder])  # a stable sort
        assert list((best / "predictions").glob("on-*"))
        # those at 1e-3 spoke in the run before this one; at 1e-2, only if they are better
        assert bool(list(folder.glob("predictions/on-*"))) == (best == folder)
    together = watched(*argv_of(home / "plain", "plain", "--tasks", "mnli,sst2", "--plain_lr", "1e-2,1e-3"))
    assert together.trained == []
    rates = tiny.read_json(home / "plain" / "scores.json")["rates"]
    for task, rate in rates.items():
        (folder,) = (home / "plain_models").glob(f"{task}-{rate:g}-*")
        dev = tiny.read_json(folder / "scores.json")["dev"][task]
        assert tiny.read_json(home / "plain" / "scores.json")["dev"][task] == dev
        assert dev["accuracy"] == max(
            tiny.read_json(path)["dev"][task]["accuracy"]
            for path in (home / "plain_models").glob(f"{task}-*/scores.json")
        )


def test_lr_of_several_rates_trains_plain_models_at_each_and_once(home, argv_of):
    argv = argv_of(home / "grid", "hard_predicted", "--lr", "1e-3,1e-2")
    assert watched(*argv).trained == ["mnli-0.01", "sst2-0.01", "lr-0.001", "lr-0.01"]
    scores = [tiny.read_json(home / "grid" / name / "scores.json") for name in ("lr-0.001", "lr-0.01")]
    best = max(scores, key=lambda said: said["selection_score"])
    assert tiny.read_json(home / "grid" / "scores.json") == best
    assert tiny.read_json(home / "grid" / "grid.json")["best"] == (1e-3 if best is scores[0] else 1e-2)
    assert tiny.script("--evaluate", home / "grid").code == 0
    assert tiny.read_json(home / "grid" / "evaluation" / "scores.json")["dev"] == best["dev"]
    plain = watched(*argv_of(home / "plain", "plain", "--tasks", "sst2,mnli", "--lr", "1e-3,1e-2"))
    assert plain.trained == []


# ---------------------------------------------------------------------------------------------- kills and resuming


@pytest.mark.parametrize(
    ("update", "where"), [(2, "mnli"), (6, "sst2"), (12, "run")], ids=["first teacher", "second teacher", "the union"]
)
@pytest.mark.parametrize("again", ["the same line", "the folder alone"])
def test_a_run_that_was_stopped_ends_with_the_same_bits(whole, tmp_path, argv_of, update, where, again):
    """4 updates of MNLI's plain model, 3 of SST-2's, 10 of the union."""
    argv = argv_of(tmp_path / "run", "soft_predicted", "--plain_lr", "1e-3")
    stopped = stopped_at(update, *argv)
    assert where in stopped.out[stopped.out.index("stopped in epoch 1 after") :]
    alone = stopped.out.split("; continue with ")[1].split()  # it says that --plain_dir is needed once more
    done = tiny.script(*(alone if again == "the folder alone" else [*argv, "--resume"]))
    assert done.code == 0, done.err
    tiny.assert_same_results(tmp_path / "run", whole / "run")
    for task in ("mnli", "sst2"):
        assert plain_folder(tmp_path, task).name == plain_folder(whole, task).name
        for name in ("model.safetensors", "last.safetensors", f"predictions/{task}-dev-output.csv"):
            path = plain_folder(whole, task) / name
            assert (plain_folder(tmp_path, task) / name).read_bytes() == path.read_bytes()


def test_a_run_killed_at_any_file_ends_with_the_same_bits(whole, tmp_path, argv_of):
    files = killed_before_rename(0, *argv_of(tmp_path / "all" / "run", "soft_predicted"))
    last_of_teacher = [i for i, name in enumerate(files, start=1) if name.endswith("scores.json")][:2]
    caches = [i for i, name in enumerate(files, start=1) if "/on-" in name]
    for number in (2, *last_of_teacher, last_of_teacher[0] + 1, caches[0], caches[-1], caches[-1] + 5):
        home = tmp_path / str(number)
        assert len(killed_before_rename(number, *argv_of(home / "run", "soft_predicted"))) == number - 1
        assert tiny.script("--resume", home / "run", "--plain_dir", home / "plain_models").code == 0
        tiny.assert_same_results(home / "run", whole / "run")
        for name, content in contents(whole / "plain_models").items():
            if "/predictions/" in name:
                assert (home / "plain_models" / name).read_bytes() == content, name


# --------------------------------------------------------------------------------------------------------- the cache


@pytest.mark.parametrize("length", [0, 4, 100, -1], ids=["empty", "4 bytes", "100 bytes", "all but one"])
def test_a_cut_off_cache_is_made_again(home, argv_of, length):
    path = cache(home, "sst2", "qqp")
    content = path.read_bytes()
    path.write_bytes(content[:length])
    run = watched(*argv_of(home / "again", "soft_predicted"))
    assert [(teacher, task) for teacher, task, _ in run.asked] == [("sst2", "qqp")]
    assert path.read_bytes() == content
    tiny.assert_same_results(home / "again", home / "run")


DAMAGED = {
    "not finite": lambda p: p * np.float32("nan"),
    "negative": lambda p: p - 1,
    "no probabilities": lambda p: p * 2,
    "of another type": lambda p: p.astype(np.float64),
    "none": lambda p: p[:0],
    "a single number": lambda p: p[0, 0],
}


@pytest.mark.parametrize("how", DAMAGED)
def test_a_cache_that_holds_no_probabilities_is_made_again(home, argv_of, how):
    path = cache(home, "sst2", "qqp")
    content = path.read_bytes()
    with safe_open(path, "numpy") as opened:
        probabilities, of = opened.get_tensor("probabilities"), opened.metadata()
    save_file({"probabilities": np.array(DAMAGED[how](probabilities))}, path, of)
    run = watched(*argv_of(home / "again", "soft_predicted"))
    assert [(teacher, task) for teacher, task, _ in run.asked] == [("sst2", "qqp")]
    assert path.read_bytes() == content


def test_a_cache_of_other_data_or_of_another_model_is_refused(home, argv_of):
    path, argv = cache(home, "sst2", "qqp"), argv_of(home / "again", "soft_predicted")
    content = path.read_bytes()
    own = load_file(path)
    foreign = {
        "another model": cache(home, "mnli", "qqp").read_bytes(),
        "other data": cache(home, "sst2", "rte").read_bytes(),
    }
    for what, other in foreign.items():
        path.write_bytes(other)
        line = tiny.script(*argv, "--resume").error
        assert line.startswith(f"error: {path}: predictions of another model or for other data; delete the file"), what
        assert path.read_bytes() == other
    for tensors, metadata in ((own, None), ({"probabilities": own["probabilities"][:-1]}, None)):
        save_file(tensors, path, metadata)
        assert f"{path}: predictions of another model" in tiny.script(*argv, "--resume").error
    path.unlink()
    assert tiny.script(*argv, "--resume").code == 0
    assert path.read_bytes() == content


def test_a_plain_model_that_was_replaced_no_longer_speaks_through_its_cache(home, argv_of):
    folder = plain_folder(home, "mnli")
    shutil.copy(folder / "last.safetensors", folder / "model.safetensors")
    weights = load_file(folder / "model.safetensors")
    weights["heads.mnli.linear.bias"] += np.float32(1)
    save_file(weights, folder / "model.safetensors")
    line = tiny.script(*argv_of(home / "again", "soft_predicted")).error
    assert str(folder) in line
    assert "of another model" in line


# ---------------------------------------------------------------------------------------------------------- mistakes


@pytest.fixture
def spoiled(glue, tmp_path):
    return shutil.copytree(glue, tmp_path / "glue")


def test_a_missing_task(spoiled, tmp_path, argv_of):
    shutil.rmtree(spoiled / "QQP")
    line = tiny.script(*argv_of(tmp_path / "run", "independent", "--glue_dir", spoiled)).error
    assert line == f"error: {spoiled / 'QQP' / 'train.tsv'}: no such file"
    assert not (tmp_path / "run").exists()
    some = watched(*argv_of(tmp_path / "run", "independent", "--glue_dir", spoiled, "--tasks", "rte,mnli,sst2"))
    assert len(some.union.examples.task.labels) == 7
    assert "glue" not in tiny.read_json(tmp_path / "run" / "scores.json")


def test_test_sets_may_be_missing(spoiled, tmp_path, argv_of):
    for path in [*spoiled.glob("*/test*.tsv"), spoiled / "MNLI" / "dev_mismatched.tsv"]:
        path.unlink()
    watched(*argv_of(tmp_path / "run", "independent", "--glue_dir", spoiled))
    assert not list((tmp_path / "run" / "predictions").glob("*.zip"))
    assert not {"glue", "dev_mismatched"} & tiny.read_json(tmp_path / "run" / "scores.json").keys()


def test_a_stray_quote_is_a_letter(spoiled, tmp_path, argv_of):
    path = spoiled / "RTE" / "train.tsv"
    header, first, *rest = path.read_text().splitlines()
    cells = first.split("\t")
    cells[1] = '"' + cells[1]
    path.write_text("\n".join([header, "\t".join(cells), *rest]) + "\n")
    run = watched(*argv_of(tmp_path / "run", "independent", "--glue_dir", spoiled))
    assert run.union.examples.texts[0] == (cells[1], cells[2])
    assert len(run.union.examples) == 14 + 21 + 25 + 18


def test_mnli_s_dashes_are_skipped_and_counted(spoiled, tmp_path, argv_of):
    path = spoiled / "MNLI" / "train.tsv"
    header, *rows = path.read_text().splitlines()
    for i in (4, 7):
        rows[i] = rows[i].rsplit("\t", 1)[0] + "\t-"
    path.write_text("\n".join([header, *rows]) + "\n")
    run = watched(*argv_of(tmp_path / "run", "soft_probability", "--glue_dir", spoiled))
    (told,) = [line for line in run.outcome.out.splitlines() if line.startswith("mnli train: ")]
    assert told.startswith("mnli train: 2 rows")
    assert told.endswith("2 rows skipped (line 6: no value in column 'gold_label')")
    assert len(run.union.examples) == 14 + 21 + 23 + 18
    assert "mnli 4" not in run.union.examples.ids


REFUSED = """--pairs concat; --schedule in_turn; --step summed; --task_order rte,qqp; --init runs/x; --eval_train
--pcgrad; --smart 1; --r_drop 1; --sts_head linear; --sst_head coral; --mean_teacher kl; --labels_per_class 5
--tsa linear; --batch_size rte=4,qqp=4,mnli=4,sst2=4; --tasks rte,sst; --tasks sts; --literal_eq20; --plain_lr 0
--limit sst=5; --sst_train x.csv; --train_on_augmented rte=x.tsv"""


@pytest.mark.parametrize("line", REFUSED.replace("\n", "; ").split("; "))
def test_flags_that_make_no_sense_with_a_label_scheme(line):
    with pytest.raises(UserError, match=line.split()[0]) as caught:
        tiny.parse("--label_scheme", "soft_predicted", "--option", "finetune", *line.split())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("line", ["--plain_dir x", "--plain_lr 1e-3", "--literal_eq20", "--label_scheme soft"])
def test_flags_that_need_a_label_scheme(line):
    with pytest.raises(UserError, match="label_scheme"):
        tiny.parse(*line.split())


def test_a_scheme_whose_teacher_is_not_among_the_tasks(tmp_path, argv_of):
    """RTE and QQP say "c or n"; which of them, only MNLI's plain model knows."""
    line = tiny.script(*argv_of(tmp_path / "run", "soft_predicted", "--tasks", "rte,sst2")).error
    assert "no task tells e, c, n apart, so no plain model predicts them" in line
    assert not (tmp_path / "run").exists()
    watched(*argv_of(tmp_path / "run", "soft_probability", "--tasks", "rte,sst2"))  # which asks nobody
