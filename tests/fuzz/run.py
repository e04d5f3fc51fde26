"""Spoiled files for everything that the program reads: `python tests/fuzz/run.py 3000 --seed 1`.

Each case is a good file, changed by mutate.py, and read by the project's own code (inputs.py). It must be read or
refused with a UserError, in SECONDS and MEMORY; any other exception is a fault of the program's, and is printed with
the case's name, which --case makes once more. Nothing is written outside a temporary folder, which is checked too.
"""

import argparse
import contextlib
import faulthandler
import io
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
if __name__ == "__main__":  # the repository is to stay as it is; not where tests import this file
    sys.dont_write_bytecode = True
os.environ.setdefault("OMP_NUM_THREADS", "1")

from fuzz import inputs, mutate  # noqa: E402  (after the path and the threads are set)

from minbert.files import UserError  # noqa: E402

SECONDS = 10
ADDRESSES = 4 << 30  # bytes, of which torch takes more than it uses
MEMORY = 2 << 30  # bytes
ACCEPTED, REFUSED, FAILED = "accepted", "refused", "failed"


class TooSlow(BaseException):
    """Not an Exception, so that what handles those does not handle it."""


def _too_slow(*_):
    raise TooSlow(f"more than {SECONDS} s")


class Case:
    """One spoiled file. `name`: "SEED:INPUT:NUMBER", from which everything in it is drawn."""

    def __init__(self, name, known):
        self.name = name
        _, self.of, _ = name.split(":")
        self.input = known[self.of]

    def make(self, folder):
        """The path of the spoiled file, in a copy of its input's folder."""
        shutil.copytree(self.input.folder, folder)
        path = folder / self.input.file
        path.write_bytes(mutate.spoil(path.read_bytes(), self.input.form, random.Random(self.name)))
        return path

    def run(self, folder):
        """(what became of it, the message or traceback)"""
        path = self.make(folder)
        began, signal_before = time.monotonic(), signal.signal(signal.SIGALRM, _too_slow)
        signal.alarm(SECONDS)
        try:
            with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings(action="ignore"):
                self.input.read(path)
            outcome = ACCEPTED, ""
        except UserError as error:
            outcome = (REFUSED, str(error)) if "\n" not in str(error) else (FAILED, f"several lines: {error}")
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            outcome = FAILED, traceback.format_exc()
        finally:
            signal.alarm(0)
            signal.signal(signal.SIGALRM, signal_before)
        late = time.monotonic() - began > SECONDS  # also where foreign code, or a handler of everything, swallowed it
        return (FAILED, f"more than {SECONDS} s, then: {outcome[1]}") if late and outcome[0] != FAILED else outcome


def run_all(names, known, folder):
    """{(input, what became of it): cases}, {name of a failed case: its traceback}. Cases are made below `folder`."""
    counts, failures = Counter(), {}
    for name in names:
        case = Case(name, known)
        with tempfile.TemporaryDirectory(dir=folder) as home:
            became, said = case.run(Path(home) / "case")
        counts[case.of, became] += 1
        if became == FAILED:
            failures[name] = said
    return counts, failures


def names_of(number, seed, known):
    """The names of so many cases, the inputs in turn."""
    known = [*known]
    return [f"{seed}:{known[i % len(known)]}:{i // len(known)}" for i in range(number)]


def listing(folder):
    """{path: (size, time of change)} of everything below a folder but what tools keep there for themselves."""
    found = {}
    for home, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".") and name != "__pycache__"]
        for path in (Path(home) / name for name in files):
            with contextlib.suppress(FileNotFoundError):
                found[path] = (path.lstat().st_size, path.lstat().st_mtime_ns)
    return found


def table(counts):
    """The counts as lines of text."""
    kinds = (ACCEPTED, REFUSED, FAILED)
    names = list(dict.fromkeys(name for name, _ in counts))
    rows = [(name, [counts[name, kind] for kind in kinds]) for name in names]
    rows.append(("all", [sum(counts[name, kind] for name in names) for kind in kinds]))
    head = f"{'input':20}{'cases':>8}" + "".join(f"{kind:>10}" for kind in kinds)
    return "\n".join([head, *(f"{n:20}{sum(c):8,}" + "".join(f"{one:10,}" for one in c) for n, c in rows)])


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("number", nargs="?", type=int, default=1000, help="cases")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", metavar="NAME", help="one input alone")
    parser.add_argument("--case", metavar="SEED:NAME:I", help="one case alone, whose file is kept")
    options = parser.parse_args(argv)
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESSES, ADDRESSES))
    faulthandler.enable()  # where a file kills the process itself
    before = listing(ROOT)
    with tempfile.TemporaryDirectory(prefix="minbert-fuzz-") as folder:
        folder = Path(folder)
        known = inputs.all_of(folder)
        if options.only and options.only not in known:
            parser.error(f"--only {options.only}: choose one of {', '.join(known)}")
        if options.case:
            kept = Path(tempfile.mkdtemp(prefix="minbert-case-")) / "case"
            print(*Case(options.case, known).run(kept), f"its files: {kept}", sep="\n")
            return 0
        names = names_of(options.number, options.seed, [options.only] if options.only else known)
        began = time.monotonic()
        counts, failures = run_all(names, known, folder)
    for name, said in failures.items():
        print(f"--case '{name}'\n{said}")
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10  # Linux counts in KiB
    print(f"{table(counts)}\nseed {options.seed}, {time.monotonic() - began:.0f} s, {used >> 20} MiB at the most")
    changed = {str(path) for path, _ in before.items() ^ listing(ROOT).items()}
    if changed:
        print(f"written outside of the temporary folder: {', '.join(sorted(changed))}")
    return 1 if failures or changed or used > MEMORY else 0


if __name__ == "__main__":
    sys.exit(main())
