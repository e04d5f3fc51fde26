"""A chat endpoint on loopback that misbehaves as it is told, and counts what it was asked and what it would bill."""

import json
import re
import sys
import threading
import time
import traceback
from collections import Counter
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from minbert.text.rows import read_augmented

WORDS = ["a", "slow", "film", "about", "two", "brothers", "who", "sell", "their", "house"]
ROW = re.compile(r"\br\d+\b")  # each row's text has a word that tells which one it is


def completion(text, finish="stop"):
    return json.dumps({"choices": [{"message": {"role": "assistant", "content": text}, "finish_reason": finish}]})


def changed(prompt):
    """An answer that each method takes: the text in the prompt's last line, with a word before it."""
    text = prompt.rpartition("\n")[2].removesuffix(" To put it differently,")
    return "changed " + text.replace("____", "filled")


class ChatServer:
    """behave(row, n): how to treat the n-th request (from 1) for a row ("r17", or None): None for an answer,
    "drop" to close the connection, a str to answer with these words, bytes for such a body, or (status, headers, body).
    answer(prompt): the words of an answer."""

    def __init__(self):
        self.behave = lambda row, n: None
        self.answer = changed
        self.delay = 0.0  # seconds before an answer
        self.asked, self.billed = Counter(), Counter()  # by row; by prompt
        self.bodies, self.headers, self.paths = [], [], []
        self.broken = []  # the server's own mistakes
        self.now = self.most_at_once = 0
        self.lock = threading.Lock()
        self.url = ""

    def treat(self, handler):
        length = int(handler.headers["Content-Length"])
        content = handler.rfile.read(length)
        if len(content) < length:
            raise ConnectionError("the client was killed within its request")
        body = json.loads(content)
        prompt = body["messages"][0]["content"]
        row = (ROW.findall(prompt) or [None])[-1]
        with self.lock:
            self.asked[row] += 1
            n = self.asked[row]
            self.bodies.append(body)
            self.headers.append(dict(handler.headers))
            self.paths.append(handler.path)
            self.now += 1
            self.most_at_once = max(self.most_at_once, self.now)
        try:
            how = self.behave(row, n)
            if how == "drop":
                handler.close_connection = True
                return
            if how is None or isinstance(how, str):
                time.sleep(self.delay)
                with self.lock:
                    self.billed[prompt] += 1
                how = completion(self.answer(prompt) if how is None else how).encode()
            status, headers, content = how if isinstance(how, tuple) else (200, {}, how)
            handler.send_response(status, headers.get("reason"))
            for name, value in {"Content-Length": len(content), **headers}.items():
                handler.send_header(name, str(value))
            handler.end_headers()
        finally:
            with self.lock:  # before the client has all, and may ask again
                self.now -= 1
        handler.wfile.write(content)


@contextmanager
def serving():
    """A ChatServer at work; its `url` is the --base_url."""
    chat = ChatServer()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            chat.treat(self)

        def do_GET(self):
            chat.paths.append(self.path)
            self.send_error(404)

        def log_message(self, *_):
            pass

    class Server(ThreadingHTTPServer):
        request_queue_size = 128
        daemon_threads = True

        def handle_error(self, *_):
            if not isinstance(sys.exc_info()[1], ConnectionError):  # a killed client's
                chat.broken.append(traceback.format_exc())

    with Server(("127.0.0.1", 0), Handler) as server:
        chat.url = f"http://127.0.0.1:{server.server_port}/v1"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield chat
        finally:
            server.shutdown()
            thread.join()
    assert not chat.broken, chat.broken[0]


class FakeClock:
    """Seconds that pass only by waiting, for chat.Pace."""

    def __init__(self):
        self.now, self.waits = 1000.0, []
        self.lock = threading.Lock()

    def __call__(self):
        return self.now

    def wait(self, seconds):
        with self.lock:
            self.waits.append(seconds)
            self.now += seconds
        return False


def source(folder, count, pairs=False):
    """Write in.tsv with rows "r0", "r1" ... whose texts name their row; returns {id: texts}."""
    rows = {f"r{i}": (f"{' '.join(WORDS[i % 4 :])} r{i}",) for i in range(count)}
    if pairs:
        rows = {id: (text, f"is it {text}") for id, (text,) in rows.items()}
    columns = "sentence1\tsentence2" if pairs else "sentence"
    lines = ["id\t" + columns, *("\t".join([id, *texts]) for id, texts in rows.items())]
    (folder / "in.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return rows


def command(folder, server):
    """words(method, *more): the command that makes out.tsv of in.tsv by asking `server`."""

    def words(method, *more):
        endpoint = ["--base_url", server.url, "--model", "m"]
        files = ["--in", folder / "in.tsv", "--out", folder / "out.tsv"]
        return [str(word) for word in ("--method", method, *endpoint, *files, *more)]

    return words


def copies(folder):
    """{id: texts} of out.tsv."""
    return read_augmented(folder / "out.tsv").texts
