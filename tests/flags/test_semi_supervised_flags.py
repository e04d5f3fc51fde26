"""Learning from unlabelled text in whole runs: each flag changes what its help says and leaves the rest alone.

What a step computes is proved in test_objective.py, files of texts in test_unlabelled.py, functions in
test_semi_supervised.py and test_ema_teacher.py.
"""

import gzip
import json
import math
from unittest import mock

import numpy as np
import pytest
import tiny
import torch
import unlabelled_text
from safetensors.torch import load_file
from steps import one_step

from datasets import TASKS
from minbert.methods import semi_supervised

pytestmark = pytest.mark.filterwarnings("ignore:a constant prediction")  # of so few examples
COURSE = unlabelled_text.COURSE
CLASSES = "--sts_head classification"


@pytest.fixture(scope="module")
def texts(tmp_path_factory, tiny_data):
    return unlabelled_text.flags_for(tmp_path_factory.mktemp("texts"), tiny_data)


@pytest.fixture
def run(run_of, texts):
    """run(flags) -> (Trace, Trainer) of an epoch."""
    return lambda line="", **more: run_of(*line.format(**texts).split(), **more)


@pytest.fixture
def step(trainer_of, texts):
    """step(flags) -> (terms, gradient) of the first step."""
    return lambda line, **more: one_step(trainer_of(*tiny.FINETUNE, *line.format(**texts).split(), **more))


@pytest.fixture
def script(tmp_path, tiny_model, tiny_data, texts):
    """script(flags) -> Outcome of a run in tmp_path / "run"."""
    return lambda line: tiny.runner(tmp_path / "run", tiny_model, tiny_data)(*line.format(**texts).split())


def labelled(trace):
    return [{task: rows for task, rows in step.items() if task in TASKS} for step in trace.batches]


def last(trainer, what="loss"):
    return trainer.loop.progress.history[-1][what]


# ----------------------------------------------------------------------------------------------------- TSA and UDA


def test_tsa(run):
    one, plain = run(CLASSES)
    kept = {}
    for schedule in semi_supervised.TSA_SCHEDULES:
        two, trainer = run(f"{CLASSES} --tsa {schedule}")
        assert labelled(two) == labelled(one)
        assert two.trunk_passes == one.trunk_passes
        assert list(last(trainer)) == list(last(plain))
        assert list(last(trainer, "kept")) == [f"{task} TSA kept" for task in COURSE]
        kept[schedule] = sum(last(trainer, "kept").values())
    assert kept["exp"] <= kept["linear"] <= kept["log"] != kept["exp"]
    assert "kept" not in plain.loop.progress.history[0]


def test_uda(run):
    one, _ = run(CLASSES)
    two, trainer = run(f"{{uda}} {CLASSES}")
    assert labelled(two) == labelled(one)
    assert list(last(trainer)) == [f"{task}{term}" for task in COURSE for term in ("", " UDA")]
    assert list(last(trainer, "kept")) == [f"{task} UDA kept" for task in COURSE]
    rows = {task: trainer.plan.unlabelled[task].rows for task in COURSE}
    assert rows == {
        "sst": 20,
        "quora": 37,
        "sts": 13,
    }  # their own
    assert all({f"{task} unlabelled" for task in COURSE} < step.keys() for step in two.rows)


def test_uda_of_one_task_alone(step, texts):
    path = texts["uda"].split("sst=")[1].split(",")[0]
    terms, gradient = step(f"--uda sst={path} --uda_threshold 0")
    plain, before = step("")
    assert terms.keys() - plain.keys() == {"sst UDA"}
    assert (gradient["heads.sst.linear.weight"] - before["heads.sst.linear.weight"]).abs().max() > 1e-5


