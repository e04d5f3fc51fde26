"""The sweep: runs what is missing of a table's jobs, one process of multitask_classifier.py each.

A sweep that was killed goes on where it was when the same command is given again. Plain models that label schemes learn
from stay in runs/experiments/plain/.
"""

import shutil
import subprocess
import sys
import time
from dataclasses import dataclass

from minbert.files import UserError
from minbert.locks import locked
from minbert.tables import places, store
from minbert.tables.jobs import command, placed
from minbert.tables.record import figure, result_of
from minbert.tables.standing import adopted, can_continue, why_stale

WEIGHTS = ("state.pt", "*.safetensors", "bert")  # of a run folder: deleted once the result is saved


@dataclass(frozen=True)
class Sweep:
    """Runs jobs, all in the same way.

    extra         flag -> value besides the rows' own (which win): model, folders, use_gpu
    keep_weights  leave the weights in the run folders
    publish       put the results among the project's own
    """

    extra: dict
    keep_weights: bool = False
    publish: bool = False

    def run_all(self, jobs):
        """Run what is missing of the jobs; returns how many did not end well."""
        started, ran, failed = time.monotonic(), 0, 0
        for number, job in enumerate(jobs, 1):
            print(f"[{number}/{len(jobs)}] {job.row.name}, {job.name}: ", end="", flush=True)
            try:
                did = self.run(job)
                print(f"{'done' if did else 'is there'}: {in_a_line(job)}", flush=True)
                ran += did
            except (UserError, OSError) as error:
                print(f"FAILED: {error}", flush=True)
                failed += 1
        minutes = (time.monotonic() - started) / 60
        print(f"{ran} run in {minutes:.1f} minutes, {len(jobs) - ran - failed} were there, {failed} failed")
        return failed

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
            print(f"the same as {found['ran_as']}, which ", end="")
        return found is not None

    def _train(self, job, log, why):
        """Run the job, and before it the one it starts from, if that is not there; then write its result. `why`: as
        `_why_run` says."""
        flags, start = {**self.extra, **job.flags}, {}
        if why:
            print(f"again ({why}) ", end="")
        if job.start:
            print(f"from {job.start.row.name} ", end="")
            self.run(job.start, for_weights=True)
            start = {"init": job.start.folder, "model": None}  # that run brings its own model
        if why or not can_continue(job, flags):
            shutil.rmtree(job.folder, ignore_errors=True)
        for follower in job.followers:  # what began with earlier weights is not to be continued
            shutil.rmtree(follower.folder, ignore_errors=True)
        print("... ", end="", flush=True)
        log.truncate(0)  # what an earlier try said is not this one's
        flags_here = {**placed(flags), **start, "run_dir": job.folder, "resume": True}  # --resume: continue, or begin
        script = str(places.HERE / "multitask_classifier.py")
        code = launch([sys.executable, "-u", script, *command(flags_here)], log)
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


def launch(arguments, log):
    """Run a command with its output in `log`; returns its exit code. When we are stopped, it saves its state first."""
    child = subprocess.Popen(
        arguments,
        cwd=places.HERE,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        return child.wait()
    except KeyboardInterrupt:
        child.terminate()
        child.wait()
        raise


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
