"""The public checks of this assignment: what is right, and what a wrong answer looks like.

    python check.py            all of them
    python check.py NAME       those of one part or function, or whose name holds NAME
    python check.py --hint     the next hint for the first part that is not right yet

It ends with 0 when all pass.
"""

import argparse
import contextlib
import importlib
import json
import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ASKED = HERE / ".hints.json"  # how many hints you have read


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", nargs="?", default="", help="a part, or a piece of a check's name")
    parser.add_argument("--hint", action="store_true", help="one hint more")
    return parser.parse_args()


def main():
    flags = parse()
    facts = json.loads((HERE / "handout.json").read_text(encoding="utf-8"))
    verdicts = list(run(facts, flags.name))
    if not verdicts:
        sys.exit(f"no check is called {flags.name}; parts are {', '.join(facts['parts'])}")
    wrong = [check for check, verdict in verdicts if not verdict.passed]
    print(f"{len(verdicts) - len(wrong)} of {len(verdicts)} public checks pass")
    warn(facts)
    if flags.hint and wrong:
        print(hint(facts, wrong[0].part))
    elif wrong:
        print("stuck? python check.py --hint")
    sys.exit(1 if wrong else 0)


def run(facts, name):
    """Yield (check, verdict), and print a line for each."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    from assignments.school import probing
    from assignments.school.judging import judge
    from assignments.school.public import check_from
    from assignments.school.student import student_of
    from assignments.school.syntax import Missing, renamed

    def asked(check):
        """A check's answer, but for a function whose arguments have other names than in the handout."""
        part = facts["parts"][check.part]
        with contextlib.suppress(OSError, ValueError, SyntaxError, Missing):  # the probe says it better
            source = (HERE / part["file"]).read_text(encoding="utf-8")
            if facts["variant"] is not None and (said := renamed(source, part["function"], part["arguments"])):
                return {"error": said}
        return probing.ask(getattr(probes, check.probe), student, check.inputs)

    student, failed = student_of(facts["dialect"]), {}
    probes = importlib.import_module(f"assignments.{facts['assignment']}.probes")
    for each in facts["checks"]:
        check = check_from(each)
        if name not in (check.part, "", facts["parts"][check.part]["function"]) and name not in check.name:
            continue
        verdict = judge(check, asked(check))
        print(f"{'ok  ' if verdict.passed else 'WRONG'} {check.part}: {check.name}")
        if not verdict.passed:
            print(f"      {verdict.message}")
            if earlier := [part for part in failed if part != check.part]:
                print(f"      (first make {', '.join(earlier)} right, which may be the cause of this too)")
            failed[check.part] = True
        yield check, verdict


def warn(facts):
    """Say which forbidden names the files use: the grader refuses them."""
    from assignments.school.forbidden import used

    for file in facts["files"]:
        with contextlib.suppress(OSError, ValueError, SyntaxError):
            if names := used((HERE / file).read_text(encoding="utf-8"), facts["forbidden"]):
                print(f"{file} uses {', '.join(names)}, which does the work already: the grader gives nothing for it")


def passes(part, name):
    """Whether one public check passes: what otter's test files ask."""
    facts = json.loads((HERE / "handout.json").read_text(encoding="utf-8"))
    facts["checks"] = [each for each in facts["checks"] if (each["part"], each["name"]) == (part, name)]
    return bool(facts["checks"]) and all(verdict.passed for _, verdict in run(facts, ""))


def hint(facts, part):
    """The next hint of a part that was not shown yet; after the last they come again."""
    asked = {}
    with contextlib.suppress(OSError, ValueError):
        asked = json.loads(ASKED.read_text(encoding="utf-8"))
    hints, number = facts["parts"][part]["hints"], asked.get(part, 0)
    ASKED.write_text(json.dumps({**asked, part: number + 1}), encoding="utf-8")
    place = number % len(hints)
    return f"hint {place + 1} of {len(hints)} for {facts['parts'][part]['function']}: {hints[place]}"


if __name__ == "__main__":
    sys.path.insert(0, str(HERE))
    main()
