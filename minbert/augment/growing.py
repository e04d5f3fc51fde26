"""A file of lines that grows as they are made, so that a command which was stopped goes on where it was.

Its lines may have been cut by a kill, or damaged by a disk, so none of them is believed before it is looked at.
"""

import contextlib
import os


@contextlib.contextmanager
def growing(path):
    """The file at `path`, open to be read from its beginning and to be appended to; at the end it is safe on the disk.
    Nobody else may have it: locks.alone_at."""
    with open(path, "a+b") as f:
        f.seek(0)
        try:
            yield f
        finally:
            f.flush()
            os.fsync(f.fileno())


def whole_lines(f):
    """The lines of an open file, as bytes without their ends; a last one that a kill cut is taken off the file."""
    whole, newline, _ = f.read().rpartition(b"\n")
    f.truncate(len(whole + newline))
    return whole.split(b"\n") if newline else []
