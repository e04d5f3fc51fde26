"""Fixtures that the tests of data/download.py share."""

import pytest
from download_server import QUORA, Site, serve

from data import download


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