def test_uda_weight(step, still_model):
    line = f"{{uda}} {CLASSES} --hidden_dropout_prob 0 --uda_threshold 0"
    once, thrice = (step(f"{line} --uda_weight {weight}", model=still_model) for weight in (1, 3))
    for name, value in once[0].items():
        assert thrice[0][name] == pytest.approx(value * (3 if "UDA" in name else 1), rel=1e-6)
    assert once[0]["sst UDA"] > 1e-4
    assert (once[1]["bert.word_embedding.weight"] - thrice[1]["bert.word_embedding.weight"]).abs().max() > 1e-5


def test_uda_temperature(step, still_model):
    line = f"{{uda}} {CLASSES} --hidden_dropout_prob 0 --uda_threshold 0"
    settings = ("", " --uda_temperature 0.4", " --uda_temperature 1")
    default, sharp, flat = (step(line + more, model=still_model)[0] for more in settings)
    assert default == sharp
    for task in COURSE:
        assert flat[task] == sharp[task]
        assert sharp[f"{task} UDA"] > 2 * flat[f"{task} UDA"] > 0  # a target that is surer than the student


def test_uda_threshold(run):
    kept, losses = {}, {}
    for threshold in (0, 0.25, 0.99):
        _, trainer = run(f"{{uda}} {CLASSES} --uda_threshold {threshold}")
        kept[threshold], losses[threshold] = (last(trainer, what) for what in ("kept", "loss"))
    assert set(kept[0].values()) == {1.0}
    assert 0 < kept[0.25]["sst UDA kept"] < 1
    assert set(kept[0.99].values()) == {0.0}
    assert [losses[0.99][f"{task} UDA"] for task in COURSE] == [0, 0, 0]


def test_uda_mean(step, still_model):
    line = f"{{uda}} {CLASSES} --hidden_dropout_prob 0 --uda_threshold 0.29"
    of_batch, of_kept = (step(f"{line} --uda_mean {name}", model=still_model)[0] for name in ("batch", "kept"))
    assert of_kept["sst UDA"] / of_batch["sst UDA"] == pytest.approx(8 / 3)
    assert {name: of_kept[name] for name in COURSE} == {name: of_batch[name] for name in COURSE}


# ------------------------------------------------------------------------------------------------- unlabelled text


def test_unlabeled(run):
    """The texts of the file, and no others, beside the labelled ones."""
    one, plain = run("--mean_teacher kl")
    two, trainer = run("--mean_teacher kl {fresh}")
    assert labelled(one) == labelled(two)
    for task in COURSE:
        assert "unlabelled" not in plain.data[task]
        part = trainer.data[task]["unlabelled"].examples
        assert dict(zip(part.ids, part.texts, strict=True)) == unlabelled_text.fresh_texts(task)
        assert part.labels is None
        seen = [row for step in two.batches for row in step[f"{task} unlabelled"]]
        assert set(seen) == set(range(len(part)))
    assert last(plain)["sst consistency"] != last(trainer)["sst consistency"]


def test_unlabeled_batch_size(run):
    (one, _), (two, _) = run("--mean_teacher kl {fresh}"), run("--mean_teacher kl {fresh} --unlabeled_batch_size 3")
    assert labelled(one) == labelled(two)
    assert {len(step["quora unlabelled"]) for step in one.rows} == {8, 3}  # as many as labelled; 19 rows
    assert {len(step["quora unlabelled"]) for step in two.rows} == {3}
    sizes, _ = run("--mean_teacher kl {fresh} --batch_size sst=4,quora=6,sts=3")
    assert [len(sizes.rows[0][f"{task} unlabelled"]) for task in COURSE] == [4, 6, 3]


def copies_for(folder, data, task, left_out=0):
    """T=FILE with changed copies of a task's training texts but the first ones, and {id: texts} of these copies."""
    whole = unlabelled_text.copied(unlabelled_text.training_texts(data, task))
    copies = dict([*whole.items()][left_out:])
    return f"{task}={unlabelled_text.written(folder / f'{task}.tsv', copies)}", copies


