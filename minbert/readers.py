"""Lines of text and JSON, checked as they are read: no file may fill the memory or end in a traceback."""

import gzip
import json
import os
import re
import zlib
from pathlib import Path

from minbert.files import UserError, short

MOST_LINE = 16 << 20  # bytes of a line of text
MOST_TIMES = 100  # a .gz file may unpack to so many times its size (or to one longest line); text does to 3 to 10 times
MOST_JSON = 64 << 20  # bytes of a JSON file
MOST_NESTED = 64  # objects and lists within each other
MOST_DIGITS = 300  # of a number: what is longer is larger than any float
NUMBER = (int, float)  # the shape of a number, for `misfit`


# ----------------------------------------------------------------------------------------------------------- lines


def lines_of(source, name=None):
    """Yield (number, line) of a text in UTF-8: its lines with their ends, a byte order mark left out.

    source: a path, which is unpacked if it ends in .gz, or an open stream of bytes that messages call `name`. It is
    closed at the end. Lines are read as they are asked for, and none without bounds: a file of zeros has no line ends,
    and a small .gz file may be made to fill the memory. Raises UserError, which names the line.
    """
    name, number, unpacked = name or source, 0, 0

    def bad(what):
        return UserError(f"{name}, line {number}: {what}; expected a text in UTF-8")

    try:
        with source if hasattr(source, "readline") else _opened(source) as stream:
            most = _most_bytes(source)
            while line := stream.readline(MOST_LINE + 1):
                number, unpacked = number + 1, unpacked + len(line)
                if len(line) > MOST_LINE:
                    raise bad(f"longer than {MOST_LINE >> 20} MiB")
                if unpacked > most:
                    raise bad(f"a .gz file that unpacks to more than {MOST_TIMES} times its size")
                if b"\0" in line:
                    raise bad("a NUL byte")
                try:
                    text = line.decode("utf-8-sig" if number == 1 else "utf-8")
                except UnicodeDecodeError:
                    raise bad("bytes that are not UTF-8") from None
                yield number, text
    except FileNotFoundError:
        raise UserError(f"{name}: no such file") from None
    except (OSError, EOFError, zlib.error) as error:
        place = f"{name}, after line {number}" if number else name
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{place}: cannot be read ({reason}); get the file again") from None


def _opened(path):
    return (gzip.open if Path(path).suffix == ".gz" else open)(path, "rb")


def _most_bytes(source):
    """How many bytes may come out of what lines_of reads."""
    packed = not hasattr(source, "readline") and Path(source).suffix == ".gz"
    return max(MOST_LINE, MOST_TIMES * os.path.getsize(source)) if packed else float("inf")


# ------------------------------------------------------------------------------------------------------------ JSON


def parse_json(text):
    """The value of JSON, bytes or str. Raises ValueError, which says why in a few words, and nothing else.

    Python alone would let pass what crashes or deceives later: NaN, numbers beyond any float, a key that comes twice
    (the first is lost), and values nested so deep that only a part of the program can follow. Half a surrogate pair (an
    emoji that somebody cut in two), which no file can hold, becomes a question mark.
    """
    try:
        text = text.decode("utf-8-sig") if isinstance(text, bytes) else text
        value = json.loads(
            text, parse_constant=_number, parse_float=_number, parse_int=_number, object_pairs_hook=_members
        )
    except UnicodeDecodeError:
        raise ValueError("bytes that are not UTF-8") from None
    except RecursionError:
        raise ValueError("nested too deep") from None
    if _is_deeper(value, MOST_NESTED):
        raise ValueError("nested too deep")
    return _without_halves(value) if re.search(r"\\u[dD][89a-fA-F]", text) else value


def read_json(path, what, mend, shape=None):
    """The value in a JSON file, which is an object unless its `shape` (see `misfit`) says otherwise.

    Raises UserError: "PATH: not WHAT (why); MEND".
    """
    try:
        with open(path, "rb") as f:
            content = f.read(MOST_JSON + 1)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; expected {what}") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); expected {what}") from None
    try:
        if len(content) > MOST_JSON:
            raise ValueError(f"more than {MOST_JSON >> 20} MiB")
        value = parse_json(content)
        problem = misfit(value, {} if shape is None else shape)
    except ValueError as error:
        problem = f"not JSON: {error}"
    if problem:
        raise UserError(f"{path}: not {what} ({problem}); {mend}")
    return value


def misfit(value, shape, name="it"):
    """Where a JSON value has not the shape that it should have, in a few words; None if it has.

    A shape is a type or several (a bool is no int here); {key: shape} for an object that has at least these keys, where
    "key?" may be missing and ... stands for all keys; [shape] for a list, all of whose items have that shape.
    """
    if isinstance(shape, dict):
        return _misfit_of_object(value, shape, name)
    if isinstance(shape, list):
        if not isinstance(value, list):
            return f"{name} is no list"
        return next(filter(None, (misfit(item, shape[0], f"an item of {name}") for item in value)), None)
    kinds = shape if isinstance(shape, tuple) else (shape,)
    expected = " or ".join(kind.__name__ for kind in kinds)
    return None if type(value) in kinds else f"{name} is {short(value, 40)}, expected {expected}"


def _misfit_of_object(value, shape, name):
    if not isinstance(value, dict):
        return f"{name} is no object"
    if missing := sorted(key for key in shape if key is not ... and key[-1] != "?" and key not in value):
        return f"{name} has no {', '.join(missing)}"
    for key, inner in shape.items():
        for found in value if key is ... else {key.removesuffix("?")} & value.keys():
            if problem := misfit(value[found], inner, found):
                return problem
    return None


def _number(text):
    if len(text) > MOST_DIGITS or text in ("NaN", "Infinity", "-Infinity"):
        raise ValueError(f"{short(text, 20)} is no number of JSON")
    value = int(text) if text.lstrip("-").isdigit() else float(text)
    if abs(value) == float("inf"):
        raise ValueError(f"{short(text, 20)} is too large a number")
    return value


def _members(pairs):
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {short(max(keys, key=keys.count), 40)} comes twice")
    return found


def _is_deeper(value, most):
    level = [value]
    for _ in range(most + 1):
        nested = [each for each in level if isinstance(each, (dict, list))]
        if not nested:
            return False
        level = [item for each in nested for item in (each.values() if isinstance(each, dict) else each)]
    return True


def _without_halves(value):
    if isinstance(value, dict):
        return {_without_halves(key): _without_halves(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_halves(item) for item in value]
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value
