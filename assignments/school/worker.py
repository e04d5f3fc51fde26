"""The process that runs students' code, for grade.py: `python -m assignments.school.worker`.

It imports torch once, then reads requests, a line of JSON each, and answers each with a line. For every request it
forks a keeper, which forks the child: the child runs the student's code in the sandbox and sends numbers through a
pipe; the keeper reads them within bounds of time and size, and ends the child. Student's code never runs in this
process or in the keeper.

Request: {"world": folder of files that stand in for modules, "modules": {name: file}, "base": folder of the reference,
"dialect", "assignment", "cases": [[probe, inputs], ...], "forbidden": [name], "seconds", "memory", "hidden": [folder]}
Answer: {"answers": [...], "prints": str, "attempts": [...]} or {"error": sentence}.
"""

import contextlib
import importlib
import json
import os
import resource
import select
import signal
import sys
import time
from importlib.machinery import SourceFileLoader
from importlib.util import spec_from_file_location
from pathlib import Path

from assignments.school import sandbox

MOST_ANSWER = 32 << 20  # bytes
PRELOADED = (
    "numpy",
    "torch",
    "safetensors.torch",
    "tqdm",
    "tokenizers",
    "huggingface_hub",
    "assignments.school.student",
    "assignments.school.probing",
)


def main():
    for name in PRELOADED:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    sys.dont_write_bytecode = True
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_RDWR), 1)
    for line in requests:
        replies.write(keep(json.loads(line)) + b"\n")
        replies.flush()


def keep(request):
    """Fork the keeper of one request; its answer as bytes of one line of JSON."""
    importlib.import_module(f"assignments.{request['assignment']}.probes")  # before its folder is hidden
    if request["dialect"] == "starter":
        importlib.import_module("torch._dynamo")  # which torch's Optimizer asks for: here it is read once
    return _forked(lambda pipe: _keeper(request, pipe), request["seconds"] + 20)


def _forked(job, seconds):
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        try:
            job(writing)
        except BaseException:
            sys.excepthook(*sys.exc_info())  # ours: it is to be seen
        finally:
            os._exit(0)
    os.close(writing)
    answer, _ = _read(reading, time.monotonic() + seconds, MOST_ANSWER * 2)
    os.close(reading)
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return answer or json.dumps({"error": "the grader's own process ended; grade it again"}).encode()


def _keeper(request, pipe):
    """In a process of its own: leave the world, fork the child, and end it when its time is over."""
    scratch = Path(request["world"]) / "scratch"
    scratch.mkdir(mode=0o777, exist_ok=True)
    os.chmod(scratch, 0o777)
    try:
        sandbox.keep_apart(request["hidden"], scratch)
    except sandbox.NotApart as reason:
        return _write(pipe, json.dumps({"error": str(reason)}).encode())
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _child(request, scratch, writing)
        os._exit(0)
    os.close(writing)
    begun = time.monotonic()
    answer, ended = _read(reading, begun + request["seconds"], MOST_ANSWER)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    told = _told(answer, ended, status, request)
    told["prints"] = _prints(scratch)
    _write(pipe, json.dumps(told).encode())


def _told(answer, ended, status, request):
    """What the child came to: its answer, or the way it ended."""
    if not ended:
        return {"error": f"it took longer than {request['seconds']:g} seconds: is there a loop without end?"}
    with contextlib.suppress(ValueError):
        found = json.loads(answer)
        if isinstance(found, dict) and ("answers" in found or "error" in found):
            return found
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        if number == signal.SIGXCPU or (number == signal.SIGKILL and ended):
            return {"error": f"it was ended by signal {number}: too much time or memory"}
        return {"error": f"it was ended by signal {number} ({signal.Signals(number).name})"}
    return {"error": "the code ended the process before it had answered (os._exit, or a crash)"}


def _read(pipe, deadline, most):
    """(all that comes through a pipe, whether it came to its end) before the deadline."""
    found = b""
    while len(found) <= most:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([pipe], [], [], left)[0]:
            return found, False
        piece = os.read(pipe, 1 << 16)
        if not piece:
            return found, True
        found += piece
    return b"", True


