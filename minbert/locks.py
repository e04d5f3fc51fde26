"""Locks between processes. A lock ends with the process that has it, however that ends, so none is ever left behind.

The kernel keeps them, on a network's file systems too. Where a file system or Windows knows none, nobody is kept out.
"""

import contextlib
import os
from pathlib import Path

from minbert import files
from minbert.files import UserError

LOCK = ".lock"  # the file in a folder that the lock is on, or the end of one's name beside a file


class Busy(UserError):
    """Another process has the lock."""


@contextlib.contextmanager
def alone_in(folder, wait=None):
    """Make the folder, and keep every other process that asks out of it. Where another is in it: Busy; or, with `wait`,
    a sentence to print (or ""), one's turn. A folder made here in which nothing came to be is taken away again. A
    process that writes nothing need not be alone."""
    folder = Path(folder)
    if not files.writes():
        yield
        return
    if file := next((path for path in (folder, *folder.parents) if path.exists() and not path.is_dir()), None):
        raise UserError(f"{file}: a file, where a folder is to be; choose another name")
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        with _holding(folder / LOCK, folder, wait):
            yield
    finally:
        with contextlib.suppress(OSError):  # not empty, and so are those above
            for path in made:
                path.rmdir()


def alone_at(path):
    """Keep every other process that asks out of the file that is to be made at `path`, whose folder is there; raises
    Busy where another one makes it."""
    path = Path(path)
    return _holding(path.with_name(f".{path.name}{LOCK}"), path)


@contextlib.contextmanager
def _holding(file, what, wait=None):
    """Have the lock on `file`, which is there as long as somebody is at `what`."""
    lock = _enter(file, what, wait)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            os.unlink(file)  # before the lock ends: who waits sees that this file is no longer the one
        os.close(lock)


def _enter(file, what, wait):
    """The descriptor of the locked file."""
    while True:
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            # No link is followed: a folder from elsewhere might name any file.
            descriptor = os.open(file, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
        except FileNotFoundError:
            continue  # whoever was in here just now has taken the folder away
        try:
            _lock_in_turn(descriptor, what, wait)
            if os.fstat(descriptor).st_ino == os.stat(file).st_ino:
                return descriptor
        except FileNotFoundError:
            pass
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _lock_in_turn(descriptor, what, wait):
    try:
        _lock(descriptor, wait=False)
    except BlockingIOError:
        if wait is None:
            raise Busy(f"{what}: another process is at work there; let it end, or choose another name") from None
        if wait:
            print(wait, flush=True)
        _lock(descriptor)


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
    try:
        import fcntl
    except ImportError:  # Windows
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        raise
    except OSError:  # a file system without locks
        return
