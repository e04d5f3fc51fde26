"""--config FILE: flags out of a YAML or JSON file, or out of a run's config.json; those on the command line win.

    lr: 2e-5                      --lr 2e-5
    tasks: [sst, quora]           --tasks sst,quora
    batch_size: {sst: 8}          --batch_size sst=8
    pcgrad: true                  --pcgrad

A file becomes the beginning of the command line, so it can say what could be typed and nothing else. Imports no torch.
"""

import argparse
from pathlib import Path

from minbert.files import UserError, short
from minbert.flags import foreign
from minbert.flags.types import as_typed
from minbert.readers import read_json

MOST_BYTES = 1 << 16
MOST_BRACKETS = 500  # the time to read nested ones grows with the square of their number
YES, NO, NOTHING = ("true", "yes", "on"), ("false", "no", "off"), ("null", "~", "")
NOT_IN_FILES = ("config", "resume", "evaluate", "predict", "input", "output", "format", "export", "help", "help_all")


def with_config(argv, parser, flags_of_run):
    """The command line `argv` with what its --config FILE says before it. flags_of_run: {flag: value} of a run's
    config.json -> those that made it. Raises UserError, whose line names the file."""
    only = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    only.add_argument("--config", nargs="?")
    path = only.parse_known_args(argv)[0].config
    if path is None:
        return argv
    values = read(path)
    if isinstance(values.get("flags"), dict):
        values = flags_of_run(values["flags"], path)
    try:
        words = _words(values, parser)
        parser.parse_args(words)
    except UserError as error:
        raise UserError(f"--config {path}: {error}") from None
    return [*words, *argv]


def read(path):
    """The object in a JSON or YAML file. Every value of YAML is text, as it would be typed."""
    what = "a file of flags"
    if Path(path).suffix == ".json":
        return read_json(path, what, "it holds {flag: value}, or is a run's config.json")
    try:
        import yaml
    except ImportError:
        raise UserError(f"--config {path}: YAML needs the package pyyaml: pip install pyyaml, or use JSON") from None
    try:
        with open(path, "rb") as f:
            content = f.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise ValueError(f"more than {MOST_BYTES >> 10} KiB")
        text = content.decode("utf-8-sig")
        if text.count("[") + text.count("{") > MOST_BRACKETS:
            raise ValueError("too many brackets")
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text)):
            raise ValueError("it has an alias (*name): write the value out")
        values = yaml.load(text, Loader=yaml.BaseLoader)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); expected {what}") from None
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        raise UserError(
            f"{path}: not {what} ({' '.join(str(error).split())[:200]}); expected lines of flag: value"
        ) from None
    if not isinstance(values, dict):
        raise UserError(f"{path}: not {what} ({short(values, 40)}); expected lines of flag: value")
    return values


def _words(values, parser):
    """{flag: value} as command-line arguments."""
    words = []
    for name, value in values.items():
        action = parser._option_string_actions.get(f"--{name}")
        if action is None:
            raise UserError(foreign.answer(f"--{name}", list(parser._option_string_actions)))
        if action.dest in NOT_IN_FILES:
            raise UserError(f"--{name} belongs on the command line")
        plain = str(value).lower() if isinstance(value, (str, bool)) else value
        if value is None or plain in NOTHING:
            continue
        if action.nargs != 0:
            words.append(f"--{name}={_typed(name, value)}")
        elif plain in YES:
            words.append(f"--{name}")
        elif plain not in NO:
            raise UserError(f"--{name} takes no value: say true or false, not {short(value)}")
    return words


def _typed(name, value):
    try:
        return as_typed(value)
    except (TypeError, RecursionError):
        raise UserError(f"--{name} cannot be {short(value)}") from None
