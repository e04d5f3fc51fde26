"""Spoiled answers of servers, and archives that were downloaded: the Inputs of what comes over the web.

No server is there: a connection gets the bytes of the case in place of an answer, whatever it asks.
"""

import contextlib
import http.client
import io
import json
import zipfile
from unittest import mock

from data import download
from minbert.augment import chat
from minbert.files import UserError

GOOD = b"\tid\tsentence1\tsentence2\tis_duplicate\n" + b"0\ta\tthe dog\tthe cat\t0.0\n" * 40
ETAG = b'"5d8c72a5edda8d6a"'
HEAD = b"HTTP/1.1 200 OK\r\nDate: Fri, 01 Aug 2025 10:00:00 GMT\r\nETag: %s\r\nContent-Length: %d\r\n\r\n"


class Deaf:
    """A socket that takes whatever is sent and answers with these bytes."""

    def __init__(self, content):
        self.content = content

    def makefile(self, *_):
        return io.BytesIO(self.content)

    def sendall(self, data):
        pass

    def close(self):
        pass

    settimeout = sendall


@contextlib.contextmanager
def answering(path):
    """Every connection of this process gets the content of a file."""
    content = path.read_bytes()

    def connect(connection):
        connection.sock = Deaf(content)

    with mock.patch.object(http.client.HTTPConnection, "connect", connect):
        yield


def read_chat(path):
    try:
        said = _ask(path)
    except chat.Failed as failed:
        raise UserError(str(failed)) from None
    assert isinstance(said.text, str)
    assert said.finish is None or isinstance(said.finish, str)


def read_refusal(path):
    with contextlib.suppress(chat.Failed):
        _ask(path)


def _ask(path):
    """One prompt, on a clock of its own, which no wait lasts on."""
    now = [0.0]
    pace = chat.Pace(clock=lambda: now[0], wait=lambda seconds: now.__setitem__(0, now[0] + seconds))
    with answering(path):
        return chat.Chat("http://localhost:1/v1", "m", "sk-0123456789", pace=pace).ask("the film was good")


def read_download(path):
    """A file that is taken for whole is the one that was asked for; nothing is left beside it."""
    home = path.parent / "home"
    home.mkdir(exist_ok=True)

    def check(part):
        if part.read_bytes() != GOOD:
            raise UserError("another file")

    with (
        answering(path),
        mock.patch.object(download.time, "sleep"),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        download.fetch("http://localhost:1/quora.csv", home / "quora.csv", check)
    assert [one.name for one in home.iterdir()] == ["quora.csv"]


def read_etag(path):
    """The ETag that stands beside half a download: the server, which has the file still, begins anew."""
    path.rename(path.parent / "home" / path.name)
    read_download(path.parent / "answer")


def read_archive(path):
    download.extract(path, path.parent / "glue", [path.parent / "glue" / "RTE" / "dev.tsv"])


def files(folder):
    """[(name, folder, file, form, reader)] of good ones made below `folder`."""
    homes = {name: folder / name for name in ("chat", "download", "etag", "archive")}
    for home in homes.values():
        home.mkdir(parents=True)
    said = {"id": "1", "choices": [{"index": 0, "message": {"role": "assistant", "content": "it was fine"}}]}
    body = json.dumps({**said, "usage": {"total_tokens": 3}}).encode()
    (homes["chat"] / "answer").write_bytes(HEAD % (ETAG, len(body)) + body)
    refused = json.dumps({"error": {"message": "too many requests", "type": "rate", "code": 429}}).encode()
    head = b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 3\r\nContent-Length: %d\r\n\r\n" % len(refused)
    (homes["chat"] / "refused").write_bytes(head + refused)
    for name in ("download", "etag"):
        (homes[name] / "answer").write_bytes(HEAD % (ETAG, len(GOOD)) + GOOD)
    (homes["etag"] / "home").mkdir()
    (homes["etag"] / "home" / "quora.csv.part").write_bytes(GOOD[:50])
    (homes["etag"] / "quora.csv.etag.part").write_bytes(ETAG)
    with zipfile.ZipFile(homes["archive"] / "RTE.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("RTE/dev.tsv", "RTE/train.tsv", "RTE/readme"):
            archive.writestr(zipfile.ZipInfo(name), GOOD, zipfile.ZIP_DEFLATED)
    return [
        ("chat answer", homes["chat"], "answer", "http", read_chat),
        ("chat refusal", homes["chat"], "refused", "http", read_refusal),
        ("download", homes["download"], "answer", "http", read_download),
        ("etag", homes["etag"], "quora.csv.etag.part", "text", read_etag),
        ("archive", homes["archive"], "RTE.zip", "zip", read_archive),
    ]
