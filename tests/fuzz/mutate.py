"""Spoiled copies of good files: what a disk, an editor, another program or a stranger may make of them.

`spoil` draws one to three changes that suit the file's form, from the random numbers it is given: the same numbers, the
same bytes. Some changes know nothing of the form (a flipped bit), some keep it and change what it says (a number where
a text was): the second kind gets past the parsers, to the code behind them.
"""

import gzip
import io
import json
import pickle
import struct
import zipfile
import zlib

ODD_VALUES = (
    *(None, True, False, 0, -1, 1, 0.5, 1e308, -1e308, 10**30, 2**31, 2**63, -(2**64), 3.0, "", " ", "\t", "0", "nan"),
    *(
        "None",
        "x" * 5000,
        "\x00",
        "\x1b[31m",
        "../../..",
        "/dev/null",
        "/",
        "\ud83d\ude00",
        "1e5",
        "٣",
        "²",
        "-",
        "=,=",
    ),
    *([], {}, [[]], [None], [1, "a", None], {"a": None}, {"": {}}, ["sst"], "sst", "sst=1", ["lr"], [0.1, 0.1]),
)
ODD_LITERALS = (
    *("NaN", "Infinity", "-Infinity", "1" + "0" * 400, "1e999", "-0.0", "1E-400", '"\\ud83d"', '"\\udc00\\ud800"'),
    *("[" * 70 + "]" * 70, "[" * 100_000 + "]" * 100_000, '{"a":' * 80 + "1" + "}" * 80, '{"a": 1, "a": 2}', "01", "'"),
)
ODD_TEXTS = (
    *(b'"', b'"""', b"\t", b"\t\t\t", b"\0", b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xef\xbb\xbf"),
    *(b"\r", b"\r\n", b"\n", b"\n\n", b" ", "\u2028\u0085\u200b\u202e".encode(), "e\u0301\U0001f600".encode(), b"\\"),
    *(
        b"x" * 200_000,
        b"a " * 50_000,
        b"nan",
        b"inf",
        b"-1",
        b"1e400",
        b"9" * 400,
        b"[MASK]",
        b"[CLS]",
        b"<br />",
        b",",
    ),
)
# What a change raises over content that is no more of its form (zipfile: a compression or encryption that it lacks).
UNFIT = (ValueError, LookupError, TypeError, AttributeError, RuntimeError, NotImplementedError, OSError, EOFError)
UNFIT += (struct.error, zlib.error, zipfile.BadZipFile, pickle.UnpicklingError)
HUGE = b"y" * ((16 << 20) + 2)  # more than a line may have; rare, for it takes a while


def spoil(content, form, random):
    """Other bytes than `content`, a file of this form: one of FORMS, or with ".gz" behind it."""
    if form.endswith(".gz"):
        if random.random() < 0.3:
            return _some(BYTES, content, random)
        return gzip.compress(spoil(gzip.decompress(content), form.removesuffix(".gz"), random), 1, mtime=0)
    for _ in range(random.choice((1, 1, 2, 3))):
        changes = FORMS[form] if random.random() < 0.75 else BYTES
        content = _some(changes, content, random)
    return content


def _some(changes, content, random):
    """One of the changes; where the content is no more of the form that it needs, some bytes change instead."""
    try:
        return random.choice(changes)(content, random)
    except UNFIT:
        return flipped(content, random)


def _place(content, random):
    return random.randrange(len(content) + 1)


def _piece(content, random):
    """(start, end) of some of the content; mostly little."""
    start = _place(content, random)
    return start, min(len(content), start + random.choice((1, 2, 8, 64, 1024)))


# ----------------------------------------------------------------------------------------------------- any bytes


def flipped(content, random):
    content = bytearray(content or b"\0")
    for _ in range(random.choice((1, 1, 4, 32))):
        content[random.randrange(len(content))] ^= 1 << random.randrange(8)
    return bytes(content)


def cut(content, random):
    return content[: _place(content, random)]


def without_piece(content, random):
    start, end = _piece(content, random)
    return content[:start] + content[end:]


def with_piece_twice(content, random):
    start, end = _piece(content, random)
    place = _place(content, random)
    return content[:place] + content[start:end] + content[place:]


def with_noise(content, random):
    start, end = _piece(content, random)
    return content[:start] + random.randbytes(end - start) + content[end:]


def with_zeros(content, random):
    start, end = _piece(content, random)
    return content[:start] + bytes(end - start) + content[end:]


def empty(content, random):
    return b""


BYTES = (flipped, flipped, cut, without_piece, with_piece_twice, with_noise, with_zeros, empty)


# ---------------------------------------------------------------------------------------------------------- text


def with_odd_text(content, random):
    odd = HUGE if random.random() < 0.01 else random.choice(ODD_TEXTS)
    place = _place(content, random)
    return content[:place] + odd + content[place:]


def with_odd_cell(content, random):
    """Something else in place of one cell, between two tabs."""
    lines = content.split(b"\n")
    row = random.randrange(len(lines))
    cells = lines[row].split(b"\t")
    cells[random.randrange(len(cells))] = random.choice((b"", *ODD_TEXTS))
    lines[row] = b"\t".join(cells)
    return b"\n".join(lines)


def with_lines_swapped(content, random):
    lines = content.split(b"\n")
    one, other = random.randrange(len(lines)), random.randrange(len(lines))
    lines[one], lines[other] = lines[other], lines[one]
    return b"\n".join(lines)


def with_line_twice(content, random):
    lines = content.split(b"\n")
    lines.insert(random.randrange(len(lines)), random.choice(lines))
    return b"\n".join(lines)


def without_line(content, random):
    lines = content.split(b"\n")
    del lines[random.randrange(len(lines))]
    return b"\n".join(lines)


def with_other_ends(content, random):
    return content.replace(b"\n", random.choice((b"\r\n", b"\r", b"\n\r", b"", "\u2028".encode())))


def in_another_encoding(content, random):
    return content.decode("utf-8").encode(random.choice(("utf-16", "utf-32", "utf-8-sig")))


TEXT = (
    *(with_odd_text, with_odd_text, with_odd_cell, with_odd_cell, with_odd_cell, with_lines_swapped, with_line_twice),
    *(without_line, with_other_ends, in_another_encoding),
)


# ---------------------------------------------------------------------------------------------------------- JSON


def _keys(value):
    return value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()


def _slots(value, found):
    """Every (container, key) below a value, into `found`."""
    for key in _keys(value):
        found.append((value, key))
        _slots(value[key], found)
    return found


def _slot(value, random):
    """One (container, key), the few near the root as often as the many below."""
    slots = _slots(value, [])
    if random.random() < 0.4:
        slots = [(value, key) for key in _keys(value)]
    return random.choice(slots)


def _dumped(value):
    return json.dumps(value, ensure_ascii=True).encode()


def with_odd_value(content, random):
    value = json.loads(content)
    if random.random() < 0.05:
        return _dumped(random.choice(ODD_VALUES))
    container, key = _slot(value, random)
    container[key] = random.choice(ODD_VALUES)
    return _dumped(value)


def with_near_value(content, random):
    """A value of the type that was there: another sign, size or length, or one taken from elsewhere in the file."""
    value = json.loads(content)
    container, key = _slot(value, random)
    old = container[key]
    if isinstance(old, bool):
        container[key] = not old
    elif isinstance(old, (int, float)):
        container[key] = random.choice((-old, old + 1, old * 1000, old / 3, float(old), int(old), 0, 10**9))
    elif isinstance(old, str):
        container[key] = random.choice((old + "x", old[1:], old.upper(), old * 50, f"{old},{old}", f" {old}"))
    else:
        other, place = _slot(value, random)
        container[key] = json.loads(_dumped(other[place]))
    return _dumped(value)


def with_odd_literal(content, random):
    """What json.dumps would not write: NaN, numbers without end, halves of surrogates, nesting."""
    value = json.loads(content)
    container, key = _slot(value, random)
    container[key] = "@@"
    return _dumped(value).replace(b'"@@"', random.choice(ODD_LITERALS).encode(), 1)


def without_key(content, random):
    value = json.loads(content)
    container, key = _slot(value, random)
    del container[key]
    return _dumped(value)


def with_odd_key(content, random):
    value = json.loads(content)
    container, key = random.choice([slot for slot in _slots(value, []) if isinstance(slot[0], dict)])
    container[random.choice(("", "x" * 3000, "\x00", "help", "lr", "None", "..", "0", f"{key} "))] = container.pop(key)
    return _dumped(value)


def with_key_twice(content, random):
    value = json.loads(content)
    container, key = random.choice([slot for slot in _slots(value, []) if isinstance(slot[0], dict)])
    container["@@"] = container[key]
    return _dumped(value).replace(b'"@@"', _dumped(key), 1)


JSON = (
    *(with_odd_value, with_odd_value, with_odd_value, with_near_value, with_near_value, with_odd_literal),
    *(without_key, with_odd_key, with_key_twice),
)


def in_one_line(content, random):
    """A change of JSON in one line of a file of many."""
    lines = content.splitlines() or [b""]
    row = random.randrange(len(lines))
    lines[row] = _some(JSON, lines[row], random)
    return b"\n".join(lines) + b"\n"


# -------------------------------------------------------------------------------------------------------- weights


def in_header(content, random):
    """A change in the JSON header of a safetensors file, whose length is told right."""
    size = int.from_bytes(content[:8], "little")
    header = _some(JSON, content[8 : 8 + size], random)
    return len(header).to_bytes(8, "little") + header + content[8 + size :]


def with_odd_size(content, random):
    """A header that claims another length."""
    size = random.choice((0, 1, 7, len(content), len(content) + 1, 1 << 31, 1 << 62, (1 << 64) - 1))
    return size.to_bytes(8, "little") + content[8:]


def with_odd_numbers(content, random):
    """NaN or an infinity among the last numbers of a file."""
    place = len(content) - 4 * random.randrange(1, 100)
    return (
        content[:place] + random.choice((b"\0\0\xc0\x7f", b"\0\0\x80\x7f", b"\xff\xff\x7f\x7f")) + content[place + 4 :]
    )


def in_member(content, random):
    """A change of one member of a zip archive, with its checksum made to fit."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    pickle = [name for name in members if name.endswith("data.pkl")]
    chosen = random.choice(pickle if pickle and random.random() < 0.7 else [*members])
    members[chosen] = _some(BYTES, members[chosen], random)
    if random.random() < 0.1:
        del members[random.choice([*members])]
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, value in members.items():
            archive.writestr(zipfile.ZipInfo(name), value)
    return made.getvalue()


def in_saved_values(content, random):
    """A change of what torch saved, with everything about the file itself in order."""
    import torch

    value = torch.load(io.BytesIO(content), weights_only=True)
    container, key = _slot(value, random)
    if isinstance(container[key], torch.Tensor) and random.random() < 0.8:
        container[key] = random.choice(ODD_TENSORS)(container[key])
    else:
        container[key] = random.choice((*ODD_VALUES, torch.zeros(3)))
    made = io.BytesIO()
    torch.save(value, made)
    return made.getvalue()


ODD_TENSORS = (
    *(lambda t: t.float() * float("nan"), lambda t: t.float() / 0, lambda t: -t.float(), lambda t: t.float() * 1e30),
    *(lambda t: t.flatten()[:-1], lambda t: t[None], lambda t: t.double(), lambda t: t.long(), lambda t: t.to_sparse()),
    *(
        lambda t: t.half(),
        lambda t: t.bool(),
        lambda t: t.to("meta"),
        lambda t: t.clone().requires_grad_(t.is_floating_point()),
    ),
)


# ------------------------------------------------------------------------------------------------ answers over HTTP


def _parts_of_answer(content):
    head, gap, body = content.partition(b"\r\n\r\n")
    if not gap:
        raise ValueError("no head")
    return head.split(b"\r\n"), body


def _answer(lines, body):
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def with_odd_header(content, random):
    lines, body = _parts_of_answer(content)
    name = random.choice(HEADERS)
    value = random.choice((*ODD_HEADERS, *ODD_TEXTS))
    lines.insert(random.randrange(1, len(lines) + 1), name + b": " + value)
    return _answer(lines, body)


def with_other_header(content, random):
    """Another value in place of one that is there, or none."""
    lines, body = _parts_of_answer(content)
    place = random.randrange(1, len(lines))
    name = lines[place].partition(b":")[0]
    lines[place : place + 1] = [] if random.random() < 0.3 else [name + b": " + random.choice(ODD_HEADERS)]
    return _answer(lines, body)


def with_other_status(content, random):
    lines, body = _parts_of_answer(content)
    lines[0] = random.choice(STATUSES)
    return _answer(lines, body)


def in_body(content, random):
    """A change of the JSON in the body, whose length is told right."""
    lines, body = _parts_of_answer(content)
    body = _some(JSON, body, random)
    lines = [line for line in lines if not line.lower().startswith(b"content-length")]
    return _answer([*lines, b"Content-Length: %d" % len(body)], body)


HEADERS = (
    b"Content-Length",
    b"Location",
    b"Retry-After",
    b"Transfer-Encoding",
    b"Content-Range",
    b"ETag",
    b"Date",
    b"",
)
ODD_HEADERS = (
    *(b"-1", b"0", b"1", b"1e9", b"99999999999999999999", b"nan", b"inf", b"bytes 0-1/2", b"bytes 7-/x", b"chunked"),
    *(b'"x', b'W/"x"', b'"\xff"', b"http://[", b"file:///etc/passwd", b"http://a:b@localhost/", b"//", b"", b"gzip"),
    *(b"Thu, 01 Jan 9999 99:99:99 GMT", b"Fri, 31 Dec 9999 23:59:59 -2359", b"0.1", "٣".encode(), b"x" * 70_000),
)
STATUSES = (
    *(
        b"HTTP/1.1 302 Found",
        b"HTTP/1.1 206 Partial Content",
        b"HTTP/1.1 416 No",
        b"HTTP/1.1 429 Wait",
        b"HTTP/1.1 500 ",
    ),
    *(
        b"HTTP/1.1 401 \x1b[31m",
        b"HTTP/1.1 404 Not\xff",
        b"HTTP/1.1 999 ?",
        b"HTTP/9.9 200 OK",
        b"ICY 200",
        b"200",
        b"",
    ),
    *(b"HTTP/1.1 100 Continue", b"HTTP/1.1 204 No Content", b"HTTP/1.1 -1 x", b"HTTP/1.1 200 " + b"x" * 70_000),
)

FORMS = {
    "bytes": BYTES,
    "text": TEXT,
    "json": JSON,
    "jsonl": (in_one_line, in_one_line, in_one_line, *TEXT),
    "safetensors": (in_header, in_header, with_odd_size, with_odd_numbers),
    "zip": (in_member,),
    "saved": (in_saved_values, in_saved_values, in_member),
    "http": (with_odd_header, with_other_header, with_other_status, in_body, in_body),
}
