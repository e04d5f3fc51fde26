"""A loopback server for data/download.py that can cut, lie, change its files, send elsewhere and speak TLS."""

import ssl
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

FIXTURES = Path(__file__).parent / "fixtures"
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
    length: str = ""  # the Content-Length it claims
    redirect: str = ""  # where it sends everybody
    wrong_start: int = 0  # added to the offset that a range answer starts at
    asked: list = field(default_factory=list)  # the Range header of each request
    url: str = ""


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        site = self.server.site
        site.asked.append(self.headers.get("Range"))
        body = site.files.get(self.path.lstrip("/").partition("?")[0])
        if site.redirect:
            self.send_response(302)
            self.send_header("Location", site.redirect)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
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
        self.send_header("Content-Length", site.length or str(len(body) - start))
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


def leftovers(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
