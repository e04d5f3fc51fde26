"""Full disks and races, counted: nothing is lost, and what went wrong is said in one line.

    python benchmarks/faults.py --disks 100 --races 20

--disks: commands of several methods write into a file system in memory that is too small for them, of a size drawn at
random. Each must end with exit code 2 and one line; then the disk grows, the command goes on (--resume), and all that
it leaves must be the bytes of a run that nothing happened to. Needs Linux and the right to mount: as root, or under
`unshare -rm`.

--races: two processes begin at the same moment on one folder or file, in five ways. Each must end well or be refused
in one line, one of them at least must end well, and what is there then must be the bytes of a command that was alone.

Everything is on tiny files. Prints a table for each. Exit code 0, or 1 where anything differs.
"""

import argparse
import itertools
import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import lives
import same_bits

TRAIN, PRETRAIN, CHANGE = same_bits.TRAIN, same_bits.PRETRAIN, same_bits.CHANGE
ON_DISKS = {  # what writes; names of same_bits.METHODS
    name: lives.commands(same_bits.METHODS[name])
    for name in (
        *("plain", "pcgrad", "option pretrain", "lr 1e-3,1e-4", "mean_teacher kl --labels_per_class 1", "uda"),
        *("label_scheme soft_predicted", "label_scheme plain", "masked LM", "augmentation mlm"),
    )
}
EDA = f"{CHANGE} --method eda"
SCHEME = f"{TRAIN} --plain_dir {{home}}/plain --label_scheme"
RACES = {  # (what goes before, the two at once, which of them alone may have left what is there)
    "two runs in one folder": ("", (TRAIN, f"{TRAIN} --seed 5"), "either"),
    "two runs, the same": ("", (TRAIN, TRAIN), "either"),
    "two --resume": ("stop", (f"{TRAIN} --resume", f"{TRAIN} --resume"), "either"),
    "two augmentations on one --out": ("", (EDA, f"{EDA} --seed 3"), "either"),
    "two schemes on one --plain_dir": (
        "",
        (f"{SCHEME} soft_predicted", f"{SCHEME} hard_predicted --run_dir {{home}}/other"),
        "both",
    ),
}


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--disks", type=int, default=100, help="full disks (default: %(default)s)")
    parser.add_argument("--races", type=int, default=20, help="pairs of processes (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of what is drawn (default: %(default)s)")
    return parser.parse_args()


def main():
    args = parse()
    lives.import_everything()
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        files = {**same_bits.make_files(place / "files"), "home": place / "home"}
        wrong = full_disks(args, place, files) + races(args, place, files)
    return 1 if wrong else 0


def one_line(life):
    """Whether a process was refused as it should be: exit code 2, and a single line that begins with error."""
    told = [line for line in life.said.replace("\r", "\n").splitlines() if line.startswith("error: ")]
    return life.code == 2 and len(told) == 1 and "Traceback" not in life.said


def unbroken(commands, place, files, name):
    """(where the commands left what, a run that nothing happened to)"""
    home = files["home"]
    home.mkdir()
    for command in commands:
        life = lives.end(lives.start(command.format(**files), place / "log"))
        if life.code:
            raise SystemExit(f"{name}: the unbroken run failed\n{life.said}")
    return home.rename(place / f"whole {name}".replace(" ", "-"))


# ---------------------------------------------------------------------------------------------------- full disks


