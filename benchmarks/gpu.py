"""All that a GPU is needed for, in at most ten minutes, into a folder: `make gpu`.

    python benchmarks/gpu.py                        # on a GPU
    python benchmarks/gpu.py --device cpu --small   # every part in a small form, to see that it works

The parts are PARTS, each a process of its own with a time limit, cut to what is left of --minutes; one that fails or
takes too long ends no other. The folder gets what each printed (PART.txt), the profile, and after every part
summary.json and summary.md. Without a GPU: one line, and exit code 2. Exit code 1: a part failed.
"""

import argparse
import importlib.util
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]
FIGURES = (
    "times as fast",
    "times the time",
    "matrix",
    " passed",
    " skipped",
    " failed",
    "idle",
    "busy",
)  # what a figure's line says


@dataclass(frozen=True)
class Part:
    """name: of its files. seconds: its limit. gpu, small: the command there, and its short form on a CPU; FOLDER stands
    for the output's. needs: packages. fine: exit codes that are no failure; fine_small: those of the short form."""

    name: str
    seconds: int
    gpu: str
    small: str
    needs: tuple = ()
    fine: tuple = (0,)
    fine_small: tuple = (0,)


STEPS = "--batch_sizes 2 --repeats 2 --warmup 1"
PROFILE = "benchmarks/gpu_profile.py --out FOLDER"
PARTS = (
    Part("tests", 120, "-m pytest -m gpu", "-m pytest -m gpu tests/test_cuda.py", ("pytest",)),
    Part("rate", 30, "benchmarks/gpu_profile.py --rate", "benchmarks/gpu_profile.py --rate --device cpu"),
    Part(
        "train_step",
        90,
        "benchmarks/train_step.py --use_gpu --attention fused",
        f"benchmarks/train_step.py --attention fused --time_only {STEPS}",
        ("transformers",),
    ),
    Part(
        "train_step_varlen",
        60,
        "benchmarks/train_step.py --use_gpu --attention varlen --attention_dropout 0",
        f"benchmarks/train_step.py --attention varlen --attention_dropout 0 --time_only {STEPS}",
        ("transformers",),
    ),
    Part(
        "train_step_flash",
        60,
        "benchmarks/train_step.py --use_gpu --attention fused --theirs flash_attention_2",
        f"benchmarks/train_step.py --attention fused --theirs flash_attention_2 --time_only {STEPS}",
        ("transformers", "flash_attn"),
    ),
    Part(
        "prediction",
        70,
        "benchmarks/prediction.py --use_gpu",
        "benchmarks/prediction.py --rows 40 --repeats 1",
        ("transformers",),
        fine_small=(0, 1),  # too few to reach its floor
    ),
    Part(
        "masked_lm",
        50,
        "benchmarks/masked_lm.py --use_gpu",
        f"benchmarks/masked_lm.py {STEPS}",
        ("transformers",),
    ),
    Part(
        "semi_supervised",
        80,
        "benchmarks/semi_supervised.py --use_gpu --attention fused --time_only",
        f"benchmarks/semi_supervised.py --time_only {STEPS}",
    ),
    Part("profile", 40, PROFILE, f"{PROFILE} --device cpu --batch_size 2 --steps 2"),
)


def main():
    args = parse()
    import torch

    from minbert.files import UserError

    if args.device == "cuda" and not torch.cuda.is_available():
        raise UserError(
            "no CUDA device here; `python benchmarks/gpu.py --device cpu --small` shows every part in a small form"
        )
    if args.device == "cpu" and not args.small:
        raise UserError("--device cpu needs --small: a GPU's sizes would take hours")
    folder = Path(args.out or ROOT / "runs" / "gpu" / time.strftime("%Y-%m-%d_%H-%M-%S"))
    folder.mkdir(parents=True, exist_ok=False)
    name = torch.cuda.get_device_name() if args.device == "cuda" else "a CPU, in a small form"
    summary = {"device": name, "torch": torch.__version__, "model": args.model, "parts": {}}
    print(f"{name}; output in {folder}", flush=True)
    end = time.monotonic() + 60 * args.minutes
    for part in PARTS:
        if args.parts and part.name not in args.parts:
            continue
        summary["parts"][part.name] = done = carry_out_part(part, args, folder, end - time.monotonic())
        write_summary(folder, summary)
        print(f"{part.name:18} {done['state']}, {done['seconds']:.0f} s {done['why']}", flush=True)
    print((folder / "summary.md").read_text(encoding="utf-8"))
    return int(any(done["state"] in ("failed", "out of time") for done in summary["parts"].values()))


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", metavar="FOLDER", help="a new folder (default: below runs/gpu, named by the time)")
    parser.add_argument("--model", default="minilm", help="checkpoint (default: %(default)s)")
    parser.add_argument("--data_dir", help="the course's files (default: as multitask_classifier.py)")
    parser.add_argument("--minutes", type=float, default=10, help="in which all ends (default: %(default)s)")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="(default: %(default)s)")
    parser.add_argument("--small", action="store_true", help="every part in a small form, on a CPU")
    parser.add_argument("--parts", nargs="+", choices=[part.name for part in PARTS], help="only these")
    return parser.parse_args()


def carry_out_part(part, args, folder, left):
    """Run a part within its limit and `left` seconds; returns what summary.json says of it."""
    done = {"state": "skipped", "seconds": 0.0, "why": "", "figures": []}
    if missing := [name for name in part.needs if importlib.util.find_spec(name) is None]:
        return done | {"why": f"no package {missing[0]} here"}
    if left < 1:
        return done | {"state": "out of time", "why": f"the {args.minutes:g} minutes are over"}
    command, limit, started = command_of(part, args, folder), min(part.seconds, left), time.monotonic()
    output = folder / f"{part.name}.txt"
    with output.open("w", encoding="utf-8") as file:
        child = subprocess.Popen(command, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            code = child.wait(None if args.small else limit)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            end_all_of(child)
    done["seconds"] = time.monotonic() - started
    done["figures"] = figures(output.read_text(encoding="utf-8", errors="replace"))
    if code is None:
        return done | {"state": "out of time", "why": f"its limit of {limit:.0f} s; {output.name} has what it said"}
    if code in (part.fine_small if args.small else part.fine):
        return done | {"state": "done"}
    return done | {"state": "failed", "why": f"exit code {code}; see {output.name}"}


def command_of(part, args, folder):
    """The words of a part's command."""
    words = (part.small if args.small else part.gpu).replace("FOLDER", str(folder)).split()
    if words[0] != "-m":
        words += ["--model", args.model, *(["--data_dir", args.data_dir] if args.data_dir else [])]
    return [sys.executable, *words]


def end_all_of(child):
    """Kill a part with all that it started."""
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    child.wait()


def figures(said):
    """The lines that hold a part's figures."""
    return [line.strip() for line in said.splitlines() if any(words in line for words in FIGURES)]


def write_summary(folder, summary):
    from minbert.files import write_json, write_text

    write_json(folder / "summary.json", summary)
    lines = [f"# {summary['device']}", "", f"torch {summary['torch']}, {summary['model']}.", ""]
    lines += ["| part | | seconds |", "|---|---|---|"]
    for name, part in summary["parts"].items():
        lines.append(f"| {name} | {part['state']}{part['why'] and ': '}{part['why']} | {part['seconds']:.0f} |")
    for name, part in summary["parts"].items():
        if part["figures"]:
            lines += ["", f"## {name}", "", "```", *part["figures"], "```"]
    write_text(folder / "summary.md", "\n".join(lines) + "\n")


if __name__ == "__main__":
    from minbert.script import carry_out

    sys.exit(carry_out(main))
