"""A process for code of strangers: no network, no other processes, limits on time, memory and output, nothing to read
but the libraries and its own folder, nothing to write but its own folder.

Three layers, from the kernel's to Python's; each holds where the one before it is not to be had:

1. namespaces (Linux, where they are allowed): a network without interfaces, process numbers of its own, so that nobody
   else can be signalled, every file read-only, and the grader's own folder hidden under an empty one;
2. another user (where the grader is root: nobody), no capabilities, resource limits;
3. an audit hook: what Python itself is asked to do, with a sentence for the student.

It cannot make a verdict harder to forge than it is: no verdict is made in here, only numbers come out.
"""

import contextlib
import ctypes
import os
import resource
import signal
import sys
from pathlib import Path

NOBODY = 65534
MS_REC, MS_PRIVATE, MS_BIND = 0x4000, 0x40000, 0x1000
NEWNS, NEWUSER, NEWPID, NEWNET, NEWIPC = 0x20000, 0x10000000, 0x20000000, 0x40000000, 0x08000000
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_NO_NEW_PRIVS = 1, 4, 38
MOUNT_SETATTR, AT_FDCWD, AT_RECURSIVE, READ_ONLY = 442, -100, 0x8000, 1  # since Linux 5.12
MOST_OUTPUT = 16 << 20  # bytes of any file, what is printed included
MOST_FILES = 64


class NotApart(Exception):
    """Student code cannot be kept apart on this machine: one sentence."""


def become_nobody():
    """Give up root, for good, if Python's own files may then still be read. Whether nobody here is root now."""
    if os.getuid() != 0:
        return True
    own = Path(__file__).resolve().parents[2]
    needed = {
        Path(path).resolve() for path in (sys.prefix, sys.base_prefix, *sys.path) if path and os.path.exists(path)
    }
    if not all(_is_for_all(path) for path in needed - {own}):
        return False
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    if sys.platform == "linux":  # or /proc/self would stay root's
        ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)
    return True


def _is_for_all(path):
    return all(place.stat().st_mode & 0o001 for place in (path, *path.parents) if place.is_dir())


def keep_apart(hidden, scratch):
    """Layers 1 and 2: what is done before the child is forked. NotApart where root would be left to student code."""
    harmless = become_nobody()
    apart = _namespaces(hidden, scratch)
    if not (harmless or apart):
        raise NotApart(
            "student code would run as root here: allow user namespaces, or install Python where every user may read it"
        )


def _namespaces(hidden, scratch):
    """Enter namespaces of our own, hide these folders, and make all but `scratch` read-only. True if all was allowed;
    the next process that is forked is alone."""
    if sys.platform != "linux":
        return False
    libc, user, group = ctypes.CDLL(None, use_errno=True), os.getuid(), os.getgid()
    if libc.unshare(NEWUSER | NEWNS | NEWPID | NEWNET | NEWIPC):
        return False
    try:
        for name, text in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
            Path("/proc/self", name).write_text(text)
        libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None)
        for folder in hidden:
            _hide(libc, Path(folder))
        place = os.fsencode(scratch)
        return not (
            libc.mount(place, place, None, MS_BIND, None)
            or _read_only(libc, b"/", True)
            or _read_only(libc, place, False)
        )
    except OSError:
        return False


def _read_only(libc, path, wanted):
    """Set or clear it for a mount, and where it is set, for all mounts below; 0 if that worked."""
    bits = (READ_ONLY, 0) if wanted else (0, READ_ONLY)
    attributes = (ctypes.c_uint64 * 4)(*bits, 0, 0)
    size = ctypes.sizeof(attributes)
    return libc.syscall(MOUNT_SETATTR, AT_FDCWD, path, AT_RECURSIVE if wanted else 0, attributes, size)


def _hide(libc, folder):
    """Put an empty folder over this one, but leave the libraries inside it (a virtual environment) where they are."""
    named = {Path(path) for path in (sys.prefix, *sys.path) if path}
    inside = [path for path in named if path != folder and path.is_relative_to(folder) and path.is_dir()]
    kept = sorted(path for path in inside if not any(path != other and path.is_relative_to(other) for other in inside))
    handles = [(path, os.open(path, os.O_PATH)) for path in kept]
    if libc.mount(b"tmpfs", os.fsencode(folder), b"tmpfs", 0, b"size=64k,mode=755"):
        return
    for path, handle in handles:
        path.mkdir(parents=True, exist_ok=True)
        libc.mount(os.fsencode(f"/proc/self/fd/{handle}"), os.fsencode(path), None, MS_BIND | MS_REC, None)
        os.close(handle)


