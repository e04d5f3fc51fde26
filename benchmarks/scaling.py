"""What training costs as work grows: a model of time and memory, checked against steps measured here.

    python benchmarks/scaling.py            # predicted, measured, ratio
    python benchmarks/scaling.py --tell     # what it says of larger runs, of docs/scaling.md

The model has four costs of a step, each in proportion to something that can be counted, and a machine is how much each
takes (`Machine`). They are fitted to the steps of FITTED, and checked on those of CHECKED, which differ in layers,
hidden size, batch and length; exit code 1 where a ratio is further than --most from 1. Every measurement is a process
of its own. Quiet machines only: on a busy one the ratios are those of chance (--threads 1 --processor_time helps).
"""

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np

os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # as multitask_classifier.py
ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]
BYTES = 16  # of a parameter in training: weight, gradient and AdamW's two means, 4 each


# ----------------------------------------------------------------------------------------------------------- the model


@dataclass(frozen=True)
class Size:
    """A BERT: its layers, hidden size H and heads A; the inner size is 4 H."""

    layers: int
    hidden: int
    heads: int
    vocab: int = 30522
    positions: int = 512

    @property
    def dense(self):
        """Parameters that each token is multiplied with: 12 H^2 + 13 H a layer."""
        return self.layers * (12 * self.hidden**2 + 13 * self.hidden)

    @property
    def parameters(self):
        """All: with the embeddings of words, positions and 2 types, their LayerNorm, and the pooler."""
        H = self.hidden
        return self.dense + (self.vocab + self.positions + 4) * H + H * H + H


@dataclass(frozen=True)
class Machine:
    """Seconds for a FLOP of matrix products, for a number of an activation that is read and written, for a parameter of
    an update, and for starting a layer's operations; bytes of the program itself, of an activation a token, layer and
    unit of H, and of attention a token, head and layer for each token of its sequence; bytes a second that processes
    exchange."""

    flop: float
    activation: float
    parameter: float
    layer: float
    program: float = 0.0
    kept: float = 0.0
    scores: float = 0.0
    link: float = float("inf")


BASE, MINI = Size(12, 768, 12), Size(6, 384, 12)


def flops(size, tokens, length):
    """FLOP of the matrix products of a step on so many tokens, in sequences of `length`: 6 for each dense parameter and
    token (2 forward, 4 backward), and for attention 12 H T a token and layer (scores and mixtures)."""
    return tokens * (6 * size.dense + 12 * size.layers * size.hidden * length)


def counts(size, tokens, length):
    """What a step's costs are in proportion to: FLOP, numbers of activations, parameters, layers."""
    return flops(size, tokens, length), tokens * size.layers * size.hidden, size.parameters, size.layers


def step_time(size, tokens, length, machine, processes=1):
    """Seconds of a step on `tokens` tokens of all processes, each on a machine of its own. Each takes its share of the
    tokens, makes the whole update, and exchanges the gradient in a ring: 2 (n - 1) / n times 4 bytes a parameter."""
    work, activations, parameters, layers = counts(size, tokens / processes, length)
    own = machine.flop * work + machine.activation * activations + machine.parameter * parameters
    exchange = 2 * (processes - 1) / processes * 4 * parameters / machine.link
    return own + machine.layer * layers + exchange


def time_of(tokens, size, batch, length, machine, processes=1):
    """Seconds of training on `tokens` tokens in all, in steps of `batch` tokens."""
    return tokens / batch * step_time(size, batch, length, machine, processes)


def memory_of(size, batch, length, machine, processes=1):
    """Bytes of a process in training: the program, parameters four times, and the activations of its tokens."""
    tokens = batch / processes
    activations = machine.kept * size.hidden + machine.scores * size.heads * length
    return machine.program + BYTES * size.parameters + tokens * size.layers * activations


# -------------------------------------------------------------------------------------------------- measured and fitted


