"""Kill runs of every method, resume them, and compare what they come to with runs that nobody touched.

    python benchmarks/kill_and_resume.py --kills 300
    python benchmarks/kill_and_resume.py --only pcgrad uda --each_rename
    python benchmarks/kill_and_resume.py --kills 20 -- --model minilm --option finetune --epochs 2 --lr 5e-5

Each row of same_bits.METHODS (or the training whose flags stand after `--`) runs once unbroken on the same tiny files,
and then, the rows in turn, under kills: by turns before a rename drawn at random (every file of the project gets its
name by one) and at a moment drawn at random. What was killed is started again with --resume, half of the times to be
killed once more. All that is left at the end must be the unbroken run's, byte for byte, times aside. State is saved
after every step. --each_rename kills once before every rename instead. Prints a line for each row, as it is done, and
their sum; Ctrl-C ends it with what was counted so far. Exit code 0, or 1 where anything differs or fails.
"""

import argparse
import itertools
import random
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import lives
import same_bits


class Whole(NamedTuple):
    """An unbroken run: where it lies, and for each of its commands the renames and the seconds."""

    folder: Path
    lives: list


class Row:
    """One method: its commands, its unbroken run, and what was counted."""

    def __init__(self, name, commands, scratch):
        self.name, self.commands = name, commands
        self.place = scratch / f"row {len(list(scratch.iterdir()))}".replace(" ", "-")
        self.place.mkdir()
        self.home = self.place / "home"  # all its runs live here, one after the other
        self.kills = {"rename": 0, "moment": 0}
        self.runs, self.differ = 0, []
        self.whole = None

    def run_whole(self):
        self.home.mkdir()
        found = [lives.end(lives.start(self._line(command), self.place / "log")) for command in self.commands]
        for life in found:
            if life.code:
                raise SystemExit(f"{self.name}: the unbroken run failed\n{life.said}")
        self.whole = Whole(self.home.rename(self.place / "whole"), found)

    def _line(self, command):
        return command.replace("{home}", str(self.home))

    def draw(self, moments, kind):
        """(number of a command, the kill it meets) where the kill is at random."""
        renames = [life.renames for life in self.whole.lives]
        number = moments.choices(range(len(renames)), renames)[0]
        if kind == "rename":
            return number, {"before_rename": moments.randint(1, renames[number])}
        return number, {"after": moments.uniform(0.001, self.whole.lives[number].seconds)}

    def each_rename(self):
        """(number of a command, the kill it meets) for every rename there is."""
        for number, life in enumerate(self.whole.lives):
            for rename in range(1, life.renames + 1):
                yield number, {"before_rename": rename}

    def broken_run(self, number, *kills):
        """A run whose command of this number meets the kills, one life each; then it is compared."""
        self.home.mkdir()
        said = ""
        for i, command in enumerate(map(self._line, self.commands)):
            for life_number, kill in enumerate([*(kills if i == number else ()), {}]):
                line = lives.resumed(command) if life_number else command
                life = lives.end(lives.start(line, self.place / "log", **kill))
                if not life.killed:  # also where it ended before the kill
                    break
                self.kills["rename" if "before_rename" in kill else "moment"] += 1
            if life.code:
                said = f"exit code {life.code}: {life.said.strip().splitlines()[-1:]}"
                break
        said = said or same_bits.first_difference(self.whole.folder, self.home)
        self.runs += 1
        if said:
            self.differ.append(f"command {number}, {kills}: {said}")
            self.home.rename(self.place / f"differs-{len(self.differ)}")
        else:
            shutil.rmtree(self.home)

    @property
    def line(self):
        rename, moment = self.kills["rename"], self.kills["moment"]
        return f"{self.name:64}{self.runs:6}{rename:8}{moment:8}  {'; '.join(self.differ) or 'same'}"


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=300, help="at least so many (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of what is drawn (default: %(default)s)")
    parser.add_argument("--only", nargs="+", default=[""], metavar="NAME", help="rows with one of these in their name")
    parser.add_argument("--each_rename", action="store_true", help="one kill before every rename of every row")
    parser.add_argument("flags", nargs="*", metavar="-- FLAGS", help="of multitask_classifier.py, in place of the rows")
    return parser.parse_args()


def rows_of(args, scratch):
    """The Rows asked for, not yet run."""
    if args.flags:
        given = f"multitask_classifier.py --run_dir {{home}}/run {' '.join(args.flags)}"
        return [Row(" ".join(args.flags)[:63], lives.commands(given), scratch)]
    files = {**same_bits.make_files(scratch / "files"), "home": "{home}"}
    names = [name for name in same_bits.METHODS if any(word in name for word in args.only)]
    if not names:
        sys.exit(f"--only: there are {'; '.join(same_bits.METHODS)}")
    made = {name: [line.format(**files) for line in lives.commands(same_bits.METHODS[name])] for name in names}
    return [Row(name, lines, scratch) for name, lines in made.items()]


def kill_at_random(rows, kills, moments):
    """The rows in turn, each kind of kill in turn, until so many kills have fallen."""
    for row in itertools.cycle(rows):
        if sum(sum(row.kills.values()) for row in rows) >= kills:
            return
        if not row.whole:
            row.run_whole()
        kinds = ("rename", "moment") if row.runs % 2 == 0 else ("moment", "rename")
        number, kill = row.draw(moments, kinds[0])
        again = [row.draw(moments, kinds[1])[1]] if moments.random() < 0.5 else []
        row.broken_run(number, kill, *again)


def main():
    args = parse()
    lives.import_everything()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory() as scratch:
        rows = rows_of(args, Path(scratch))
        try:
            if args.each_rename:
                for row in rows:
                    row.run_whole()
                    for number, kill in row.each_rename():
                        row.broken_run(number, kill)
                    print(row.line, flush=True)
            else:
                kill_at_random(rows, args.kills, random.Random(args.seed))
        except KeyboardInterrupt:
            print("stopped")
        return report(rows, args)


def report(rows, args):
    """Print the table; returns the exit code."""
    print(f"{'kills':>78}{'kills':>8}\n{'':69}{'before':>9}{'at':>8}")
    print(f"{'method':64}{'runs':>6}{'renames':>8}{'random':>8}")
    for row in rows:
        print(row.line)
    renames, moments = (sum(row.kills[kind] for row in rows) for kind in ("rename", "moment"))
    runs, differ = sum(row.runs for row in rows), sum(len(row.differ) for row in rows)
    print(f"{f'{len(rows)} methods':64}{runs:6}{renames:8}{moments:8}  {differ} differ")
    print(f"{renames + moments} kills, seed {args.seed}")
    return 1 if differ or not runs else 0


if __name__ == "__main__":
    from minbert.script import carry_out

    sys.exit(carry_out(main))
