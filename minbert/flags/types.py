"""Types of command-line values: each turns text into a value, or says in one line what was expected."""

import argparse
import contextlib
import json
import re
from decimal import Decimal

from minbert.files import short

FLOAT_MAX = 3.4e38  # the largest number that torch's floats hold
MOST_STEPS = 10**7  # those of an epoch are a list in memory, some gigabytes of it at this length


def names(text):
    """Names of tasks. Whether there is such a task is for datasets.py to say."""
    found = [name.strip() for name in text.split(",")]
    if "" in found:
        raise argparse.ArgumentTypeError(f"{text!r}: expected names with commas between them")
    if len(set(found)) < len(found):
        raise argparse.ArgumentTypeError(f"{text!r} names a task twice")
    return found


def _number(kind, text, least, strictly, most=float("inf"), or_most=False):
    try:
        value = kind(text)
    except ValueError:
        value = None
    too_small = value is None or not (value > least if strictly else value >= least)
    if kind is float and value is not None and FLOAT_MAX < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r}: more than a float holds, which is {FLOAT_MAX:g} at the most")
    if too_small or not (value <= most if or_most else value < most):
        bound = f"{'above' if strictly else 'at least'} {least}"
        bound += "" if most == float("inf") else f" and {'at most' if or_most else 'below'} {most}"
        noun = "a whole number" if kind is int else "a number"
        raise argparse.ArgumentTypeError(f"{text!r}: expected {noun} {bound}")
    return value


def positive(kind):
    return lambda text: _number(kind, text, 0, strictly=True)


def not_negative(kind):
    return lambda text: _number(kind, text, 0, strictly=False)


def seed(text):
    return _number(int, text, 0, strictly=False, most=2**63)  # torch takes no larger one


def shard(text):
    """(I, N) of "I/N": the I-th, from 1, of N shares."""
    number, slash, count = text.partition("/")
    if not (slash and number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise argparse.ArgumentTypeError(f"{text!r}: expected I/N, as 1/4, 2/4, 3/4 or 4/4 for four shares")
    return int(number), int(count)


def steps(text):
    return _number(int, text, 0, strictly=True, most=MOST_STEPS)


def max_length(text):
    return _number(int, text, 5, strictly=False)  # room for [CLS] a [SEP] b [SEP]


def share(text):
    return _number(float, text, 0, strictly=False, most=1)


def factor(text):
    return _number(float, text, 0, strictly=True, most=1, or_most=True)


def rows_or_share(text):
    """14057 is a number of rows, 0.1 a share of them."""
    if "." not in text:
        return _number(int, text, 0, strictly=True)
    value = _number(float, text, 0, strictly=True)
    if value > 1:
        raise argparse.ArgumentTypeError(f"{text!r}: a share is at most 1.0; rows are whole numbers")
    return value


def task_name(text):
    """What a task of one's own may be called: it names files, weights and flags' values."""
    if not re.fullmatch(r"[a-z][a-z0-9_-]{0,30}", text):
        raise argparse.ArgumentTypeError(f"{text!r}: expected up to 31 of a-z, 0-9, - and _, a letter first")
    return text


def class_names(text):
    """Names of classes: a JSON list of texts, or names with commas between them."""
    found = [name.strip() for name in text.split(",")]
    if text.startswith("["):
        with contextlib.suppress(ValueError):
            found = json.loads(text)
    if not all(isinstance(name, str) and name and name.isprintable() for name in found):
        raise argparse.ArgumentTypeError(f"{text!r}: expected names with commas between them, or a JSON list of them")
    if len(set(found)) < len(found) or len(found) < 2:
        raise argparse.ArgumentTypeError(f"{text!r}: expected two names or more, each once")
    return found


def score_range(text):
    """LOW,HIGH -> [low, high]."""
    try:
        low, high = map(float, text.split(","))
    except ValueError:
        low, high = 0.0, 0.0
    if not -FLOAT_MAX < low < high < FLOAT_MAX:
        raise argparse.ArgumentTypeError(f"{text!r}: expected two numbers LOW,HIGH, the smaller one first")
    return [low, high]


def per_task(value_type):
    def parse_pairs(text):
        values = {}
        for part in text.split(","):
            name, equals, value = part.partition("=")
            if not equals or not value:
                raise argparse.ArgumentTypeError(f"{part!r}: expected task=value,...")
            if (task := names(name)[0]) in values:
                raise argparse.ArgumentTypeError(f"{text!r} names {task} twice")
            values[task] = value_type(value)
        return values

    return parse_pairs


def one_or_more(value_type):
    """One value, or a list of them where there are commas."""
    return lambda text: [value_type(part) for part in text.split(",")] if "," in text else value_type(text)


def one_or_several(value_type):
    """A list, of one value where there is no comma."""
    return lambda text: [value_type(part) for part in text.split(",")]


def one_or_per_task(value_type):
    return lambda text: per_task(value_type)(text) if "=" in text else value_type(text)


def as_typed(value):
    """The text that stands for a flag's value on the command line. TypeError for what no flag ever is."""
    if isinstance(value, dict):
        return ",".join(f"{task}={as_typed(one)}" for task, one in value.items())
    if isinstance(value, list):
        texts = all(isinstance(one, str) for one in value)
        plain = all("," not in one and one == one.strip() and one[:1] != "[" for one in value) if texts else True
        return ",".join(map(as_typed, value)) if plain else json.dumps(value)
    if isinstance(value, float):
        return format(Decimal(repr(value)), "f")  # never 1e-05, which has no point and so would be rows, not a share
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise TypeError(f"no flag is {short(value)}")
    return str(value)