def test_train_on_augmented(run_of, tmp_path, tiny_data):
    """Copies in place of the texts, each with its original's label; a row without a copy is left out; other tasks and
    the order of the rows are as they were."""
    sst, copies = copies_for(tmp_path, tiny_data, "sst", left_out=3)
    quora, whole = copies_for(tmp_path, tiny_data, "quora")
    (one, plain), (two, trainer) = run_of(), run_of("--train_on_augmented", f"{sst},{quora}")
    before, after = ({task: t.data[task]["train"].examples for task in COURSE} for t in (plain, trainer))
    assert after["sst"].ids == before["sst"].ids[3:]
    assert after["sst"].texts == [copies[id] for id in after["sst"].ids]
    assert after["sst"].labels.tolist() == before["sst"].labels[3:].tolist()
    assert after["quora"].texts == [whole[id] for id in before["quora"].ids]
    assert after["quora"].labels.tolist() == before["quora"].labels.tolist()
    assert after["sts"].texts == before["sts"].texts
    assert [step.get("quora") for step in two.batches] == [step.get("quora") for step in one.batches]
    assert last(trainer)["quora"] != last(plain)["quora"]
    for split in ("dev", "test"):
        assert trainer.data["sst"][split].examples.texts == plain.data["sst"][split].examples.texts


def test_train_on_augmented_with_an_id_twice(tmp_path, trainer_of, data):
    """Neither row of the id is trained on, even where --limit leaves but one of the two."""
    file = data / TASKS["sst"].files["train"]
    lines = file.read_text().splitlines()
    twice = lines[1].split("\t")[1]
    file.write_text("\n".join([*lines, "\t".join(["x", twice, "another text", "3"])]) + "\n")
    sst, copies = copies_for(tmp_path, data, "sst")
    for limit in (21, 20, 19):
        trainer = trainer_of(*tiny.FINETUNE, "--train_on_augmented", sst, "--limit", f"sst={limit}", "--data_dir", data)
        found = trainer.data["sst"]["train"].examples
        assert twice not in found.ids
        assert found.texts == [copies[id] for id in found.ids]


def test_train_on_augmented_beside_text_without_labels(run_of, tmp_path, tiny_data):
    """The labelled rows are copies, those without labels the texts themselves."""
    quora, copies = copies_for(tmp_path, tiny_data, "quora")
    line = ("--tasks", "quora", "--labels_per_class", 2, "--train_on_augmented", quora, "--mean_teacher", "kl")
    _, trainer = run_of(*map(str, line))
    labelled, rest = (trainer.data["quora"][split].examples for split in ("train", "unlabelled"))
    assert labelled.texts == [copies[id] for id in labelled.ids]
    own = unlabelled_text.training_texts(tiny_data, "quora")
    assert rest.texts == [own[id] for id in rest.ids]
    assert {*labelled.ids, *rest.ids} == set(own)


def test_train_on_augmented_says_what_it_cannot_do(script, tmp_path, tiny_data):
    sst, _ = copies_for(tmp_path, tiny_data, "sst", left_out=11)
    assert "9 of 20 labelled texts have a copy there by id; fewer" in script(f"--train_on_augmented {sst}").error
    assert "--train_on_augmented names cfimdb" in script("--train_on_augmented cfimdb=x.tsv").error
    few, _ = copies_for(tmp_path, tiny_data, "sst", left_out=10)
    done = script(f"--train_on_augmented {few}")
    assert done.code == 0
    assert "sst, trained on the copies alone: 10 of 20 labelled texts have a copy in" in done.out


def test_labels_per_class(run):
    (one, alone), (two, taught) = run("--labels_per_class 1"), run("--labels_per_class 1 --mean_teacher kl")
    assert labelled(one) == labelled(two)  # both arms of a comparison learn from the same labels
    for task in COURSE:
        train, rest = (taught.data[task][split].examples for split in ("train", "unlabelled"))
        assert alone.data[task]["train"].examples.ids == train.ids
        assert "unlabelled" not in alone.data[task]
        assert sorted(train.ids + rest.ids) == sorted(run()[1].data[task]["train"].examples.ids)
        assert alone.data[task]["dev"].examples.ids == run()[1].data[task]["dev"].examples.ids
    assert np.bincount(taught.data["quora"]["train"].examples.labels).tolist() == [1, 1]
    other = run("--labels_per_class 1 --seed 1")[1].data["quora"]["train"].examples.ids
    assert other != taught.data["quora"]["train"].examples.ids


