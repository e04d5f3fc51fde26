"""bert.html: a forward pass as a page to walk through, and what fine-tuning changed.

The page gets numbers and draws them; it computes none. Of a tensor's H or 4H columns it has the first COLUMNS, of what
belongs to heads all of them.
"""

from minbert.files import UserError
from minbert.inside import heads
from minbert.inside.numbers import encoded
from minbert.inside.steps import BATCH, BLOCK, HEADS, KINDS
from minbert.report import page

COLUMNS = 48
PLACES = 3  # of scores and probabilities, whose cells are small
MOST_TOKENS = 64  # of a text on a page; a trace may have more
ROOMS = {"embedding": "Embeddings", "layer": "A layer", "pooler": "Pooler"}
LETTERS = ("B", "T", "N", "H", "A", "D", "b", "t")
MOST_MOVED = 6  # heads that are named


def write_look(path, seen, name, texts, told=(), before=None, answers=(), changes=None):
    """Write the page of a `trace.Trace` into the file at `path`.

    name: of the model; texts: as they were given, for the reader; told: sentences on where the weights are from.
    before: the Trace of the same texts with pretrained weights; answers: [answer_card]; changes:
    changes.relative_changes. UserError where a text is too long for a page, or jinja2 is missing.
    """
    if not page.can_render():
        raise UserError(f"{path}: {page.MISSING}")
    for number in range(len(seen)):
        if (count := len(seen.tokens(number))) > MOST_TOKENS:
            raise UserError(f"text {number + 1} has {count} tokens, a page room for {MOST_TOKENS}; give a shorter one")
    sentences = [_sentence(seen, number, text) for number, text in enumerate(texts)]
    traces = {"": seen} if before is None else {"fine-tuned": seen, "pretrained": before}
    views = [
        {"text": number, "weights": weights, "title": sentence["text"]}
        for number, sentence in enumerate(sentences)
        for weights in traces
    ]
    layers = range(seen.layers)
    moved = _moved(before, seen) if before else []
    values = {
        "sentences": sentences,
        "layers": seen.layers,
        "heads": seen.heads,
        "views": views,
        "start": {name: moved[0][name] if moved else 0 for name in ("layer", "head")},
        "before": [_by_layer(before, "softmax", text, layers) for text in range(len(before or ()))],
        "kinds": {kind.name: kind.form for kind in KINDS},
        "values": _values(seen),
        "looks": [_looks(seen, number) for number in range(len(seen))],
    }
    page.write(
        path, "look.html", name=name, told=told, data=values, rooms=_rooms(seen), sizes=_sizes(seen),
        answers=answers, changes=changes, moved=moved,
    )  # fmt: skip


def answer_card(task, texts, after, before=None):
    """What a head says, as rows of classes with bars. after, before: answers.Answers.of of the fine-tuned and the
    pretrained trunk."""
    card = {"task": task, "texts": texts, "says": after.get("label", after.get("score")), "rows": []}
    card["before"] = None if before is None else before.get("label", before.get("score"))
    for name, share in after.get("probabilities", {}).items():
        card["rows"].append({"name": name, "share": share, "before": before and before["probabilities"][name]})
    return card


def _sentence(seen, number, text):
    tokens = seen.tokens(number)
    pads = seen.ids.shape[1] - len(tokens)
    rows = zip(seen.ids[number].tolist(), seen.types[number].tolist(), seen.mask[number].tolist(), strict=True)
    words = tokens + ["[PAD]"] * pads
    return {
        "text": text,
        "tokens": tokens,
        "inputs": [
            {"token": word, "position": place, "id": id, "type": kind, "mask": mask}
            for place, (word, (id, kind, mask)) in enumerate(zip(words, rows, strict=True))
        ],
    }


def _values(seen):
    """{step: {text: [tensor of each layer, or a single one]}} of all that is drawn, the texts in lists."""
    values = {}
    for kind in KINDS:
        layers = range(seen.layers) if kind.room == "layer" else (None,)
        if kind.name in ("ids", "mask") or not seen.has(kind.name, layers[0]):
            continue
        values[kind.name] = [_by_layer(seen, kind.name, text, layers) for text in range(len(seen))]
        for side_by_side in zip(*values[kind.name], strict=True):  # are coloured by one scale
            most = max(one["most"] for one in side_by_side)
            for one in side_by_side:
                one["most"] = most
    return values


def _by_layer(seen, name, text, layers):
    return [_shown(seen, name, layer, text) for layer in layers]


def _shown(seen, name, layer, text):
    """A text's part of a tensor as the page gets it: of a wide one the first columns."""
    form = next(kind.form for kind in KINDS if kind.name == name)
    part = seen.part(name, layer, text)
    if form == BATCH:
        part = part[None]  # [H] -> [1, H]
    if form == BLOCK:
        return encoded(part, PLACES)
    return encoded(part if form == HEADS else part[:, :COLUMNS])


def _looks(seen, text):
    """[layer][head] in a few words: what each looks at. Pads, which get none, are no columns here."""
    tokens = seen.tokens(text)
    return [
        [heads.in_words(one[:, : len(tokens)], tokens) for one in seen.part("softmax", layer, text)]
        for layer in range(seen.layers)
    ]


def _moved(before, after):
    """The heads whose attention on the first text changed most."""
    found = [
        {"layer": layer, "head": head, "share": share}
        for layer in range(after.layers)
        for head, share in enumerate(heads.moved(before.part("softmax", layer), after.part("softmax", layer)).tolist())
    ]
    return sorted(found, key=lambda one: -one["share"])[:MOST_MOVED]


def _sizes(seen):
    """{letter: size} of the legend of bert.py."""
    B, T = seen.ids.shape
    N, H = seen["word"].shape
    return dict(zip(LETTERS, (B, T, N, H, seen.heads, H // seen.heads), strict=False))


def _rooms(seen):
    """The steps in their rooms, each with its code and the shape of its tensor."""
    rooms = [{"name": name, "title": title, "steps": []} for name, title in ROOMS.items()]
    number = 0
    for kind in KINDS:
        layer = 0 if kind.room == "layer" else None
        if not seen.has(kind.name, layer):
            continue
        number += 1
        tensors = seen.steps[kind.name, layer].tensors
        width = tensors[0].shape[-1]
        step = {
            "number": number,
            "kind": kind,
            "code": seen.code(kind.name, layer),
            "shapes": [list(tensor.shape) for tensor in tensors],
            "cut": (min(COLUMNS, width), width) if kind.form not in (HEADS, BLOCK) and width > COLUMNS else None,
        }
        next(room for room in rooms if room["name"] == kind.room)["steps"].append(step)
    return rooms
