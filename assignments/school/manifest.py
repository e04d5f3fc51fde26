"""The manifest: which functions are which assignment's, what each is worth, and what must not be used.

assignments.json has one entry an assignment: title, hours, points, `needs` (assignments to be written before it), parts
{name: {dialect: "file:qualified name", "hints": [...]}}, `drops` (twins of an answer, left out of its handout),
`shorter` (functions that would need what was dropped: the body that does the same without) and `forbidden` (names of
libraries that do the work already).
"""

import json
from dataclasses import dataclass
from pathlib import Path

from assignments.school.variants import Variant
from minbert.files import UserError

HERE = Path(__file__).resolve().parents[1]  # the folder assignments/
ROOT = HERE.parent
DIALECTS = ("ours", "starter")  # this project's interface; the course's starters' (padded tensors)
STARTER = HERE / "starter"


@dataclass(frozen=True)
class Target:
    """A function in a file: "bert.py:BertLayer.forward"."""

    file: str
    function: str

    @classmethod
    def of(cls, text):
        file, _, function = text.partition(":")
        return cls(file, function)

    def __str__(self):
        return f"{self.function} in {self.file}"


@dataclass(frozen=True)
class Assignment:
    """One entry of the manifest; `parts` {dialect: {part: Target}}, `hints` {part: [sentence]}, `shorter` {Target: a
    body}."""

    name: str
    title: str
    hours: int
    points: float
    needs: tuple
    parts: dict
    hints: dict
    drops: tuple
    forbidden: tuple
    shorter: dict
    variant: Variant

    @property
    def dialects(self):
        return tuple(dialect for dialect in DIALECTS if self.parts[dialect])

    def files(self, dialect):
        """The files that are handed in."""
        return list(dict.fromkeys(target.file for target in self.parts[dialect].values()))

    def in_dialect(self, dialect):
        """{part: Target}; UserError where nobody has written this assignment in that dialect."""
        if not self.parts[dialect]:
            raise UserError(f"{self.name} has no {dialect} dialect; it is written as --dialect {self.dialects[0]}")
        return self.parts[dialect]


def load(variant=None):
    """{name: Assignment} in the manifest's order. variant: a number, for a term's own names and constants."""
    entries, variant = json.loads((HERE / "assignments.json").read_text(encoding="utf-8")), Variant(variant)
    return {name: _assignment(name, entry, variant) for name, entry in entries.items()}


def _assignment(name, entry, variant):
    parts = {
        dialect: {part: Target.of(where[dialect]) for part, where in entry["parts"].items() if dialect in where}
        for dialect in DIALECTS
    }
    return Assignment(
        name,
        entry["title"],
        entry["hours"],
        entry["points"],
        tuple(entry["needs"]),
        parts,
        {part: where["hints"] for part, where in entry["parts"].items()},
        tuple(Target.of(text) for text in entry["drops"]),
        tuple(entry["forbidden"]),
        {Target.of(text): body for text, body in entry.get("shorter", {}).items()},
        variant,
    )


def named(names, assignments):
    """Assignments by name; UserError for one that is not in the manifest."""
    for name in names:
        if name not in assignments:
            raise UserError(f"no assignment {name!r}: choose among {', '.join(assignments)}")
    return [assignments[name] for name in names]


def before(assignment, assignments):
    """Names of all assignments that this one builds on, in the manifest's order."""
    found, todo = set(), list(assignment.needs)
    while todo:
        name = todo.pop()
        found.add(name)
        todo += assignments[name].needs
    return [name for name in assignments if name in found]


def variant_of(assignments):
    """The variant that assignments were loaded in."""
    return next(iter(assignments.values())).variant


def source_folder(dialect):
    """Where a dialect's reference lies."""
    return ROOT if dialect == "ours" else STARTER
