"""Two ways to end a run of the script before its time, inside this process."""

import contextlib
import os
import signal

import pytest
import tiny

from optimizer import AdamW


class Killed(BaseException):
    """Stands for SIGKILL: nothing catches it, and nothing is tidied up."""


def killed_before_rename(number, *argv):
    """Run the script, and kill it when its `number`-th file (from 1) is about to be renamed into place. Returns the
    files that were renamed, as text: all of them where there are fewer."""
    renamed = []

    def counted(move):
        def go(source, target):
            if len(renamed) + 1 == number:
                raise Killed
            move(source, target)
            renamed.append(str(target))

        return go

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "replace", counted(os.replace))
        patch.setattr(os, "link", counted(os.link))  # a run's first file: no other process's is replaced
        patch.setattr(os, "unlink", lambda path, **more: None)  # a killed process does not remove its half-written file
        with contextlib.suppress(Killed):
            outcome = tiny.script(*argv)
            assert outcome.code == 0, outcome.err
    return renamed


def stop_at(monkeypatch, update, number=signal.SIGINT):
    """Send this process a signal in the middle of an update of the next run."""
    step = AdamW.step

    def interrupted(optimizer):
        step(optimizer)
        calls.append(1)
        if len(calls) == update:
            os.kill(os.getpid(), number)

    calls = []
    monkeypatch.setattr(AdamW, "step", interrupted)


def stopped_at(update, *argv):
    """Run the script, send it SIGINT in the middle of its `update`-th update, and see it end. Returns its Outcome."""
    with pytest.MonkeyPatch.context() as patch:
        stop_at(patch, update)
        outcome = tiny.script(*argv)
    assert outcome.code == 130, outcome.err
    return outcome
