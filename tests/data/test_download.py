"""data/download.py against a loopback server that can cut, lie, change its files and speak TLS."""

import hashlib
import io
import os
import re
import ssl
import subprocess
import sys
import threading
import zipfile
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from real_data import needs, real

from data import download
from datasets import TASKS

ROOT = Path(__file__).parents[2]
FIXTURES = ROOT / "tests" / "fixtures"
HEADER = "\tid\tsentence1\tsentence2\tis_duplicate\n"
ROWS = [f"{i}\tq{i}\tWhy is {i} odd?\tIs {i} odd?\t0.0\n" for i in range(9000)]
QUORA = (HEADER + "".join(ROWS)).encode()  # 370 kB: several reads


@dataclass
class Site:
    """What the server holds and how it misbehaves."""

    files: dict = field(default_factory=dict)  # name -> bytes
    etag: str = '"v1"'
    cuts: list = field(default_factory=list)  # bytes to send before the connection dies, one entry a request
    statuses: list = field(default_factory=list)  # answers to give before any good one
    ranges: bool = True
    if_range: bool = True  # whether it heeds If-Range
    later_etag: str = ""
    wrong_start: int = 0  # added to the offset that a range answer starts at
    asked: list = field(default_factory=list)  # the Range header of each request
    url: str = ""


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        site = self.server.site
        site.asked.append(self.headers.get("Range"))
        body = site.files.get(self.path.lstrip("/"))
        if site.statuses or body is None:
            self.send_error(site.statuses.pop(0) if site.statuses else 404)
            return
        start = 0
        if site.ranges and site.asked[-1] and (not site.if_range or self.headers.get("If-Range") == site.etag):
            start = int(site.asked[-1].removeprefix("bytes=").removesuffix("-")) + site.wrong_start
            if start >= len(body):
                self.send_error(416)
                return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        if site.etag:
            self.send_header("ETag", site.etag)
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        self.wfile.write(body[start:][: site.cuts.pop(0) if site.cuts else None])

    def log_message(self, *args):
        pass


def serve(site, tls=False):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.site = site
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(FIXTURES / "localhost.crt", FIXTURES / "localhost.key")
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    site.url = f"http{'s' * tls}://localhost:{server.server_port}"
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    return server


@pytest.fixture
def site(monkeypatch):
    monkeypatch.setattr(download, "FIRST_PAUSE", 0.01)
    monkeypatch.setitem(download.COURSE_FILES, "quora-dev.csv", download.git_blob_id(QUORA))
    monkeypatch.setenv("no_proxy", "*")
    site = Site()
    server = serve(site)
    yield site
    server.shutdown()
    server.server_close()


@pytest.fixture
def fetch(site, tmp_path):
    """Runs the command in this process against `site`; returns its exit code."""
    return lambda *args: download.main([*args, "--base_url", site.url, "--data_dir", str(tmp_path)])


def leftovers(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


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
    (tmp_path / "cs224n").mkdir()
    (tmp_path / "cs224n" / "quora-dev.csv.part").write_bytes(QUORA)
    (tmp_path / "cs224n" / "quora-dev.csv.etag.part").write_text(site.etag)
    assert fetch("--only", "quora-dev.csv") == 0
    assert site.asked == [f"bytes={len(QUORA)}-", None]
    assert (tmp_path / "cs224n" / "quora-dev.csv").read_bytes() == QUORA


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
    for name in download.COURSE_FILES:
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
    assert leftovers(tmp_path) == ["glue/RTE.zip"]


def test_archive_without_a_table_or_not_a_zip(site, fetch, offer, tmp_path, capsys):
    offer({"RTE/train.tsv": "x"})
    assert fetch("glue") == 2
    assert "holds no RTE/dev.tsv" in capsys.readouterr().err
    (tmp_path / "glue" / "RTE.zip").write_bytes(b"no zip")
    with pytest.raises(download.UserError, match="not a sound zip"):
        download.extract(tmp_path / "glue" / "RTE.zip", tmp_path / "glue", [])


def test_unwritable_folder(fetch, tmp_path, capsys):
    (tmp_path / "cs224n").write_text("a file where the folder should go")
    assert fetch("--only", "quora-dev.csv") == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1


@pytest.mark.parametrize("module", [False, True])
def test_over_tls(tmp_path, module):
    """Run by its path, `import ssl` is Python's own; as `python -m data.download` it is the bridge. Both do https."""
    site = Site({"quora-dev.csv": QUORA}, cuts=[100_000])
    server = serve(site, tls=True)
    args = ["--only", "quora-dev.csv", "--base_url", site.url, "--data_dir", str(tmp_path)]
    command = ["-m", "data.download"] if module else ["data/download.py"]
    nobody = tmp_path / "no-certificates"
    nobody.mkdir()

    def run(**trust):
        env = os.environ | {"SSL_CERT_DIR": str(nobody), "no_proxy": "*"} | trust
        return subprocess.run(
            [sys.executable, *command, *args], cwd=ROOT, env=env, capture_output=True, text=True, timeout=120
        )

    refused = run(SSL_CERT_FILE=str(nobody / "none.pem"))
    assert refused.returncode == 2
    assert "its certificate is refused: self" in refused.stderr
    assert refused.stderr.count("\n") == 1
    assert leftovers(tmp_path) == []
    assert not site.asked

    trusted = run(SSL_CERT_FILE=str(FIXTURES / "localhost.crt"))
    assert site.asked == [None, "bytes=100000-"]
    assert f"git blob id {download.git_blob_id(QUORA)} is not the published" in trusted.stderr  # so it came whole
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["imdb"], "unknown set imdb"),
        (["--only", "sts.csv"], "--only sts.csv: not among ids-sst-train.csv"),
        (["cs224n", "--only", "RTE"], "--only RTE: not among"),
        (["--base_url", "file:///etc"], "must start with http"),
    ],
)
def test_wrong_flags(args, message, capsys):
    try:
        code = download.main(args)
    except SystemExit as stop:  # argparse's own way
        code = stop.code
    assert code == 2
    assert message in capsys.readouterr().err


def test_runs_from_anywhere_and_shows_help(tmp_path):
    done = subprocess.run(
        [sys.executable, str(ROOT / "data" / "download.py"), "--help"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0
    assert "--base_url" in done.stdout
