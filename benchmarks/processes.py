"""Two processes of torchrun's against one: the same weights, whatever is killed, and how fast.

    python benchmarks/processes.py
    python benchmarks/processes.py --only pcgrad uda
    python benchmarks/processes.py --kills 20
    python benchmarks/processes.py --speed 8 32

Without --kills and --speed: each row of ROWS trains some steps with dropout 0 in fp32, once by one process and once by
two over gloo, and the distance of their weights is printed, relative to the weights' own norm; beside it how far the
training moved them, by which a mistake in what is summed would show.

--kills: a run with dropout by two processes, of which one drawn at random gets a SIGKILL at a moment drawn at random;
both are started again with --resume, until so many kills have fallen. What is left must be the bits of an unbroken run.
--speed: seconds a step of two processes of one thread each and of one process of two threads, in turns, and their ratio
at these numbers of examples a task. Exit code 0, or 1 where weights are further apart than --most, or bits differ.
"""

import argparse
import contextlib
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]
PATIENCE = 20  # seconds that one process may outlive the other
UNEVEN = "--batch_size sst=3,quora=5,sts=1"
CLASSES = "--sts_head classification --batch_size 5"
UDA = f"{CLASSES} --uda_threshold 0.3 --uda {{copies}}"
SCHEDULES = "simultaneous sequential round_robin balanced_round_robin in_turn mtdnn_upsample mtdnn annealed"
ROWS = [
    *(f"--schedule {name} {UNEVEN}" for name in SCHEDULES.split()),
    "--pcgrad",
    f"--pcgrad {UNEVEN}",
    "--smart 1",
    f"--smart 1 {UNEVEN}",
    f"--r_drop 1 {UNEVEN}",
    f"--clip 1 --accumulate 3 {UNEVEN}",
    "--layer_decay 0.9 --lr_schedule linear --warmup 0.1 --weight_decay 0.01 --no_decay_bias_norm",
    f"{CLASSES} --tsa exp",
    UDA,
    f"{UDA} --uda_mean kept --unlabeled_batch_size 3",
    f"{UDA} --mean_teacher kl --tsa log",
    f"--mean_teacher mse --labels_per_class 20 --unlabeled_batch_size 1 {UNEVEN}",
    "--mean_teacher bregman",
    f"--option pretrain {UNEVEN}",
    "--pairs concat --sts_head cosine --sst_head coral",
    "--pairs dot_attention --pooling mean --head_bias prior",
]


