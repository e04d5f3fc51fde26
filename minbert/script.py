"""How a command of the project begins and ends: before torch is imported, and what each way of ending exits with."""

import ctypes
import os
import platform
import sys

from minbert.files import UserError, complain

# mallopt's parameter numbers, from glibc's malloc.h
M_TRIM_THRESHOLD = -1
M_MMAP_THRESHOLD = -3


class Stopped(Exception):
    """The user asked the run to stop; its state is saved, in `folder`."""

    def __init__(self, message, folder):
        super().__init__(message)
        self.folder = folder


def begin(parse):
    """What `parse()` makes of the command line; a user's mistake ends the program with one line.

    Call it before torch is imported: --help and a mistyped flag are answered at once, and OpenMP is told to spin only
    briefly. Threads that spin while they wait make a step ten times as slow on a machine that does other work too.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    try:
        return parse()
    except UserError as error:
        sys.exit(complain(error))


def carry_out(job, options):
    """Do a command's work, job(options). Returns its exit code: 0 all well, 2 a mistake of the user's, 130 stopped."""
    keep_freed_memory()
    try:
        job(options)
    except Stopped as stop:
        print(stop)
        return 130
    except KeyboardInterrupt:
        print("interrupted: nothing was saved since the last checkpoint", file=sys.stderr)
        return 130
    except (UserError, OSError) as error:
        return complain(error)
    return 0


def keep_freed_memory():
    """Ask glibc to reuse freed blocks, large ones too; call it before torch allocates. Elsewhere it does nothing.

    By default glibc takes each large block fresh from the system and gives it back when it is freed. A training step
    on a CPU allocates and frees the same hundreds of megabytes every time, and the page faults of touching fresh
    memory can cost more than the arithmetic: the dense gradient of a word embedding took 33 ms with them, 4 without.
    The price is that memory freed after a peak stays with the process.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    mallopt = ctypes.CDLL(None).mallopt
    # Older versions of glibc refuse (return 0) a threshold over 32 MiB; blocks up to there are then reused at least.
    if not mallopt(M_MMAP_THRESHOLD, 1 << 30):
        mallopt(M_MMAP_THRESHOLD, 1 << 25)
    mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
