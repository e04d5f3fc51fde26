"""What does one model for four tasks cost? A pseudo-label scheme's model against the four plain models.

    python benchmarks/label_schemes.py

Karpov and Burtsev, "Data pseudo-labeling while adapting BERT for multitask approaches", Dialogue 2021, train one model
so that nobody has to keep and run one for each task. Measured are

    parameters   of one model, and of the plain ones together
    prediction   examples a second: every example read for its own task; and every example asked all questions, which
                 takes one pass of the one model and one pass of each plain model
    training     an epoch of the scheme against the plain runs' epochs one after the other: the median step of each
                 (trainer.Trainer, the recipe of minbert/tables/labels.py), times its number of steps

Same weights to begin with, same process, in turns; medians, and their ratios. The scheme is one that needs no teacher:
the others train at the same pace, but the plain models must be trained before, and predict every example once.
"""

import argparse
import os
import statistics
import sys
import time
from pathlib import Path

os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # as multitask_classifier.py
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

SCHEME = "soft_probability"


def main():
    args = parse()
    import torch

    from minbert.hub import resolve
    from minbert.script import keep_freed_memory
    from minbert.training.data import read_data
    from minbert.training.pseudo_labels import with_targets
    from minbert.training.run_folder import fit

    keep_freed_memory()
    if args.threads:
        torch.set_num_threads(args.threads)
    found = resolve(args.model)
    united = options_of(args, ["--tasks", args.tasks, "--label_scheme", SCHEME])
    data, notes = read_data(united, fit(united, found)[0])
    print(f"{found.name}; {torch.get_num_threads()} threads; {'cuda' if args.use_gpu else 'cpu'}")
    print("\n".join(notes))

    one = trainer_of(united, found, with_targets(united, data, plain=None))  # the scheme needs no teacher
    plain = {task: trainer_of(options_of(args, ["--tasks", task]), found, {task: data[task]}) for task in united.tasks}
    compare_parameters(one, plain)
    compare_prediction(one.model, {task: trainer.model for task, trainer in plain.items()}, data, args)
    compare_epochs(one, plain, args)


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="minilm", help="checkpoint (default: %(default)s)")
    parser.add_argument("--glue_dir", help="GLUE's folders (default: as multitask_classifier.py)")
    parser.add_argument("--data_dir", help="the course's files, for --tasks with cfimdb (default: likewise)")
    parser.add_argument("--tasks", default="rte,qqp,mnli,sst2", help="(default: %(default)s)")
    parser.add_argument("--rows", type=int, default=500, help="dev examples of each task (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=5, help="counted passes over these (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=40, help="counted steps of each run (default: %(default)s)")
    parser.add_argument("--warmup", type=int, default=3, help="steps not counted (default: %(default)s)")
    parser.add_argument("--threads", type=int, help="CPU threads (default: torch's choice)")
    parser.add_argument("--use_gpu", action="store_true", help="CUDA, bf16 autocast on both sides")
    return parser.parse_args()


def options_of(args, flags):
    """The options of a run in the recipe of minbert/tables/labels.py, with more flags."""
    from minbert.flags import checks as options
    from minbert.tables.jobs import command
    from minbert.tables.labels import PROTOCOL

    recipe = {**PROTOCOL, "tasks": None, "lr": 5e-5}  # a flag of value None is left out
    where = {"model": args.model, "glue_dir": args.glue_dir, "data_dir": args.data_dir}
    where |= {"use_gpu": True} if args.use_gpu else {}
    return options.check(options.parse([*command({**recipe, **where}), *flags]))


def trainer_of(options, found, data):
    """The Trainer of a run. Of its files there are none: only steps are made."""
    from train_step import scratch

    from minbert.training.trainer import Trainer
    from multitask_classifier import build_model

    return Trainer(build_model(found, options), data, options, folder=scratch())


# ------------------------------------------------------------------------------------------------------ comparing


def compare_parameters(one, plain):
    count, together = parameters(one), sum(map(parameters, plain.values()))
    print(f"parameters: one model {count:,}, {len(plain)} plain models {together:,}: {count / together:.3f} of theirs")


def parameters(trainer):
    return sum(parameter.numel() for parameter in trainer.model.parameters())


def compare_prediction(model, plain, data, args):
    """Print examples a second of both ways to predict, for one model and for the plain ones."""
    import numpy as np

    from minbert import evaluation

    dev = {task: data[task]["dev"].sequences for task in plain}
    dev = {task: sequences.take(np.arange(min(args.rows, len(sequences)))) for task, sequences in dev.items()}
    count = sum(map(len, dev.values()))

    def own(model_of):
        for task, sequences in dev.items():
            evaluation.predict(model_of(task), task, sequences)

    def all_by_one():
        for task, sequences in dev.items():
            embedded = evaluation.embeddings(model, task, sequences)
            for asked in plain:
                evaluation.read_out(model, asked, embedded)

    def all_by_plain():
        for sequences in dev.values():
            for asked in plain:
                evaluation.predict(plain[asked], asked, sequences)

    ways = {
        "own task": (lambda: own(lambda task: model), lambda: own(plain.__getitem__)),
        "all tasks": (all_by_one, all_by_plain),
    }
    for name, sides in ways.items():
        times = in_turns(sides, args.repeats, warmup=1, use_gpu=args.use_gpu)
        a, b = map(statistics.median, times)
        print(
            f"prediction, {name}: one model {count / a:,.0f} examples/s, plain models {count / b:,.0f}: "
            f"{b / a:.2f} times as fast"
        )


def compare_epochs(one, plain, args):
    """Print the time of an epoch of the scheme over the sum of the plain runs' epochs."""
    trainers = {"one": one, **plain}
    for trainer in trainers.values():
        trainer.model.train()
    steps = {name: trainer.plan.steps_of(0) for name, trainer in trainers.items()}
    makers = [make_steps(trainer, steps[name]) for name, trainer in trainers.items()]
    times = in_turns(makers, args.steps, args.warmup, args.use_gpu)
    medians = dict(zip(trainers, map(statistics.median, times), strict=True))
    epochs = {name: medians[name] * len(steps[name]) for name in trainers}
    whole, together = epochs.pop("one"), sum(epochs.values())
    parts = {name: f"{len(steps[name]):,} steps of {1e3 * medians[name]:.0f} ms" for name in trainers}
    print(
        f"training, an epoch: one model {whole:,.0f} s ({parts.pop('one')}), plain models {together:,.0f} s "
        f"({', '.join(f'{task} {part}' for task, part in parts.items())}): {whole / together:.2f} times their time"
    )


def make_steps(trainer, steps):
    """A function that makes the next step of an epoch; after the last comes the first."""
    made = 0

    def next_step():
        nonlocal made
        trainer.loop.step(steps[made % len(steps)])
        made += 1

    return next_step


def in_turns(sides, repeats, warmup, use_gpu):
    """[function] -> [seconds of its counted calls]; all sides are called once before any is called again."""
    import torch

    times = [[] for _ in sides]
    for _ in range(warmup + repeats):
        for side, seconds in zip(sides, times, strict=True):
            start = time.perf_counter()
            side()
            if use_gpu:
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - start)
    return [seconds[warmup:] for seconds in times]


if __name__ == "__main__":
    from minbert.script import carry_out

    sys.exit(carry_out(main))
