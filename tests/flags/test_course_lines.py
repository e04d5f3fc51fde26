"""Command lines as the course's handouts of 2023 and 2024 have them keep their meaning."""

import shlex

import pytest
import tiny
import torch

from bert import BertModel

SETS = {"sst": "ids-sst", "para": "quora", "sts": "sts"}
OUTPUTS = [f"predictions/{task}-{split}-output.csv" for task in SETS for split in ("dev", "test")]
FILES = " ".join(
    f"--{task}_train data/{name}-train.csv --{task}_dev data/{name}-dev.csv --{task}_test data/{name}-test-student.csv"
    for task, name in SETS.items()
)
NAMED = " ".join(f"--{task}_{split}_out mine/{task}-{split}.csv" for task in SETS for split in ("dev", "test"))
LINES = {
    "2023, the trunk too": f"--option finetune --lr 1e-5 --batch_size 8 --hidden_dropout_prob 0.3 --epochs 1 {FILES}",
    "2023, heads alone": f"--option pretrain --lr 1e-3 --seed 11711 --epochs 1 --batch_size 8 {NAMED}",
    "2024, the trunk too": f"--fine-tune-mode full-model --lr 1e-5 --epochs 1 --hidden_dropout_prob 0.3 {FILES}",
    "2024, heads alone": f"--fine-tune-mode last-linear-layer --lr 1e-3 --epochs 1 --batch_size 8 {FILES} {NAMED}",
}


@pytest.fixture
def course(tmp_path, tiny_model, tiny_data, monkeypatch):
    """The current folder, with the course's files in data/ and nothing else."""
    (tmp_path / "data").symlink_to(tiny_data)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("year", LINES)
def test_the_lines_of_both_years_run_as_they_did_there(course, tiny_model, year):
    words = shlex.split(LINES[year])
    done = tiny.script(*words, "--model", tiny_model, "--data_dir", "data", "--run_dir", "run")
    assert done.code == 0, done.err
    flags = tiny.read_json("run/config.json")["flags"]
    heads_alone = "heads alone" in year
    assert flags["option"] == ("pretrain" if heads_alone else "finetune")
    assert flags["lr"] == (1e-3 if heads_alone else 1e-5)
    assert (flags["epochs"], flags["batch_size"], flags["hidden_dropout_prob"], flags["seed"]) == (1, 8, 0.3, 11711)
    assert len(tiny.metrics("run")) == 1
    before, after = (BertModel.from_pretrained(folder).state_dict() for folder in (tiny_model, "run/bert"))
    assert all(torch.equal(value, after[name]) for name, value in before.items()) == heads_alone
    if NAMED in LINES[year]:
        assert sorted(path.name for path in (course / "mine").iterdir()) == sorted(
            f"{task}-{split}.csv" for task in SETS for split in ("dev", "test")
        )
    else:
        assert all((course / "run" / name).is_file() for name in OUTPUTS)


@pytest.mark.parametrize("year", LINES)
def test_use_gpu_asks_for_cuda_and_changes_nothing_else(year):
    words = shlex.split(LINES[year])
    plain, gpu = tiny.options_of(*words), tiny.options_of(*words, "--use_gpu")
    assert (plain.model.use_gpu, gpu.model.use_gpu) == (False, True)
    differing = {name for name, value in vars(plain.namespace()).items() if value != getattr(gpu.namespace(), name)}
    assert differing <= {"use_gpu", "device", "precision", "run_dir", "given"}