def main():
    args = parse()
    with tempfile.TemporaryDirectory() as scratch:
        if args.kills:
            return kills(args, Path(scratch))
        if args.speed:
            return speed(args, Path(scratch))
        return weights(args, Path(scratch))


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="minilm", help="checkpoint (default: %(default)s)")
    parser.add_argument("--data_dir", help="the course's files (default: as multitask_classifier.py)")
    parser.add_argument("--limit", default="sst=400,quora=400,sts=400", help="rows (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=50, help="updates of a training (default: %(default)s)")
    parser.add_argument("--lr", default="2e-5", help="learning rate (default: %(default)s)")
    parser.add_argument("--most", type=float, default=1e-6, help="relative distance allowed (default: %(default)s)")
    parser.add_argument("--only", nargs="+", default=[""], metavar="WORD", help="rows with one of these in them")
    parser.add_argument("--kills", type=int, default=0, metavar="N", help="kill and compare instead, N times")
    parser.add_argument("--speed", type=int, nargs="+", metavar="N", help="time instead, with N examples a task")
    parser.add_argument("--seed", type=int, default=1, help="of what --kills draws (default: %(default)s)")
    return parser.parse_args()


def line_of(args, *more):
    """The flags of a training."""
    data = ["--data_dir", args.data_dir] if args.data_dir else []
    limit = ["--limit", args.limit, "--dev_limit", "sst=20,quora=20,sts=20"]
    common = ["--option", "finetune", "--model", args.model, "--lr", args.lr, "--max_steps", str(args.steps)]
    return [*common, "--skip_test", *limit, *data, *map(str, more)]


def start(count, script, argv, threads=1):
    """A script in each of `count` processes, with what torchrun would tell them: [Popen]."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    own = {**os.environ, "OMP_NUM_THREADS": str(threads), "WORLD_SIZE": str(count)}
    own |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    quiet = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "cwd": ROOT}
    argv = [sys.executable, script, *argv]
    return [
        subprocess.Popen(argv, env={**own, "RANK": str(rank), "LOCAL_RANK": str(rank)}, **quiet)
        for rank in range(count)
    ]


def end(started):
    """Wait for processes; returns their exit codes, and what the first one said. Where one died before they met, the
    other would wait for it: it is ended, as torchrun would."""
    while any(process.poll() is None for process in started):
        if any(process.poll() not in (None, 0) for process in started):
            with contextlib.suppress(subprocess.TimeoutExpired):
                for process in started:
                    process.wait(PATIENCE)
            for process in started:
                process.kill()
        time.sleep(0.05)
    return [process.returncode for process in started], started[0].communicate()[0]


# --------------------------------------------------------------------------------------------------------- weights


def weights(args, scratch):
    """A line for each row. Returns the exit code."""
    import torch
    from safetensors.torch import load_file

    rows = [row for row in ROWS if any(word in row for word in args.only)]
    copies = changed_copies(args, scratch) if any("{copies}" in row for row in rows) else ""
    lines = [line_of(args, "--hidden_dropout_prob", 0, *row.format(copies=copies).split()) for row in rows]
    for count in (1, 2):
        codes, said = end(start(count, __file__, ["train", json.dumps([str(scratch / str(count)), lines])]))
        if any(codes):
            raise SystemExit(f"{count} processes: exit codes {codes}\n{said[-3000:]}")
    far = 0
    print(f"{args.model}, {args.steps} updates; torch {torch.__version__}\n{'apart':>9}{'moved':>9}{'loss':>9}")
    for number, row in enumerate(rows):
        one, two, begin = (
            load_file(scratch / folder / f"{number}{what}.safetensors")
            for folder, what in (("1", ""), ("2", ""), ("1", "-begin"))
        )
        losses = [json.loads((scratch / str(count) / f"{number}.json").read_text()) for count in (1, 2)]
        apart, moved = distance(one, two), distance(one, begin)
        loss = max(abs(a - b) for a, b in zip(*losses, strict=True))
        print(f"{apart:9.1e}{moved:9.1e}{loss:9.1e}  {row}{'  TOO FAR' * (not apart <= args.most)}", flush=True)
        far += not apart <= args.most
    print(f"{len(rows)} rows, {far} further apart than {args.most:g}")
    return 1 if far else 0


def distance(one, two):
    """|one - two| / |one|, of all weights together."""
    apart = sum((one[name].double() - two[name].double()).square().sum() for name in one)
    return (apart / sum(tensor.double().square().sum() for tensor in one.values())).sqrt().item()


def changed_copies(args, scratch):
    """Changed texts of each task's training set, as --uda reads them."""
    from datasets import TASKS, data_folder

    folder, found = data_folder(args.data_dir)[0], []
    for task in ("sst", "quora", "sts"):
        source, target = folder / TASKS[task].files["train"], scratch / f"{task}.changed"
        argv = ["--method", "eda", "--in", source, "--task", task, "--out", target]
        subprocess.run([sys.executable, ROOT / "augmentation.py", *argv], check=True, stdout=subprocess.DEVNULL)
        found.append(f"{task}={target}")
    return ",".join(found)


def train(folder, lines):
    """What the processes do: every training of `lines`, one after the other, dropout off, without its exams."""
    from minbert import processes
    from minbert.flags import checks
    from minbert.training.checkpoint import save_weights

    processes.join()
    folder = Path(folder)
    folder.mkdir(exist_ok=True)
    for number, line in enumerate(lines):
        trainer = made(checks.check(checks.parse([*line, "--run_dir", str(folder / f"run{number}")])), folder)
        save_weights(trainer.model, folder / f"{number}-begin.safetensors")
        for module in trainer.model.modules():
            if hasattr(module, "p"):
                module.p = 0.0
        trainer.model.train()
        losses = []
        for steps in updates_of(trainer):
            trainer.loop.prepare()
            trainer.loop.step(*steps)
            losses.append(trainer.loop.record.running)
        save_weights(trainer.model, folder / f"{number}.safetensors")
        if processes.here().first:
            (folder / f"{number}.json").write_text(json.dumps(losses))


def updates_of(trainer):
    """The updates of a whole training, the epoch told as it begins."""
    for epoch in range(trainer.plan.epochs):
        trainer.loop.progress.epoch = epoch
        yield from trainer.plan.updates_of(epoch)


def made(options, folder):
    """A Trainer with no file but its log."""
    from minbert.training import run_folder
    from minbert.training.data import read_data
    from minbert.training.trainer import Trainer
    from multitask_classifier import build_model

    found = run_folder.find_model(options.model)
    data, _ = read_data(options, run_folder.fit(options, found)[0])
    return Trainer(build_model(found, options), data, options, folder)


# ----------------------------------------------------------------------------------------------------------- kills


def kills(args, scratch):
    """Kill until it is enough, and compare. Returns the exit code."""
    import same_bits

    script, moments = str(ROOT / "multitask_classifier.py"), random.Random(args.seed)
    line = line_of(args, "--checkpoint_minutes", 1e-9, "--keep_state", "--epoch_steps", args.steps // 2)
    began = time.monotonic()
    codes, said = end(start(2, script, [*line, "--run_dir", scratch / "whole" / "run"]))
    if any(codes):
        raise SystemExit(f"the unbroken run failed: {codes}\n{said[-3000:]}")
    long, done, broken = time.monotonic() - began, 0, scratch / "broken" / "run"
    while done < args.kills:
        started = start(2, script, [*line, "--run_dir", broken, "--resume"])
        time.sleep(moments.uniform(0, 0.8 * long))
        hit = moments.randrange(2)
        if alive := started[hit].poll() is None:
            started[hit].kill()
        fell = time.monotonic()
        codes, said = end(started)
        if not alive and any(codes):
            raise SystemExit(f"a resumed run failed: {codes}\n{said[-3000:]}")
        done += alive
        after = f"killed, the other ended {time.monotonic() - fell:.1f} s later" if alive else "had ended"
        print(f"kill {done}: process {hit} {after}; exit codes {codes}", flush=True)
        if not alive and done < args.kills:  # it came to its end: compare, and begin anew
            compared(same_bits, scratch)
            broken.parent.rename(scratch / f"done {done} {time.monotonic()}")
    codes, said = end(start(2, script, [*line, "--run_dir", broken, "--resume"]))
    if any(codes):
        raise SystemExit(f"the last resumed run failed: {codes}\n{said[-3000:]}")
    compared(same_bits, scratch)
    print(f"{done} kills, seed {args.seed}")
    return 0


def compared(same_bits, scratch):
    difference = same_bits.first_difference(scratch / "whole", scratch / "broken")
    print(difference or "same", flush=True)
    if difference:
        raise SystemExit(1)


# ----------------------------------------------------------------------------------------------------------- speed


def speed(args, scratch):
    """Seconds of training as the runs themselves count them, by turns. Returns the exit code."""
    script = str(ROOT / "multitask_classifier.py")
    for size in args.speed:
        seconds = {1: [], 2: []}
        for turn in range(2):
            for count in seconds:
                folder = scratch / f"{size}-{turn}-{count}"
                line = line_of(args, "--batch_size", size, "--run_dir", folder)
                codes, said = end(start(count, script, line, threads=3 - count))
                if any(codes):
                    raise SystemExit(f"{count} processes: exit codes {codes}\n{said[-3000:]}")
                scores = json.loads((folder / "scores.json").read_text())
                seconds[count].append(scores["train_seconds"] / scores["updates"])
        one, two = (min(times) for times in seconds.values())
        print(
            f"batch {size:3}: one process of two threads {1e3 * one:.0f} ms a step, two of one {1e3 * two:.0f} ms, "
            f"{one / two:.2f} times as fast",
            flush=True,
        )
    return 0


if __name__ == "__main__":
    from minbert.script import carry_out

    if sys.argv[1:2] == ["train"]:
        sys.exit(carry_out(train, *json.loads(sys.argv[2])))
    sys.exit(carry_out(main))
