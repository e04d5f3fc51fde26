"""Locks between processes on one machine. A lock ends with the process that has it, however that ends."""

import contextlib
import os


class Busy(Exception):
    """Another process has the lock."""


@contextlib.contextmanager
def alone_in(folder):
    """Make the folder, and wait until no other process is in here with it."""
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        _lock(descriptor)
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def locked(path):
    """An open log that one process and its child hold together; raises Busy where others do. The lock ends with the
    last of the two: a sweep that was killed leaves none behind, and a run that outlives its sweep gets no second one
    beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "ab") as log:
        try:
            _lock(log, wait=False)
        except BlockingIOError:
            raise Busy(f"another process is running it (its output: {path})") from None
        yield log


def _lock(file, wait=True):
    import fcntl  # not on Windows, where `list` and `show` still work

    fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
