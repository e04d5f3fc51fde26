"""The protocol of pseudo-labels from the command line: plain models, what they predict, the union, and its results."""

import csv
import shutil
import zipfile

import numpy as np
import pytest
import tiny
import torch
from safetensors.numpy import load_file
from scheme_runs import ROWS, arguments, cache, plain_folder, watched

import labeling
from datasets import GLUE_TASKS, TASKS
from minbert.text.tokenization import Tokenizer
from minbert.training.pseudo_labels import merging_of
from minbert.training.run_folder import find_model
from multitask_classifier import build_model

PAPER = {name: TASKS[name] for name in GLUE_TASKS}


@pytest.fixture(scope="module")
def glue(tmp_path_factory):
    return tiny.make_glue_data(tmp_path_factory.mktemp("glue"))


@pytest.fixture(scope="module")
def argv_of(tiny_model, tiny_data, glue):
    """argv_of(folder, scheme, flags...) -> the command line of a run in `folder` with its plain models beside it."""

    return lambda folder, scheme, *flags: arguments(tiny_model, tiny_data, glue, folder, scheme, *flags)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("schemes")


@pytest.fixture(scope="module")
def runs(home, argv_of):
    """{scheme: Watched} of all schemes, one after the other, and last of plain. Not to be written to."""
    return {scheme: watched(*argv_of(home / scheme, scheme)) for scheme in [*labeling.SCHEMES, "plain"]}


# ------------------------------------------------------------------------------------------------- all eight, and plain


def test_label_scheme(runs, home):
    assert {"plain", *labeling.SCHEMES} == runs.keys()
    losses = [tiny.metrics(home / scheme)[0]["loss"]["union"] for scheme in labeling.SCHEMES]
    assert len(set(losses)) == 8
    for scheme in labeling.SCHEMES:
        assert f"results in {home / scheme}" in runs[scheme].outcome.out
        scores = tiny.read_json(home / scheme / "scores.json")
        assert scores["dev"].keys() == scores["baseline"].keys() == PAPER.keys()
        assert scores["selection_score"] == pytest.approx(np.mean([s["accuracy"] for s in scores["dev"].values()]))


def test_each_plain_model_is_trained_once_for_all_schemes(runs):
    first = [f"{task}-0.001" for task in labeling.NINE.tasks]
    for scheme, run in runs.items():
        expected = first if scheme == "augmented_independent" else []  # the first that needs any; it needs all
        assert run.trained[: len(expected)] == expected
        assert [trainer.folder.name for trainer in run.fits[len(expected) :]] == [scheme] * (scheme != "plain")


def test_predictions_are_made_once(runs):
    for scheme, run in runs.items():
        found = [(teacher, task) for teacher, task, _ in run.asked]
        everything = {(a, b) for a in PAPER for b in PAPER if a != b}
        assert sorted(found) == (sorted(everything) if scheme == "augmented_independent" else [])


def test_only_the_plain_models_that_a_scheme_needs_are_trained_and_asked(tmp_path, argv_of):
    run = watched(*argv_of(tmp_path / "run", "hard_predicted"))
    assert run.trained[:-1] == ["mnli-0.001", "sst2-0.001"]
    found = {(teacher, task) for teacher, task, _ in run.asked}
    assert found == {("mnli", t) for t in ("rte", "qqp", "sst2")} | {("sst2", t) for t in ("rte", "qqp", "mnli")}
    assert watched(*argv_of(tmp_path / "other", "soft_predicted")).trained == ["other"]


def test_what_plain_models_read(runs, glue, tiny_model):
    """A pair is [CLS] A [SEP] B [SEP] to every model, a single sentence [CLS] s [SEP]."""
    vocabulary = (tiny_model / "vocab.txt").read_text().split()
    for teacher, task, sequences in runs["augmented_independent"].asked:
        with open(glue / TASKS[task].files["train"], encoding="utf-8") as f:
            rows = list(csv.DictReader(f, delimiter="\t", quoting=csv.QUOTE_NONE))
        for row, (start, end) in zip(rows, zip(sequences.offsets, sequences.offsets[1:], strict=False), strict=True):
            words = ["[CLS]"] + [word for column in TASKS[task].text for word in [*row[column].split(), "[SEP]"]]
            assert [vocabulary[i] for i in sequences.ids[start:end]] == words, (teacher, task)
            first = 1 + words.index("[SEP]")
            assert sequences.types[start:end].tolist() == [0] * first + [1] * (len(words) - first)


