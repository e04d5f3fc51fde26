"""What a student hands in: a file, a folder or a zip, of which only the files of the assignment are read.

Nothing is unpacked and no link is followed: names are looked at, and at most MOST bytes of each wanted file are read.
"""

import os
import stat
import zipfile
from pathlib import Path, PurePosixPath

from minbert.files import UserError

MOST = 1 << 20  # bytes of one source
MOST_ENTRIES = 20_000
STARTER_SIGNS = ("from utils import", "from config import", "def add_norm", "self.dtype", "attention_mask")
OUR_SIGNS = ("def plain_attention", "def update_", "from minbert", "import minbert", "minbert.layers")


def read(path, wanted):
    """{file: source} of the wanted files that are there. UserError for what cannot be read as a submission."""
    path = Path(path)
    if path.is_symlink():
        raise UserError(f"{path}: a symbolic link; hand in the file itself")
    if path.is_dir():
        found = _of_folder(path, wanted)
    elif not path.is_file():
        raise UserError(f"{path}: no such file or folder; a submission is a .py file, a folder or a .zip")
    elif path.suffix == ".py":
        found = _of_file(path, wanted)
    elif path.suffix == ".zip":
        found = _of_zip(path, wanted)
    else:
        raise UserError(f"{path}: a submission is a .py file, a folder or a .zip")
    if not found:
        raise UserError(f"{path}: holds none of {', '.join(wanted)}; hand in what submit.py writes")
    return {file: _text(path, file, content) for file, content in found.items()}


def dialect_of(sources):
    """ "ours" or "starter", by what the sources import and define."""
    text = "\n".join(sources.values())
    if any(sign in text for sign in OUR_SIGNS):
        return "ours"
    return "starter"


def _of_file(path, wanted):
    fits = [file for file in wanted if PurePosixPath(file).name == path.name]
    if not fits and len(wanted) == 1:
        fits = wanted
    return {fits[0]: _bounded(path, path)} if fits else {}


def _of_folder(folder, wanted):
    names = {}
    for place, folders, files in os.walk(folder, followlinks=False):
        folders[:] = sorted(
            name for name in folders if not name.startswith(".") and name not in ("__pycache__", "__MACOSX")
        )
        for name in sorted(files):
            file = Path(place) / name
            if file.suffix == ".py" and stat.S_ISREG(file.lstat().st_mode):
                names[file.relative_to(folder).as_posix()] = file
            if len(names) > MOST_ENTRIES:
                raise UserError(f"{folder}: more than {MOST_ENTRIES} files; hand in what submit.py writes")
    return {file: _bounded(names[chosen], folder) for file, chosen in _chosen(names, wanted).items()}


def _of_zip(path, wanted):
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            if len(entries) > MOST_ENTRIES:
                raise UserError(f"{path}: more than {MOST_ENTRIES} entries; hand in what submit.py writes")
            names = {entry.filename: entry for entry in entries if _is_plain(entry)}
            found = {}
            for file, chosen in _chosen(names, wanted).items():
                with archive.open(names[chosen]) as stream:
                    found[file] = stream.read(MOST + 1)
                if len(found[file]) > MOST:
                    raise UserError(f"{path}: {chosen} is larger than {MOST >> 20} MiB; that is no source")
            return found
    except UserError:
        raise
    except Exception as error:  # a damaged archive raises whatever it likes
        raise UserError(f"{path}: not a zip file that can be read ({type(error).__name__}); make it again") from None


def _is_plain(entry):
    """An ordinary file of Python inside the archive's own folder: no link, no way out, no password."""
    parts = PurePosixPath(entry.filename.replace("\\", "/")).parts
    mode = entry.external_attr >> 16
    climbs = ".." in parts or entry.filename.startswith("/") or ":" in entry.filename
    ordinary = not mode or stat.S_IFMT(mode) in (0, stat.S_IFREG)
    return (
        entry.filename.endswith(".py")
        and not climbs
        and ordinary
        and not entry.flag_bits & 1
        and "__MACOSX" not in parts
    )


def _chosen(names, wanted):
    """{wanted file: the name that fits it}: its whole path at the end of a name, else its last part; the shortest."""
    chosen = {}
    for file in wanted:
        last = PurePosixPath(file).name
        whole = [name for name in names if f"/{name}".endswith(f"/{file}")]
        alike = whole or [name for name in names if PurePosixPath(name).name == last]
        if alike:
            chosen[file] = min(alike, key=lambda name: (name.count("/"), name))
    return chosen


def _bounded(file, of):
    try:
        with open(file, "rb") as stream:
            content = stream.read(MOST + 1)
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror})") from None
    if len(content) > MOST:
        raise UserError(f"{of}: {file.name} is larger than {MOST >> 20} MiB; that is no source")
    return content


def _text(path, file, content):
    try:
        return content.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError:
        raise UserError(f"{path}: {file} is not UTF-8; save it as such") from None
