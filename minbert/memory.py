"""Memory that one step frees stays with the process for the next step."""

import ctypes
import platform

# mallopt's parameter numbers, from glibc's malloc.h
M_TRIM_THRESHOLD = -1
M_MMAP_THRESHOLD = -3


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
