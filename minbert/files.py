"""Errors a user can mend, and files that are written whole or not at all. Every other file may import this one."""

import contextlib
import glob
import hashlib
import json
import os
import sys
import tempfile
from pathlib import Path

UNFINISHED = ".part"  # how the name of a file ends that is still being written


class UserError(Exception):
    """Something the user can mend: one line that says what is wrong, where, and what to do. The command line prints
    it without a traceback and exits with code 2. Where a script of somebody's lets it pass, Python prints that line."""


def _told_in_one_line(kind, error, trace, otherwise=sys.excepthook):
    """Python's last word on an error that nobody caught. otherwise: what it did before."""
    if not issubclass(kind, UserError):
        return otherwise(kind, error, trace)
    print(f"error: {one_line(error)}", file=sys.stderr)


sys.excepthook = _told_in_one_line


def is_panic(error):
    """Whether tokenizers or safetensors, which are Rust, gave up with a "panic": a BaseException that is no Exception,
    of a type that cannot be imported."""
    return type(error).__name__ == "PanicException"


@contextlib.contextmanager
def naming(path):
    """Where one of them panics over `path`, which it reads inside, a UserError that names the file."""
    try:
        yield
    except BaseException as error:
        if not is_panic(error):
            raise
        raise UserError(f"{path}: damaged, or of another version ({short(str(error))}); get it again") from None


@contextlib.contextmanager
def openable(path):
    """Yield a name of the file by which they can open it: theirs are UTF-8."""
    if os.fsencode(path).decode("utf-8", "replace") == os.fspath(path):
        yield path
    else:
        with open(path, "rb") as f:
            yield f"/dev/fd/{f.fileno()}"


def one_line(said):
    """What somebody else said, fit for a message: without line ends, and without orders to the terminal."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in str(said)).split())


def short(value, most=80):
    """A value as it stands in a file, cut for a message of one line."""
    value = repr(value)
    return value if len(value) <= most else value[:most] + "..."


# ---------------------------------------------------------------------------------------------------------- writing

_writes = True


def write_nothing():
    """From here on this process writes no file, and deletes none: another one, which has the same to write, does."""
    global _writes
    _writes = False


def writes():
    return _writes


@contextlib.contextmanager
def reading(path, otherwise, tell=False):
    """Any failure in this block becomes the UserError "path: otherwise", with its reason if asked to `tell` it: for
    foreign code that reads a file which may hold anything. Rust's panics are known as no more than BaseException."""
    try:
        yield
    except (UserError, KeyboardInterrupt, SystemExit):
        raise
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except PermissionError:
        raise UserError(f"{path}: no permission to read it") from None
    except BaseException as error:
        raise UserError(f"{path}: {otherwise}" + (f" ({short(str(error))})" if tell else "")) from None


def check_replaceable(path, over=None):
    """UserError where something stands at `path` that no file may take the place of: /dev/null or a folder; or, with
    `over`, a file that is not of the kind to be written, all of which begin with these words."""
    path = Path(path)
    if path.exists() and not path.is_file():
        raise UserError(f"{path}: not an ordinary file, so it is not replaced by one; choose another name")
    if over and path.exists():
        with open(path, "rb") as f:
            start = f.read(len(over.encode()))
        if start not in (b"", over.encode()):
            raise UserError(f"{path}: holds something else, which would be lost; choose another file, or move it away")


@contextlib.contextmanager
def written_whole(path, new=False, over=None):
    """Yield a temporary path beside `path`; when the block ends well, flush it to disk and rename it into place.

    Readers see the old file or the new one, never half of it; after an error the old file is untouched. With `new`,
    UserError where there is one already, even if another process made it this very moment. over: check_replaceable's.
    """
    path = Path(path)
    if not _writes:
        yield Path(os.devnull)
        return
    check_replaceable(path, over)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=UNFINISHED)
    os.close(handle)
    try:
        os.chmod(temporary, 0o666 & ~_umask())  # mkstemp makes private files; these are ordinary ones
        yield Path(temporary)
        with open(temporary, "rb") as f:
            os.fsync(f.fileno())
        if not (new and _linked(temporary, path)):
            os.replace(temporary, path)
    except OSError as error:
        error.filename = str(path)  # what the user asked for: a full disk names no file, a rename names two
        raise
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)


def _linked(temporary, path):
    """Give the file its name where nobody has it, which a rename does not ask; False where that cannot be done here."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise UserError(f"{path}: there already, made by another process just now; choose another folder") from None
    except OSError:  # a file system without hard links
        return False
    return True


def remove_unfinished(folder, name=None):
    """Delete what killed processes left half-written in a folder, of all files or of the one called `name`; nobody
    else may be writing there."""
    if not _writes:
        return
    for path in Path(folder).glob(f".{glob.escape(name) if name else '*'}.{'?' * 8}{UNFINISHED}"):  # mkstemp's 8
        path.unlink(missing_ok=True)


def _umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_text(path, text, new=False, over=None):
    with written_whole(path, new, over) as temporary:
        # A path that is not UTF-8 holds lone surrogates: in JSON their escape is the character itself.
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace", newline="")


def write_json(path, value, new=False):
    """Pretty JSON, refusing NaN and infinity (which JSON does not have)."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n", new)


def sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as f:
        while block := f.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
