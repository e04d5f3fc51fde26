"""data/download.py against a loopback server that can cut, lie and change its files."""

import hashlib
import io
import re
import subprocess
import sys
import zipfile
from dataclasses import replace
from functools import partial
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from download_server import QUORA, leftovers
from real_data import needs, real

import datasets
from data import download
from datasets import TASKS

ROOT = Path(__file__).parents[2]


def test_whole_file(site, fetch, tmp_path, capsys):
    site.files["quora-dev.csv"] = QUORA
    assert fetch("--only", "quora-dev.csv") == 0
    assert (tmp_path / "cs224n" / "quora-dev.csv").read_bytes() == QUORA
    assert leftovers(tmp_path) == ["cs224n/quora-dev.csv"]
    assert "blob id checked" in capsys.readouterr().out


def test_a_file_that_is_there_is_left_alone(site, fetch, tmp_path, capsys):
    site.files["quora-dev.csv"] = QUORA
    assert fetch("--only", "quora-dev.csv") == fetch("--only", "quora-dev.csv") == 0
    assert len(site.asked) == 1
    assert "there already" in capsys.readouterr().out


def test_another_file_of_that_name_is_not_overwritten(site, fetch, tmp_path, capsys):
    mine = tmp_path / "cs224n" / "sts-dev.csv"
    mine.parent.mkdir()
    mine.write_text("mine\n")
    assert fetch("--only", "sts-dev.csv") == 2
    assert mine.read_text() == "mine\n"
    assert not site.asked
    assert "move it away" in capsys.readouterr().err


def test_goes_on_after_cut_connections(site, fetch, tmp_path):
    site.files["quora-dev.csv"] = QUORA
    site.cuts = [100_000, 70_000]
    assert fetch("--only", "quora-dev.csv") == 0
    assert site.asked == [None, "bytes=100000-", "bytes=170000-"]
    assert (tmp_path / "cs224n" / "quora-dev.csv").read_bytes() == QUORA
    assert leftovers(tmp_path) == ["cs224n/quora-dev.csv"]


def test_goes_on_in_a_later_run(site, fetch, tmp_path, capsys):
    site.files["quora-dev.csv"] = QUORA
    site.cuts = [50_000] * download.ATTEMPTS
    assert fetch("--only", "quora-dev.csv") == 2
    assert "run again to go on" in capsys.readouterr().err
    assert not (tmp_path / "cs224n" / "quora-dev.csv").exists()
    assert fetch("--only", "quora-dev.csv") == 0
    assert site.asked[-1] == f"bytes={50_000 * download.ATTEMPTS}-"
    assert (tmp_path / "cs224n" / "quora-dev.csv").read_bytes() == QUORA


@pytest.mark.parametrize(
    "how",
    [
        {"ranges": False},
        {"etag": ""},
        {"etag": 'W/"v1"'},
        {"later_etag": '"v2"'},
        {"later_etag": '"v2"', "if_range": False},
        {"wrong_start": -10},
        {"wrong_start": 10},
    ],
    ids=str,
)
def test_starts_again_when_the_server_cannot_go_on(site, fetch, tmp_path, monkeypatch, how):
    """The file changes between two runs: believing the second answer to be the first's other half would splice them."""
    site.files["quora-dev.csv"] = QUORA.replace(b"Why", b"How")
    site.cuts = [100_000]
    for name, value in how.items():
        setattr(site, name, value)
    with monkeypatch.context() as once:
        once.setattr(download, "ATTEMPTS", 1)
        assert fetch("--only", "quora-dev.csv") == 2
    site.files["quora-dev.csv"] = QUORA
    site.etag = site.later_etag or site.etag
    assert fetch("--only", "quora-dev.csv") == 0
    assert (tmp_path / "cs224n" / "quora-dev.csv").read_bytes() == QUORA
    assert leftovers(tmp_path) == ["cs224n/quora-dev.csv"]


def test_starts_again_when_its_part_is_too_long(site, fetch, tmp_path):
    site.files["quora-dev.csv"] = QUORA
    (tmp_path / "cs224n.part").mkdir()
    (tmp_path / "cs224n.part" / "quora-dev.csv.part").write_bytes(QUORA)
    (tmp_path / "cs224n.part" / "quora-dev.csv.etag.part").write_text(site.etag)
    assert fetch("--only", "quora-dev.csv") == 0
    assert site.asked == [f"bytes={len(QUORA)}-", None]
    assert (tmp_path / "cs224n" / "quora-dev.csv").read_bytes() == QUORA


@pytest.mark.parametrize("tag", [b"\xff\xfe", b'"v1"\nX-Evil: 1', b"", b'"v1', b"\0" * 9, b"v1", b'"v\x7f"'])
def test_starts_again_when_its_etag_is_damaged(site, fetch, tmp_path, tag):
    site.files["quora-dev.csv"] = QUORA
    (tmp_path / "cs224n.part").mkdir()
    (tmp_path / "cs224n.part" / "quora-dev.csv.part").write_bytes(QUORA[:100])
    (tmp_path / "cs224n.part" / "quora-dev.csv.etag.part").write_bytes(tag)
    assert fetch("--only", "quora-dev.csv") == 0
    assert site.asked == [None]
    assert (tmp_path / "cs224n" / "quora-dev.csv").read_bytes() == QUORA


