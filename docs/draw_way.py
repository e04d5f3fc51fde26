"""Draws docs/way.svg: the way of three rows through the program, from their files to the scores.

    python docs/draw_way.py

The rows are real ones of data/sample, and so are their tokens and numbers (minilm's tokenizer).
"""

import re
from html import escape
from pathlib import Path

OUT = Path(__file__).with_name("way.svg")
W, LEFT, RIGHT = 540, 82, 526  # the picture, and the panels in it
INNER, MIDDLE = RIGHT - LEFT - 28, (LEFT + RIGHT) / 2
ROWS = {  # task: its texts, the label, and what its head tells
    "sst": (("I hated every page of it.",), "0", "5 sentiments"),
    "quora": (("Does honey ever spoil?", "Can honey go bad?"), "1", "same or not"),
    "sts": (("Two men argue about politics.", "A person is climbing a cliff."), "0.0", "score 0–5"),
}
TOKENS = ("[CLS]", "i", "hated", "every", "page", "of", "it", ".", "[SEP]")
IDS = (101, 1045, 6283, 2296, 3931, 1997, 2009, 1012, 102)
LENGTHS = {"sst": 9, "quora": 13, "sts": 16}  # tokens of the rows, [CLS] and [SEP] included

LIGHT = {"page": "#ffffff", "panel": "#f5f6f8", "line": "#d5d9e0", "ink": "#1d2433", "soft": "#5b6578"}
LIGHT |= {"layer": "#dde2ea", "on": "#ffffff", "sst": "#2b66c4", "quora": "#b4540a", "sts": "#1c7f5b"}
DARK = {"page": "#12161d", "panel": "#1b212b", "line": "#39424f", "ink": "#e8ecf2", "soft": "#a3adbd"}
DARK |= {"layer": "#303947", "on": "#10141a", "sst": "#7fb0ff", "quora": "#f5a35c", "sts": "#5fd0a4"}
SHAPES = """
  text { font: 16px system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif }
  .title { font-size: 18px; font-weight: 650 }
  .file, .mono { font: 13.5px ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', monospace }
  .mid { text-anchor: middle } .end { text-anchor: end } .on { font-weight: 600 } .pale { opacity: 0.45 }
  .way { stroke-width: 2; fill: none } .maybe { fill: none; stroke-dasharray: 4 3 }"""
COLOURS = """
  text { fill: INK } .file, .soft, .head { fill: SOFT } .on { fill: ON } .way, .maybe { stroke: SOFT }
  .page { fill: PAGE } .panel { fill: PANEL; stroke: LINE } .box { fill: PAGE; stroke: LINE } .plain { fill: LAYER }
  .sst { fill: SST } .quora { fill: QUORA } .sts { fill: STS }"""


def colours(palette):
    """The rules of COLOURS in a palette."""
    return re.sub(r"[A-Z]{2,}", lambda found: palette[found[0].lower()], COLOURS)


STYLE = f"{SHAPES}{colours(LIGHT)}\n  @media (prefers-color-scheme: dark) {{{colours(DARK)}\n  }}\n"


class Picture:
    """SVG as it grows; `y` is where the next panel begins."""

    def __init__(self):
        self.parts, self.y = [], 14

    def add(self, tag, content=None, **attributes):
        written = "".join(f' {name.rstrip("_")}="{value}"' for name, value in attributes.items())
        self.parts.append(f"<{tag}{written}/>" if content is None else f"<{tag}{written}>{escape(content)}</{tag}>")

    def rect(self, kind, x, y, width, height, round=4):
        x, y, width, height = (f"{number:.1f}" for number in (x, y, width, height))
        self.add("rect", class_=kind, x=x, y=y, width=width, height=height, rx=round)

    def text(self, x, y, words, kind=""):
        self.add("text", words, x=f"{x:.1f}", y=f"{y:.1f}", **({"class_": kind} if kind else {}))

    def chip(self, kind, x, y, width, words, height=28):
        self.rect(kind, x, y, width, height, height / 2)
        self.text(x + width / 2, y + height / 2 + 5.5, words, "mid soft" if kind == "maybe" else "mid on")

    def chips(self, kinds, words, y):
        """Chips side by side, as wide as a panel."""
        width = (INNER - 8 * (len(words) - 1)) / len(words)
        for place, (kind, word) in enumerate(zip(kinds, words, strict=True)):
            self.chip(kind, LEFT + 14 + place * (width + 8), y, width, word)

    def panel(self, title, file, height):
        """A panel with its heading; returns the y at which its content begins."""
        top = self.y
        self.rect("panel", LEFT, top, RIGHT - LEFT, height, 10)
        self.text(LEFT + 14, top + 27, title, "title")
        self.text(RIGHT - 14, top + 26, file, "file end")
        self.y += height
        return top + 42

    def says(self, y, words):
        self.text(LEFT + 14, y, words, "soft")

    def arrow(self, length=22):
        self.add("path", class_="way", d=f"M{MIDDLE} {self.y + 3} v{length - 11}")
        self.add("path", class_="head", d=f"M{MIDDLE - 5} {self.y + length - 10} h10 l-5 8 z")
        self.y += length

    def during(self, top, words, x=LEFT - 10, again=False):
        """A bracket beside the panels from `top` down to here, with words along it; an arrow where it all comes
        `again`."""
        bottom, middle = self.y, (top + self.y) / 2
        self.add("path", class_="way", d=f"M{x - (7 if again else 0)} {top + 10} H{x - 10} V{bottom - 10} H{x}")
        if again:
            self.add("path", class_="head", d=f"M{x - 7} {top + 5} v10 l8 -5 z")
        self.add("text", words, class_="mid soft", x=x - 17, y=middle, transform=f"rotate(-90 {x - 17} {middle})")


