"""A term's own variant of the assignments: names of arguments and constants chosen by a number, a year say.

variants.json has `names` {argument: other names}, `renamed` {assignment: {part: arguments that vary}} and `constants`
{assignment: [option]}, an option with `set`, what answers.py is told, and `edits` [[old, new]] of the task's functions,
its page and its hints. Variant N takes each list's entry N modulo its length: neighbouring years differ in all names,
and the names that this repository has, a published answer's, are nobody's.
"""

import json
import re
from pathlib import Path

from assignments.school.blanks import place
from assignments.school.syntax import Missing
from minbert.files import UserError

TABLE = Path(__file__).resolve().parents[1] / "variants.json"


class Variant:
    """The variant of this number: what it changes of sources, pages, hints and checks. None changes nothing."""

    def __init__(self, number=None):
        if number is not None and number < 0:
            raise UserError(f"--variant {number}: a number of at least 0, the year say")
        self.number = number
        table = json.loads(TABLE.read_text(encoding="utf-8"))
        self._names, self._renamed, self._constants = table["names"], table["renamed"], table["constants"]

    def names(self, assignment, part):
        """{an argument's usual name: this variant's} of a part."""
        if self.number is None:
            return {}
        return {name: self._one(self._names[name]) for name in self._renamed[assignment.name].get(part, ())}

    def constants(self, assignment):
        """{name: value} for the assignment's answers.py."""
        return self._option(assignment)["set"]

    def sources(self, sources, assignments, dialect):
        """{path: source} with the functions of all assignments as this variant has them."""
        sources = dict(sources)
        for assignment in assignments.values() if self.number is not None else ():
            for part, target in assignment.parts[dialect].items():
                if target.file in sources:
                    change = self._changes(assignment, part)
                    sources[target.file] = _within(sources[target.file], target.function, change)
        return sources

    def told(self, text, assignment):
        """A page, a hint or a figure: constants changed everywhere, names where they stand `as code`."""
        text = _edited(text, self._option(assignment)["edits"])
        for part in assignment.hints:
            for old, new in self.names(assignment, part).items():
                text = text.replace(f"`{old}`", f"`{new}`")
        return text

    def _changes(self, assignment, part):
        names, edits = self.names(assignment, part), self._option(assignment)["edits"]

        def change(text):
            text = _edited(text, edits)  # which are written with the usual names
            for old, new in names.items():
                text = re.sub(rf"(?<![\w.]){old}\b", new, text)
            return text

        return change

    def _option(self, assignment):
        options = self._constants.get(assignment.name)
        return self._one(options) if options and self.number is not None else {"set": {}, "edits": []}

    def _one(self, several):
        return several[self.number % len(several)]


def _edited(text, edits):
    for old, new in edits:
        text = text.replace(old, new)
    return text


def _within(source, function, change):
    """The source with the lines of one function, its docstring and comments too, changed."""
    try:
        where = place(source, function)
    except Missing:
        return source
    lines = source.splitlines(keepends=True)
    return "".join([*lines[: where.first], change("".join(lines[where.first : where.stop])), *lines[where.stop :]])
