"""Draws the figure of each assignment's page: python assignments/draw_figures.py

FIGURES has one function an assignment, which draws boxes, arrows, labels and curves into a `Figure`.
"""

import math
from html import escape
from pathlib import Path

HERE = Path(__file__).resolve().parent
STYLE = """
.page { fill: white } text { fill: #111 } .plain { fill: #e8eef7 } .sum { fill: #fff3d6 } .result { fill: #e7f5e4 }
.no { fill: none } rect.box { stroke: #456 } .line { fill: none; stroke: #555; stroke-width: 1.5 } .tip { fill: #555 }
.one { stroke: #2b66c4 } .two { stroke: #b4540a } .three { stroke: #1c7f5b } .full { fill: #2b66c4 }
@media (prefers-color-scheme: dark) {
.page { fill: #12161d } text { fill: #e8ecf2 } .plain { fill: #26324a } .sum { fill: #4a3f1f } .result { fill: #1f4229 }
rect.box { stroke: #8fa3bd } .line { stroke: #a3adbd } .tip { fill: #a3adbd }
.one { stroke: #7fb0ff } .two { stroke: #f5a35c } .three { stroke: #5fd0a4 } .full { fill: #7fb0ff }
}
"""


class Figure:
    """An SVG as it grows. Places are pixels from the upper left corner."""

    def __init__(self, title, width, height):
        self.parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
            f'height="{height}" font-family="sans-serif" font-size="14" role="img">',
            f"<title>{escape(title)}</title>\n<style>{STYLE}</style>",
            f'<rect class="page" width="{width}" height="{height}"/>',
            '<defs><marker id="a" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" '
            'orient="auto"><path class="tip" d="M0 0L10 5L0 10z"/></marker></defs>',
        ]

    def box(self, x, y, width, height, text, kind="plain"):
        """A box with lines of text in its middle. kind: plain, sum, result."""
        self.parts.append(f'<rect class="box {kind}" x="{x}" y="{y}" width="{width}" height="{height}" rx="5"/>')
        lines = text.split("\n")
        for number, line in enumerate(lines):
            self.label(x + width / 2, y + height / 2 + 5 + 17 * (number - (len(lines) - 1) / 2), line)

    def arrow(self, *points, kind=""):
        """Along the points (x, y), with a tip at the last."""
        self.parts.append(f'<path class="line {kind}" d="{_path(points)}" marker-end="url(#a)"/>')

    def curve(self, points, kind=""):
        self.parts.append(f'<path class="line {kind}" d="{_path(points)}"/>')

    def label(self, x, y, text, anchor="middle"):
        self.parts.append(f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}">{escape(text)}</text>')

    def row(self, y, *boxes, gap=26, x=10, height=50):
        """Boxes (width, text, kind) side by side, with arrows between; the x where each begins."""
        begins = []
        for width, text, kind in boxes:
            if begins:
                self.arrow((x - gap, y + height / 2), (x, y + height / 2))
            self.box(x, y, width, height, text, kind)
            begins.append(x)
            x += width + gap
        return begins

    def __str__(self):
        return "\n".join([*self.parts, "</svg>", ""])


def _path(points):
    return "M" + "L".join(f"{x:g} {y:g}" for x, y in points)


def attention():
    figure = Figure("scores, probabilities, mixture", 720, 175)
    for y, name in ((10, "Q"), (65, "K"), (125, "V")):
        figure.box(10, y, 60, 34, name)
    figure.box(130, 22, 120, 54, "Q Kᵀ / √D\n[t, t]")
    figure.box(290, 22, 150, 54, "softmax over keys\nthat are no pads")
    figure.box(480, 22, 80, 54, "dropout")
    figure.box(600, 22, 110, 54, "p V\n[t, D]", "result")
    figure.arrow((70, 27), (130, 42))
    figure.arrow((70, 82), (130, 58))
    for start, end in ((250, 290), (440, 480), (560, 600)):
        figure.arrow((start, 49), (end, 49))
    figure.arrow((70, 142), (655, 142), (655, 76))
    return figure


