"""Groups of flags: one frozen dataclass each, whose fields are the flags and say all that argparse needs to know.

    @dataclass(frozen=True)
    class Regularizers:
        "regularizers and gradients"                                     the group's title in --help

        pcgrad: bool = flag(False, help="gradient surgery")              --pcgrad
        smart: float | None = flag(type=types.positive(float), ...)      --smart WEIGHT

So a flag is said once: its name, default, type and help stand in one place, and whoever is given a group reads
`regularizers.smart`. Imports no torch.
"""

import argparse
from dataclasses import MISSING, field, fields

from minbert.choices import told
from minbert.files import UserError
from minbert.flags import foreign


def flag(default=None, needs=(), **words):
    """A field that is a flag. The default None means "not given". needs: the flag, or several of which one will do,
    without which this one is of no use. words: those of argparse's add_argument; `choices` may be {name: what it is},
    and `help` says these then, and the default, by itself."""
    if isinstance(words.get("choices"), dict):
        words |= {"help": words.get("help", "") + told(words["choices"]), "choices": tuple(words["choices"])}
    if not (default is None or default is False or default == {}) and "(default" not in words["help"]:
        words["help"] += " (default: %(default)s)"
    metadata = {"words": words, "needs": (needs,) if isinstance(needs, str) else needs}
    if isinstance(default, dict):
        return field(default_factory=dict, metadata=metadata)
    return field(default=default, metadata=metadata)


def one_flag_each(flags):
    """A field that gathers many flags of one kind, {name: argparse's words}: it holds {name: value} of those given."""
    return field(default_factory=dict, metadata={"flags": flags})


def _flags(group):
    """(name, default, argparse's words) of each flag of a group."""
    for one in fields(group):
        if "flags" in one.metadata:
            yield from ((name, None, words) for name, words in one.metadata["flags"].items())
        else:
            yield one.name, one.default_factory() if one.default is MISSING else one.default, one.metadata["words"]


class Parser(argparse.ArgumentParser):
    def error(self, message):
        """One line instead of the whole usage."""
        raise UserError(f"{message} (see --help)")

    def parse_args(self, args=None, namespace=None):
        """As argparse's, but one line on the first argument that is none of ours: what it is called here."""
        options, unknown = self.parse_known_args(args, namespace)
        if unknown:
            word = next((word for word in unknown if word.startswith("-")), unknown[0])
            raise UserError(foreign.answer(word, self._flags_known(options)))
        return options

    def _flags_known(self, options):
        """The flags, and those of the command that `options` name, where it has commands of its own."""
        parts = [one for one in self._actions if isinstance(one, argparse._SubParsersAction)]
        commands = [one.choices[getattr(options, one.dest)] for one in parts]
        return [flag for parser in (self, *commands) for flag in parser._option_string_actions]

    def parse_with_given(self, argv=None):
        """The command line as a namespace, and in it `given`: the names of the flags that were on it. Call it once:
        the defaults are gone then."""
        options = self.parse_args(argv)
        for action in self._actions:
            action.default = argparse.SUPPRESS
        options.given = sorted(vars(self.parse_args(argv)))
        return options


def add_group(parser, group, only=None):
    """Add the flags of a group (a dataclass) to a parser under the group's title, or `only` some without one."""
    arguments = parser.add_argument_group(group.__doc__.partition("\n")[0]) if only is None else parser
    for name, default, words in _flags(group):
        if only is None or name in only:
            action = {"action": "store_true"} if isinstance(default, bool) else {}
            arguments.add_argument(f"--{name}", default=default, **action, **words)


def defaults_of(groups):
    """{flag: its default} of some groups."""
    return {name: default for group in groups for name, default, _ in _flags(group)}


def needs_of(groups):
    """{flag: those of which it needs one} of the flags in some groups that need any."""
    return {one.name: one.metadata["needs"] for group in groups for one in fields(group) if one.metadata.get("needs")}


def take(group, values):
    """The group with its flags out of {flag: value}, which may hold more."""
    found = {}
    for one in fields(group):
        if "flags" in one.metadata:
            found[one.name] = {name: values[name] for name in one.metadata["flags"] if values[name] is not None}
        else:
            found[one.name] = values[one.name]
    return group(**found)


def flat(instance):
    """{flag: value} of a group, the opposite of `take`."""
    found = {}
    for one in fields(instance):
        value = getattr(instance, one.name)
        found |= {**dict.fromkeys(one.metadata["flags"]), **value} if "flags" in one.metadata else {one.name: value}
    return found
