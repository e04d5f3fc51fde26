"""What learning from unlabelled text costs: a training step with each method against the supervised one.

    python benchmarks/semi_supervised.py

Every step is a run's own (trainer.Trainer): SST, Quora and STS (26 classes) at once, fused pairs. All methods take the
same labelled batches in the same process, in turns; reported are medians. Unlabelled are the training texts themselves
(ROWS of each task), UDA's copies are made by TF-IDF word replacement. r is the number of unlabelled examples beside a
labelled one.

Beside each time stands what the tokens alone would give. A forward pass is 1 unit of work a token, a backward pass 2:

    UDA            labelled, augmented and original texts forward, the first two backward: ((1 + 2r) + 2 (1 + r)) / 3
                   of the supervised step's work where all texts are equally long; here the tokens are counted
    mean teacher   student and teacher both read everything, the student backward: 4 (1 + r) / 3

and what that comes to with the updates, the teacher's included, which are made once a step. Peak memory is that of a
process of its own.
"""

import argparse
import itertools
import os
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # as multitask_classifier.py
ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

TASKS, ROWS = ("sst", "quora", "sts"), 1000

# name: (flags, r); {texts} and {copies} are task=FILE,...
METHODS = {
    "supervised": ([], 0),
    "TSA": (["--tsa", "linear"], 0),
    "UDA, r = 1": (["--uda", "{copies}"], 1),
    "UDA, r = 3": (["--uda", "{copies}"], 3),
    "mean teacher": (["--mean_teacher", "kl"], 0),
    "mean teacher, r = 1": (["--mean_teacher", "kl", "--unlabeled", "{texts}"], 1),
}


def main():
    args = parse()
    import torch

    from minbert.hub import resolve
    from minbert.script import keep_freed_memory

    keep_freed_memory()
    if args.threads:
        torch.set_num_threads(args.threads)
    found = resolve(args.model)
    with tempfile.TemporaryDirectory() as folder:
        files = text_files(args, Path(args.copies or folder))
        if args.only:  # a fresh process: the peak memory of one method alone
            peak(args, found, files)
            return
        device = torch.cuda.get_device_name() if args.use_gpu else "cpu"
        print(f"{found.name}; {torch.get_num_threads()} threads; {device}; torch {torch.__version__}")
        for size in args.batch_sizes:
            compare(args, found, files, size)
        if args.time_only:
            return
        memory = {name: peak_of(name, args, folder) for name in METHODS}
        print(f"peak memory of the process, batch {max(args.batch_sizes)} a task:")
        for name, mib in memory.items():
            print(f"  {name:20}{mib:7,.0f} MiB, {mib / memory['supervised']:.2f} times")


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="minilm", help="checkpoint (default: %(default)s)")
    parser.add_argument("--data_dir", help="the course's files (default: as multitask_classifier.py)")
    parser.add_argument("--batch_sizes", type=int, nargs="+", default=[8, 32], help="examples a task (default: 8 32)")
    parser.add_argument("--repeats", type=int, default=15, help="counted steps of each method (default: %(default)s)")
    parser.add_argument("--warmup", type=int, default=3, help="steps not counted (default: %(default)s)")
    parser.add_argument("--threads", type=int, help="CPU threads (default: torch's choice)")
    parser.add_argument("--compile", action="store_true", help="the optimizer's compiled update")
    parser.add_argument("--attention", choices=("plain", "fused"), default="plain", help="(default: plain)")
    parser.add_argument("--use_gpu", action="store_true", help="CUDA, bf16 autocast")
    parser.add_argument("--time_only", action="store_true", help="no peak memory")
    parser.add_argument("--only", choices=METHODS, help=argparse.SUPPRESS)
    parser.add_argument("--copies", help=argparse.SUPPRESS)
    return parser.parse_args()


def text_files(args, folder):
    """{"texts": task=FILE,..., "copies": task=FILE,...} of the training texts, written unless they are there."""
    import datasets
    from minbert.augment.copies import augment
    from minbert.text.rows import Rows

    data, _ = datasets.data_folder(args.data_dir)
    files = {name: {task: folder / f"{task}-{name}.tsv" for task in TASKS} for name in ("texts", "copies")}
    for task in TASKS:
        if not files["copies"][task].is_file():
            path = data / datasets.TASKS[task].files["train"]
            examples = datasets.subset(datasets.read(datasets.TASKS[task], path, "train"), ROWS)  # those of --limit
            rows = Rows(dict(zip(examples.ids, examples.texts, strict=True)), [])
            augment(rows, files["texts"][task], "tfidf", p=0.0)  # as they are
            augment(rows, files["copies"][task], "tfidf")
    return {name: ",".join(f"{task}={path}" for task, path in of.items()) for name, of in files.items()}


