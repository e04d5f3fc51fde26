"""benchmarks/gpu.py: what a GPU is needed for, in one command; here without one."""

import importlib.util
import subprocess
import sys
import time

import pytest
import tiny
import torch

BENCHMARKS = tiny.ROOT / "benchmarks"


@pytest.fixture
def module(monkeypatch):
    """module(name) -> a script of benchmarks/ as a module."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))

    def load(name):
        spec = importlib.util.spec_from_file_location(f"benchmark_{name}", BENCHMARKS / f"{name}.py")
        loaded = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, spec.name, loaded)
        spec.loader.exec_module(loaded)
        return loaded

    return load


def command(*words):
    script = [sys.executable, str(BENCHMARKS / "gpu.py"), *map(str, words)]
    return subprocess.run(script, capture_output=True, text=True, env=tiny.environment(), cwd=tiny.ROOT, check=False)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_is_one_line(tmp_path):
    done = command("--out", tmp_path / "out")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: no CUDA device here; `python benchmarks/gpu.py --device cpu --small`")
    assert not (tmp_path / "out").exists()


def test_every_part_in_a_small_form(tmp_path, tiny_model, tiny_data):
    out = tmp_path / "out"
    done = command("--device", "cpu", "--small", "--out", out, "--model", tiny_model, "--data_dir", tiny_data)
    assert done.returncode == 0, done.stdout + done.stderr
    found = tiny.read_json(out / "summary.json")["parts"]
    states = {name: part["state"] for name, part in found.items()}
    skipped = [name for name, state in states.items() if state == "skipped"]
    assert set(skipped) <= {"train_step_flash"}
    assert set(states.values()) <= {"done", "skipped"}
    assert len(states) == 9
    for name in states.keys() - set(skipped):
        assert (out / f"{name}.txt").stat().st_size
        assert found[name]["figures"], name
    assert "no package flash_attn here" in done.stdout or not skipped
    assert (out / "trace.json.gz").is_file()
    assert 0 < tiny.read_json(out / "profile.json")["busy_share"] <= 1
    assert "| train_step | done |" in (out / "summary.md").read_text()


def test_a_part_that_fails_or_takes_too_long_ends_no_other(tmp_path, module, monkeypatch, capsys):
    gpu = module("gpu")
    sleeper, made = tmp_path / "sleeper.py", tmp_path / "made"
    sleeper.write_text("import subprocess, sys, time\nprint('2 times as fast', flush=True)\n")
    child = f"import time; time.sleep(3); open({str(made)!r}, 'w')"
    sleeper.write_text(sleeper.read_text() + f"subprocess.Popen([sys.executable, '-c', {child!r}])\ntime.sleep(60)\n")
    parts = (
        gpu.Part("absent", 5, "", "", ("no_such_package",)),
        gpu.Part("failing", 5, "-m no_such_module", ""),
        gpu.Part("slow", 1, str(sleeper), ""),
        gpu.Part("fine", 5, "-m this", ""),
    )
    monkeypatch.setattr(gpu, "PARTS", parts)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Abacus")
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--out", str(tmp_path / "out")])
    started = time.monotonic()
    assert gpu.main() == 1
    found = tiny.read_json(tmp_path / "out" / "summary.json")["parts"]
    states = {name: part["state"] for name, part in found.items()}
    assert states == {"absent": "skipped", "failing": "failed", "slow": "out of time", "fine": "done"}
    assert found["slow"]["figures"] == ["2 times as fast"]
    assert "Abacus" in capsys.readouterr().out
    time.sleep(max(0.0, started + 5 - time.monotonic()))
    assert not made.exists()  # what the slow part had started is gone too


def test_the_whole_ends_in_time(tmp_path, module, monkeypatch):
    gpu = module("gpu")
    sleeper = tmp_path / "sleeper.py"
    sleeper.write_text("import time\ntime.sleep(60)\n")
    monkeypatch.setattr(gpu, "PARTS", tuple(gpu.Part(f"p{n}", 50, str(sleeper), "") for n in range(3)))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Abacus")
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--out", str(tmp_path / "out"), "--minutes", "0.03"])
    started = time.monotonic()
    assert gpu.main() == 1
    assert time.monotonic() - started < 4
    parts = tiny.read_json(tmp_path / "out" / "summary.json")["parts"]
    assert [part["state"] for part in parts.values()] == ["out of time"] * 3
    assert parts["p2"]["why"] == "the 0.03 minutes are over"


def test_the_limits_come_to_ten_minutes(module):
    parts = module("gpu").PARTS
    assert sum(part.seconds for part in parts) <= 600
    assert parts[0].name == "tests"


# ------------------------------------------------------------------------------------------------------- the profile

DEVICE = [(0, 10, "a"), (4, 12, "b"), (30, 40, "c"), (42, 50, "d"), (60, 70, "a")]
HOST = [(0, 45, "step"), (13, 25, "copy"), (15, 22, "wait"), (50, 53, "step")]


def test_busy_time_and_gaps(module):
    profile = module("gpu_profile")
    assert profile.busy_time(DEVICE) == 12 + 10 + 8 + 10
    assert profile.gaps(DEVICE, least=5) == [(12, 30, "c"), (50, 60, "a")]
    assert profile.gaps(DEVICE, least=1) == [(12, 30, "c"), (40, 42, "d"), (50, 60, "a")]


def test_what_the_host_did_meanwhile(module):
    profile = module("gpu_profile")
    assert [profile.doing(HOST, moment) for moment in (5, 14, 20, 46)] == [
        "step",
        "copy",
        "wait",
        "Python, outside of torch",
    ]
    found = profile.summarised(DEVICE, HOST, steps=2)
    assert found["seconds"] == 70e-6
    assert found["busy_share"] == 40 / 70
    assert found["idle_share_in_gaps"] == 28 / 70
    assert found["idle_before"] == {"c": round(18 / 70, 4), "a": round(10 / 70, 4)}
    assert found["idle_while_host"] == {"wait": round(18 / 70, 4), "Python, outside of torch": round(10 / 70, 4)}
    assert found["kernels"]["a"] == round(20 / 70, 4)


def test_the_outermost(module):
    spans = [(0, 10, "linear"), (1, 9, "addmm"), (10.5, 20, "gelu"), (11, 12, "erf")]
    assert module("gpu_profile").outermost(spans) == [spans[0], spans[2]]
