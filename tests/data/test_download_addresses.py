"""Where data/download.py fetches from: addresses, redirects and certificates."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from download_server import FIXTURES, QUORA, Site, leftovers, serve

from data import download

ROOT = Path(__file__).parents[2]
SECRET = "hunter2"
ADDRESSES = [
    "http://",
    "http:///x",
    "http://a:b",
    "http://[",
    "http://a b",
    "http://é.org",
    "ftp://a",
    "a/b",
    "http://a:0",
]
SECRETS = [
    "http://u:{}@a",
    "https://a/?token={}",
    "https://a/#{}",
    "ftp://u:{}@a",
    "u:{}@a",
    "http://u:{}@[",
    "http://{}@a:b",
]


@pytest.mark.parametrize("address", [*ADDRESSES, *(address.format(SECRET) for address in SECRETS)])
def test_addresses_that_are_none(tmp_path, capsys, address):
    assert download.main(["--base_url", address, "--data_dir", str(tmp_path)]) == 2
    said = capsys.readouterr()
    assert said.err.startswith("error: --base_url")
    assert said.err.count("\n") == 1
    assert SECRET not in said.err + said.out
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("host", ["a" * 70, "no-such-host.invalid"])
def test_hosts_that_are_none(site, tmp_path, capsys, host):
    assert download.main(["--base_url", f"http://{host}", "--data_dir", str(tmp_path), "--only", "RTE"]) == 2
    assert capsys.readouterr().err.count("error:") == 1


REDIRECTS = [
    "http://[",
    "http://a:b/",
    f"http://u:{SECRET}@{{}}/",
    f"ftp://u:{SECRET}@a/?token={SECRET}",
    "file:///etc/hosts",
]


@pytest.mark.parametrize("location", REDIRECTS)
def test_redirects_that_are_not_followed(site, fetch, capsys, location):
    site.redirect = location.format(site.url.removeprefix("http://"))
    assert fetch("--only", "quora-dev.csv") == 2
    said = capsys.readouterr().err
    assert "redirects to an address that is not followed" in said
    assert said.count("\n") == 1
    assert SECRET not in said
    assert len(site.asked) == 1


def test_a_redirect_is_followed_but_not_out_of_tls(site, fetch, tmp_path, capsys, monkeypatch):
    site.files["quora-dev.csv"] = QUORA
    first = Site(redirect=f"{site.url}/quora-dev.csv?token={SECRET}")
    servers = serve(first), serve(second := Site(redirect=first.redirect), tls=True)
    monkeypatch.setenv("SSL_CERT_FILE", str(FIXTURES / "localhost.crt"))
    words = ["--data_dir", str(tmp_path), "--only", "quora-dev.csv"]
    assert download.main(["--base_url", second.url, *words]) == 2
    said = capsys.readouterr().err
    assert f"error: {second.url} redirects to an address that is not followed" in said
    assert SECRET not in said
    assert not site.asked
    assert download.main(["--base_url", first.url, *words]) == 0
    for server in servers:
        server.shutdown()
        server.server_close()


def test_a_redirect_in_a_circle_is_one_line(site, fetch, capsys):
    site.redirect = f"{site.url}/quora-dev.csv"
    assert fetch("--only", "quora-dev.csv") == 2
    assert capsys.readouterr().err.count("\n") == 1


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
