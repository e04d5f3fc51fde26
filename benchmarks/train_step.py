"""How fast is a training step? Ours against the same step written with transformers and torch's fused AdamW.

    python benchmarks/train_step.py

Both take the same real batches of SST, Quora and STS (fused pairs, token types, dropout on), the same weights, thread
count and process, in turns: ours packs the step's real tokens into one trunk pass; theirs pads each task's batch to
its longest sequence and uses sdpa attention. Reported are medians of whole steps (forward, backward, update), their
ratio, and the share of the machine's own matrix-multiply rate that the real tokens' work reaches:
6 x non-embedding parameters x real tokens / time, over the best rate of a large square product measured in this run
(in bf16 ours leaves out what no head reads of the last layer, and that counts as no work).
Every figure is a ratio within one run; absolute times belong to the machine.

    python benchmarks/train_step.py --methods

This prints instead what a method costs: the time of a run's own step (trainer.Trainer) with it over that of the plain
step, fused pairs and summed losses, on the same batches, in turns. Beside it stands the time to expect if all of the
step but its update, which every method makes once, grew as the work of METHODS does.
"""

import argparse
import functools
import os
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # as multitask_classifier.py, for both sides
ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

# name: flags; work besides the update for each token of the examples, in multiples of the plain step's; why. A forward
# pass is 1 unit of work, a backward pass 2: one for the gradients of the activations, one for those of the weights.
METHODS = {
    "plain": ([], 1, ""),
    "separate pairs": (["--pairs", "concat"], 1, "more tokens"),
    "PCGrad": (["--pcgrad"], 1, "three passes, each over one task's tokens"),
    "SMART": (["--smart", "1"], 8 / 3, "3 forward passes, 2 backward, 1 backward for the embedding alone"),
    "R-Drop": (["--r_drop", "1"], 2, "each example twice"),
}


