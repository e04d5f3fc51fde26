"""script.py: freed memory is taken again without page faults, and other systems are left alone."""

import platform
import subprocess
import sys
from pathlib import Path

import pytest

from minbert import script

COUNT = """
import resource, sys
sys.path.insert(0, sys.argv[1])
from minbert.script import keep_freed_memory
if sys.argv[2] == "keep":
    keep_freed_memory()
faults = []
for _ in range(3):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    block = b"x" * (64 << 20)
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    del block
print(faults[-1])
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's malloc only")
def test_a_freed_block_is_used_again():
    root = str(Path(script.__file__).parents[1])
    kept, given_back = (
        int(subprocess.run([sys.executable, "-c", COUNT, root, way], check=True, capture_output=True).stdout)
        for way in ("keep", "as usual")
    )
    assert kept < 10
    assert given_back > 10  # huge pages make one fault of 512


def test_other_systems_are_left_alone(monkeypatch):
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    monkeypatch.delattr(script.ctypes, "CDLL")
    script.keep_freed_memory()