def draw_once(p):
    top = p.y
    y = p.panel("Rows of files", "datasets.py", 192)
    for task, (texts, label, _) in ROWS.items():
        p.chip(task, LEFT + 14, y, 66, task, 26)
        for line, text in enumerate(texts):
            p.text(LEFT + 92, y + 18 + 22 * line, text)
        p.text(RIGHT - 16, y + 18, label, "mono end")
        y += 14 + 22 * len(texts)
    p.arrow()
    y = p.panel("Tokens, and their numbers", "tokenization.py", 132)
    width = INNER / len(TOKENS)
    for place, (token, number) in enumerate(zip(TOKENS, IDS, strict=True)):
        x = LEFT + 14 + place * width
        p.rect("box" if place else "sst", x + 1, y, width - 2, 26)
        p.text(x + width / 2, y + 18, token, "mono mid" if place else "mono mid on")
        p.text(x + width / 2, y + 45, str(number), "mono mid soft")
    p.says(y + 76, "a pair: [CLS] A [SEP] B [SEP]")
    p.during(top, "once")
    p.arrow(30)


def draw_step(p):
    top = p.y
    y = p.panel("A step: rows of each task", "schedules.py", 108)
    cell = INNER / sum(LENGTHS.values())
    starts, x = {}, LEFT + 14
    for task, length in LENGTHS.items():
        starts[task] = x
        for place in range(length):
            p.rect(f"{task} pale" if place else task, x + 0.7, y, cell - 1.4, 26, 2)
            x += cell
    p.says(y + 51, "end to end: no padding")
    p.text(RIGHT - 14, y + 50, "packing.py", "file end")
    p.arrow()
    y = p.panel("BERT: one pass for all of them", "bert.py", 146)
    for task, length in LENGTHS.items():
        p.rect(task, starts[task] + 0.7, y, cell * length - 1.4, 30, 6)
        p.text(starts[task] + cell * length / 2, y + 20.5, "attention", "mid on")
    p.rect("plain", LEFT + 14.7, y + 36, INNER - 1.4, 30, 6)
    p.text(MIDDLE, y + 56.5, "dense layers: every token alike", "mid")
    p.says(y + 90, "attention stays in its sequence; 6 layers, or 12")
    p.arrow()
    y = p.panel("From each [CLS] to a head", "heads.py", 110)
    p.chips(ROWS, [says for _, _, says in ROWS.values()], y)
    p.says(y + 53, "read separately, a pair is joined first")
    p.text(RIGHT - 14, y + 52, "pairs.py", "file end")
    p.arrow()
    y = p.panel("The loss is a sum of terms", "objective.py", 144)
    p.chips(ROWS, [f"{task} loss" for task in ROWS], y)
    p.chips(["maybe"] * 4, ("R-Drop", "SMART", "UDA", "teacher"), y + 35)
    p.says(y + 88, "dashed: where a flag asks for it")
    p.arrow()
    p.panel("AdamW: the weights move", "optimizer.py", 44)
    p.during(top, "every step", again=True)
    return top


def draw():
    p = Picture()
    draw_once(p)
    top = draw_step(p)
    p.arrow(30)
    p.panel("Scores on the dev set", "minbert/evaluation.py", 44)
    p.during(top, "every epoch", LEFT - 46, again=True)
    p.arrow(30)
    top = p.y
    y = p.panel("A folder: runs/NAME", "results.py", 74)
    p.text(LEFT + 14, y + 15, "scores.json model.safetensors predictions/", "mono")
    p.during(top, "the end")
    height = p.y + 14
    size = f'viewBox="0 0 {W} {height}" width="{W}" height="{height}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">'
    title = "<title>The way of three rows: files, tokens, packed end to end, BERT, heads, loss, AdamW, scores</title>"
    page = f'<rect class="page" width="{W}" height="{height}" rx="12"/>'
    return "\n".join([head, title, f"<style>{STYLE}</style>", page, *p.parts, "</svg>\n"])


if __name__ == "__main__":
    OUT.write_text(draw(), encoding="utf-8")
