"""The tree in which one part of a submission runs: the student's function, and the reference under and around it.

The file that holds the part is the student's, so that helpers and imports of theirs are there; every other function of
the manifest in it is the reference's, unless `chain` asks for the student's own. All other files are the reference's,
with the part itself, its assignment and its twins blank.
"""

import ast
import tempfile
from pathlib import Path

from assignments.school import blanks, syntax, tree
from assignments.school.manifest import source_folder, variant_of
from minbert.files import UserError


class Unfit(Exception):
    """A student's file in which a part cannot be graded: one sentence."""


def base(assignment, assignments, dialect):
    """{path: source} of the reference with the assignment's functions blank and its twins left out."""
    return tree.blanked(tree.sources_of(assignments, dialect), [assignment], assignments, dialect)


def composed(assignment, assignments, dialect, part, sources, chain=False):
    """{file: source} that stand in for the reference's when a part is graded. Unfit says why that cannot be done."""
    asked = assignment.parts[dialect][part]
    stand_in = {}
    for file in assignment.files(dialect):
        if file == asked.file or (chain and file in sources):
            if file not in sources:
                raise Unfit(f"{file} is not in the submission")
            stand_in[file] = _one_file(file, sources[file], asked, assignments, dialect, chain)
        else:
            stand_in[file] = reference(file, dialect, assignments)
    return stand_in


def reference(file, dialect, assignments):
    """A file of the reference, in the variant that the assignments are of."""
    source = (source_folder(dialect) / file).read_text(encoding="utf-8")
    return blanks.without_marks(variant_of(assignments).sources({file: source}, assignments, dialect)[file])


def _one_file(file, source, asked, assignments, dialect, chain):
    source = parsed(file, source)
    donor, needs_imports = reference(file, dialect, assignments), False
    if asked.file == file:
        try:
            if blanks.is_blank(source, asked.function):
                raise Unfit(f"{asked} {blanks.MARK}")
        except syntax.Missing:
            raise Unfit(f"there is no {asked.function} in {file}: names are part of the interface") from None
        wanted = syntax.arguments(donor, asked.function)
        if variant_of(assignments).number is not None and (said := syntax.renamed(source, asked.function, wanted)):
            raise Unfit(said)
    for assignment in assignments.values():
        others = [target for target in assignment.parts[dialect].values() if target.file == file and target != asked]
        for target in others:
            try:
                if chain and not blanks.is_blank(source, target.function):
                    continue
                source, needs_imports = blanks.put(source, target.function, donor), True
            except syntax.Missing:
                continue
        for target in assignment.drops if dialect == "ours" else ():
            if target.file == file and target != asked and target not in others:
                source = _left_out(source, target, assignment)
    if needs_imports:
        source = _with_imports(source, blanks.imports_missing(source, donor))
    return source


def parsed(file, source):
    """The source, if it is Python. Unfit with the line where it is not."""
    try:
        syntax.tree(source)
    except SyntaxError as error:
        raise Unfit(f"{file}, line {error.lineno}: no Python ({error.msg})") from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise Unfit(f"{file}: no Python ({str(error)[:80]})") from None
    return source


def _left_out(source, target, assignment):
    try:
        return blanks.blank(source, target.function, assignment.name, f"{target} is left out of the handouts")
    except syntax.Missing:
        return source


def _with_imports(source, lines):
    """The source with import statements before its first statement but docstring and `from __future__`."""
    if not lines:
        return source
    body = syntax.tree(source).body
    first = next(
        (
            node.lineno
            for i, node in enumerate(body)
            if not (i == 0 and isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
            and not (isinstance(node, ast.ImportFrom) and node.module == "__future__")
        ),
        1,
    )
    kept = source.splitlines(keepends=True)
    return "".join(kept[: first - 1]) + "\n".join(lines) + "\n" + "".join(kept[first - 1 :])


def module_of(file):
    """ "minbert/layers/heads.py" -> "minbert.layers.heads"."""
    return file.removesuffix(".py").replace("/", ".")


class Folder:
    """A temporary folder of sources that another user may read."""

    def __init__(self, sources):
        self._kept = tempfile.TemporaryDirectory(prefix="minbert-grade-", ignore_cleanup_errors=True)
        self.path = Path(self._kept.name)
        self.path.chmod(0o755)
        try:
            for name, source in sources.items():
                (self.path / name).parent.mkdir(parents=True, exist_ok=True)
                (self.path / name).write_text(source, encoding="utf-8", errors="surrogateescape")
        except OSError as error:
            raise UserError(
                f"{self.path}: cannot be written ({error.strerror}); make room for temporary files"
            ) from None

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._kept.cleanup()
