"""The runs of a sweep as processes: one or several at a time, with so many threads each, stopped when time is up.

A run that is asked to stop (SIGTERM) ends its step and saves its state; one that was killed goes on from its last
checkpoint. So time can end a sweep at any moment, and the same command goes on.
"""

import contextlib
import os
import subprocess
import threading
import time

from minbert.tables import places

SAVING = 30.0  # seconds before the end at which runs are asked to stop...
SHARE = 0.25  # ...or this share of a shorter time


class OutOfTime(Exception):
    """The run was stopped because the sweep's time, or the sweep, is over; it can be resumed."""


class Processes:
    """at_once: how many runs at a time. minutes: after which none is left, or None.

    Whatever else a sweep does is done by one thread at a time, the one that has the `baton`: the umask, a file's lock
    and what is printed belong to the whole process.
    """

    def __init__(self, at_once=1, minutes=None):
        self.at_once, self.baton, self.running, self.stopped = at_once, threading.Lock(), set(), False
        self.end = None if minutes is None else time.monotonic() + 60 * minutes
        self.margin = 0.0 if minutes is None else min(SAVING, SHARE * 60 * minutes)

    @property
    def is_over(self):
        """Whether no other run is to begin: one that did would hardly get through its imports."""
        return self.stopped or (self.end is not None and time.monotonic() > self.end - 2 * self.margin)

    def run(self, arguments, log):
        """Run a command with its output in `log`, the baton laid down meanwhile; returns its exit code. OutOfTime where
        it was stopped. When we are interrupted, it saves its state first."""
        if self.is_over:
            raise OutOfTime
        child = subprocess.Popen(
            arguments,
            cwd=places.HERE,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=self._environment(),
        )
        self.running.add(child)
        with self._baton_down():
            try:
                code = self._wait(child)
            except KeyboardInterrupt:
                child.terminate()
                child.wait()
                raise
            finally:
                self.running.discard(child)
        if code and (self.stopped or (self.end is not None and time.monotonic() > self.end - self.margin)):
            raise OutOfTime
        return code

    def stop(self):
        """Ask all runs to save and stop; no other begins."""
        self.stopped = True
        for child in [*self.running]:
            child.terminate()

    def _wait(self, child):
        if self.end is not None:
            for until, then in ((self.end - self.margin, child.terminate), (self.end, child.kill)):
                try:
                    return child.wait(max(0.0, until - time.monotonic()))
                except subprocess.TimeoutExpired:
                    then()
        return child.wait()

    @contextlib.contextmanager
    def _baton_down(self):
        held = self.baton.locked()
        if held:
            self.baton.release()
        try:
            yield
        finally:
            if held:
                self.baton.acquire()

    def _environment(self):
        """With several runs at a time, each has its share of the cores as threads, or what OMP_NUM_THREADS says if that
        is less."""
        if self.at_once == 1:
            return os.environ
        share, said = max(1, cores() // self.at_once), os.environ.get("OMP_NUM_THREADS", "")
        return os.environ | {"OMP_NUM_THREADS": str(min(share, int(said)) if said.isdigit() and int(said) else share)}


def cores():
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_threads(work, parts, processes):
    """work(part) for each part, by `processes.at_once` threads which take the baton for it. Ctrl-C, and a mistake in
    one of them, stop all runs and is raised here once they have saved."""
    waiting, mistakes = list(parts), []

    def take():
        while waiting and not mistakes:
            with processes.baton:
                if not waiting:
                    return
                part = waiting.pop(0)
                try:
                    work(part)
                except BaseException as error:
                    mistakes.append(error)
                    processes.stop()

    threads = [threading.Thread(target=take) for _ in range(processes.at_once)]
    for thread in threads:
        thread.start()
    try:
        while any(thread.is_alive() for thread in threads):
            for thread in threads:
                thread.join(0.1)
    finally:
        processes.stop()
        for thread in threads:
            thread.join()
    if mistakes:
        raise mistakes[0]
