"""script.py: every way in which a command may end, and freed memory, which is taken again without page faults."""

import errno
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny
import tokenizers
import torch

import augmentation
import experiments
from minbert import script
from minbert.files import UserError
from minbert.script import carry_out, in_a_line

COUNT = """
import resource, sys
sys.path.insert(0, sys.argv[1])
from minbert.script import keep_freed_memory
if sys.argv[2] == "keep":
    keep_freed_memory()
faults = []
for _ in range(3):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    block = b"x" * (64 << 20)
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    del block
print(faults[-1])
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's malloc only")
def test_a_freed_block_is_used_again():
    root = str(Path(script.__file__).parents[1])
    kept, given_back = (
        int(subprocess.run([sys.executable, "-c", COUNT, root, way], check=True, capture_output=True).stdout)
        for way in ("keep", "as usual")
    )
    assert kept < 10
    assert given_back > 10  # huge pages make one fault of 512


def test_other_systems_are_left_alone(monkeypatch):
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    monkeypatch.delattr(script.ctypes, "CDLL")
    script.keep_freed_memory()


# ------------------------------------------------------------------------------------------- how a command ends


class PanicException(BaseException):
    """Stands for that of a library in Rust, whose type cannot be imported."""


def raising(error):
    def job():
        raise error

    return job


@pytest.mark.parametrize(
    ("job", "says"),
    [
        (lambda: torch.empty(2**50), "out of memory ([enforce fail at alloc_cpu.cpp"),
        (lambda: np.empty(2**50), "out of memory (Unable to allocate 8.00 PiB"),
        (raising(MemoryError()), "out of memory (MemoryError): lower --batch_size or --max_length"),
        (raising(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 MiB")), "out of memory (CUDA out"),
        (raising(PanicException("no entry found for key")), "could not cope with a file (no entry found for key)"),
        (raising(UserError("two\nlines")), "two lines"),
        (
            raising(OSError(errno.ENOSPC, "No space left on device", "x/state.pt")),
            "x/state.pt: No space left on device",
        ),
    ],
    ids=["torch", "numpy", "Python", "CUDA", "Rust", "the user", "the disk"],
)
def test_a_failure_of_the_machine_or_the_user_is_a_line(capsys, job, says):
    assert carry_out(job) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert says in line


def test_a_mistake_of_ours_keeps_its_traceback():
    with pytest.raises(RuntimeError, match="shapes"):
        carry_out(raising(RuntimeError("shapes differ")))


def test_out_of_memory_in_a_step_says_what_to_lower(tmp_path, tiny_model, tiny_data, monkeypatch):
    run = tiny.runner(tmp_path / "run", tiny_model, tiny_data)
    monkeypatch.setattr("minbert.training.loop.Loop.step", lambda *_: torch.empty(2**50))
    done = run()
    assert done.code == 2, done.err
    assert done.err.splitlines()[-1].startswith("error: out of memory (")
    assert "lower --batch_size" in done.err


@pytest.mark.parametrize("main", [augmentation, experiments], ids=lambda module: module.__name__)
def test_the_other_scripts_end_the_same_way(main, capsys, monkeypatch):
    monkeypatch.setattr(main, "work", lambda argv: np.empty(2**50))
    assert main.main([]) == 2
    assert capsys.readouterr().err.startswith("error: out of memory")


def test_a_tokenizer_that_panics_is_named(tmp_path, tiny_model, tiny_data):
    """A real one, of the tokenizers library: a template with a part that is in no table."""
    model = tiny.make_checkpoint(tmp_path / "model")
    form = json.loads(tokenizers.BertWordPieceTokenizer(str(tiny_model / "vocab.txt"), lowercase=True).to_str())
    piece = {"SpecialToken": {"id": "[CLS]", "type_id": 0}}
    form["post_processor"] = {"type": "TemplateProcessing", "single": [piece], "pair": [piece], "special_tokens": {}}
    (model / "tokenizer.json").write_text(json.dumps(form))
    argv = ("--model", model, "--data_dir", tiny_data, "--run_dir", tmp_path / "run")
    process = tiny.start(*argv, env=tiny.environment(RUST_BACKTRACE="0"))
    _, err = process.communicate(timeout=120)
    assert process.returncode == 2, err
    assert err.splitlines()[-1].startswith(f"error: {model / 'tokenizer.json'}: ")
    assert "Traceback" not in err


# ------------------------------------------------------------------------------------- streams, and odd terminals


@pytest.fixture(scope="module")
def finished(tmp_path_factory, tiny_model, tiny_data):
    """A finished run. Not to be written to."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    done = tiny.runner(folder, tiny_model, tiny_data)("--epochs", 1)
    assert done.code == 0, done.err
    return folder