def drop_powers():
    """No capability is kept, none can be won back: what is hidden stays hidden."""
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    libc.capset(header, (ctypes.c_uint32 * 6)())


def set_limits(seconds, memory):
    """seconds of processor time; memory in bytes beyond what the process has already; no new process or thread."""
    used = _virtual_memory()
    _limit(resource.RLIMIT_CPU, int(seconds) + 1)
    _limit(resource.RLIMIT_AS, used + memory)
    _limit(resource.RLIMIT_FSIZE, MOST_OUTPUT)
    _limit(resource.RLIMIT_NOFILE, MOST_FILES)
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_NPROC, 0)  # this user has some already: so none more


def _limit(which, most):
    with contextlib.suppress(ValueError, OSError):  # macOS does not have all of them
        resource.setrlimit(which, (most, most))


def _virtual_memory():
    with contextlib.suppress(OSError), open("/proc/self/statm") as f:
        return int(f.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    return 0


def redirect(prints):
    """Standard input is empty, what is printed goes into the file `prints`; every other handle is closed but the ones
    given back."""
    null = os.open(os.devnull, os.O_RDONLY)
    out = os.open(prints, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for handle, number in ((null, 0), (out, 1), (out, 2)):
        os.dup2(handle, number)


def close_all_but(kept):
    most = min(resource.getrlimit(resource.RLIMIT_NOFILE)[0], 1 << 16)
    last = 3
    for handle in sorted(kept):
        os.closerange(last, handle)
        last = handle + 1
    os.closerange(last, most)


# ------------------------------------------------------------------------------------------------------ audit hook

PROCESSES = (
    "subprocess.Popen",
    "os.system",
    "os.exec",
    "os.fork",
    "os.forkpty",
    "os.posix_spawn",
    "os.spawn",
    "pty.spawn",
    "os.startfile",
    "_posixsubprocess.fork_exec",
    "_winapi.CreateProcess",
)
SIGNALS = ("os.kill", "os.killpg", "signal.pthread_kill")
NATIVE = ("ctypes.dlopen", "ctypes.dlsym", "ctypes.dlsym/handle", "ctypes.call_function", "ctypes.set_exception")
CHANGES = (
    "os.remove",
    "os.rename",
    "os.rmdir",
    "os.mkdir",
    "os.link",
    "os.symlink",
    "os.truncate",
    "os.chmod",
    "os.chown",
    "os.utime",
    "shutil.rmtree",
    "shutil.move",
    "shutil.copyfile",
    "os.setxattr",
    "os.mkfifo",
)
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class Refused(PermissionError):
    """Something that is not allowed in the grader."""


def install_hook(scratch, readable, attempts):
    """From now on Python refuses, in words, what code under examination has no business to do; it cannot be removed.

    scratch: the one folder that may be written. readable: folders and files that may be read. attempts: a list that
    gets the sentences, for code that catches them.
    """
    scratch, readable = os.path.realpath(scratch), tuple(os.path.realpath(path) for path in readable)
    inside, quiet = _inside, (os.path.dirname(os.path.realpath(__file__)),)  # torch looks up whose code calls it
    realpath, fsdecode, getcwd = os.path.realpath, os.fsdecode, os.getcwd
    getcwd()

    def refuse(what):
        sentence = f"the code tried to {what}: that is not allowed in the grader"
        if len(attempts) < 20 and sentence not in attempts:
            attempts.append(sentence)
        raise Refused(sentence)

    def hook(event, args):
        if event == "open":
            path, mode, flags = args
            if isinstance(path, int) or path is None:
                return
            path = realpath(fsdecode(path))
            writes = bool(flags & WRITING) if isinstance(flags, int) else any(c in (mode or "") for c in "wax+")
            if writes and not inside(path, (scratch, "/dev/null")):
                refuse(f"write {path}")
            if not writes and not inside(path, (scratch, *readable)):
                if inside(path, quiet):
                    raise FileNotFoundError(path)
                refuse(f"read {path}")
        elif event.startswith("socket."):
            refuse("use the network")
        elif event in PROCESSES:
            refuse("start another process")
        elif event in SIGNALS:
            refuse("signal a process")
        elif event in NATIVE:
            refuse("call native code by ctypes")
        elif event in CHANGES:
            if not all(inside(realpath(fsdecode(p)), (scratch,)) for p in args if isinstance(p, (str, bytes))):
                refuse("change files outside its folder")
        elif event == "object.__setattr__" and len(args) > 1 and args[1] == "__code__":
            refuse("exchange the code of a function")

    sys.addaudithook(hook)


def _inside(path, places):
    return any(path == place or path.startswith(place + "/") for place in places)
