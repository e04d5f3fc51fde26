"""The student's tree of an assignment, as {path: bytes}: the same input gives the same bytes.

What goes in is listed; everything else stays out: tests (second references), results, benchmarks, golden files, the
history. Functions of every assignment that is not given are blank, so that no handout tells a later one's answer.
"""

import json
import re
import textwrap

from assignments.school import blanks
from assignments.school.manifest import HERE, ROOT, before, source_folder, variant_of
from assignments.school.syntax import arguments

# What of the project a student gets, in our dialect.
CODE = ("*.py", "minbert/*.py", "minbert/*/*.py", "examples/*.py")
WITHOUT = ("experiments.py", "augmentation.py", "minbert/tables/", "minbert/augment/")
DATA = (
    "data/sample/**/*",
    "minbert/**/*.*",
    "requirements.txt",
    "requirements-minilm.txt",
    "LICENSE",
    "pyproject.toml",
)
# What of assignments/ goes along, the same in both dialects.
SCHOOL = (
    "__init__.py",
    "school/__init__.py",
    "school/student.py",
    "school/probing.py",
    "school/syntax.py",
    "school/forbidden.py",
    "school/judging.py",
    "school/symptoms.py",
    "school/views.py",
    "school/public.py",
)
STUDENT = {"check.py": "check.py", "submit.py": "submit.py"}
UNUSED = """
[tool.ruff.lint.per-file-ignores]
"*.py" = ["F401", "E501", "E731", "UP035"]  # imports that the blanks left unused: you will need them
"""


def handout(assignment, assignments, given=(), dialect="ours"):
    """{path in the student's tree: bytes} of one assignment. given: names of assignments whose reference goes along."""
    assignment.in_dialect(dialect)
    sources = _code(assignments, given, dialect)
    files = {path: text.encode() for path, text in sources.items()}
    files |= {path: (source_folder("ours") / path).read_bytes() for path in _others(dialect)}
    if "pyproject.toml" in files:
        files["pyproject.toml"] = _pyproject(files["pyproject.toml"].decode()).encode()
    for name in SCHOOL:
        files[f"assignments/{name}"] = (HERE / name).read_bytes()
    for name, source in STUDENT.items():
        files[name] = (HERE / "student" / source).read_bytes()
    page = sheet(assignment, assignments, dialect)
    for path in sorted((HERE / assignment.name).glob("*")):
        if path.name == "probes.py":
            files[f"assignments/{assignment.name}/probes.py"] = path.read_bytes()
        elif path.suffix == ".svg":
            files[path.name] = assignment.variant.told(path.read_text(encoding="utf-8"), assignment).encode()
        elif path.name == "see.py" and "see.py" in page:  # not every dialect has it
            files[path.name] = path.read_bytes()
    files["handout.json"] = _facts(assignment, assignments, given, dialect, sources).encode()
    files["HANDOUT.md"] = page.encode()
    return dict(sorted(files.items()))


def sources_of(assignments, dialect):
    """{path: source} of a dialect's reference, in the variant that the assignments are of."""
    root, patterns = source_folder(dialect), CODE if dialect == "ours" else ("*.py",)
    paths = sorted({path for pattern in patterns for path in root.glob(pattern)})
    sources = {path.relative_to(root).as_posix(): path.read_text(encoding="utf-8") for path in paths}
    if dialect == "starter":  # what the courses' files import from `utils` is said once
        sources["utils.py"] = (ROOT / "course" / "utils.py").read_text(encoding="utf-8")
    return variant_of(assignments).sources(sources, assignments, dialect)


def _code(assignments, given, dialect):
    """{path: source} of the project's code with all that is not given blanked."""
    sources = sources_of(assignments, dialect)
    if dialect == "ours":
        sources = {name: source for name, source in sources.items() if not name.startswith(WITHOUT)}
    asked = [each for each in assignments.values() if each.name not in given]
    return blanked(sources, asked, assignments, dialect)


def blanked(sources, asked, assignments, dialect):
    """{path: source} with the functions of the assignments `asked` blank, the twins of their answers left out, and what
    needs such a twin in its shorter form."""
    sources = dict(sources)
    for assignment in asked:
        for target in assignment.parts[dialect].values():
            sentence = blank_sentence(target, assignment, assignments)
            sources[target.file] = blanks.blank(sources[target.file], target.function, assignment.name, sentence)
        for target in assignment.drops if dialect == "ours" else ():
            if target in [part for each in asked for part in each.parts[dialect].values()]:
                continue  # blank in its own right
            if not blanks.is_blank(sources[target.file], target.function):
                sentence = f"{target} is left out of the handouts; it would tell an answer"
                sources[target.file] = blanks.blank(sources[target.file], target.function, assignment.name, sentence)
        for target, body in assignment.shorter.items() if dialect == "ours" else ():
            sources[target.file] = blanks.with_body(sources[target.file], target.function, body)
    return {path: blanks.without_marks(source) for path, source in sources.items()}


def blank_sentence(target, assignment, assignments):
    earlier = before(assignment, assignments)
    turn = f", which comes after {', '.join(earlier)}" if earlier else ""
    return f"{target.file}: {target.function} {blanks.MARK}; it is part of {assignment.name}{turn}"


