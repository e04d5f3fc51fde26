"""A class of made-up submissions, to try the grader with: right, wrong in known ways, blank, and not to be read.

python tests/make_class.py DIR [--assignment a1] [--students 30]     s01.zip, s02, s03.py, ... in DIR
"""

import argparse
import shutil
import sys
from itertools import cycle, islice
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # before what follows can be found
sys.path.insert(0, str(Path(__file__).resolve().parent))

import planted_bugs
import planted_bugs_of_methods
import planted_bugs_of_starters
from assignments_graded import ALL, changed, reference, written
from right_ways import OTHERS

from assignments.school import tree

STARTER_BUGS = [(*bug, "starter") for bug in planted_bugs_of_starters.BUGS]
OUR_BUGS = [(*bug, "ours") for bug in (*planted_bugs.BUGS, *planted_bugs_of_methods.BUGS)]


def whole(name, dialect):
    """{file: source} of a right submission."""
    return {file: reference(file, dialect) for file in ALL[name].files(dialect)}


def blank(name, dialect):
    files = tree.handout(ALL[name], ALL, (), dialect)
    return {file: files[file].decode() for file in ALL[name].files(dialect)}


def with_bug(bug):
    name, _, file, old, new, *_, dialect = bug
    return whole(name, dialect) | {file: changed(file, old, new, dialect)}


def submissions(name, students):
    """[(what it is, {file: source})]: two fifths right, two fifths with a bug, the rest blank, broken or hostile."""
    dialects = ALL[name].dialects
    right = [("right", whole(name, dialect)) for dialect in dialects]
    right += [
        ("right in another way", whole(name, "ours") | {file: changed(file, old, new)})
        for each, _, file, old, new in OTHERS
        if each == name
    ]
    bugs = [bug for bug in (*OUR_BUGS, *STARTER_BUGS) if bug[0] == name and bug[-1] in dialects]
    count = min(len(bugs), max(1, students * 2 // 5))
    spread = [bugs[number * len(bugs) // count] for number in range(count)]
    wrong = [(f"bug: {bug[4].strip()[:60]}", with_bug(bug)) for bug in spread]
    first = ALL[name].files("ours")[0]
    last = [
        *(("blank", blank(name, dialect)) for dialect in dialects),
        ("a syntax error", whole(name, "ours") | {first: "def forward(:\n"}),
        ("ends the program", whole(name, "ours") | {first: reference(first) + "import sys\nsys.exit(0)\n"}),
        ("an endless loop", whole(name, "ours") | {first: reference(first) + "while True:\n    pass\n"}),
    ]
    shares = (right, students * 2 // 5), (wrong, students * 2 // 5)
    taken = [each for pool, count in shares for each in islice(cycle(pool), count)]
    return [*taken, *islice(cycle(last), students - len(taken))]


def hand_in(folder, number, sources):
    """Every third as a folder, the others as zips; where there is one file only, every third as that file."""
    place = written(folder / f"s{number:02}", sources)
    if number % 3 == 1 and len(sources) == 1:
        (file,) = sources
        (place / file).rename(folder / f"s{number:02}.py")
    elif number % 3 == 0:
        return
    else:
        shutil.make_archive(str(place), "zip", place)
    shutil.rmtree(place)


def main(folder, name, students):
    """Write the class; {student: what it is}."""
    folder.mkdir(parents=True)
    told = {}
    for number, (what, sources) in enumerate(submissions(name, students), 1):
        hand_in(folder, number, sources)
        told[f"s{number:02}"] = what
    (folder / f"s{students:02}.zip").write_bytes(b"not a zip")
    shutil.rmtree(folder / f"s{students:02}", ignore_errors=True)
    told[f"s{students:02}"] = "no zip"
    return told


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("--assignment", choices=list(ALL), default="a1")
    parser.add_argument("--students", type=int, default=30)
    flags = parser.parse_args()
    for student, what in main(flags.folder, flags.assignment, flags.students).items():
        print(student, what)