def layer():
    figure = Figure("a layer: attention and feed-forward, each with its residual connection", 800, 170)
    boxes = [(40, "x", "plain"), (90, "attention\ndense", "plain"), (70, "dropout", "plain"), (34, "+", "sum")]
    boxes += [(90, "LayerNorm\ny", "plain"), (100, "dense, GELU\ndense", "plain"), (70, "dropout", "plain")]
    begins = figure.row(60, *boxes, (34, "+", "sum"), (86, "LayerNorm\nz", "result"), gap=20)
    figure.arrow((begins[0] + 20, 60), (begins[0] + 20, 25), (begins[3] + 17, 25), (begins[3] + 17, 60))
    figure.arrow((begins[4] + 45, 110), (begins[4] + 45, 142), (begins[7] + 17, 142), (begins[7] + 17, 110))
    figure.label(180, 18, "residual: x as it is")
    figure.label(565, 160, "residual: y as it is")
    return figure


def model():
    figure = Figure("from ids to the pooled vector", 740, 150)
    for y, name, arrives in ((10, "word[id]", 68), (58, "position[place]", 75), (106, "type[0 or 1]", 82)):
        figure.box(10, y, 110, 34, name)
        figure.arrow((120, y + 17), (160, arrives))
    figure.box(160, 58, 40, 34, "+", "sum")
    figure.arrow((200, 75), (230, 75))
    boxes = [(110, "LayerNorm\ndropout", "plain"), (100, "layers\n1 … L", "plain"), (90, "[CLS] of\neach", "plain")]
    figure.row(50, *boxes, (95, "tanh(dense)", "result"), gap=35, x=230)
    return figure


def adamw():
    figure = Figure("m, v, and the step", 745, 130)
    figure.box(10, 45, 60, 40, "g")
    figure.box(120, 10, 180, 40, "m ← β₁ m + (1−β₁) g")
    figure.box(120, 80, 180, 40, "v ← β₂ v + (1−β₂) g²")
    figure.box(345, 40, 190, 50, "p ← p − αₜ m / (√v + ε)")
    figure.box(570, 40, 168, 50, "p ← p − lr·wd·p", "result")
    for start, end in (((70, 60), (120, 32)), ((70, 70), (120, 98)), ((300, 30), (345, 58)), ((300, 100), (345, 72))):
        figure.arrow(start, end)
    figure.arrow((535, 65), (570, 65))
    return figure


def head():
    figure = Figure("from the sentence's vector to a loss and an answer", 760, 150)
    boxes = [(110, "[CLS]\n[B, H]", "plain"), (90, "dropout", "plain"), (90, "dense", "plain")]
    begins = figure.row(50, *boxes, (110, "logits z\n[B, K]", "plain"), gap=30)
    end = begins[-1] + 110
    figure.box(550, 12, 200, 50, "−log softmax(z)[label]\nthe loss, one an example", "result")
    figure.box(550, 88, 200, 50, "the class of the largest z\nwhat it says", "result")
    figure.arrow((end, 70), (550, 37))
    figure.arrow((end, 80), (550, 113))
    return figure


def joins():
    figure = Figure("two sentences become one vector, and a vector an answer", 760, 240)
    figure.box(10, 60, 80, 110, "u and v\n[B, H] each")
    figure.label(235, 231, "one of the four")
    rows = ("[u; v]   2H", "|u − v|   H", "cos(u, v)   1", "attention   2H")
    for number, text in enumerate(rows):
        y = 10 + 54 * number
        figure.box(160, y, 150, 42, text)
        figure.arrow((90, 115), (160, y + 21))
        figure.arrow((310, y + 21), (370, 115))
    figure.box(370, 94, 80, 42, "dense, z")
    heads = ("1 logit: p = σ(z)", "a score: low + (high − low) σ(z)", "K classes of a score: softmax(z)")
    for number, text in enumerate(heads):
        y = 22 + 72 * number
        figure.box(510, y, 240, 42, text, "result")
        figure.arrow((450, 115), (510, y + 21))
    return figure


