"""Trainings by several processes: of many rows of flags, one after the other in the same processes, or of the script
itself."""

import json
import socket
import subprocess
import sys
from pathlib import Path
from unittest import mock

sys.path.append(str(Path(__file__).parents[1]))  # where this file is a process of its own

import tiny

from minbert import evaluation, processes
from minbert.training.checkpoint import save_weights


def environments(count):
    """What torchrun would tell each of `count` processes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return [tiny.environment(**shared, RANK=str(rank), LOCAL_RANK=str(rank)) for rank in range(count)]


def start(count, *argv, script=tiny.SCRIPT):
    """A script in each of `count` processes that know of each other: [Popen]."""
    return [tiny.start(*argv, script=script, env=environment) for environment in environments(count)]


def finished(started, seconds=100):
    """[Outcome] of processes, in their order."""
    said = [process.communicate(timeout=seconds) for process in started]
    return [tiny.Outcome(p.returncode, out, err) for p, (out, err) in zip(started, said, strict=True)]


def torchrun(*argv, script=tiny.SCRIPT, count=2, restarts=0, **popen):
    """The script under torchrun itself, as a process."""
    own = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={count}"]
    popen = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": tiny.environment(), **popen}
    return subprocess.Popen([*own, f"--max-restarts={restarts}", script, *map(str, argv)], **popen)


def train(folder, checkpoint, data, rows):
    """A `Trainer`'s whole training for each row of flags, in folder/0, folder/1, ...: their last weights are in
    last.safetensors there, metrics.jsonl and predictions/. Dev sets are scored in several batches."""
    for number, row in enumerate(rows):
        trainer = tiny.make_trainer(Path(folder) / str(number), Path(checkpoint), Path(data), *row)
        with mock.patch.object(evaluation, "TOKEN_BUDGET", 64):
            trainer.fit()
        save_weights(trainer.model, trainer.folder / "last.safetensors")


def train_together(count, *what, seconds=200):
    """`train` by `count` processes. Fails unless all of them end well."""
    for outcome in finished(start(count, json.dumps(what, default=str), script=__file__), seconds):
        assert outcome.code == 0, outcome.err


if __name__ == "__main__":
    processes.join()
    train(*json.loads(sys.argv[1]))
    processes.here().leave(0)
