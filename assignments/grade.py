"""Grade what students handed in: files, folders or zips, of this project's dialect or of the course's starters.

    python assignments/grade.py SUBMISSION... --assignment a4
    python assignments/grade.py class/* --assignment a4 --csv grades.csv --jobs 2

Student code runs in a process of its own without network, within limits; the verdict is made outside it. Ends with 0
when everything was graded, with 2 when something could not be read.
"""

import argparse
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from queue import SimpleQueue

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # before `minbert` and `assignments` can be found

from assignments.school import manifest
from minbert.files import UserError
from minbert.script import begin, carry_out

SIZES = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def size(text):
    """ "4G", "512M" -> bytes."""
    number, unit = (text[:-1], text[-1].upper()) if text[-1:].upper() in SIZES else (text, "M")
    if not number.isdigit() or not 0 < int(number) * SIZES[unit] <= 1 << 40:
        raise argparse.ArgumentTypeError(f"{text!r} is no size: write 512M or 4G")
    return int(number) * SIZES[unit]


def positive(text):
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number <= 86400:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds")
    return number


def build_parser():
    parser = argparse.ArgumentParser(
        prog="grade.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("submissions", nargs="+", metavar="SUBMISSION", help="a .py file, a folder or a .zip")
    parser.add_argument("--assignment", required=True, help=f"one of {', '.join(manifest.load())}")
    parser.add_argument("--results", type=Path, metavar="FILE", help="write Gradescope's results.json")
    parser.add_argument("--otter", type=Path, metavar="DIR", help="write otter's test files of the public checks")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write a row for each submission")
    parser.add_argument("--seconds", type=positive, default=60, help="for a submission, shared by its parts (60)")
    parser.add_argument("--memory", type=size, default=size("4G"), metavar="SIZE", help="for a submission (4G)")
    parser.add_argument("--only-public", action="store_true", help="leave the hidden checks out")
    parser.add_argument("--chain", action="store_true", help="the student's own functions under what is graded")
    parser.add_argument("--variant", type=int, metavar="N", help="the variant that was handed out: handout.py's number")
    parser.add_argument("--seed", type=int, metavar="N", help="other numbers in the hidden checks than the usual")
    parser.add_argument("--jobs", type=int, default=min(8, os.cpu_count() or 1), help="submissions at a time")
    parser.add_argument("--quiet", action="store_true", help="a line for each submission, no table")
    return parser


def main(flags):
    if os.name != "posix":
        raise UserError("grade.py needs Linux or macOS: there student code can be kept apart; on Windows use WSL")
    if find_spec("torch") is None:  # which only the students' processes import
        raise ModuleNotFoundError("No module named 'torch'", name="torch")
    from assignments.school import grading, reports

    assignments = manifest.load(flags.variant)
    (assignment,) = manifest.named([flags.assignment], assignments)
    if flags.jobs < 1:
        raise UserError("--jobs: at least 1")
    grader = grading.Grader(
        assignment, assignments, flags.seconds, flags.memory, flags.only_public, flags.chain, flags.seed
    )
    with grader:
        results = grade_all(grader, flags, lambda result: tell(result, assignment, reports, flags.quiet))
    if flags.results:
        reports.write_results(flags.results, results)
    if flags.csv:
        reports.write_csv(flags.csv, results)
    if flags.otter:
        reports.write_otter(flags.otter, assignment, grader.public())
    unreadable = [result for result in results if result.error]
    if len(results) > 1:
        graded = [result.points for result in results if not result.error]
        mean = f", {sum(graded) / len(graded):.2f} points on average" if graded else ""
        print(f"{len(graded)} graded{mean}, {len(unreadable)} unreadable")
    return 2 if unreadable else 0


def grade_all(grader, flags, tell):
    """[Result] in the order of the submissions, told as they come; `--jobs` workers side by side."""
    from assignments.school.grading import Worker

    jobs = min(flags.jobs, len(flags.submissions))
    workers, free = [Worker() for _ in range(jobs)], SimpleQueue()
    for worker in workers:
        free.put(worker)

    def one(path):
        worker = free.get()
        try:
            return grader.grade(path, worker)
        finally:
            free.put(worker)

    results = []
    try:
        with ThreadPoolExecutor(jobs) as pool:
            for result in pool.map(one, flags.submissions):
                tell(result)
                results.append(result)
    finally:
        for worker in workers:
            worker.close()
    return results


def tell(result, assignment, reports, quiet):
    if quiet and not result.error:
        wrong = next((check.message for check in result.checks if not check.passed), "")
        print(f"{result.points:6.2f}/{result.most:g}  {result.submission}  {wrong}".rstrip(), flush=True)
    else:
        print(reports.table(result, assignment), flush=True)


if __name__ == "__main__":
    FLAGS = begin(lambda: build_parser().parse_args())
    sys.exit(carry_out(main, FLAGS))