def labels():
    """RTE's "not_entailment" in three schemes of five classes; the plain models' numbers are made up."""
    figure = Figure('the vector of one RTE example, "not_entailment", in three schemes', 700, 210)
    classes = ("e", "c", "n", "+", "−")
    rows = {
        "equal shares": (0, 0.5, 0.5, 0.5, 0.5),
        "as plain models predict": (0, 0.2, 0.8, 0.7, 0.3),
        "the same, rounded": (0, 0, 1, 1, 0),
    }
    for column, name in enumerate(classes):
        figure.label(245 + 70 * column + 25 * (column > 2), 22, name)
    for number, (title, values) in enumerate(rows.items()):
        y = 34 + 50 * number
        figure.label(200, y + 25, title, "end")
        for column, value in enumerate(values):
            x = 215 + 70 * column + 25 * (column > 2)
            figure.parts.append(
                f'<rect class="full" opacity="{0.35 * value:g}" x="{x}" y="{y}" width="60" height="40"/>'
            )
            figure.box(x, y, 60, 40, f"{value:g}", "no")
    figure.label(315, 200, "e is ruled out: c and n share 1")
    figure.label(580, 200, "not asked: the default")
    return figure


def unlabelled():
    figure = Figure("which examples wait, and who teaches whom", 760, 200)
    x, y = (lambda p: 60 + 200 * p), (lambda share: 160 - 130 * share)
    schedules = {"one": lambda p: 1 - math.exp(-5 * p), "two": lambda p: p, "three": lambda p: math.exp(5 * (p - 1))}
    steps = [step / 40 for step in range(41)]
    for kind, s in schedules.items():
        figure.curve([(x(p), y(s(p) * 0.5 + 0.5)) for p in steps], kind)
    figure.curve([(60, 25), (60, 160), (265, 160)])
    for text, at_x, at_y in (("log", 100, 36), ("linear", 172, 70), ("exp", 215, 88)):
        figure.label(at_x, at_y, text)
    figure.label(52, y(1) + 5, "1", "end")
    figure.label(52, y(0.5) + 5, "1/K", "end")
    figure.label(160, 180, "training done, p: 0 to 1")
    figure.label(160, 135, "kept: p(y|x) ≤ η(p)")
    figure.box(320, 20, 110, 40, "a text")
    figure.box(320, 80, 110, 40, "its copy")
    figure.box(320, 145, 110, 40, "past weights")
    figure.box(480, 20, 120, 40, "sharpened")
    figure.box(480, 80, 120, 40, "the model")
    figure.box(480, 145, 120, 40, "mean teacher")
    figure.box(650, 50, 100, 40, "KL", "result")
    figure.box(650, 112, 100, 40, "agree", "result")
    for start, end in (((430, 40), (480, 40)), ((430, 100), (480, 100)), ((430, 165), (480, 165))):
        figure.arrow(start, end)
    for start, end in (
        ((600, 40), (650, 65)),
        ((600, 95), (650, 75)),
        ((600, 105), (650, 127)),
        ((600, 165), (650, 138)),
    ):
        figure.arrow(start, end)
    return figure


