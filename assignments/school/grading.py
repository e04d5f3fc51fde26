"""One submission graded: each part in a world of its own, its numbers judged here, where no student's code runs."""

import contextlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass, field

from assignments.school import forbidden, submissions, worlds
from assignments.school.judging import Verdict, judge
from assignments.school.manifest import ROOT
from assignments.school.public import checks_of, inputs_as_json
from minbert.files import UserError


@dataclass
class Graded:
    """One check of one submission. `points` of `most`."""

    part: str
    name: str
    points: float
    most: float
    passed: bool
    message: str
    hidden: bool
    cause: bool = True


@dataclass
class Result:
    """One submission: its checks, or the `error` for which it could not be read. `notes`: what the code tried."""

    submission: str
    dialect: str = ""
    checks: list = field(default_factory=list)
    notes: list = field(default_factory=list)
    error: str = ""

    @property
    def points(self):
        return round(sum(check.points for check in self.checks), 2)

    @property
    def most(self):
        return round(sum(check.most for check in self.checks), 2)


class Worker:
    """A process that runs students' code: see worker.py. One request at a time."""

    def __init__(self):
        self._process = None

    def ask(self, request):
        """A request's answer; a worker that died is started anew, once. UserError where that does not help."""
        line = json.dumps(request).encode() + b"\n"
        for _ in range(2):
            try:
                process = self._running()
                process.stdin.write(line)
                process.stdin.flush()
                if answer := process.stdout.readline():
                    return json.loads(answer)
            except (BrokenPipeError, ValueError):
                pass
            self.close()
        raise UserError("the grader's own process ended twice, as told above; mend that, and grade it again")

    def _running(self):
        if self._process is None:
            env = {name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL", "TMPDIR") if name in os.environ}
            env |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
            self._process = subprocess.Popen(
                [sys.executable, "-m", "assignments.school.worker"],
                cwd=ROOT,
                env=env,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
        return self._process

    def close(self):
        if self._process is not None:
            with contextlib.suppress(BrokenPipeError):  # what it did not read any more
                self._process.stdin.close()
            self._process.stdout.close()
            self._process.kill()
            self._process.wait()
            self._process = None


class Grader:
    """Grades submissions of one assignment.

    seconds: of each submission, shared evenly by its parts; memory: bytes; only_public: leave the hidden checks out;
    chain: the student's own functions below what is graded; seed: of the hidden checks' numbers, None for the usual.
    """

    def __init__(self, assignment, assignments, seconds=60, memory=4 << 30, only_public=False, chain=False, seed=None):
        self.assignment, self.assignments = assignment, assignments
        self.seconds, self.memory, self.chain = seconds, memory, chain
        self._bases, self._checks = {}, {}
        for dialect in assignment.dialects:
            checks = checks_of(assignment, dialect, hidden=False)
            checks += [] if only_public else checks_of(assignment, dialect, hidden=True, seed=seed)
            asked = [(check.probe, inputs_as_json(check.inputs)) for check in checks]
            self._checks[dialect] = list(zip(checks, asked, points_of(assignment.points, checks), strict=True))
            self._bases[dialect] = worlds.Folder(worlds.base(assignment, assignments, dialect))

    def public(self):
        """[(Check, its points)] of the public checks of this project's dialect, or of the first there is."""
        return [(check, most) for check, _, most in self._checks[self.assignment.dialects[0]] if not check.hidden]

    def close(self):
        for base in self._bases.values():
            base.__exit__()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()

    def grade(self, path, worker):
        """A submission's `Result`; one that cannot be read has its `error`."""
        result = Result(str(path))
        try:
            wanted = {file for dialect in self.assignment.dialects for file in self.assignment.files(dialect)}
            sources = submissions.read(path, sorted(wanted))
            alike = self.assignment.dialects
            result.dialect = alike[0] if len(alike) == 1 else submissions.dialect_of(sources)
        except UserError as error:
            result.error = str(error)
            return result
        try:
            for part in self.assignment.parts[result.dialect]:
                self._grade_part(part, sources, result, worker)
        except UserError as error:  # no mistake of the student's: no points in place of 0 points
            result.checks, result.error = [], f"{path}: {error}"
        return result

    def _grade_part(self, part, sources, result, worker):
        dialect = result.dialect
        mine = [each for each in self._checks[dialect] if each[0].part == part]
        try:
            stand_in = worlds.composed(self.assignment, self.assignments, dialect, part, sources, self.chain)
            for file, source in stand_in.items():
                if file in sources and (used := forbidden.used(source, self.assignment.forbidden)):
                    raise worlds.Unfit(f"{file} uses {', '.join(used)}, which does the work already")
        except worlds.Unfit as reason:
            answers = [{"error": str(reason)}] * len(mine)
        else:
            answers = self._run(part, dialect, stand_in, [asked for _, asked, _ in mine], worker, result)
        for (check, _, most), answer in zip(mine, answers, strict=True):
            verdict = judge(check, answer) if isinstance(answer, dict) else Verdict(False, "the answer is no answer")
            points = most if verdict.passed else 0.0
            result.checks.append(
                Graded(part, check.name, points, most, verdict.passed, verdict.message, check.hidden, verdict.cause)
            )

    def _run(self, part, dialect, stand_in, cases, worker, result):
        with worlds.Folder(stand_in) as world:
            request = {
                "world": str(world.path),
                "modules": {worlds.module_of(file): str(world.path / file) for file in stand_in},
                "base": str(self._bases[dialect].path),
                "dialect": dialect,
                "assignment": self.assignment.name,
                "cases": cases,
                "forbidden": list(self.assignment.forbidden),
                "seconds": self.seconds / len(self.assignment.parts[dialect]),
                "memory": self.memory,
                "hidden": [str(ROOT)],
            }
            told = worker.ask(request)
        result.notes += [f"{part}: {attempt}" for attempt in told.get("attempts", []) if isinstance(attempt, str)]
        answers = told.get("answers")
        if not isinstance(answers, list) or len(answers) != len(cases):
            error = str(told.get("error", "the code gave no answer that can be read"))[:500]
            return [{"error": error}] * len(cases)
        return answers


def points_of(total, checks):
    """Points of each check, to the cent: each part's share of the total is its checks' weights' share of all."""
    weights = [check.weight for check in checks]
    shared, ends = [], 0.0
    for weight in weights:
        begins, ends = ends, ends + weight
        shared.append(round(round(total * ends / sum(weights), 2) - round(total * begins / sum(weights), 2), 2))
    return shared