@dataclass(frozen=True)
class Point:
    """A step that is measured: of a BERT of this size on `batch` sequences of `length` tokens."""

    layers: int
    hidden: int
    batch: int
    length: int
    vocab: int = 8000

    @property
    def size(self):
        return Size(self.layers, self.hidden, self.hidden // 32, self.vocab)

    @property
    def tokens(self):
        return self.batch * self.length


FITTED = (
    Point(2, 256, 8, 32),
    Point(2, 256, 48, 32),
    Point(6, 256, 32, 32),
    Point(2, 512, 16, 32),
    Point(6, 512, 32, 32),
    Point(4, 384, 16, 128),
    Point(4, 512, 8, 32, 30522),
)
CHECKED = (
    Point(4, 256, 24, 32),
    Point(3, 384, 48, 32),
    Point(6, 384, 24, 32, 30522),
    Point(4, 512, 24, 64),
    Point(8, 384, 16, 48),
)


def fitted(points, seconds, bytes):
    """The Machine whose steps come nearest to the measured ones, in relative terms; none of its costs is below 0."""
    columns = np.array([counts(p.size, p.tokens, p.length) for p in points], float)
    costs = _least_squares(columns, np.array(seconds))
    kept = [(1.0, p.tokens * p.layers * p.hidden, p.tokens * p.layers * p.size.heads * p.length) for p in points]
    beside = np.array(bytes) - [BYTES * p.size.parameters for p in points]
    return Machine(*costs, *_least_squares(np.array(kept, float), beside))


def _least_squares(columns, values):
    """x >= 0 with columns [n, k] x about values [n], each row divided by its value: the column whose x is furthest
    below 0 is left out until none is."""
    used, scale = list(range(columns.shape[1])), columns.max(axis=0)
    while True:
        rows = columns[:, used] / scale[used] / values[:, None]
        found = np.linalg.lstsq(rows, np.ones(len(values)), rcond=None)[0]
        if found.min() >= 0:
            break
        used.pop(int(found.argmin()))
    x = np.zeros(columns.shape[1])
    x[used] = found / scale[used]
    return x.tolist()


def measured(point, threads, repeats, processor_time):
    """(seconds of a step: the fastest, bytes of the process at its largest), from a process of its own."""
    words = [__file__, "--point", json.dumps(astuple(point)), "--repeats", str(repeats), "--threads", str(threads)]
    words += ["--processor_time"] * processor_time
    said = subprocess.run([sys.executable, *words], check=True, capture_output=True, text=True).stdout
    return json.loads(said.splitlines()[-1])


def measure_here(point, repeats, clock):
    """As `measured`, in this process. clock: tells the seconds."""
    import torch

    from base_bert import BertConfig
    from bert import BertModel
    from minbert.layers.packing import pack
    from minbert.script import keep_freed_memory
    from minbert.text.tokenization import Sequences
    from optimizer import AdamW

    keep_freed_memory()
    torch.manual_seed(0)
    sizes = {"num_hidden_layers": point.layers, "num_attention_heads": point.size.heads}
    sizes |= {"intermediate_size": 4 * point.hidden, "vocab_size": point.vocab}
    model = BertModel(BertConfig(hidden_size=point.hidden, **sizes)).train()
    optimizer = AdamW(model.parameters(), lr=1e-5)
    random, times = np.random.default_rng(0), []
    offsets = np.arange(point.batch + 1) * point.length
    for _ in range(repeats + 2):
        started = clock()
        ids = random.integers(5, point.vocab, point.tokens).astype(np.int32)
        tokens = pack(Sequences(ids, np.zeros(point.tokens, np.uint8), offsets))
        optimizer.zero_grad(set_to_none=True)
        model.pool(model.encode_packed(tokens)[tokens.packing.first]).square().mean().backward()
        optimizer.step()
        times.append(clock() - started)
    status = Path("/proc/self/status").read_text()
    peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    return min(times[2:]), 1024 * peak


def check(args):
    """Measure, fit, and print what was predicted of the others; returns the exit code."""
    found = {point: measured(point, args.threads, args.repeats, args.processor_time) for point in (*FITTED, *CHECKED)}
    machine = fitted(FITTED, *zip(*(found[point] for point in FITTED), strict=True))
    print(f"{args.threads} threads; products {1e-9 / machine.flop if machine.flop else 0:,.0f} GFLOP/s", end="")
    print(f", {1e9 * machine.parameter:.2f} ns a parameter of an update")
    print("layers hidden batch length |  predicted   measured  ratio |  predicted   measured  ratio")
    worst = 0.0
    for point in (*FITTED, *CHECKED):
        ours = (
            step_time(point.size, point.tokens, point.length, machine),
            memory_of(point.size, point.tokens, point.length, machine),
        )
        ratios = [mine / real for mine, real in zip(ours, found[point], strict=True)]
        if point in CHECKED:
            worst = max(worst, *(abs(ratio - 1) for ratio in ratios))
        (seconds, bytes), (real_seconds, real_bytes) = ours, found[point]
        print(
            f"{point.layers:6} {point.hidden:6} {point.batch:5} {point.length:6} |"
            f" {1e3 * seconds:7.1f} ms {1e3 * real_seconds:7.1f} ms {ratios[0]:6.2f} |"
            f" {bytes / 1e6:7.0f} MB {real_bytes / 1e6:7.0f} MB {ratios[1]:6.2f}"
            f"{'' if point in CHECKED else '   fitted'}"
        )
    print(f"the furthest from 1 of those not fitted: {worst:.2f}")
    return int(worst > args.most)


# ----------------------------------------------------------------------------------------------- what it says of others

# Assumed, not measured: bf16 products at 300 TFLOP/s of which a step reaches 0.4, memory at 2 TB/s (8 numbers of 2
# bytes read or written for each activation, 28 bytes for each parameter of an update), 0.3 ms to start the operations
# of a layer, 300 GB/s between GPUs.
GPU = Machine(
    flop=1 / (0.4 * 300e12),
    activation=8 * 2 / 2e12,
    parameter=28 / 2e12,
    layer=300e-6,
    program=1e9,
    kept=40,
    scores=2,
    link=300e9,
)
WEB = 1e12  # tokens
BOOKS = 3.3e9  # words of BookCorpus and Wikipedia, as Devlin et al. 2019 count them; 1.3 tokens each


def tell():
    """What the model says of larger runs."""
    rows = (
        ("bert-base, GLUE's QQP, 3 epochs of 364,000 pairs", 3 * 364_000 * 30, 32 * 30, 30, (1, 8)),
        ("bert-base, 2 GB of text, an epoch", 450e6, 256 * 24, 24, (1, 8)),
        ("bert-base, BookCorpus and Wikipedia, 40 epochs", 40 * 1.3 * BOOKS, 256 * 512, 512, (1, 8)),
        ("bert-base, a web of 10^12 tokens, an epoch", WEB, 4096 * 512, 512, (1, 8, 64)),
    )
    print("run | GPUs | tokens a step | a step | in all | memory a GPU")
    for name, tokens, batch, length, processes in rows:
        for count in processes:
            seconds = time_of(tokens, BASE, batch, length, GPU, count)
            # A step that is too large for a GPU is made of several (--accumulate): what it holds is one of these.
            held = min(batch / count, 32 * 512)
            bytes = memory_of(BASE, held, length, GPU)
            step = step_time(BASE, batch, length, GPU, count)
            print(f"{name} | {count} | {batch:,} | {1e3 * step:,.0f} ms | {_told(seconds)} | {bytes / 1e9:.1f} GB")


def _told(seconds):
    for unit, length in (("years", 365 * 86400), ("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= length:
            return f"{seconds / length:,.1f} {unit}"
    return f"{seconds:.0f} s"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7, help="counted steps of each size (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="(default: the cores)")
    parser.add_argument("--most", type=float, default=0.15, help="a ratio may be so far from 1 (default: %(default)s)")
    parser.add_argument(
        "--processor_time",
        action="store_true",
        help="with --threads 1, on a busy machine: of the processor, not the wall",
    )
    parser.add_argument("--tell", action="store_true", help="what it says of larger runs; measures nothing")
    parser.add_argument("--point", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.tell:
        return tell()
    if args.point:
        import torch

        torch.set_num_threads(args.threads)
        clock = time.process_time if args.processor_time else time.perf_counter
        print(json.dumps(measure_here(Point(*json.loads(args.point)), args.repeats, clock)))
        return 0
    return check(args)


if __name__ == "__main__":
    from minbert.script import carry_out

    sys.exit(carry_out(main))
