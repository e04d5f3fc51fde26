"""A command of the project as a process that may be killed: what kill_and_resume.py and faults.py share.

A process is a fork of this one, which has imported torch already: it begins at once, and its memory is its own.
"""

import os
import runpy
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: threads do not survive a fork
os.environ.setdefault("MPLBACKEND", "agg")

from same_bits import ROOT, TRAIN

sys.path[:0] = [str(ROOT)]
RENAMES = ("replace", "link")  # of the module os: how every file of the project gets its name
EVERY_STEP = "--checkpoint_minutes 1e-9"


class Life(NamedTuple):
    """What became of a process. code: its exit code, -N where signal N ended it; renames: how many it did or was about
    to do; seconds: how long it lived; said: the end of what it printed."""

    code: int
    renames: int
    seconds: float
    said: str

    @property
    def killed(self):
        return self.code in (-signal.SIGKILL, -signal.SIGALRM)


def import_everything():
    """What the commands import, once for all processes."""
    import matplotlib.pyplot  # noqa: F401
    import sklearn.metrics  # noqa: F401
    import torch._dynamo  # what the first optimizer and the first model without weights import
    import torch.fx.experimental.symbolic_shapes

    import augmentation  # noqa: F401
    import minbert.augment.word_filling  # noqa: F401
    import multitask_classifier  # noqa: F401
    import pretraining  # noqa: F401

    torch.set_num_threads(1)


def commands(row):
    """The command lines of a row of same_bits.METHODS, each saving its state after every step."""
    lines = [row] if isinstance(row, str) else row
    whole = [line if ".py" in line else f"{TRAIN} {line}" for line in lines]
    return [line if line.startswith("augmentation.py") else f"{line} {EVERY_STEP}" for line in whole]


def resumed(command):
    """The command that goes on where this one was killed; where it had not begun, it begins."""
    return command if command.startswith("augmentation.py") else f"{command} --resume"


def start(command, log, before_rename=None, after=None):
    """Begin a process; returns what `end` wants. It is killed before its rename of this number (from 1), or after so
    many seconds, if it lives that long."""
    reader, writer = os.pipe()
    began = time.monotonic()
    child = os.fork()
    if child:
        os.close(writer)
        return child, reader, began, log
    try:
        _live(command, log, writer, before_rename, after)
    finally:
        os._exit(70)


def end(process):
    """Wait for a process: its Life."""
    child, reader, began, log = process
    renames = b""
    with os.fdopen(reader, "rb") as pipe:
        renames = pipe.read()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    said = Path(log).read_text(encoding="utf-8", errors="replace")[-4000:]
    return Life(code, len(renames), time.monotonic() - began, said)


def _live(command, log, writer, before_rename, after):
    """The child's whole life."""
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1), os.dup2(output, 2)
    os.chdir(ROOT)
    done = 0

    def counted(move):
        def go(source, target, **more):
            nonlocal done
            done += 1
            os.write(writer, b".")
            if done == before_rename:
                os.kill(os.getpid(), signal.SIGKILL)
            return move(source, target, **more)

        return go

    for name in RENAMES:
        setattr(os, name, counted(getattr(os, name)))
    if after:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)  # which ends a process as SIGKILL does: nothing is tidied up
        signal.setitimer(signal.ITIMER_REAL, after)
    script, *flags = command.split()
    sys.argv = [str(ROOT / script), *flags]
    code = 0
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as stop:
        code = stop.code or 0
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush(), sys.stderr.flush()
    os._exit(code if isinstance(code, int) else 1)