# --------------------------------------------------------------------------------------------------- mean teacher


@pytest.mark.parametrize("kind", [*semi_supervised.CONSISTENCIES, "bregman"])
def test_mean_teacher(run, kind):
    (one, plain), (two, trainer) = run(CLASSES), run(f"--mean_teacher {kind} {CLASSES}")
    assert labelled(one) == labelled(two)
    assert list(last(trainer)) == [f"{task}{term}" for task in COURSE for term in ("", " consistency")]
    assert all(last(trainer)[f"{task} consistency"] > 1e-6 for task in COURSE)
    assert plain.teacher is None
    assert "teacher" not in plain.loop.progress.history[0]
    assert not (plain.folder / "teacher.safetensors").exists()
    saved, student = (load_file(trainer.folder / f"{name}.safetensors") for name in ("teacher", "model"))
    assert saved.keys() == student.keys()
    assert any(not torch.equal(saved[name], student[name]) for name in saved)
    assert last(trainer, "teacher")["dev"].keys() == last(trainer, "dev").keys()


def check_the_teacher_is_the_mean(trainer, decay):
    """theta' <- d theta' + (1 - d) theta after each update, in float64."""
    params = list(trainer.model.parameters())
    means = [p.detach().double().numpy().copy() for p in params]
    update, t = trainer.loop.optimizer.step, 0

    def watched():
        nonlocal t
        update()
        t += 1
        for mean, p in zip(means, params, strict=True):
            mean += (1 - decay(t)) * (p.detach().double().numpy() - mean)

    with mock.patch.object(trainer.loop.optimizer, "step", watched):
        trainer.fit()
    assert t == trainer.plan.updates == 10
    for mean, p in zip(means, trainer.teacher.model.parameters(), strict=True):
        np.testing.assert_allclose(p.numpy(), mean, rtol=0, atol=1e-5)


DECAYS = {
    "--mean_teacher kl": lambda t: 1 - 1 / (t + 1),
    "--mean_teacher kl --ema_decay 0.6": lambda t: min(1 - 1 / (t + 1), 0.6),
    "--mean_teacher bregman": lambda t: 0.99 if t <= 1 else 0.999,  # of 10 updates, one is the first tenth
}


@pytest.mark.parametrize("line", DECAYS)
def test_ema_decay(trainer_of, line):
    check_the_teacher_is_the_mean(trainer_of(*tiny.FINETUNE, "--lr", "1e-2", *line.split()), DECAYS[line])


def aliased(teacher):
    for mean, now in zip(teacher.model.parameters(), teacher.student.parameters(), strict=True):
        mean.data = now.data


@pytest.mark.parametrize("update", [aliased, lambda teacher: None], ids=["its .data is the student's", "no update"])
def test_a_teacher_that_is_no_mean_is_found(trainer_of, monkeypatch, update):
    monkeypatch.setattr(semi_supervised.EmaTeacher, "update", update)
    trainer = trainer_of(*tiny.FINETUNE, "--lr", "1e-2", "--mean_teacher", "kl")
    with pytest.raises(AssertionError):
        check_the_teacher_is_the_mean(trainer, DECAYS["--mean_teacher kl"])


def test_consistency_weight(step):
    once, twice = (step(f"--mean_teacher mse --consistency_weight {weight}")[0] for weight in (1, 2))
    assert once["sst consistency"] > 1e-6
    assert twice == pytest.approx({name: value * (1 + ("consistency" in name)) for name, value in once.items()})