@pytest.mark.parametrize("length", ["many", "-5", "1e6", "9" * 5000, "0x10", "9" * 400, "7"])
def test_a_content_length_that_is_wrong(site, fetch, tmp_path, capsys, monkeypatch, length):
    """One that is no number is as good as none; with another the file is never whole. The progress bar sees it too."""
    monkeypatch.setattr(download, "tqdm", partial(download.tqdm, disable=False))
    monkeypatch.setattr(BaseHTTPRequestHandler, "protocol_version", "HTTP/1.0")
    site.files["quora-dev.csv"], site.length = QUORA, length
    code = fetch("--only", "quora-dev.csv")
    assert code == (2 if length.isdecimal() and len(length) < 4300 else 0)
    error = capsys.readouterr().err
    assert "Traceback" not in error
    assert error.count("error:") == (code == 2)


def test_busy_server_is_asked_again_but_not_for_ever(site, fetch, capsys):
    site.files["quora-dev.csv"] = QUORA
    site.statuses = [503, 429]
    assert fetch("--only", "quora-dev.csv") == 0
    site.statuses = [500] * 100
    assert fetch("--only", "quora-train.csv") == 2
    assert len(site.asked) == 3 + download.ATTEMPTS
    assert capsys.readouterr().err.count("error:") == 1


def test_missing_file(site, fetch, tmp_path, capsys):
    assert fetch("--only", "quora-dev.csv") == 2
    assert capsys.readouterr().err == f"error: {site.url}/quora-dev.csv: the server answered 404 Not Found\n"
    assert len(site.asked) == 1
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("empty", [False, True])
def test_a_set_takes_its_place_when_all_that_was_asked_for_is_there(site, fetch, tmp_path, monkeypatch, capsys, empty):
    """Half of one would be used in place of the sample by every later command."""
    monkeypatch.setattr(datasets, "real_folders", lambda name: [tmp_path / name])
    if empty:
        (tmp_path / "cs224n").mkdir()
    wanted = ("--only", "quora-dev.csv", "--only", "quora-train.csv")
    monkeypatch.setitem(download.COURSE_FILES, "quora-train.csv", download.git_blob_id(b"train"))
    site.files = {"quora-train.csv": b"train"}
    assert fetch(*wanted) == 2
    assert "404" in capsys.readouterr().err
    assert leftovers(tmp_path) == ["cs224n.part/quora-train.csv"]
    assert datasets.data_folder()[0].name == "sample"
    site.files["quora-dev.csv"] = QUORA
    assert fetch(*wanted) == 0
    assert len(site.asked) == 3  # the first one was kept
    assert leftovers(tmp_path) == ["cs224n/quora-dev.csv", "cs224n/quora-train.csv"]
    assert not (tmp_path / "cs224n.part").exists()
    assert datasets.data_folder()[0] == tmp_path / "cs224n"
    assert fetch(*wanted) == 0
    assert len(site.asked) == 3


def test_a_set_that_is_there_already_gets_the_rest(site, fetch, tmp_path):
    (tmp_path / "cs224n").mkdir()
    (tmp_path / "cs224n" / "mine.csv").write_text("mine")
    site.files["quora-dev.csv"] = QUORA
    assert fetch("--only", "quora-dev.csv") == 0
    assert leftovers(tmp_path) == ["cs224n/mine.csv", "cs224n/quora-dev.csv"]


@pytest.mark.parametrize("name", ["sts-dev.csv", "quora-dev.csv"])
def test_another_content_is_refused_and_not_kept(site, fetch, tmp_path, capsys, name):
    """Columns and length may be right all the same."""
    site.files[name] = QUORA.replace(b"Why is 7 odd", b"Why is 7 off")
    assert fetch("--only", name) == 2
    error = capsys.readouterr().err
    assert f"is not the published {download.COURSE_FILES[name]}" in error
    assert error.count("\n") == 1
    assert leftovers(tmp_path) == []


def test_blob_id_is_git_s_whatever_the_line_ends(tmp_path, monkeypatch):
    monkeypatch.setitem(download.COURSE_FILES, "text", "ce013625030ba8dba906f756967f9e9ca394464a")
    for content in (b"hello\n", b"hello\r\n"):  # `echo hello | git hash-object --stdin`
        (tmp_path / "text").write_bytes(content)
        download.check_course_file(tmp_path / "text", "text")


def test_every_file_of_the_course_has_a_digest():
    tasks = [task for task in TASKS.values() if task.format == "csv"]
    assert {file for task in tasks for file in task.files.values()} == download.COURSE_FILES.keys()
    assert all(re.fullmatch("[0-9a-f]{40}", blob) for blob in download.COURSE_FILES.values())
    assert len(set(download.COURSE_FILES.values())) == 12