def _others(dialect):
    """Files that are no code of ours: data, requirements, the license."""
    if dialect == "starter":
        return ["LICENSE", "requirements.txt", "pyproject.toml"]
    found = {path for pattern in DATA for path in ROOT.glob(pattern) if path.is_file()}
    names = (path.relative_to(ROOT).as_posix() for path in found if "__pycache__" not in path.parts)
    return sorted(name for name in names if not name.endswith(".py") and not name.startswith(WITHOUT))


def _pyproject(text):
    """Ours without what only our tests need, and with ruff told that imports may wait for their use."""
    dropped = r"\n\[tool\.(pytest|ruff\.lint\.per-file)[^\n]*\n.*?(?=\n\[|\Z)"
    return re.sub(dropped, "", text, flags=re.DOTALL).rstrip() + "\n" + UNUSED


def _facts(assignment, assignments, given, dialect, sources):
    """What check.py and submit.py know: parts, files, public checks with their expected values, hints."""
    from assignments.school.public import public_checks  # numpy

    facts = {
        "assignment": assignment.name,
        "title": assignment.title,
        "variant": assignment.variant.number,
        "dialect": dialect,
        "given": [name for name in assignments if name in given],
        "needs": before(assignment, assignments),
        "files": assignment.files(dialect),
        "parts": {
            part: {
                "file": target.file,
                "function": target.function,
                "hints": [assignment.variant.told(hint, assignment) for hint in assignment.hints[part]],
                "arguments": arguments(sources[target.file], target.function),
            }
            for part, target in assignment.in_dialect(dialect).items()
        },
        "forbidden": assignment.forbidden,
        "checks": public_checks(assignment, dialect),
    }
    return json.dumps(facts, ensure_ascii=False, separators=(",", ":")) + "\n"


# ---------------------------------------------------------------------------------------------------------- the sheet


def sheet(assignment, assignments, dialect):
    """HANDOUT.md: the assignment's own page with the manifest's facts filled in for {{table}}, {{hints}}, {{parts}}."""
    text = (HERE / assignment.name / "HANDOUT.md").read_text(encoding="utf-8")
    for name, make in FILLED.items():
        text = text.replace("{{" + name + "}}", make(assignment, assignments, dialect))
    kept = re.sub(
        r"<!-- only (\w+) -->\n(.*?)<!-- end -->\n", lambda m: m[2] if m[1] == dialect else "", text, flags=re.S
    )
    return assignment.variant.told(kept, assignment)


def _head(assignment, assignments, dialect):
    needs = before(assignment, assignments)
    order = f" It builds on {', '.join(needs)}: put your own files of these in place first." if needs else ""
    return (
        f"# {assignment.name}: {assignment.title}\n\n"
        f"About {assignment.hours} hours, {assignment.points:g} points.{order}{_variant(assignment)}"
    )


def _variant(assignment):
    if assignment.variant.number is None:
        return ""
    return (
        f"\n\nThis is variant {assignment.variant.number}: names of arguments, some constants and the numbers of the "
        "checks are its own,\nand the grader asks for them. What a docstring here says holds, whatever other pages say."
    )


def _parts(assignment, assignments, dialect):
    rows = [
        f"| `{target.function}` | [{target.file}]({target.file}) |" for target in assignment.parts[dialect].values()
    ]
    return "\n".join(["| to write | in |", "|---|---|", *rows])


def _hints(assignment, assignments, dialect):
    told = []
    for part, target in assignment.parts[dialect].items():
        for number, hint in enumerate(assignment.hints[part], 1):
            summary = f"`{target.function}`, hint {number} of {len(assignment.hints[part])}"
            told.append(f"<details><summary>{summary}</summary>\n\n{textwrap.fill(hint, 120)}\n\n</details>\n")
    return "\n".join(told)


def _hand_in(assignment, assignments, dialect):
    files = ", ".join(f"`{name}`" for name in assignment.files(dialect))
    page = (HERE / assignment.name / "HANDOUT.md").read_text(encoding="utf-8")
    told = (
        f"`python submit.py` writes `{assignment.name}.zip` with {files}, and nothing else: hand that in.",
        "`python check.py` runs the public checks, in seconds and offline; a check that fails says what it looks "
        "like, and `python check.py --hint` gives one hint at a time. The grader runs these and others that you do not "
        "see, on other sizes and numbers, in float64, so that a right answer agrees to the last digits. Parts are "
        "graded one by one: while the grader looks at one, correct code stands in for the others. check.py runs "
        "what is in your folder." + (" Dropout is checked by itself." if "dropout" in page else ""),
        _forbidden(assignment),
    )
    return "\n\n".join(textwrap.fill(each, 120, break_on_hyphens=False) for each in told if each)


def _forbidden(assignment):
    names = [f"`{name.removeprefix('torch.')}`" for name in assignment.forbidden]
    return "Not to be used, because it does the work already: " + ", ".join(names) + "." if names else ""


FILLED = {"head": _head, "parts": _parts, "hints": _hints, "hand in": _hand_in}