def masked():
    figure = Figure("a hidden token is guessed with the word embedding itself", 760, 150)
    for number, word in enumerate(("[CLS]", "the", "[MASK]", "sat", "[SEP]")):
        figure.box(10 + 62 * number, 90, 58, 34, word, "sum" if word == "[MASK]" else "plain")
    figure.box(10, 20, 306, 40, "BERT")
    for number in range(5):
        figure.arrow((39 + 62 * number, 90), (39 + 62 * number, 60))
    figure.label(163, 143, "“cat” stood here")
    figure.arrow((316, 40), (346, 40))
    boxes = [(120, "dense, GELU\nLayerNorm", "plain"), (100, "h Eᵀ + bias\n[M, V]", "plain")]
    figure.row(15, *boxes, (110, "−log p[cat]", "result"), gap=25, x=346)
    figure.label(540, 100, "E [V, H] is the table the ids were looked up in;")
    figure.label(540, 120, "only the M hidden places are computed")
    return figure


def schedules():
    figure = Figure("two gradients in conflict, and the learning rate", 740, 190)
    o = (200, 150)
    figure.arrow(o, (330, 150), kind="one")
    figure.arrow(o, (110, 60), kind="two")
    figure.arrow(o, (200, 60), kind="three")
    figure.curve([(110, 60), (200, 60)])
    figure.label(345, 155, "gⱼ")
    figure.label(95, 60, "gᵢ")
    figure.label(262, 58, "gᵢ afterwards")
    figure.label(200, 180, "gᵢ · gⱼ < 0: the part along gⱼ is taken out")
    total, peak = 10, 2
    x, y = (lambda step: 450 + 26 * step), (lambda rate: 150 - 120 * rate)
    rates = [min((step + 1) / (peak + 1), (total - step) / (total - peak)) for step in range(total)]
    points = [(x(step), y(rate)) for step, rate in enumerate(rates)]
    figure.curve([(435, 20), (435, 150), (715, 150)])
    figure.curve(points, "one")
    for at_x, at_y in points:
        figure.parts.append(f'<circle class="full" cx="{at_x:g}" cy="{at_y:g}" r="4"/>')
    figure.label(427, y(1) + 5, "1", "end")
    figure.label(x(peak) + 8, 22, "step W", "start")
    figure.label(575, 180, "10 steps, 2 of them warm-up: none gets 0")
    return figure


def regularizers():
    figure = Figure("two dropouts, one answer; and the worst small change", 740, 190)
    figure.box(10, 60, 70, 40, "x")
    figure.box(130, 20, 130, 40, "model, dropout 1")
    figure.box(130, 100, 130, 40, "model, dropout 2")
    figure.box(300, 60, 80, 40, "KL + KL", "result")
    for start, end in (((80, 75), (130, 40)), ((80, 85), (130, 120)), ((260, 40), (300, 72)), ((260, 120), (300, 88))):
        figure.arrow(start, end)
    figure.label(195, 175, "R-Drop: half of both")
    figure.parts.append('<circle class="line" cx="480" cy="80" r="60"/>')
    figure.parts.append('<circle class="full" cx="480" cy="80" r="4"/>')
    figure.arrow((480, 80), (522, 38), kind="two")
    figure.label(470, 98, "x")
    figure.label(512, 74, "d")
    figure.box(590, 20, 70, 36, "f(x + d)")
    figure.box(590, 100, 70, 36, "f(x)")
    figure.box(690, 60, 42, 36, "KL", "result")
    for start, end in (
        ((524, 38), (590, 38)),
        ((486, 82), (590, 116)),
        ((660, 40), (698, 60)),
        ((660, 116), (698, 96)),
    ):
        figure.arrow(start, end)
    figure.label(555, 175, "SMART: d within the radius, along the gradient")
    return figure


FIGURES = {
    "a1/attention": attention,
    "a2/layer": layer,
    "a3/model": model,
    "a4/adamw": adamw,
    "a5/head": head,
    "a6/joins": joins,
    "a7/labels": labels,
    "a8/unlabelled": unlabelled,
    "a9/masked": masked,
    "a10/schedules": schedules,
    "bonus/regularizers": regularizers,
}


def main():
    for name, draw in FIGURES.items():
        (HERE / f"{name}.svg").write_text(str(draw()), encoding="utf-8")


if __name__ == "__main__":
    main()
