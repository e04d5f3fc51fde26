"""Files of tensors that are damaged, cut short, made to do harm, or hold what no model computes with."""

import pickle
import struct
import zipfile

import pytest
import tiny
import torch
from safetensors.torch import save_file

from bert import BertModel
from minbert import weights
from minbert.files import UserError
from minbert.weights import read_tensors

FILES = ["model.safetensors", "pytorch_model.bin"]
TENSORS = {"embeddings.weight": torch.arange(240.0).view(12, 20), "bias": torch.ones(5)}


def write(tensors, path):
    (save_file if path.suffix == ".safetensors" else torch.save)(tensors, path)
    return path


def refusal(path):
    with pytest.raises(UserError) as caught:
        read_tensors(path)
    assert len(str(caught.value).splitlines()) == 1
    assert str(caught.value).startswith(f"{path}: ")
    return str(caught.value)


@pytest.fixture(params=FILES)
def path(request, tmp_path):
    return tmp_path / request.param


def test_what_was_written_is_read(path):
    kinds = {str(dtype): torch.ones(3, dtype=dtype) for dtype in (torch.float16, torch.float64, torch.int64)}
    tensors = {**TENSORS, **kinds, "none": torch.ones(0, 4), "a view": TENSORS["embeddings.weight"][3:7].clone()}
    found = read_tensors(write(tensors, path))
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[name], tensors[name]) and found[name].dtype == tensors[name].dtype for name in found)


def test_truncated_and_foreign_files_are_refused(path):
    expected = {".safetensors": "not a whole safetensors file", ".bin": "refused: damaged"}[path.suffix]
    whole = write(TENSORS, path).read_bytes()
    cut = [whole[:size] for size in (0, 1, 7, 8, 9, 100, len(whole) // 2, len(whole) - 1)]
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\n"
    for content in [*cut, b"\0" * 5000, b"\xff" * 5000, pointer, struct.pack("<Q", 2) + b"{"]:
        path.write_bytes(content)
        assert expected in refusal(path)
    path.unlink()
    assert "no such file" in refusal(path)


def test_a_flipped_bit_in_an_archive_is_seen(tmp_path):
    """torch.load by itself takes such a file for good."""
    path = write(TENSORS, tmp_path / "pytorch_model.bin")
    content = bytearray(path.read_bytes())
    content[content.index(struct.pack("<3f", 100, 101, 102))] ^= 4
    path.write_bytes(content)
    assert "damaged: the checksum of pytorch_model/data/0 in it differs" in refusal(path)


def test_archives_have_checksums_and_older_files_none(tmp_path):
    path = tmp_path / "pytorch_model.bin"
    torch.save(TENSORS, path, _use_new_zipfile_serialization=False)
    assert not zipfile.is_zipfile(path)
    assert read_tensors(path).keys() == TENSORS.keys()


class Payload:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize("writer", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value, protocol=2))])
def test_pickled_code_is_refused_and_not_run(tmp_path, writer):
    path = tmp_path / "pytorch_model.bin"
    writer({"bias": torch.zeros(24), "x": Payload(tmp_path / "owned")}, path)
    assert "never executed" in refusal(path)
    assert not (tmp_path / "owned").exists()


def test_nested_dictionary_is_refused(tmp_path):
    path = write({"model": {"a": torch.ones(1)}, "epoch": 3}, tmp_path / "pytorch_model.bin")
    assert "state_dict" in refusal(path)


ODD = {
    "sparse": lambda t: t.to_sparse(),
    "sparse rows": lambda t: t.to_sparse_csr(),
    "nested": lambda t: torch.nested.nested_tensor([t, t]),
    "ragged": lambda t: torch.nested.nested_tensor([t, t[:3]], layout=torch.jagged),
    "quantized": lambda t: torch.quantize_per_tensor(t, 0.1, 0, torch.qint8),
    "without memory": lambda t: t.to("meta"),
    "one number as many": lambda t: torch.zeros(1).expand(10**9, 10**9),
}


@pytest.mark.filterwarnings("ignore::UserWarning")  # torch's, on its own odd kinds
@pytest.mark.parametrize("kind", ODD)
def test_only_dense_tensors_are_taken(tmp_path, kind):
    path = write({**TENSORS, "odd": ODD[kind](TENSORS["embeddings.weight"])}, tmp_path / "pytorch_model.bin")
    assert "odd is no dense tensor with values of its own" in refusal(path)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1e300])
def test_numbers_that_are_not_finite_are_refused(path, value):
    spoiled = torch.ones(4, 5, dtype=torch.float64)
    spoiled[2, 3] = value
    assert "spoiled holds numbers that are not finite" in refusal(write({**TENSORS, "spoiled": spoiled}, path))


def test_numbers_of_four_bits_are_refused(tmp_path):
    header = b'{"few": {"dtype": "F4", "shape": [2], "data_offsets": [0, 1]}}'
    (tmp_path / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + b"a")
    assert "few holds numbers of a kind that cannot be read" in refusal(tmp_path / "model.safetensors")


def test_a_panic_of_rust_is_one_line(path, monkeypatch):
    """pyo3_runtime.PanicException is a BaseException, and cannot be imported."""

    def panic(*_, **__):
        raise type("PanicException", (BaseException,), {})("index out of bounds")

    monkeypatch.setattr(weights, "load_file", panic)
    monkeypatch.setattr(weights.torch, "load", panic)
    refusal(write(TENSORS, path))


def test_an_interrupt_is_none_of_that(path, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(weights, "load_file", interrupt)
    monkeypatch.setattr(weights.torch, "load", interrupt)
    with pytest.raises(KeyboardInterrupt):
        read_tensors(write(TENSORS, path))


def test_every_reader_of_weights_looks(tmp_path, tiny_model, tiny_data):
    """A checkpoint's, and a saved run's for --predict, which printed nan."""
    run = tmp_path / "run"
    flags = ("--model", tiny_model, "--data_dir", tiny_data, "--run_dir", run, "--tasks", "sst", "--epochs", 1)
    assert tiny.script("--option", "pretrain", *flags).code == 0
    for path in (run / "bert" / "model.safetensors", run / "model.safetensors"):
        tensors = read_tensors(path)
        name = next(name for name in tensors if name.endswith("LayerNorm.weight") or "layer_norm" in name)
        tensors[name][0] = torch.nan
        write(tensors, path)
    said = f"{name} holds numbers that are not finite; start a new run"
    (tmp_path / "in").write_text("A fine film.\n")
    with pytest.raises(UserError, match="holds numbers that are not finite; get the file again"):
        BertModel.from_pretrained(run / "bert")
    write(read_tensors(tiny_model / "model.safetensors"), run / "bert" / "model.safetensors")
    assert f"{run / 'model.safetensors'}: {said}" in tiny.script("--predict", run, "--input", tmp_path / "in").error
