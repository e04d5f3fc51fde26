"""Flags as the command line that would give them. Imports no torch."""

import shlex

from minbert.flags.types import as_typed


def command(script, flags, defaults):
    """A line for the shell. flags: {flag: value} as config.json has them; those at their default are left out."""
    words = ["python", script]
    for name, value in changed(flags, defaults).items():
        if value is True:
            words.append(f"--{name}")
        elif value is not None:  # no text stands for it: another flag settled that
            text = as_typed(value)
            words += [f"--{name}={text}"] if text.startswith("-") else [f"--{name}", text]
    return shlex.join(words)


def changed(flags, defaults):
    """{flag: value} of those that are not at their default."""
    return {name: value for name, value in flags.items() if name in defaults and value != defaults[name]}