@pytest.mark.parametrize(("teacher", "task"), [("sst2", "rte"), ("mnli", "sst2"), ("rte", "qqp")])
def test_cached_predictions_are_the_plain_model_s_own(runs, home, tiny_model, teacher, task):
    options = tiny.options_of("--model", tiny_model, "--tasks", teacher)
    model = build_model(find_model(options.model), options).eval()
    weights = load_file(plain_folder(home, teacher) / "model.safetensors")
    model.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})
    texts = runs["independent"].union.examples.texts
    texts = [text for text, id in zip(texts, runs["independent"].union.examples.ids, strict=True) if task in id]
    tokenizer = Tokenizer.from_folder(tiny_model)
    with torch.no_grad():
        one_by_one = [model({teacher: tokenizer.encode([text], 512)})[teacher].softmax(-1) for text in texts]
    cached = load_file(cache(home, teacher, task))["probabilities"]
    np.testing.assert_allclose(cached, torch.cat(one_by_one), atol=2e-6)


# ----------------------------------------------------------------------------------------------------------- the union


@pytest.mark.parametrize("scheme", labeling.SCHEMES)
def test_targets_of_the_union_are_the_scheme_s(runs, home, glue, scheme):
    union, merging, done = runs[scheme].union, labeling.SCHEMES[scheme].merging, 0
    assert union.examples.labels.dtype == np.float32
    assert len(union.examples) == len(union.sequences) == sum(ROWS) == len(union.examples.labels)
    for name in merging.tasks:
        task = TASKS[name]
        with open(glue / task.files["train"], encoding="utf-8") as f:
            rows = list(csv.DictReader(f, delimiter="\t", quoting=csv.QUOTE_NONE))
        part = slice(done, done := done + len(rows))
        assert union.examples.texts[part] == [tuple(row[column] for column in task.text) for row in rows]
        assert {id.split()[0] for id in union.examples.ids[part]} == {name}
        said = {t: (TASKS[t].labels, load_file(cache(home, t, name))["probabilities"])
                for t in labeling.teachers_needed(scheme, task=name)}  # fmt: skip
        labels = [task.spellings.get(row[task.label], row[task.label]) for row in rows]
        expected = labeling.targets(scheme, name, labels, said)
        assert (union.examples.labels[part] == expected.astype(np.float32)).all()
        own = merging.columns(merging.group_of(name))
        np.testing.assert_allclose(union.examples.labels[part][:, own].sum(1), 1, rtol=1e-6)
    assert done == len(union.examples)


def test_an_epoch_takes_every_example_of_every_task_once_in_mixed_batches(runs):
    trainer = runs["independent"].fits[-1]
    assert trainer.plan.steps_of(0) == [[("union", i)] for i in range(10)]
    batches = [trainer.plan.batches["union"](0, i) for i in range(10)]
    assert sorted(np.concatenate(batches)) == list(range(sum(ROWS)))
    tasks = [{trainer.data["union"]["train"].examples.ids[row].split()[0] for row in rows} for rows in batches]
    assert min(map(len, tasks)) > 1
    assert set().union(*tasks) == PAPER.keys()


@pytest.mark.parametrize("scheme", ["augmented_independent", "soft_probability"])
def test_the_order_of_tasks_does_not_matter(runs, home, tmp_path, argv_of, scheme):
    shutil.copytree(home / "plain_models", tmp_path / "plain_models")
    for i, order in enumerate(("sst2,mnli,qqp,rte", "mnli,rte,sst2,qqp")):
        turned = watched(*argv_of(tmp_path / str(i), scheme, "--tasks", order))
        assert turned.trained == [str(i)]
        tiny.assert_same_results(tmp_path / str(i), home / scheme)


