"""Fetches the real data sets: the course's files into data/cs224n, the GLUE archives into data/glue.

    python data/download.py                            everything (about 400 MB, most of it MNLI)
    python data/download.py cs224n                     the course's files only
    python data/download.py --only RTE --only sts-dev.csv

A file is fetched into NAME.part and moved into place only when it is whole and has passed its check: the git blob id
of the course's files, the sha256 of the GLUE archives. A broken fetch goes on where it stopped when the server still
has the same file (its ETag), and starts again when not. Files that are there already are left alone. A new set gathers
in cs224n.part or glue.part until all that was asked for is there, for later commands use whatever set they find.
"""

import argparse
import contextlib
import hashlib
import http.client
import re
import ssl
import sys
import time
import urllib.error
import urllib.request
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

HERE = Path(__file__).resolve().parent
# Run as a script, sys.path starts with data/, not with the root; the root goes last, so that it shadows nothing.
sys.path.append(str(HERE.parent))
from minbert.script import begin, carry_out  # noqa: E402

if __name__ == "__main__":
    begin()

from tqdm import tqdm  # noqa: E402

from minbert.files import UNFINISHED, UserError, one_line, reading, sha256, written_whole  # noqa: E402
from minbert.flags.fields import Parser  # noqa: E402
from minbert.web import SafeRedirects, checked_address  # noqa: E402

COURSE_URL = "https://raw.githubusercontent.com/gpoesia/minbert-default-final-project/main/data"
GLUE_URL = "https://dl.fbaipublicfiles.com/glue/data"

SIZES = {"cs224n": "12 files of 12 MB", "glue": "4 archives of about 390 MB"}
ATTEMPTS = 4
FIRST_PAUSE = 1.0  # seconds before the second attempt; doubled before each one after it
TIMEOUT = 20.0  # seconds without an answer
BLOCK = 1 << 16
TROUBLE = (  # of the network, and no other: a full disk is an OSError too. UnicodeError: a host's name is too long
    urllib.error.URLError,
    http.client.HTTPException,
    ConnectionError,
    TimeoutError,
    ssl.SSLError,
    UnicodeError,
)


@dataclass(frozen=True)
class Archive:
    """One GLUE zip: task/split.tsv for each split. sha256: of the zip."""

    task: str
    name: str
    sha256: str
    splits: tuple[str, ...] = ("train", "dev", "test")


COURSE_FILES = {  # name: git blob id, with LF line ends, in the starter's repository
    "ids-sst-train.csv": "9cb7333cb1dae49c2bd2a4b56a24882a6e8704b5",
    "ids-sst-dev.csv": "3171aa629a340809d2db4a50df8f6e5ec9420ab0",
    "ids-sst-test-student.csv": "bbd2313758825f86e24416d6aad64cd93370cf7a",
    "ids-cfimdb-train.csv": "cd57bcbd2f7214ea6dd1783d3e885d324b1f478d",
    "ids-cfimdb-dev.csv": "8a0f5dcf3d40189b96c801a12cd79bf8003e61de",
    "ids-cfimdb-test-student.csv": "1e789c709b3ca0511f027a309b6d8bd21cde41b2",
    "quora-train.csv": "a3b5546f6a0e65b60a328a5d294d1038f5bed1da",
    "quora-dev.csv": "de7cfa32428fd470b93f778fccc45a619e01336f",
    "quora-test-student.csv": "f257ef00558555afb50819578a58205732b16354",
    "sts-train.csv": "12b17760e7795fee35aeeabc290d5651de02622a",
    "sts-dev.csv": "9392860e584717976b8d817cc40c9e6ceeec27e0",
    "sts-test-student.csv": "25f0cf8fafdd1f82b9e2bb460c708af34341ce60",
}
MNLI_SPLITS = ("train", "dev_matched", "dev_mismatched", "test_matched", "test_mismatched")
ARCHIVES = (
    Archive("RTE", "RTE.zip", "6bf86de103ecd335f3441bd43574d23fef87ecc695977a63b82d5efb206556ee"),
    Archive("QQP", "QQP-clean.zip", "40e7c862c04eb26ee04b67fd900e76c45c6ba8e6d8fab4f8f1f8072a1a3fbae0"),
    Archive("SST-2", "SST-2.zip", "d67e16fb55739c1b32cdce9877596db1c127dc322d93c082281f64057c16deaa"),
    Archive("MNLI", "MNLI.zip", "e7c1d896d26ed6caf700110645df426cc2d8ebf02a5ab743d5a5c68ac1c83633", MNLI_SPLITS),
)