def test_ramp_up(step, run):
    default, longer, none = (step(f"--mean_teacher kl{more}")[0] for more in ("", " --ramp_up 0.9", " --ramp_up 0"))
    assert default == longer  # at the first update a ramp of any length has exp(-5)
    for name, value in none.items():
        assert value == pytest.approx(default[name] * (math.exp(5) if "consistency" in name else 1), rel=1e-5)
    means = [last(run(f"--mean_teacher kl --ramp_up {share}")[1])["sst consistency"] for share in (0, 0.5, 0.9)]
    assert means[0] > means[1] > means[2]


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_teacher_mode(trainer_of, mode):
    trainer, modes = trainer_of(*tiny.FINETUNE, "--mean_teacher", "kl", "--teacher_mode", mode), set()
    teacher = trainer.teacher.model
    encode = teacher.bert.encode

    def watched(*args):
        modes.add((torch.is_grad_enabled(), teacher.training, trainer.model.training))
        return encode(*args)

    with mock.patch.object(teacher.bert, "encode", watched):
        trainer.loop._train_epoch()
    assert modes == {(False, mode == "train", True)}  # the student always drops out


# ------------------------------------------------------------------------------------- length, folders, test files


def test_epoch_steps(run):
    one, _ = run()
    (short, trainer), (long, _) = run("--epoch_steps 2"), run("--epoch_steps 9")
    assert short.batches == one.batches[:2]
    assert long.batches[:5] == one.batches
    assert (len(long.batches), trainer.plan.updates, trainer.loop.progress.update) == (9, 2, 2)
    assert short.losses == one.losses[:2]
    turns, _ = run("--epoch_steps 2 --schedule sequential")
    assert [list(step) for step in turns.rows] == [["quora"], ["sts"], ["sst"]] * 2


def imdb(folder, rows=(9, 5)):
    folder.mkdir()
    random = np.random.default_rng(0)
    for split, count in zip(("train", "dev"), rows, strict=True):
        texts = ["<br />".join(random.choice(tiny.WORDS, 40)) for _ in range(count)]
        lines = [json.dumps({"id": f"{split}/{i}", "text": text, "label": i % 2}) for i, text in enumerate(texts)]
        (folder / f"{split}.jsonl.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
    return folder


def test_imdb_dir(tmp_path, script, trainer_of):
    folder = imdb(tmp_path / "imdb")
    trainer = trainer_of(*tiny.FINETUNE, "--tasks", "imdb,sst", "--imdb_dir", folder, "--max_length", 30)
    assert [str(part.examples.path.parent) for part in trainer.data["imdb"].values()] == [str(folder)] * 2
    assert len(trainer.data["imdb"]["train"].examples) == 9
    assert trainer.data["imdb"]["train"].sequences.lengths.max() == 30
    assert trainer.data["sst"]["train"].examples.path.parent != folder
    done = script(f"--tasks imdb --imdb_dir {folder} --max_length 30 --tsa log --labels_per_class 1 --mean_teacher kl")
    assert done.code == 0, done.err
    assert tiny.read_json(tmp_path / "run" / "scores.json")["dev"].keys() == {"imdb"}


def test_imdb_without_its_folder(tmp_path, script, monkeypatch):
    monkeypatch.setattr("datasets.HERE", tmp_path)
    assert "and no sample of it: say where its files are with --imdb_dir" in script("--tasks imdb").error
    assert "nothing: no such folder of data" in script(f"--tasks imdb --imdb_dir {tmp_path / 'nothing'}").error
    assert not (tmp_path / "run").exists()


def test_skip_test(script, tmp_path):
    files = {}
    for line in ("", "--skip_test"):
        assert script(f"--epochs 1 {line}").code == 0
        files[line] = {path.name: path.read_bytes() for path in (tmp_path / "run" / "predictions").iterdir()}
        (tmp_path / "run").rename(tmp_path / f"done{line}")
    assert files["--skip_test"] == {name: content for name, content in files[""].items() if "test" not in name}
    assert len(files[""]) == 2 * len(files["--skip_test"])