def trainer_of(name, size, args, found, files):
    """The Trainer of a run with this method. Of its files there are none: only steps are made."""
    from train_step import scratch

    from minbert.flags import checks as options
    from minbert.training.data import read_data
    from minbert.training.run_folder import fit
    from minbert.training.trainer import Trainer
    from multitask_classifier import build_model

    flags, r = METHODS[name]
    argv = ["--option", "finetune", "--sts_head", "classification", "--batch_size", str(size)]
    argv += ["--limit", ",".join(f"{task}={ROWS}" for task in TASKS)]
    argv += ["--attention", args.attention, *(flag.format(**files) for flag in flags)]
    argv += ["--unlabeled_batch_size", str(r * size)] if r else []
    argv += ["--data_dir", args.data_dir] if args.data_dir else []
    argv += ["--use_gpu"] * args.use_gpu + ["--compile"] * args.compile
    run = options.check(options.parse(argv))
    data, _ = read_data(run, fit(run, found)[0])
    trainer = Trainer(build_model(found, run), data, run, folder=scratch())
    trainer.model.train()
    if trainer.teacher:
        trainer.teacher.model.train()
    return trainer


def steps_of(trainer, count):
    """The first steps of a run; a small set starts again."""
    return list(itertools.islice(itertools.cycle(trainer.plan.steps_of(0)), count))


def compare(args, found, files, size):
    """Print a line for each method: a step's time against the supervised one's."""
    from train_step import in_turns

    device = "cuda" if args.use_gpu else "cpu"
    trainers = {name: trainer_of(name, size, args, found, files) for name in METHODS}
    plain = trainers["supervised"]
    steps = steps_of(plain, args.warmup + args.repeats)  # the same rows for every trainer
    times = in_turns({name: trainer.loop.step for name, trainer in trainers.items()}, steps, args.warmup, device)
    updates = {"student": lambda _: plain.loop.optimizer.step()}
    updates["teacher"] = lambda _: trainers["mean teacher"].teacher.update()
    updates = in_turns(updates, steps, args.warmup, device)
    whole = times.pop("supervised")
    passes = whole - updates["student"]
    print(f"batch {size} a task: supervised {1e3 * whole:.1f} ms, {updates['student'] / whole:.2f} of it the update")
    for name, seconds in times.items():
        trainer = trainers[name]
        work = sum(work_of(trainer, step) for step in steps) / sum(work_of(plain, step) for step in steps)
        update = updates["student"] + (updates["teacher"] if trainer.teacher else 0)
        print(
            f"  {name:20}{seconds / whole:5.2f} times the time; the tokens alone {work:.2f}, "
            f"with the update {(work * passes + update) / whole:.2f}"
        )


def work_of(trainer, step):
    """Tokens forward + 2 x tokens backward, of all the sequences that a step of the trainer reads."""
    tokens = {"train": 0, "unlabelled": 0, "augmented": 0}
    for name, index in step:
        (batch,), splits = trainer.batches_of([(name, index)]), trainer.data[name]
        tokens["train"] += int(splits["train"].sequences.lengths[batch.rows].sum())
        if batch.unlabelled is not None:
            for split in {"unlabelled", "augmented"} & splits.keys():
                tokens[split] += int(splits[split].sequences.lengths[batch.unlabelled].sum())
    if trainer.teacher:  # it reads what the student learns from
        learned = tokens["train"] + tokens["unlabelled"]
        return 4 * learned
    return 3 * (tokens["train"] + tokens["augmented"]) + tokens["unlabelled"]


def peak(args, found, files):
    """Make ten steps with one method and print the peak memory in KiB."""
    import torch

    trainer = trainer_of(args.only, max(args.batch_sizes), args, found, files)
    for step in steps_of(trainer, 10):
        trainer.loop.step(step)
    if args.use_gpu:
        print(torch.cuda.max_memory_allocated() // 1024)
        return
    # VmHWM belongs to this program alone; getrusage's figure starts at the size of the process it was forked from.
    status = Path("/proc/self/status").read_text()
    print(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))


def peak_of(name, args, copies):
    """MiB"""
    command = [sys.executable, __file__, "--only", name, "--copies", copies, "--model", args.model]
    command += ["--attention", args.attention, "--batch_sizes", str(max(args.batch_sizes))]
    command += ["--data_dir", args.data_dir] if args.data_dir else []
    command += ["--threads", str(args.threads)] if args.threads else []
    command += ["--use_gpu"] * args.use_gpu + ["--compile"] * args.compile
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return int(output.split()[-1]) / 1024


if __name__ == "__main__":
    from minbert.script import carry_out

    sys.exit(carry_out(main))