def main():
    args = parse()
    import numpy as np
    import torch

    from datasets import TASKS, data_folder, read
    from minbert.hub import resolve
    from minbert.script import keep_freed_memory
    from minbert.text.tokenization import Tokenizer

    keep_freed_memory()
    if args.threads:
        torch.set_num_threads(args.threads)
    device = "cuda" if args.use_gpu else "cpu"
    folder, why = data_folder(args.data_dir)
    found = resolve(args.model)
    tokenizer = Tokenizer.from_folder(found.folder)
    tasks = [TASKS[name] for name in ("sst", "quora", "sts")]
    examples = {task.name: read(task, folder / task.files["train"], "train") for task in tasks}
    sets = {name: (tokenizer.encode(e.texts, 512), e.labels) for name, e in examples.items()}
    rng = np.random.default_rng(0)
    if args.only:  # a fresh process for each side: the peak memory of one alone
        peak(args, found, sets, rng, device)
        return
    print(f"{found.name}; {why}; {torch.get_num_threads()} threads; {device}; torch {torch.__version__}")
    if args.methods:
        compare_methods(args, found, tokenizer, examples, sets, device)
        return
    rate = matrix_rate(device, args.precision)
    print(f"matrix-multiply rate here: {rate / 1e9:,.0f} GFLOP/s ({args.precision})")
    for size in args.batch_sizes:
        sides = {"ours": ours(found, args, device)}
        sides |= {
            f"transformers in {p}": theirs(found, args, device, p) for p in dict.fromkeys([args.precision, "fp32"])
        }
        steps = [
            {name: rng.integers(0, len(labels), size) for name, (_, labels) in sets.items()}
            for _ in range(args.warmup + args.repeats)
        ]
        runs = {side: partial(run, sets=sets) for side, run in sides.items()}
        times = in_turns(runs, steps, args.warmup, device)
        tokens = [sum(int(sets[name][0].lengths[rows].sum()) for name, rows in step.items()) for step in steps]
        whole, unread = dense_parameters(found)
        tokens = statistics.median(tokens[args.warmup :])
        skipped = (tokens - size * len(sets)) * unread if args.precision == "bf16" else 0  # as MultitaskBERT.encode
        print(f"batch {size:3} a task:")
        for side, seconds in times.items():
            work = 6 * (whole * tokens - (skipped if side == "ours" else 0))
            share = f"{work / seconds / rate:.2f} of the matrix rate"
            ratio = "" if side == "ours" else f"; ours is {seconds / times['ours']:.2f} times as fast"
            print(f"  {side:20} {1e3 * seconds:8.1f} ms, {share}{ratio}")
    if not (args.use_gpu or args.time_only):
        for side in ("ours", "transformers"):
            print(f"peak memory, {side} alone at batch {max(args.batch_sizes)}: {peak_of(side, args):,.0f} MiB")


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="minilm", help="checkpoint (default: %(default)s)")
    parser.add_argument("--data_dir", help="the course's files (default: as multitask_classifier.py)")
    parser.add_argument("--batch_sizes", type=int, nargs="+", default=[8, 32], help="examples a task (default: 8 32)")
    parser.add_argument("--repeats", type=int, default=15, help="counted steps of each side (default: %(default)s)")
    parser.add_argument("--warmup", type=int, default=3, help="steps not counted (default: %(default)s)")
    parser.add_argument("--threads", type=int, help="CPU threads (default: torch's choice)")
    parser.add_argument("--compile", action="store_true", help="our optimizer's compiled update")
    kinds = ("plain", "fused", "varlen")
    parser.add_argument("--attention", choices=kinds, default="plain", help="ours (default: plain)")
    parser.add_argument(
        "--attention_dropout",
        type=float,
        metavar="P",
        help="of both sides (default: the checkpoint's; varlen has none)",
    )
    kinds = ("sdpa", "flash_attention_2")
    parser.add_argument("--theirs", choices=kinds, default="sdpa", help="transformers' attention (default: sdpa)")
    parser.add_argument("--use_gpu", action="store_true", help="CUDA")
    parser.add_argument(
        "--precision", choices=("fp32", "bf16"), help="bf16: autocast on both sides (default: with --use_gpu)"
    )
    parser.add_argument("--time_only", action="store_true", help="no peak memory")
    parser.add_argument("--methods", action="store_true", help="what separate pairs, PCGrad, SMART and R-Drop cost")
    parser.add_argument("--only", choices=("ours", "transformers"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.precision = args.precision or ("bf16" if args.use_gpu else "fp32")
    return args


def in_turns(sides, steps, warmup, device):
    """{side: function of a step} -> {side: median seconds}; all sides make a step before any makes the next."""
    times = {side: [] for side in sides}
    for step in steps:
        for side, run in sides.items():
            synchronize(device)
            start = time.perf_counter()
            run(step)
            synchronize(device)
            times[side].append(time.perf_counter() - start)
    return {side: statistics.median(seconds[warmup:]) for side, seconds in times.items()}


def compare_methods(args, found, tokenizer, examples, sets, device):
    """Print a line for each of METHODS: a run's own step with it against the plain one."""
    from minbert.training.data import Split

    data = {
        "fused": {name: {"train": Split(examples[name], fused)} for name, (fused, _) in sets.items()},
        "concat": {
            name: {"train": Split(part, tokenizer.encode(part.texts, 512, fused=False))}
            for name, part in examples.items()
        },
    }
    for size in args.batch_sizes:
        trainers = {name: trainer_of(flags, size, args, found, data) for name, (flags, _, _) in METHODS.items()}
        plain = trainers["plain"]
        steps = plain.plan.steps_of(0)[: args.warmup + args.repeats]  # the same rows for every trainer
        times = in_turns({name: t.loop.step for name, t in trainers.items()}, steps, args.warmup, device)
        update = in_turns({"plain": lambda _, step=plain.loop.optimizer.step: step()}, steps, args.warmup, device)[
            "plain"
        ]
        whole = times.pop("plain")
        print(f"batch {size:3} a task: plain step {1e3 * whole:.1f} ms, {update / whole:.2f} of it the update")
        for name, seconds in times.items():
            _, per_token, why = METHODS[name]
            work = per_token * tokens_of(trainers[name], steps) / tokens_of(plain, steps)
            expected = (update + work * (whole - update)) / whole
            print(f"  {name:15}{seconds / whole:5.2f} times the time, expected {expected:.2f} (work {work:.2f}: {why})")


def trainer_of(flags, size, args, found, data):
    """The Trainer of a run with these flags. Of its files there are none: only steps are made."""
    from minbert.flags import checks as options
    from minbert.training.trainer import Trainer
    from multitask_classifier import build_model

    argv = ["--option", "finetune", "--batch_size", str(size), "--attention", args.attention, *flags]
    argv += ["--use_gpu"] * args.use_gpu + ["--compile"] * args.compile
    argv += ["--precision", "fp32" if "--smart" in flags else args.precision]
    run = options.check(options.parse(argv))
    trainer = Trainer(build_model(found, run), data[run.heads.pairs], run, folder=scratch())
    trainer.model.train()
    return trainer


def scratch():
    """A folder for the log of steps that belong to no run; it is gone at the end."""
    return Path(_scratch().name)


@functools.cache
def _scratch():
    return tempfile.TemporaryDirectory()


def tokens_of(trainer, steps):
    """Real tokens of the examples of these steps, each counted once."""
    return sum(
        int(trainer.data[name]["train"].sequences.lengths[trainer.plan.batches[name](0, index)].sum())
        for step in steps
        for name, index in step
    )


def ours(found, args, device):
    """A function that makes one whole step of ours."""
    import torch

    from bert import BertModel, BertSelfAttention
    from datasets import TASKS
    from minbert.layers.packing import to_device
    from minbert.layers.varlen import use_varlen
    from multitask_classifier import MultitaskBERT
    from optimizer import AdamW

    torch.manual_seed(0)
    varlen = args.attention == "varlen"
    bert = BertModel.from_pretrained(found.folder, attention="fused" if varlen else args.attention)
    bert = use_varlen(bert) if varlen else bert
    for module in bert.modules():
        if args.attention_dropout is not None and isinstance(module, BertSelfAttention):
            module.dropout.p = args.attention_dropout
    tasks = {name: TASKS[name] for name in ("sst", "quora", "sts")}
    model = MultitaskBERT(bert, tasks, precision=args.precision).to(device).train()
    optimizer = AdamW(model.parameters(), lr=1e-5, compiled=args.compile)

    def step(rows, sets):
        optimizer.zero_grad(set_to_none=True)
        logits = model({name: sets[name][0].take(r) for name, r in rows.items()})
        labels = {name: to_device(sets[name][1][r], device) for name, r in rows.items()}
        sum(model.heads[name].loss(logits[name].float(), labels[name]) for name in rows).backward()
        optimizer.step()

    return step


def theirs(found, args, device, precision):
    """The same step with transformers.BertModel: dynamic padding for each task, sdpa, torch's fused AdamW."""
    import numpy as np
    import torch
    import torch.nn.functional as F
    import transformers

    torch.manual_seed(0)
    dropout = {} if args.attention_dropout is None else {"attention_probs_dropout_prob": args.attention_dropout}
    bert = transformers.BertModel.from_pretrained(
        found.folder, attn_implementation=args.theirs, dtype=torch.float32, **dropout
    )
    bert = bert.to(device).train()
    outputs = {"sst": 5, "quora": 1, "sts": 1}
    heads = torch.nn.ModuleDict(
        {
            name: torch.nn.Sequential(torch.nn.Dropout(0.3), torch.nn.Linear(bert.config.hidden_size, n))
            for name, n in outputs.items()
        }
    ).to(device)
    parameters = [*bert.parameters(), *heads.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=1e-5, fused=True)
    autocast = torch.autocast(device, torch.bfloat16, enabled=precision == "bf16")
    losses = {
        "sst": F.cross_entropy,
        "quora": lambda z, y: F.binary_cross_entropy_with_logits(z.squeeze(-1), y.float()),
        "sts": lambda z, y: F.mse_loss(5 * z.squeeze(-1).sigmoid(), y),
    }

    def padded(sequences):
        width = int(sequences.lengths.max())
        mask = np.arange(width) < sequences.lengths[:, None]
        ids, types = np.zeros(mask.shape, np.int64), np.zeros(mask.shape, np.int64)
        ids[mask], types[mask] = sequences.ids, sequences.types
        return [torch.from_numpy(a).to(device, non_blocking=True) for a in (ids, mask.astype(np.int64), types)]

    def step(rows, sets):
        optimizer.zero_grad(set_to_none=True)
        total = 0
        for name, r in rows.items():
            ids, mask, types = padded(sets[name][0].take(r))
            with autocast:
                pooled = bert(input_ids=ids, attention_mask=mask, token_type_ids=types).pooler_output
                logits = heads[name](pooled)
            total = total + losses[name](logits.float(), torch.from_numpy(sets[name][1][r]).to(device))
        total.backward()
        optimizer.step()

    return step


def dense_parameters(found):
    """Parameters of the layers and the pooler: what each token is multiplied with (embeddings are looked up); and those
    of the last layer that only [CLS] is, where nothing else is read (layers/cls_alone.py): all but key and value."""
    from bert import BertModel

    model = BertModel.from_pretrained(found.folder)
    last = model.bert_layers[-1].named_parameters()
    unread = sum(p.numel() for name, p in last if ".key." not in name and ".value." not in name)
    return sum(p.numel() for name, p in model.named_parameters() if "embed" not in name), unread


def matrix_rate(device, precision, size=2048, repeats=20):
    """FLOP/s of the best of `repeats` square products: the machine's matrix-multiply rate as torch reaches it."""
    import torch

    size, dtype = 8192 if device == "cuda" else size, torch.bfloat16 if precision == "bf16" else torch.float32
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    best = float("inf")
    for _ in range(repeats):
        synchronize(device)
        start = time.perf_counter()
        a @ b
        synchronize(device)
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best


def synchronize(device):
    if device == "cuda":
        import torch

        torch.cuda.synchronize()


def peak(args, found, sets, rng, device):
    """Run ten steps of one side and print this process's peak memory in KiB."""
    run = ours(found, args, device) if args.only == "ours" else theirs(found, args, device, args.precision)
    for _ in range(10):
        run({name: rng.integers(0, len(labels), max(args.batch_sizes)) for name, (_, labels) in sets.items()}, sets)
    # VmHWM belongs to this program alone; getrusage's figure starts at the size of the process it was forked from.
    status = Path("/proc/self/status").read_text()
    print(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))


def peak_of(side, args):
    command = [sys.executable, __file__, "--only", side, "--model", args.model, "--attention", args.attention]
    command += ["--batch_sizes", str(max(args.batch_sizes)), "--precision", args.precision]
    command += ["--data_dir", args.data_dir] if args.data_dir else []
    command += ["--threads", str(args.threads)] if args.threads else []
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return int(output.split()[-1]) / 1024


if __name__ == "__main__":
    from minbert.script import carry_out

    sys.exit(carry_out(main))
