"""Make the student's tree of an assignment from the one solution.

python assignments/handout.py a4 --out DIR             one assignment
python assignments/handout.py a4 --out DIR --given a1,a2,a3
python assignments/handout.py --all --out DIR          every one, each in a folder of its name
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # before `minbert` and `assignments` can be found

from assignments.school import manifest, tree
from minbert.files import UserError, written_whole
from minbert.script import begin, carry_out


def build_parser():
    parser = argparse.ArgumentParser(
        prog="handout.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("assignment", nargs="?", help=f"one of {', '.join(manifest.load())}")
    parser.add_argument("--all", action="store_true", help="every assignment, each in DIR/NAME")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="a folder that is new or empty")
    parser.add_argument(
        "--given", default="", metavar="a1,a2", help="assignments whose reference goes along (default: none)"
    )
    parser.add_argument(
        "--variant",
        type=int,
        metavar="N",
        help="a term's own names, constants and numbers, by a number such as the year",
    )
    parser.add_argument(
        "--dialect", choices=manifest.DIALECTS, default="ours", help="whose interface: this project's, or the course's"
    )
    return parser


def main(flags):
    assignments = manifest.load(flags.variant)
    if flags.all == bool(flags.assignment):
        raise UserError("name one assignment, or say --all")
    given = [name for name in flags.given.split(",") if name]
    manifest.named(given, assignments)
    if flags.all:
        chosen = [each for each in assignments.values() if flags.dialect in each.dialects]
    else:
        chosen = manifest.named([flags.assignment], assignments)
    for assignment in chosen:
        folder = flags.out / assignment.name if flags.all else flags.out
        if assignment.name in given:
            raise UserError(f"{assignment.name} is given and asked at once: leave it out of --given")
        write(tree.handout(assignment, assignments, given, flags.dialect), folder)
        print(f"{assignment.name} ({assignment.title}) is in {folder}; begin with {folder / 'HANDOUT.md'}")


def write(files, folder):
    """Write {path: bytes} into a folder that is new or empty."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder}: not an empty folder; choose a new one")
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        with written_whole(folder / path) as temporary:
            temporary.write_bytes(content)


if __name__ == "__main__":
    FLAGS = begin(lambda: build_parser().parse_args())
    sys.exit(carry_out(main, FLAGS))
