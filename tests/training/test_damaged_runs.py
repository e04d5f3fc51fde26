"""A damaged run, or one of another kind, is not gone on from: what is wrong with it is told in one line."""

import json
import random
import shutil

import pytest
import tiny
import torch
from runs_to_resume import contents


def test_a_folder_without_a_run(tmp_path, tiny_model):
    assert "no config.json there" in tiny.script("--resume", tmp_path / "nowhere").error
    before = contents(tiny_model)
    assert "not the config of a run" in tiny.script("--resume", tiny_model).error  # it has a config.json of its own
    assert contents(tiny_model) == before


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"flags": {}}', "[" * 100_000], ids=lambda c: c[:9])
def test_a_damaged_config(stopped, content):
    (stopped / "config.json").write_text(content)
    assert "config.json: not the config of a run" in tiny.script("--resume", stopped).error


@pytest.mark.parametrize(
    "change",
    [{"flags": []}, {"model": {"name": 3, "sha256": "0"}}, {"data": None}, {"data": {"sst": []}}, {"machine": 1}],
    ids=str,
)
def test_a_config_of_the_wrong_form(stopped, change):
    config = {**tiny.read_json(stopped / "config.json"), **change}
    (stopped / "config.json").write_text(json.dumps(config))
    assert "config.json: not the config of a run (" in tiny.script("--resume", stopped).error


@pytest.mark.parametrize(
    "change",
    [
        {"epochs": "3"},
        {"epochs": 3.0},
        {"epochs": None},
        {"epochs": -1},
        {"lr": "fast"},
        {"lr": []},
        {"tasks": "sst"},
        {"tasks": [["sst"]]},
        {"use_gpu": 1},
        {"seed": True},
        {"pairs": "both"},
        {"pairs": {}},
        {"limit": []},
        {"limit": {"sst": 1.5}},
        {"batch_size": {"sst": "4"}},
        {"model": 3},
        {"plain_dir": None},
        {"sst_dev_out": "a\0b"},
        {"data_dir": "\0"},
    ],
    ids=str,
)
def test_a_flag_in_the_config_that_nobody_could_have_typed(stopped, change):
    config, ((name, _),) = tiny.read_json(stopped / "config.json"), change.items()
    (stopped / "config.json").write_text(json.dumps({**config, "flags": {**config["flags"], **change}}))
    assert f"--resume {stopped}: its record says --{name} " in tiny.script("--resume", stopped).error


@pytest.mark.parametrize("share", [0, 0.5, 0.99])
def test_a_truncated_state(stopped, share):
    state = (stopped / "state.pt").read_bytes()
    (stopped / "state.pt").write_bytes(state[: int(share * len(state))])
    before = contents(stopped)
    assert "state.pt: not a state of this run" in tiny.script("--resume", stopped).error
    assert contents(stopped) == before


def test_a_state_of_an_archive_version_that_there_is_not(stopped):
    state = bytearray((stopped / "state.pt").read_bytes())
    state[state.rindex(b"PK\1\2") + 6] = 128  # the version that is needed to extract a member
    (stopped / "state.pt").write_bytes(state)
    assert "state.pt: not a state of this run (zip file version 12.8" in tiny.script("--resume", stopped).error


def test_a_flipped_bit_in_the_state(stopped, finished):
    """Wherever it falls: in numbers, which torch reads as others, or in what does not matter."""
    path, random_places, refused = stopped / "state.pt", random.Random(5), 0
    state = path.read_bytes()
    places = [len(state) // 2, *(random_places.randrange(len(state)) for _ in range(12))]
    for place in places:
        path.write_bytes(state[:place] + bytes([state[place] ^ 1 << place % 8]) + state[place + 1 :])
        folder = shutil.copytree(stopped, stopped.parent / str(place))
        done = tiny.script("--resume", folder)
        if done.code == 0:
            tiny.assert_same_results(finished, folder)
        else:
            assert "state.pt: not a state of this run" in done.error
            refused += 1
    assert refused > 6


@pytest.mark.parametrize(("flag", "value"), [("lr", 2e-3), ("clip", 1.0), ("seed", 5), ("limit", {"sst": 20})])
def test_a_flag_edited_in_the_config(stopped, finished, flag, value):
    config = tiny.read_json(stopped / "config.json")
    edited = {**config, "flags": {**config["flags"], flag: value}}
    (stopped / "config.json").write_text(json.dumps(edited))
    before = contents(stopped)
    line = tiny.script("--resume", stopped).error
    assert "state.pt: not a state of this run with the flags that its config.json has now; put those back" in line
    assert contents(stopped) == before
    state = torch.load(stopped / "state.pt", weights_only=True)
    del state["identity"]  # as states of earlier versions
    torch.save(state, stopped / "state.pt")
    (stopped / "config.json").write_text(json.dumps(config))
    assert tiny.script("--resume", stopped).code == 0
    tiny.assert_same_results(finished, stopped)


def _with_flipped_number(state):
    place = len(state) // 2  # within a tensor
    return state[:place] + bytes([state[place] ^ 1]) + state[place + 1 :]


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(_with_flipped_number, id="a flipped bit, which torch does not see"),
        pytest.param(lambda state: state[64:], id="an archive that points before its start"),
    ],
)
def test_a_damaged_state(stopped, spoil):
    (stopped / "state.pt").write_bytes(spoil((stopped / "state.pt").read_bytes()))
    assert "state.pt: not a state of this run" in tiny.script("--resume", stopped).error