def shell(line, name="multitask_classifier.py", **env):
    """Run `SCRIPT ...` in bash: (exit code of SCRIPT, output, error)."""
    line = line.replace("SCRIPT", f"{sys.executable} {tiny.ROOT / name}")
    line = f"{line}; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", line], capture_output=True, env=tiny.environment(**env), timeout=120)
    return done.returncode, done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace")


@pytest.mark.parametrize("what", ["--help", "--predict RUN --input LINES"])
def test_a_reader_that_goes_away_ends_it_without_a_word(finished, tmp_path, what):
    (tmp_path / "lines").write_text("a good film\n" * 2000)
    what = what.replace("RUN", str(finished)).replace("LINES", str(tmp_path / "lines"))
    code, out, err = shell(f"SCRIPT {what} | head -n 1")
    assert (len(out.splitlines()), err) == (1, "")
    assert code in (0, 141)


def test_a_full_disk_under_the_output_is_told(finished, tmp_path):
    (tmp_path / "lines").write_text("a good film\n")
    code, _, err = shell(f"SCRIPT --predict {finished} --input {tmp_path / 'lines'} > /dev/full")
    assert (code, err) == (2, "error: writing: No space left on device\n")


def test_closed_streams(finished, tmp_path, tiny_model, tiny_data):
    code, _, err = shell(f"SCRIPT --predict {finished} <&-")
    assert (code, err.count("\n")) == (2, 1), err
    assert "nothing to predict" in err
    run = f"SCRIPT --model {tiny_model} --data_dir {tiny_data} --epochs 1 --run_dir {tmp_path}"
    for number, closed in enumerate(("2>&-", ">&-", "0<&- >&- 2>&-")):
        code, out, err = shell(f"{run}/{number} {closed}")
        assert (code, "Traceback" in err) == (0, False), out + err
        tiny.assert_same_results(tmp_path / "0", tmp_path / str(number))


def test_a_terminal_that_knows_ascii_alone(finished, tmp_path):
    (tmp_path / "lines").write_text("un été\n", encoding="utf-8")
    code, out, err = shell(f"SCRIPT --predict {finished} --input {tmp_path}/lines", PYTHONIOENCODING="ascii")
    assert code == 0, err
    assert out.startswith("un \\xe9t\\xe9\n")


def test_what_is_not_implemented_by_a_library_keeps_its_traceback():
    """One line is for a blank of a handout; torch's and zipfile's refusals are for us to know whence they come."""
    assert in_a_line(NotImplementedError("bert.py: pool is not written yet; it is part of a3")).endswith("part of a3")
    for said in ("", "zip file version 12.8", "The operator 'aten::foo' is not currently implemented"):
        assert in_a_line(NotImplementedError(said)) is None


def test_names_that_are_not_utf_8(tmp_path, tiny_model, tiny_data):
    """Of the checkpoint, the data, the run and an output: they are opened, and told."""
    home = tmp_path / os.fsdecode(b"caf\xe9")
    try:
        model, data = shutil.copytree(tiny_model, home / "model"), shutil.copytree(tiny_data, home / "data")
    except OSError:
        pytest.skip("the file system takes no such names")
    argv = ["--model", model, "--data_dir", data, "--epochs", 1, "--run_dir", home / "run"]
    process = tiny.start(*argv, "--sst_dev_out", home / "out.csv")
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert f"results in {tmp_path}/caf\\udce9/run\n" in out
    assert (home / "out.csv").is_file()
    assert "caf?/out.csv" in tiny.script("--resume", home / "run").error  # what is read back is text alone
    (tmp_path / "lines").write_text("a good film\n")
    for again in (["--evaluate", home / "run", "--data_dir", data],
                  ["--predict", home / "run", "--input", tmp_path / "lines"]):  # fmt: skip
        assert tiny.script(*again).code == 0
    assert "no such file" in tiny.script("--sst_dev", home / "none.csv", *argv[:-1], home / "other").error


IMPORTS = [("multitask_classifier", "numpy"), ("multitask_classifier", "torch"), ("pretraining", "numpy"),
           ("pretraining", "torch"), ("augmentation", "numpy"), ("experiments", "numpy")]  # fmt: skip


@pytest.mark.parametrize(("name", "library"), IMPORTS)
def test_ctrl_c_during_the_imports(tmp_path, name, library):
    """A library that is interrupted while it is imported."""
    fake = f"import os, signal, time\nos.kill(os.getpid(), {signal.SIGINT:d})\ntime.sleep(30)\n"
    (tmp_path / f"{library}.py").write_text(fake)
    argv = ["list"] if name == "experiments" else ["--model", tmp_path / "none", "--run_dir", tmp_path / "run"]
    process = tiny.start(*argv, script=tiny.ROOT / f"{name}.py", env=tiny.environment(PYTHONPATH=str(tmp_path)))
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "interrupted\n")