def test_literal_eq20(runs, home, tmp_path, argv_of):
    shutil.copytree(home / "plain_models", tmp_path / "plain_models")
    literal = watched(*argv_of(tmp_path / "run", "hard_predicted", "--literal_eq20")).union.examples
    rounded = runs["hard_predicted"].union.examples
    changed = (literal.labels != rounded.labels).any(1)
    says_no = [i for i, (id, row) in enumerate(zip(rounded.ids, rounded.labels, strict=True))
               if id.split()[0] in ("rte", "qqp") and row[0] == 0]  # fmt: skip
    assert np.flatnonzero(changed).tolist() == says_no
    assert set(rounded.labels.flat) == {0, 1}
    np.testing.assert_allclose(literal.labels[changed, 1:3].sum(1), 1, rtol=1e-6)
    assert (literal.labels[changed][:, [0, 3, 4]] == rounded.labels[changed][:, [0, 3, 4]]).all()


def test_a_fifth_task_shares_the_outputs_of_sst2(runs, home, tmp_path, argv_of):
    shutil.copytree(home / "plain_models", tmp_path / "plain_models")
    run = watched(*argv_of(tmp_path / "run", "soft_predicted", "--tasks", "rte,qqp,mnli,sst2,cfimdb"))
    assert run.trained == ["run"]  # SST-2's plain model speaks for both
    union = run.union.examples
    assert union.task.labels == labeling.FIVE.classes
    five = {name: TASKS[name] for name in (*PAPER, "cfimdb")}
    assert merging_of("soft_predicted", five).tasks == labeling.FIVE_CFIMDB.tasks
    films = [i for i, id in enumerate(union.ids) if id.startswith("cfimdb ")]
    assert len(films) == tiny.ROWS["cfimdb"][0]
    assert {tuple(row) for row in union.labels[films][:, 3:].tolist()} == {(0, 1), (1, 0)}
    np.testing.assert_allclose(union.labels[films][:, :3].sum(1), 1, rtol=1e-6)
    scores = tiny.read_json(tmp_path / "run" / "scores.json")
    assert list(scores["dev"]) == [*PAPER, "cfimdb"]
    assert (tmp_path / "run" / "predictions" / "cfimdb-dev-output.csv").is_file()
    assert "glue" in scores  # still of the paper's four
    plain = watched(*argv_of(tmp_path / "plain", "plain", "--tasks", "rte,qqp,mnli,sst2,cfimdb"))
    assert plain.trained == ["cfimdb-0.001"]
    assert "cfimdb" in tiny.read_json(tmp_path / "plain" / "scores.json")["dev"]


# ------------------------------------------------------------------------------------------------------------- results


def read_answers(folder, name):
    header, *rows = (folder / "predictions" / name).read_text().splitlines()
    assert header == "index\tprediction"
    return dict(row.split("\t") for row in rows)


@pytest.mark.parametrize("scheme", ["independent", "soft_predicted", "plain"])
def test_submission(runs, home, glue, scheme):
    words = {"rte": TASKS["rte"].labels, "mnli": TASKS["mnli"].labels, "qqp": ("0", "1"), "sst2": ("0", "1")}
    files = {"RTE.tsv": ("rte", "test"), "QQP.tsv": ("qqp", "test"), "MNLI-m.tsv": ("mnli", "test"),
             "MNLI-mm.tsv": ("mnli", "test_mismatched"), "SST-2.tsv": ("sst2", "test")}  # fmt: skip
    with zipfile.ZipFile(home / scheme / "predictions" / "submission.zip") as archive:
        assert sorted(archive.namelist()) == sorted(files)
        for name, (task, split) in files.items():
            assert archive.read(name) == (home / scheme / "predictions" / name).read_bytes()
            said = read_answers(home / scheme, name)
            with open(glue / TASKS[task].files[split], encoding="utf-8") as f:
                ids = [row[TASKS[task].id] for row in csv.DictReader(f, delimiter="\t")]
            assert list(said) == ids
            assert set(said.values()) <= set(words[task])