def _write(pipe, content):
    while content:
        content = content[os.write(pipe, content) :]


def _prints(scratch):
    """The last of what the code printed."""
    with contextlib.suppress(OSError), open(scratch / "prints.txt", "rb") as f:
        f.seek(max(0, os.fstat(f.fileno()).st_size - 500))
        return f.read(500).decode("utf-8", "replace")
    return ""


# ----------------------------------------------------------------------------------------------------- in the child


def _child(request, scratch, pipe):
    """Never returns to the caller's code by an exception."""
    attempts = []
    try:
        os.setsid()
        os.chdir(scratch)
        sandbox.redirect("prints.txt")
        sandbox.close_all_but([pipe])
        sandbox.set_limits(request["seconds"], request["memory"])
        sandbox.drop_powers()
        answers = _answers(request, scratch, attempts)
        told = {"answers": answers, "attempts": attempts}
    except BaseException as error:
        from assignments.school.probing import in_words

        told = {"error": in_words(error), "attempts": attempts}
    with contextlib.suppress(BaseException):
        resource.setrlimit(resource.RLIMIT_CPU, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    with contextlib.suppress(BaseException):
        _write(pipe, json.dumps(told).encode())
    os._exit(0)


def _answers(request, scratch, attempts):
    import torch

    from assignments.school import probing
    from assignments.school.student import student_of

    torch.set_num_threads(1)
    probes = sys.modules[f"assignments.{request['assignment']}.probes"]
    student = student_of(request["dialect"])
    _find_modules(request)
    readable = [request["world"], request["base"], *_libraries(), "/proc/self", "/proc/cpuinfo", "/proc/meminfo"]
    sandbox.install_hook(scratch, readable, attempts)
    forbid(request["forbidden"])
    found = []
    for probe, inputs in request["cases"]:
        found.append(probing.ask(getattr(probes, probe), student, inputs))
    return found


def _libraries():
    """Where Python and its packages lie, the grader's own folder excepted."""
    own = os.path.realpath(Path(__file__).parents[2])
    places = {sys.prefix, sys.base_prefix, *sys.path, "/usr", "/lib", "/lib64", "/etc", "/sys", "/dev"}
    return sorted(path for path in places if path and os.path.realpath(path) != own)


def _find_modules(request):
    """From now on the project's modules come from the world, then from the base."""
    own = str(Path(__file__).parents[2])
    for name in [
        name
        for name in sys.modules
        if name.partition(".")[0] in ("minbert", "bert", "optimizer", "labeling", "base_bert", "config", "utils")
    ]:
        del sys.modules[name]
    sys.path[:] = [request["base"], *(p for p in sys.path if p and os.path.realpath(p) != os.path.realpath(own))]
    sys.meta_path.insert(0, _Stands(request["modules"]))
    importlib.invalidate_caches()


class _Stands:
    """Finds the modules that the student's files stand in for."""

    def __init__(self, modules):
        self.modules = modules

    def find_spec(self, name, path=None, target=None):
        if name not in self.modules:
            return None
        file = self.modules[name]
        return spec_from_file_location(name, file, loader=SourceFileLoader(name, file))


def forbid(names):
    """Make the libraries that do the work already say so."""
    for name in names:
        owner, _, last = name.rpartition(".")
        if not owner:
            sys.modules[name] = None
            continue
        place = sys.modules.get(owner)
        if place is None or not hasattr(place, last):
            continue
        found = getattr(place, last)
        if isinstance(found, type):
            found.__init__ = found.__call__ = _refuser(name)
        elif callable(found):
            setattr(place, last, _refuser(name))
        else:
            sys.modules[name] = None
            with contextlib.suppress(AttributeError):
                delattr(place, last)


def _refuser(name):
    def refuse(*args, **kwargs):
        raise sandbox.Refused(f"{name} does the work of this assignment already, and is not to be used")

    return refuse


if __name__ == "__main__":
    main()