def git_blob_id(content):
    """Git's name for the content of a file: sha1 of "blob SIZE\\0" and the content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def check_course_file(path, name):
    """Raise UserError where `path` does not hold the course's file `name`.

    The starter's history has the same files with CRLF ends too, and git itself turns one into the other.
    """
    content = Path(path).read_bytes()
    found = [git_blob_id(content), git_blob_id(content.replace(b"\r\n", b"\n"))]
    if COURSE_FILES[name] not in found:
        raise UserError(f"{name}: git blob id {found[0]} is not the published {COURSE_FILES[name]}")


def check_archive(path, wanted):
    if sha256(path) != wanted.sha256:
        raise UserError(f"{wanted.name}: sha256 {sha256(path)} is not the published {wanted.sha256}")


def fetch_course_file(name, base_url, folder):
    target = folder / name
    if target.exists():
        try:
            check_course_file(target, name)
        except UserError as error:
            raise UserError(f"{target} is there, but is not the published file ({error}); move it away") from None
        print(f"{target}: there already")
        return
    fetch(f"{base_url}/{name}", target, lambda path: check_course_file(path, name))
    print(f"{target}: {target.stat().st_size:,} bytes, blob id checked")


def fetch_archive(wanted, base_url, folder):
    splits = [folder / wanted.task / f"{split}.tsv" for split in wanted.splits]
    if all(path.exists() for path in splits):
        print(f"{folder / wanted.task}: there already")
        return
    archive = folder / wanted.name
    if archive.exists():  # brought here by hand, or by a run that was stopped while unpacking
        check_archive(archive, wanted)
    else:
        fetch(f"{base_url}/{wanted.name}", archive, lambda path: check_archive(path, wanted))
    extract(archive, folder, [path for path in splits if not path.exists()])
    archive.unlink()
    print(f"{folder / wanted.task}: {', '.join(path.name for path in splits)}, sha256 of the archive checked")


def extract(archive, folder, targets):
    """Write the members of `archive` that belong at `targets` (paths under `folder`), each whole or not at all.

    Only those names are read; an archive that holds a path out of its folder is refused altogether.
    """
    unsound = "not a sound zip file; remove it and run again"
    with reading(archive, unsound, tell=True), zipfile.ZipFile(archive) as opened:
        names = opened.namelist()
        if opened.testzip() is not None:
            raise UserError(f"{archive}: {unsound}")
    for name in names:
        path = PurePosixPath(name.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts or ":" in name:
            raise UserError(f"{archive}: refused, it holds the path {name!r} that leads out of its folder")
    with zipfile.ZipFile(archive) as opened:
        for target in targets:
            member = target.relative_to(folder).as_posix()
            if member not in names:
                raise UserError(f"{archive}: holds no {member}; remove it and run again")
            target.parent.mkdir(parents=True, exist_ok=True)
            with written_whole(target) as temporary, opened.open(member) as source, open(temporary, "wb") as f:
                while block := source.read(BLOCK):
                    f.write(block)


def fetch(url, target, check):
    """Bring `url` to the path `target` by way of `target`.part, and rename it when it is whole and `check` is content.

    check: called with the path of the whole file; raises UserError to refuse it, which also drops what was fetched.
    Raises UserError after ATTEMPTS attempts, and at once for what another attempt cannot mend (404, a certificate).
    """
    part = target.with_name(target.name + UNFINISHED)
    tag = target.with_name(target.name + ".etag" + UNFINISHED)
    for attempt in range(ATTEMPTS):
        try:
            fetch_once(url, part, tag)
            break
        except urllib.error.HTTPError as error:
            if error.code == 416:  # the file is no longer as long as the part we hold
                part.unlink(missing_ok=True)
            elif error.code not in (408, 429) and error.code < 500:
                raise UserError(f"{url}: the server answered {error.code} {error.reason}") from None
            failure = f"the server answered {error.code} {one_line(error.reason)}"
        except TROUBLE as error:
            reason = getattr(error, "reason", error)
            if isinstance(reason, ssl.SSLCertVerificationError):
                raise UserError(f"{url}: its certificate is refused: {reason.verify_message}") from None
            failure = one_line(reason) or type(reason).__name__
        if attempt + 1 == ATTEMPTS:
            raise UserError(f"{url}: {failure}, after {ATTEMPTS} attempts; run again to go on, --base_url for a mirror")
        pause = FIRST_PAUSE * 2**attempt
        print(f"{target.name}: {failure}; again in {pause:g} s", file=sys.stderr)
        time.sleep(pause)
    try:
        check(part)
    except UserError:
        part.unlink()
        tag.unlink(missing_ok=True)
        raise
    part.replace(target)
    tag.unlink(missing_ok=True)


def fetch_once(url, part, tag):
    """One request that completes `part` or raises: from its end where the server has the same file still (RFC 9110,
    If-Range with the strong ETag kept in `tag`), else from the start."""
    headers = {"User-Agent": "minbert-download", "Accept-Encoding": "identity"}
    if part.exists() and tag.exists() and is_strong(etag := tag.read_text(encoding="ascii", errors="replace")):
        headers |= {"Range": f"bytes={part.stat().st_size}-", "If-Range": etag}
    opener = urllib.request.build_opener(SafeRedirects())
    with opener.open(urllib.request.Request(url, headers=headers), timeout=TIMEOUT) as response:
        start = resumed_at(response, part, headers.get("If-Range"))
        if start == 0:
            part.unlink(missing_ok=True)  # first, so that a new ETag never stands beside old bytes
            etag = response.headers.get("ETag", "")
            if is_strong(etag):
                tag.write_text(etag, encoding="ascii")
            else:
                tag.unlink(missing_ok=True)
        total = None if response.length is None else start + response.length  # None: it says none, or no number
        progress = tqdm(
            desc=part.stem, total=total, initial=start, unit="B", unit_scale=True, disable=None, leave=False
        )
        with open(part, "ab") as f, progress:
            while block := response.read(BLOCK):
                f.write(block)
                progress.update(len(block))
            got = f.tell()
    if total is not None and got != total:
        raise ConnectionError(f"the connection ended after {got:,} of {total:,} bytes")


def is_strong(etag):
    """Whether this is an ETag that vouches for bytes (RFC 9110, section 8.8.3): no weak one, W/"...", and whole."""
    return re.fullmatch(r'"[\x21\x23-\x7e]*"', etag) is not None


def resumed_at(response, part, etag):
    """The offset at which this answer's bytes belong: the length of `part` if the server resumes it, else 0."""
    if response.status != 206:
        return 0
    have = part.stat().st_size if part.exists() else 0
    where = response.headers.get("Content-Range", "")
    if not where.startswith(f"bytes {have}-") or response.headers.get("ETag", etag) != etag:
        part.unlink(missing_ok=True)
        raise ConnectionError(f"the server sent another range ({where!r}) than the one asked for")
    return have