@pytest.mark.parametrize("scheme", ["plain", *labeling.SCHEMES])
def test_scores(runs, home, scheme):
    """Table 2's average: RTE, QQP's F1, the mean of MNLI's two, SST-2."""
    scores = tiny.read_json(home / scheme / "scores.json")
    dev, mismatched = scores["dev"], scores["dev_mismatched"]["mnli"]["accuracy"]
    assert list(scores["dev_mismatched"]) == ["mnli"]
    assert (11 * mismatched) == pytest.approx(round(11 * mismatched))  # 11 rows, where the matched ones are 10
    hits = 2 * dev["qqp"]["precision"] * dev["qqp"]["recall"]
    f1 = hits / (dev["qqp"]["precision"] + dev["qqp"]["recall"]) if hits else 0
    mnli = (dev["mnli"]["accuracy"] + mismatched) / 2
    assert scores["glue"] == pytest.approx((dev["rte"]["accuracy"] + f1 + mnli + dev["sst2"]["accuracy"]) / 4)
    five = scheme in ("soft_probability", "soft_predicted", "hard_predicted")
    if scheme != "plain":
        assert list(scores["dev_argmax"]) == (["rte", "qqp"] if five else [])


def test_argmax_is_another_decoding_of_the_same_outputs(runs, home):
    scores, model = tiny.read_json(home / "soft_probability" / "scores.json"), runs["soft_probability"].fits[-1].model
    for name in ("rte", "qqp"):
        dev = runs["soft_probability"].fits[-1].data[name]["dev"]
        with torch.no_grad():
            outputs = model.eval()({name: dev.sequences})[name].sigmoid().numpy()
        for rule, key in (("settled", "dev"), ("argmax", "dev_argmax")):
            said = labeling.decode("soft_probability", name, outputs, rule)
            right = [TASKS[name].labels[label] == word for label, word in zip(dev.examples.labels, said, strict=True)]
            assert scores[key][name]["accuracy"] == pytest.approx(np.mean(right))
    assert scores["dev_argmax"] != {name: scores["dev"][name] for name in ("rte", "qqp")}


def test_plain_is_the_plain_models_together(runs, home):
    scores = tiny.read_json(home / "plain" / "scores.json")
    said = {task: tiny.read_json(plain_folder(home, task) / "scores.json") for task in PAPER}
    assert scores["dev"] == {task: said[task]["dev"][task] for task in PAPER}
    assert scores["rates"] == dict.fromkeys(PAPER, 1e-3)
    assert scores["updates"] == sum(one["updates"] for one in said.values())
    names = {path.name for path in (home / "plain" / "predictions").iterdir()}
    assert names == {path.name for path in (home / "independent" / "predictions").iterdir()}
    for task in PAPER:  # each is an ordinary run
        options = tiny.read_json(plain_folder(home, task) / "config.json")["flags"]
        assert (options["tasks"], options["lr"], options["label_scheme"]) == ([task], 1e-3, None)


def test_a_run_may_be_evaluated_and_asked(runs, home, tmp_path):
    for scheme in ("soft_predicted", "independent_frozen"):
        folder = shutil.copytree(home / scheme, tmp_path / scheme)
        assert tiny.script("--evaluate", folder).code == 0
        said, saved = tiny.read_json(folder / "evaluation" / "scores.json"), tiny.read_json(folder / "scores.json")
        for key in ("dev", "dev_mismatched", "dev_argmax", "glue"):
            assert said[key] == saved[key]
        (tmp_path / "lines").write_text("a good film\nthe dog can run\tone cat\n")
        answers = tiny.script("--predict", folder, "--input", tmp_path / "lines").out
        heads = [line.split()[0] for line in answers.splitlines() if line.startswith("    ")]
        assert heads == ["sst2", "rte", "qqp", "mnli"]
