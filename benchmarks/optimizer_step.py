"""Time of one optimizer step on the 101 tensors (22.6M floats) of all-MiniLM-L6-v2 without its pooler: ours, plain and
compiled, beside torch's own AdamW, fused and foreach. Weights and gradients are random; nothing is downloaded.

All optimizers update the same parameters in turn, in one process, and each median is printed with its ratio to
torch's fused kernel's. The step is bound by memory, so other programs on the machine slow all of them."""

import argparse
import os
import statistics
import sys
import time
from pathlib import Path

os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # as multitask_classifier.py does: waiting threads spin only briefly
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from minbert.script import carry_out

H, LAYERS, INTERMEDIATE, VOCABULARY, POSITIONS, TYPES = 384, 6, 1536, 30522, 512, 2


def shapes():
    embeddings = [(VOCABULARY, H), (POSITIONS, H), (TYPES, H), (H,), (H,)]
    attention = [(H, H), (H,)] * 4 + [(H,), (H,)]  # query, key, value, output, LayerNorm
    feed_forward = [(INTERMEDIATE, H), (INTERMEDIATE,), (H, INTERMEDIATE), (H,), (H,), (H,)]
    return embeddings + (attention + feed_forward) * LAYERS


def seconds(step, on_gpu):
    import torch

    if on_gpu:
        torch.cuda.synchronize()
    start = time.perf_counter()
    step()
    if on_gpu:
        torch.cuda.synchronize()
    return time.perf_counter() - start


def main(options):
    import torch

    from optimizer import AdamW

    if options.use_gpu and not torch.cuda.is_available():
        sys.exit("--use_gpu: no CUDA device here")
    if options.threads:
        torch.set_num_threads(options.threads)
    device = "cuda" if options.use_gpu else "cpu"
    torch.manual_seed(0)
    parameters = [(torch.randn(shape, device=device) * 0.02).requires_grad_() for shape in shapes()]
    for parameter in parameters:
        parameter.grad = torch.randn_like(parameter) * 0.01
    values = {"lr": 1e-5, "weight_decay": options.weight_decay}
    optimizers = {
        "torch fused": torch.optim.AdamW(parameters, fused=True, **values),
        "torch foreach": torch.optim.AdamW(parameters, foreach=True, **values),
        "ours, plain": AdamW(parameters, **values),
    }
    if options.compile:
        start = time.perf_counter()
        optimizers["ours, compiled"] = AdamW(parameters, compiled=True, **values)
        print(f"compiling took {time.perf_counter() - start:.1f} s")
    size = sum(parameter.numel() for parameter in parameters) / 1e6
    where = torch.cuda.get_device_name() if options.use_gpu else f"{torch.get_num_threads()} CPU threads"
    print(f"{len(parameters)} tensors, {size:.1f}M floats, {where}, median of {options.repeats}\n")

    times = {name: [] for name in optimizers}
    for repeat in range(-3, options.repeats):  # three to warm up
        for name, optimizer in optimizers.items():
            taken = seconds(optimizer.step, options.use_gpu)
            if repeat >= 0:
                times[name].append(taken)
    fused = statistics.median(times["torch fused"])
    print(f"{'':16}{'ms':>8}{'ratio to fused':>18}")
    for name, taken in times.items():
        median = statistics.median(taken)
        print(f"{name:16}{1e3 * median:8.2f}{median / fused:18.2f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--compile", action="store_true", help="time the compiled update too (needs a C++ compiler)")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0, the default, leaves it to torch")
    parser.add_argument("--repeats", type=int, default=30, help="timed steps of each (default %(default)s)")
    parser.add_argument("--weight_decay", type=float, default=0.01, help="0 saves a pass (default %(default)s)")
    parser.add_argument("--use_gpu", action="store_true", help="time on the CUDA device")
    sys.exit(carry_out(main, parser.parse_args()))