def full_disks(args, place, files):
    """Count and print; returns how many went wrong."""
    if not args.disks:
        return 0
    drawn = random.Random(args.seed)
    wholes = {name: unbroken(commands, place, files, name) for name, commands in ON_DISKS.items()}
    counts, wrong = {name: [0, 0, 0] for name in wholes}, []
    for name in itertools.cycle(wholes):
        if sum(full for full, _, _ in counts.values()) >= args.disks:
            break
        kilobytes = drawn.randint(4, _size(wholes[name]) // 1024)
        full, told, found = one_disk(ON_DISKS[name], kilobytes, place, files, wholes[name])
        counts[name][0] += full
        counts[name][1] += full and told
        counts[name][2] += full and not found
        if full and (found or not told):
            wrong.append(f"{name}, {kilobytes} KB: {found or 'not told in one line'}")
    print(f"{'full disks':40}{'disks':>8}{'told in one line':>18}{'same bytes after':>18}")
    for name, (full, told, same) in [*counts.items(), ("all", map(sum, zip(*counts.values(), strict=True)))]:
        print(f"{name:40}{full:8}{told:18}{same:18}")
    print("\n".join(wrong), flush=True)
    return len(wrong)


def one_disk(commands, kilobytes, place, files, whole):
    """(whether the disk was full, whether that was told in one line, what differs in the end)"""
    home = files["home"]
    home.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", home], check=True)
    full, told = False, True
    try:
        for command in (command.format(**files) for command in commands):
            life = lives.end(lives.start(command, place / "log"))
            if life.code:
                full, told = True, told and one_line(life) and "No space left" in life.said
                subprocess.run(["mount", "-o", "remount,size=1g", home], check=True)
                life = lives.end(lives.start(lives.resumed(command), place / "log"))
            if life.code:
                return full, told, f"exit code {life.code}: {life.said.strip().splitlines()[-1:]}"
        return full, told, same_bits.first_difference(whole, home)
    finally:
        subprocess.run(["umount", home], check=True)
        home.rmdir()


def _size(folder):
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


# ---------------------------------------------------------------------------------------------------------- races


def races(args, place, files):
    """Count and print; returns how many went wrong."""
    if not args.races:
        return 0
    counts, wrong = {kind: [0, 0, 0, 0] for kind in RACES}, []
    alone = {kind: alone_of(kind, place, files) for kind in RACES}
    for number in range(args.races):
        kind = list(RACES)[number % len(RACES)]
        ended, refused, found = one_race(kind, place, files, alone[kind])
        for column, count in enumerate((1, ended, refused, not found)):
            counts[kind][column] += count
        if found:
            wrong.append(f"{kind}: {found}")
    print(f"{'races':40}{'pairs':>8}{'ended well':>12}{'refused':>10}{'same bytes after':>18}")
    for kind, (pairs, *others) in [*counts.items(), ("all", map(sum, zip(*counts.values(), strict=True)))]:
        print(f"{kind:40}{pairs:8}{others[0]:12}{others[1]:10}{others[2]:18}")
    print("\n".join(wrong), flush=True)
    return len(wrong)


def alone_of(kind, place, files):
    """The folders that may be left: of each command alone, or of both one after the other."""
    _, pair, which = RACES[kind]
    groups = [pair] if which == "both" else [[command.removesuffix(" --resume")] for command in pair]
    return [unbroken(group, place, files, f"{kind} {number}") for number, group in enumerate(groups)]


def one_race(kind, place, files, alone):
    """(how many ended well, how many were refused, what is wrong in the end)"""
    before, pair, which = RACES[kind]
    home = files["home"]
    home.mkdir()
    try:
        if before:
            first = pair[0].removesuffix(" --resume")
            lives.end(lives.start(f"{first} {lives.EVERY_STEP}".format(**files), place / "log", before_rename=9))
        begun = [lives.start(line.format(**files), place / f"log {i}") for i, line in enumerate(pair)]
        ended = [lives.end(process) for process in begun]
        well, refused = sum(life.code == 0 for life in ended), sum(map(one_line, ended))
        if well + refused < 2 or not well or (which == "both" and well < 2):
            return well, refused, "; ".join(life.said.strip().splitlines()[-1] for life in ended if life.code)
        different = [same_bits.first_difference(folder, home) for folder in alone]
        return well, refused, "" if "" in different else different[0]
    finally:
        shutil.rmtree(home)


if __name__ == "__main__":
    from minbert.script import carry_out

    sys.exit(carry_out(main))
