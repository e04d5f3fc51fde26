"""What torchrun tells a process of its place among others, and what several processes do not do. Imports no torch."""

import os

from minbert.files import UserError


def count():
    """How many processes torchrun has started on all machines; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", 1))


def rank():
    """Which of them this is; 0 prints and writes for all."""
    return int(os.environ.get("RANK", 0)) if count() > 1 else 0


def local_rank():
    """Which of those on this machine."""
    return int(os.environ.get("LOCAL_RANK", 0))


def settle(parsed):
    """Given a parsed command line, refuse what several processes cannot do. One that torchrun starts again, because
    another had ended, resumes. Raises UserError."""
    if int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0)) and parsed.run_dir and not parsed.resume:
        parsed.resume = True
    if count() == 1:
        return
    given = vars(parsed)
    for flag in ("evaluate", "predict", "export"):
        if given.get(flag):
            raise UserError(f"--{flag} asks a saved run, which one process does: leave torchrun out")
    if not (parsed.run_dir or parsed.resume):
        raise UserError("--run_dir: several processes need one name for their run, by which a restart finds it too")
    check_one_run(parsed.lr, given.get("label_scheme"))
    if parsed.device == "mps":
        raise UserError("--device mps is for one process: leave torchrun out")


def check_one_run(lr, label_scheme):
    """UserError where several processes are asked for several runs; these flags may be those of a run to resume."""
    if count() > 1 and label_scheme:
        raise UserError("--label_scheme trains several models, one after another, in one process: leave torchrun out")
    if count() > 1 and isinstance(lr, list):
        raise UserError("--lr: each of several rates is a run of its own; give one, or leave torchrun out")
