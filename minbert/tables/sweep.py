"""The sweep: runs what is missing of a table's jobs, one process of multitask_classifier.py each.

A sweep that was killed goes on where it was when the same command is given again. Plain models that label schemes learn
from stay in runs/experiments/plain/.
"""

import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from minbert.files import UserError
from minbert.locks import locked
from minbert.tables import places, store
from minbert.tables.jobs import command, placed
from minbert.tables.processes import OutOfTime, Processes, in_threads
from minbert.tables.record import figure, result_of
from minbert.tables.standing import adopted, can_continue, why_stale

WEIGHTS = ("state.pt", "*.safetensors", "bert")  # of a run folder: deleted once the result is saved


def _show(text):
    print(text, end="", flush=True)


@dataclass
class Tally:
    """What became of the jobs of a sweep: how many ran, which failed and why, and which there was no time for."""

    ran: int = 0
    failed: list = field(default_factory=list)
    left: list = field(default_factory=list)


@dataclass(frozen=True)
class Sweep:
    """Runs jobs, all in the same way.

    extra         flag -> value besides the rows' own (which win): model, folders, use_gpu
    keep_weights  leave the weights in the run folders
    publish       put the results among the project's own
    processes     how many runs at a time, and until when
    tell          prints a part of a line
    """

    extra: dict
    keep_weights: bool = False
    publish: bool = False
    processes: Processes = field(default_factory=Processes)
    tell: Callable = _show

    def run_all(self, jobs):
        """Run what is missing of the jobs; returns how many did not end well."""
        started, tally = time.monotonic(), Tally()
        if self.processes.at_once > 1:
            groups = grouped(jobs)
            in_threads(lambda group: self._run_group(group, jobs, tally), groups, self.processes)
        else:
            for job in jobs:
                self._run_one(job, jobs, tally)
        minutes, there = (time.monotonic() - started) / 60, len(jobs) - tally.ran - len(tally.failed) - len(tally.left)
        print(f"{tally.ran} run in {minutes:.1f} minutes, {there} were there, {len(tally.failed)} failed")
        if self.processes.at_once > 1:  # their lines stand among others
            print("".join(f"failed: {line}\n" for line in tally.failed), end="")
        if tally.left:
            print(f"{len(tally.left)} left, the first: {tally.left[0]}; the same command goes on from here")
        return len(tally.failed)

    def _run_group(self, group, jobs, tally):
        for job in group:
            said = []
            replace(self, tell=said.append)._run_one(job, jobs, tally)
            print("".join(said), end="", flush=True)

    def _run_one(self, job, jobs, tally):
        """Run a job if it is missing, tell of it in a line, and count it."""
        name = f"{job.row.name}, {job.name}"
        if self.processes.is_over:
            tally.left.append(name)
            return
        self.tell(f"[{jobs.index(job) + 1}/{len(jobs)}] {name}: ")
        try:
            did = self.run(job)
            self.tell(f"{'done' if did else 'is there'}: {in_a_line(job)}\n")
            tally.ran += did
        except OutOfTime:
            tally.left.append(name)
            self.tell("stopped, its state is saved\n")
        except (UserError, OSError) as error:
            tally.failed.append(f"{name}: {error}")
            self.tell(f"FAILED: {error}\n")

    def run(self, job, for_weights=False):
        """Bring the job's result up to date; returns whether that took a run. UserError if it fails, Busy if it runs.

        A result that another table has already is taken from there. for_weights: a row is about to start from this
        one's weights, so a result without them does not do.
        """
        with locked(job.log) as log:
            why = self._why_run(job, for_weights)
            ran = why is not None and (for_weights or not self._adopt(job))
            if ran:
                self._train(job, log, why)
            if why is not None and not self.keep_weights:
                for finished in filter(None, (job, job.start)):
                    self._drop_weights(finished)
            if self.publish:
                store.publish(job)
        return ran

    def _why_run(self, job, for_weights):
        """In a few words, why the job's result does not do; "" if there is none, None if it does."""
        saved = store.get(job)
        gone = for_weights and (job.folder / "scores.json").is_file() and not self._has_weights(job)
        if saved is None:
            return "its weights are gone" if gone else ""
        reason = why_stale(job, saved, self.extra)
        return "its weights are gone" if reason is None and for_weights and not self._has_weights(job) else reason

    def _adopt(self, job):
        """Take over another row's result, if one is the very same; returns whether there was one."""
        if found := adopted(job, self.extra):
            store.put(job.table, found)
            self.tell(f"the same as {found['ran_as']}, which ")
        return found is not None

    def _train(self, job, log, why):
        """Run the job, and before it the one it starts from, if that is not there; then write its result. `why`: as
        `_why_run` says."""
        flags, start = {**self.extra, **job.flags}, {}
        if why:
            self.tell(f"again ({why}) ")
        if job.start:
            self.tell(f"from {job.start.row.name} ")
            self.run(job.start, for_weights=True)
            start = {"init": job.start.folder, "model": None}  # that run brings its own model
        if why or not can_continue(job, flags):
            shutil.rmtree(job.folder, ignore_errors=True)
        for follower in job.followers:  # what began with earlier weights is not to be continued
            shutil.rmtree(follower.folder, ignore_errors=True)
        self.tell("... ")
        log.truncate(0)  # what an earlier try said is not this one's
        flags_here = {**placed(flags), **start, "run_dir": job.folder, "resume": True}  # --resume: continue, or begin
        script = str(places.HERE / "multitask_classifier.py")
        code = launch([sys.executable, "-u", script, *command(flags_here)], log, self.processes)
        if code:
            raise UserError(f"{last_words(job.log)} (exit code {code}; its output: {job.log})")
        store.put(job.table, result_of(job, flags))

    def _has_weights(self, job):
        """Whether the job's folder holds the finished run of its result, with the weights to start from."""
        finished = (job.folder / "scores.json").is_file() and (job.folder / "model.safetensors").is_file()
        return finished and can_continue(job, {**self.extra, **job.flags})

    def _drop_weights(self, job):
        """Delete a finished run's weights, unless a row that starts from them lacks a result."""
        for follower in job.followers:
            saved = store.get(follower)
            if saved is None or why_stale(follower, saved, self.extra):
                return
        folders = (job.folder, *job.folder.glob("lr-*"))  # and those of the learning rates it tried
        for path in [path for folder in folders for pattern in WEIGHTS for path in folder.glob(pattern)]:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def launch(arguments, log, processes):
    """Run a command with its output in `log`; returns its exit code."""
    return processes.run(arguments, log)


def grouped(jobs):
    """The jobs in lists, each of a job and those that start from its weights, or from theirs: these have to wait for
    one another, and should be on one machine."""
    groups = {}
    for job in jobs:
        first = job
        while first.start:
            first = first.start
        groups.setdefault((first.row.name, first.seed), []).append(job)
    return [*groups.values()]


def shard(jobs, number, count):
    """The `number`-th (from 1) of `count` shares of the jobs: their groups, dealt out in turn."""
    mine = {id(job) for group in grouped(jobs)[number - 1 :: count] for job in group}
    return [job for job in jobs if id(job) in mine]


def last_words(log):
    """The last line of a failed run, its error line if there is one."""
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines[-20:] if line.startswith("error:")]
    return (errors or lines or ["it said nothing"])[-1]


def in_a_line(job):
    """The job's figures in a line."""
    result = store.get(job)
    values = {heading: figure(result, path) for heading, path in job.table.columns.items()}
    return ", ".join(f"{heading} {value:.3f}" for heading, value in values.items() if value is not None)
