"""A page in headless Chromium: what becomes of it, and what the console says. Tests skip where there is none."""

import html.parser
import re
import shutil
import subprocess
import tempfile

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--disable-component-update")


def opened(path, address=""):
    """(the page's elements after its scripts, what the console said) of the file at `path`#address."""
    with tempfile.TemporaryDirectory() as profile:
        done = subprocess.run(
            [CHROMIUM, *FLAGS, f"--user-data-dir={profile}", "--dump-dom", f"{path.as_uri()}{address}"],
            capture_output=True,
            encoding="utf-8",
            timeout=100,
        )
    return Page.of(done.stdout), re.findall(r"CONSOLE.*", done.stderr)


def seconds_to_open(path):
    """From the moment when the browser, which runs, is asked for the page to the end of its scripts and first layout:
    the least of three."""
    timed = path.with_name("timed.html")
    clock = (
        "<script>addEventListener('load', () => requestAnimationFrame(() => console.log(performance.now())))</script>"
    )
    timed.write_text(path.read_text(encoding="utf-8").replace("</body>", f"{clock}</body>"), encoding="utf-8")
    found = [opened(timed)[1][0] for _ in range(3)]
    return min(float(re.search(r'"([\d.]+)"', line)[1]) for line in found) / 1000


class Page(html.parser.HTMLParser):
    """`elements`: [(tag, attributes, text within)] of a page in its order, and `text_of(...)`."""

    VOID = ("area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "wbr")

    def __init__(self):
        super().__init__()
        self.elements, self._open = [], []

    @classmethod
    def of(cls, text):
        page = cls()
        page.feed(text)
        return page

    def handle_starttag(self, tag, attributes):
        element = [tag, dict(attributes), ""]
        self.elements.append(element)
        if tag not in self.VOID:
            self._open.append(element)

    def handle_startendtag(self, tag, attributes):
        self.elements.append([tag, dict(attributes), ""])

    def handle_endtag(self, tag):
        while self._open and self._open.pop()[0] != tag:
            pass

    def handle_data(self, text):
        for element in self._open:
            element[2] += text

    def all(self, tag, **attributes):
        """[(attributes, text)] of the elements of a tag that have these attributes; `_` in a name stands for `-`."""
        wanted = {name.strip("_").replace("_", "-"): value for name, value in attributes.items()}
        return [(a, text) for t, a, text in self.elements if t == tag and all(a.get(n) == v for n, v in wanted.items())]