def parse(argv):
    summary, _, detail = __doc__.partition("\n")
    parser = Parser(description=summary, epilog=detail, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="*", metavar="SET", help="cs224n, glue, or both (default: both)")
    parser.add_argument("--only", action="append", metavar="NAME", help="one file or task of them; may be repeated")
    parser.add_argument("--base_url", metavar="URL", help="fetch from this http(s) folder instead (a mirror)")
    parser.add_argument("--data_dir", type=Path, default=HERE, help="where cs224n/ and glue/ go (default: %(default)s)")
    args = parser.parse_args(argv)
    if unknown := set(args.sets) - {"cs224n", "glue"}:
        parser.error(f"unknown set {', '.join(sorted(unknown))}: choose cs224n, glue, or both")
    if args.base_url is not None:
        args.base_url = checked_address(args.base_url, "https://example.org/data")
    return args


def run(args):
    archives = {archive.task: archive for archive in ARCHIVES}
    sets = {
        "cs224n": (fetch_course_file, {name: name for name in COURSE_FILES}, args.base_url or COURSE_URL),
        "glue": (fetch_archive, archives, args.base_url or GLUE_URL),
    }
    sets = {name: sets[name] for name in args.sets or sets}
    known = [name for _, members, _ in sets.values() for name in members]
    if unknown := set(args.only or ()) - set(known):
        raise UserError(f"--only {', '.join(sorted(unknown))}: not among {', '.join(known)}")
    if not args.only:
        print(f"fetching {' and '.join(f'{name}, {SIZES[name]}' for name in sets)}; what is there already is kept")
    for name, (fetch_one, members, url) in sets.items():
        if wanted := [member for only, member in members.items() if not args.only or only in args.only]:
            with gathering(args.data_dir / name) as folder:
                for member in wanted:
                    fetch_one(member, url, folder)


@contextlib.contextmanager
def gathering(folder):
    """The folder where the files of a set gather: a set's own where it holds something, else FOLDER.part, which takes
    FOLDER's name when the block ends well. Half a set would be used in place of the sample by every later command."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: a file stands where the folder should be; move it away")
    if folder.is_dir() and any(folder.iterdir()):
        yield folder
        return
    unfinished = folder.with_name(folder.name + UNFINISHED)
    unfinished.mkdir(parents=True, exist_ok=True)
    yield unfinished
    if folder.is_dir():
        folder.rmdir()  # it is empty
    unfinished.rename(folder)
    print(f"{folder}: all that was asked for is there")


def main(argv=None):
    return carry_out(lambda: run(parse(argv)), interrupted="\nstopped; run again to go on where it stopped")


if __name__ == "__main__":
    sys.exit(main())