MOMENTS = ("optimizer", "state", 0)
WRONG = {  # where in a state, and what stands there though no checksum is wrong -> what is said of it
    "an epoch that is no number": (("progress", "epoch"), "1", "epoch is '1', expected int"),
    "an epoch that is none": (("progress", "epoch"), -1, "-1 is no count"),
    "an epoch beyond the last": (("progress", "epoch"), 99, "99 are said to be done"),
    "a step beyond the epoch's last": (("progress", "step"), 10**6, "step 1000000 of"),
    "no history": (("progress", "history"), [], "epochs [] of"),
    "a history of something else": (("progress", "history"), [3], "an item of history is no object"),
    "a best score that is no number": (("progress", "best"), float("nan"), "Out of range float values"),
    "weights that are no numbers": (("model", "heads.sst.out.bias"), None, "is no dense tensor of finite numbers"),
    "a mean of another shape": ((*MOMENTS, "exp_avg"), torch.zeros(3), "exp_avg has another shape or type"),
    "a mean that is not finite": ((*MOMENTS, "exp_avg_sq"), "nan", "exp_avg_sq is no dense tensor of finite numbers"),
    "a sparse mean": ((*MOMENTS, "exp_avg"), "sparse", "exp_avg is no dense tensor"),
    "a negative variance": ((*MOMENTS, "exp_avg_sq"), "negative", "running means that cannot be"),
    "steps that are no number": ((*MOMENTS, "step"), "3", "'3' is no count"),
    "a parameter that is not there": (("optimizer", "state", 10**4), {}, "list index out of range"),
    "terms of something else": (("record", "terms"), "sst", "has no attribute 'items'"),
    "a term of another task": (("record", "terms"), {("rte", ""): torch.zeros(2).double()}, "a term of 'rte'"),
    "random numbers of another kind": (("rng",), torch.zeros(3), "RNG state must be a torch.ByteTensor"),
}
CHANGES = {"nan": lambda t: t * float("nan"), "sparse": torch.Tensor.to_sparse, "negative": lambda t: t - 1}


@pytest.mark.parametrize("what", WRONG)
def test_a_state_that_somebody_wrote(stopped, what):
    """Its checksums are right, and what it says would end in a traceback later, or in another result."""
    (*way, last), value, said = WRONG[what]
    state = torch.load(stopped / "state.pt", weights_only=True)
    place = state
    for key in way:
        place = place[key]
    change = CHANGES.get(value) if isinstance(value, str) else None
    if last == "heads.sst.out.bias":
        last = next(name for name in place if name.startswith("heads."))
    place[last] = change(place[last]) if change else value
    torch.save(state, stopped / "state.pt")
    error = tiny.script("--resume", stopped).error
    assert "state.pt: not a state of this run (" in error
    assert said in error


def test_rates_in_a_state_count_for_nothing(stopped, finished):
    """They are what the flags say."""
    state = torch.load(stopped / "state.pt", weights_only=True)
    for group in state["optimizer"]["param_groups"]:
        group.update(lr=1.0, initial_lr=1.0, betas=(0.1, 0.1), eps=1.0, weight_decay=1.0)
    torch.save(state, stopped / "state.pt")
    assert tiny.script("--resume", stopped).code == 0
    tiny.assert_same_results(finished, stopped)


def test_a_state_of_another_model(stopped, tmp_path, argv_of):
    other = tiny.make_checkpoint(tmp_path / "other", hidden=32)
    assert tiny.script(*argv_of(tmp_path / "wide", "--epochs", 1, model=other)).code == 0
    shutil.copy(tmp_path / "wide" / "state.pt", stopped / "state.pt")
    assert "state.pt: not a state of this run" in tiny.script("--resume", stopped).error


@pytest.mark.parametrize(
    ("damage", "said"),
    [("truncated", "not a whole safetensors file"), ("foreign", "weights of another model than this run's")],
)
def test_a_damaged_best_model(finished, tmp_path, tiny_model, damage, said):
    path = shutil.copytree(finished, tmp_path / "run") / "model.safetensors"
    content = (tiny_model / "model.safetensors").read_bytes() if damage == "foreign" else path.read_bytes()[:-100]
    path.write_bytes(content)
    assert f"model.safetensors: {said}" in tiny.script("--resume", path.parent).error