@needs("cs224n")
def test_the_course_s_files_pass():
    """But for Quora's: of these, a part of the published ones may be at hand."""
    for name in download.COURSE_FILES:
        if not name.startswith("quora"):
            download.check_course_file(real("cs224n", name), name)


def pack(members):
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return memory.getvalue()


RTE = {f"RTE/{split}.tsv": f"index\tsentence1\n0\t{split}\n" for split in ("train", "dev", "test")}


@pytest.fixture
def offer(site, monkeypatch):
    """Puts an archive of `members` on the server as RTE.zip, with its own digest as the published one."""

    def put(members):
        site.files["RTE.zip"] = pack(members)
        published = replace(download.ARCHIVES[0], sha256=hashlib.sha256(site.files["RTE.zip"]).hexdigest())
        monkeypatch.setattr(download, "ARCHIVES", (published,))

    return put


def test_archive_gives_only_its_tables(site, fetch, offer, tmp_path):
    offer({"RTE/": "", **RTE, "RTE/original/big.txt": "x", "evil.sh": "x"})
    assert fetch("glue") == 0
    assert leftovers(tmp_path) == ["glue/RTE/dev.tsv", "glue/RTE/test.tsv", "glue/RTE/train.tsv"]
    assert (tmp_path / "glue" / "RTE" / "dev.tsv").read_text() == RTE["RTE/dev.tsv"]
    assert fetch("glue") == 0
    assert len(site.asked) == 1


def test_unpacking_goes_on_without_asking_again(site, fetch, offer, tmp_path):
    offer(RTE)
    assert fetch("glue") == 0
    (tmp_path / "glue" / "RTE" / "dev.tsv").unlink()
    (tmp_path / "glue" / "RTE.zip").write_bytes(site.files["RTE.zip"])
    assert fetch("glue") == 0
    assert len(site.asked) == 1
    assert (tmp_path / "glue" / "RTE" / "dev.tsv").read_text() == RTE["RTE/dev.tsv"]


def test_archive_of_another_digest_is_refused(site, fetch, tmp_path, capsys):
    site.files["RTE.zip"] = pack(RTE)
    assert fetch("--only", "RTE") == 2
    assert "is not the published 6bf86de1" in capsys.readouterr().err
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("name", ["../out.tsv", "/tmp/out.tsv", "RTE/../../out.tsv", "..\\out.tsv", "C:\\out.tsv"])
def test_archive_with_a_path_out_of_its_folder_is_refused(fetch, offer, tmp_path, capsys, name):
    offer({**RTE, name: "x"})
    assert fetch("glue") == 2
    assert "leads out of its folder" in capsys.readouterr().err
    assert leftovers(tmp_path) == ["glue.part/RTE.zip"]


def test_archive_without_a_table_or_not_a_zip(site, fetch, offer, tmp_path, capsys):
    offer({"RTE/train.tsv": "x"})
    assert fetch("glue") == 2
    assert "holds no RTE/dev.tsv" in capsys.readouterr().err
    (tmp_path / "RTE.zip").write_bytes(b"no zip")
    with pytest.raises(download.UserError, match="not a sound zip"):
        download.extract(tmp_path / "RTE.zip", tmp_path / "glue", [])


@pytest.mark.parametrize(
    ("place", "value"),  # in the central directory, whose first entry's header tells how its member is packed
    [(8, b"\1"), (10, b"\x63"), (16, b"\xff\xff\xff\xff"), (42, b"\xff\xff\xff\x7f"), (6, b"\xff")],
    ids=["encrypted", "packed in an unknown way", "another checksum", "beyond the end", "a later version"],
)
def test_archive_that_cannot_be_unpacked(tmp_path, place, value):
    path = tmp_path / "RTE.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("RTE/dev.tsv", "x" * 99)
    content = path.read_bytes()
    start = content.index(b"PK\1\2") + place
    path.write_bytes(content[:start] + value + content[start + len(value) :])
    with pytest.raises(download.UserError, match="not a sound zip file"):
        download.extract(path, tmp_path, [tmp_path / "RTE" / "dev.tsv"])
    assert [one.name for one in tmp_path.iterdir()] == ["RTE.zip"]


def test_unwritable_folder(fetch, tmp_path, capsys):
    (tmp_path / "cs224n").write_text("a file where the folder should go")
    assert fetch("--only", "quora-dev.csv") == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["imdb"], "unknown set imdb"),
        (["--only"], "--only: expected one argument"),
        (["--only", "sts.csv"], "--only sts.csv: not among ids-sst-train.csv"),
        (["cs224n", "--only", "RTE"], "--only RTE: not among"),
        (["--base_url", "file:///etc"], "expected an address such as"),
    ],
)
def test_wrong_flags(args, message, capsys):
    assert download.main(args) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1


def test_runs_from_anywhere_and_shows_help(tmp_path):
    done = subprocess.run(
        [sys.executable, str(ROOT / "data" / "download.py"), "--help"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0
    assert "--base_url" in done.stdout
