"""How a command of the project begins and ends: before torch is imported, and what each way of ending exits with.

A script's first statement is `begin()`, before its other imports, and its last `sys.exit(carry_out(main))`.
"""

import contextlib
import ctypes
import os
import platform
import signal
import sys
from pathlib import Path

from minbert import launch
from minbert.files import UserError, is_panic, one_line

# mallopt's parameter numbers, from glibc's malloc.h
M_TRIM_THRESHOLD = -1
M_MMAP_THRESHOLD = -3

MISTAKE, INTERRUPTED, NO_READER = 2, 130, 141  # exit codes; the last two are what a shell makes of SIGINT and SIGPIPE
BLANK = ("is not written yet", "is left out of the handouts")  # what a function of a handout says in its place
NO_MEMORY = ("not enough memory", "out of memory", "can't allocate memory", "ALLOC_FAILED")  # torch, in a RuntimeError
RUNNING = ("torch", "numpy", "tokenizers", "tqdm", "safetensors", "huggingface_hub", "matplotlib", "jinja2")
PACKAGES = {  # by the name they are imported by -> the file that names them
    **dict.fromkeys(RUNNING, "requirements.txt"),
    **dict.fromkeys(("transformers", "sklearn", "pytest"), "requirements-dev.txt"),
}
ROOT = Path(__file__).resolve().parents[1]
LOWER = "lower --batch_size or --max_length, or choose a smaller --model"


class Stopped(Exception):
    """The user asked the run to stop; its state is saved, in `folder`."""

    def __init__(self, message, folder):
        super().__init__(message)
        self.folder = folder


def begin(parse=None):
    """Make ready, then return what `parse()` makes of the command line; a user's mistake ends the program in one line.

    Call it before torch is imported: --help and a mistyped flag are answered at once, Ctrl-C ends the imports without a
    traceback, and OpenMP is told to spin only briefly. Threads that spin while they wait make a step ten times as slow
    on a machine that does other work too.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    sys.excepthook = _tell_of_missing
    _open_closed_streams()
    for stream in (sys.stdout, sys.stderr):  # a name that is not UTF-8, or a terminal that knows ASCII alone
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    parsed = []
    with _quiet() if launch.rank() else contextlib.nullcontext():  # of several processes the first one tells
        code = carry_out(lambda: parsed.append(parse() if parse else None))
    if not parsed:  # a mistake, or --help
        sys.exit(code)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end_the_imports)
    return parsed[0]


@contextlib.contextmanager
def _quiet():
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
        yield


def carry_out(job, *given, interrupted="interrupted", lower=LOWER):
    """Do a command's work, job(*given). Returns the exit code: the job's own or 0, 2 a mistake of the user's or a
    failure of the machine's, told in one line, 130 stopped, 141 where nobody reads what it prints. What is none of
    these is a mistake of ours, and raised.

    interrupted: what Ctrl-C is answered with. lower: what to do about a lack of memory.
    """
    if signal.getsignal(signal.SIGINT) is _end_the_imports:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    keep_freed_memory()
    try:
        code = job(*given) or 0
        sys.stdout.flush()
    except SystemExit as end:  # argparse's, after --help
        code = end.code or 0
    except Stopped as stop:
        code = _say(stop, sys.stdout, INTERRUPTED)
    except KeyboardInterrupt:
        code = _say(interrupted, sys.stderr, INTERRUPTED)
    except BrokenPipeError:
        code = NO_READER
    except BaseException as error:
        if (told := in_a_line(error, lower)) is None:
            raise
        code = _say(f"error: {told}", sys.stderr, MISTAKE)
    _drop_what_nobody_takes()
    if joined := sys.modules.get("minbert.processes"):
        joined.here().leave(code)
    return code


def stop_signals():
    """What asks a run to save its state and stop: Ctrl-C (SIGINT), SIGTERM, and a terminal that goes away (SIGHUP),
    unless it is to be ignored, as nohup has it."""
    hang_up = getattr(signal, "SIGHUP", None)  # not on Windows
    heeded = hang_up is not None and signal.getsignal(hang_up) != signal.SIG_IGN
    return (signal.SIGINT, signal.SIGTERM, *([hang_up] if heeded else []))


def in_a_line(error, lower=LOWER):
    """A failure of the user's or the machine's making in one line: what, where, what to do. None for a mistake of
    ours, of which the traceback tells more."""
    told, first_line = None, (str(error).splitlines() or [type(error).__name__])[0][:200]
    no_memory = isinstance(error, RuntimeError) and any(words in str(error) for words in NO_MEMORY)
    blank = isinstance(error, NotImplementedError) and any(words in str(error) for words in BLANK)
    if isinstance(error, UserError) or blank:
        told = str(error)
    elif isinstance(error, OSError):
        told = f"{error.filename or 'writing'}: {error.strerror}" if error.strerror else str(error)
    elif no_memory or isinstance(error, MemoryError):
        told = f"out of memory ({first_line}): {lower}"
    elif isinstance(error, ModuleNotFoundError) and (package := (error.name or "").partition(".")[0]) in PACKAGES:
        told = _without(package)
    elif is_panic(error):
        told = f"tokenizers or safetensors could not cope with a file ({first_line}); get the checkpoint again"
    return told and one_line(told)


def _without(package):
    """That this Python lacks a package, and what mends it."""
    own = ROOT / ".venv" / "bin" / "python"
    lacks = f"{sys.executable} has no package {package}"
    if own.is_file() and PACKAGES[package] == "requirements.txt" and Path(sys.prefix) != ROOT / ".venv":
        return f"{lacks}; `make run` has made {own}: use that, or `source {ROOT / '.venv' / 'bin' / 'activate'}` first"
    return f"{lacks}; `make run` makes a .venv with all that runs need, or: pip install -r {ROOT / PACKAGES[package]}"


def _tell_of_missing(kind, error, trace):
    """As sys.excepthook: an import that fails between `begin` and `carry_out` ends in one line too."""
    if not (kind is ModuleNotFoundError and (told := in_a_line(error))):
        return sys.__excepthook__(kind, error, trace)
    _say(f"error: {told}", sys.stderr, MISTAKE)
    os._exit(MISTAKE)


def _end_the_imports(number, frame):
    """Ctrl-C before the work began. An exception would pass through half-imported libraries and come out as another."""
    with contextlib.suppress(OSError):
        os.write(2, b"interrupted\n")
    os._exit(INTERRUPTED)


def _open_closed_streams():
    """Where the shell closed one (`<&-`, `2>&-`), the null device takes its place: else the next file that is opened
    would get its number, and what libraries print would go into it."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115  (open to the end)


def _say(text, stream, code):
    """Print, even to a terminal that is gone; returns the exit code."""
    with contextlib.suppress(OSError, ValueError):
        print(text, file=stream, flush=True)
    return code


def _drop_what_nobody_takes():
    """Flush, and throw away what cannot be: Python would complain of it once more at its end."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


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
