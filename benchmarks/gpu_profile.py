"""Where a device's time goes in a training step: how much of it is busy, and what each idle gap waits for.

    python benchmarks/gpu_profile.py --out FOLDER
    python benchmarks/gpu_profile.py --rate           # only the device's own matrix-multiply rate, in bf16 and fp32

The steps are a run's own (trainer.Trainer), SST, Quora and STS at once, fused pairs, after some that are not counted.
Printed: the share of the time in which the device was busy; its idle gaps, by the kernel that came after and by what
the host did meanwhile; the longest kernels; what share of the rate the step's matrix products come to. FOLDER gets
profile.json, and trace.json.gz for ui.perfetto.dev. On a CPU, where no device waits, gaps are the time between torch's
own operations.
"""

import argparse
import sys
from collections import Counter
from pathlib import Path

sys.path.insert(1, str(Path(__file__).resolve().parents[1]))  # after this folder, of which train_step.py is
WARMUP = 5
GAP = 5.0  # microseconds: shorter ones are how kernels follow each other


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="for profile.json and trace.json.gz")
    parser.add_argument("--model", default="minilm", help="checkpoint (default: %(default)s)")
    parser.add_argument("--data_dir", help="the course's files (default: as multitask_classifier.py)")
    parser.add_argument("--batch_size", type=int, default=32, help="examples a task (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=10, help="(default: %(default)s)")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="(default: %(default)s)")
    parser.add_argument("--rate", action="store_true", help="only the device's matrix-multiply rate")
    args = parser.parse_args()
    from train_step import matrix_rate

    precisions = ("bf16", "fp32") if args.rate else ("bf16" if args.device == "cuda" else "fp32",)
    rates = {precision: matrix_rate(args.device, precision) for precision in precisions}
    for precision, rate in rates.items():
        print(f"matrix-multiply rate: {rate / 1e12:,.2f} TFLOP/s in {precision}")
    if not args.rate:
        profile(args, *rates.values())


def profile(args, rate):
    """Print and write all that is said above."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as watched

    step_of, work = made_steps(args)
    for number in range(WARMUP):
        step_of(number)
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (args.device == "cuda")
    with watched(activities=activities) as seen:
        for number in range(WARMUP, WARMUP + args.steps):
            step_of(number)
        synchronize(args.device)
    device, host = split(seen.events(), args.device)
    found = summarised(device, host, args.steps)
    found["share_of_rate"] = work / (found["seconds"] * rate)
    tell(found)
    if args.out:
        from minbert.files import write_json

        write_json(args.out / "profile.json", found)
        seen.export_chrome_trace(str(args.out / "trace.json.gz"))


def made_steps(args):
    """(a function that makes the step of this number, the matrix products' FLOP of the counted steps)"""
    from train_step import dense_parameters, scratch, tokens_of

    from minbert.flags import checks as options
    from minbert.hub import resolve
    from minbert.training.data import read_data
    from minbert.training.run_folder import fit
    from minbert.training.trainer import Trainer
    from multitask_classifier import build_model

    found = resolve(args.model)
    argv = ["--option", "finetune", "--attention", "fused", "--batch_size", str(args.batch_size)]
    argv += ["--data_dir", args.data_dir] if args.data_dir else []
    argv += ["--use_gpu"] if args.device == "cuda" else []
    run = options.check(options.parse(argv))
    trainer = Trainer(build_model(found, run), read_data(run, fit(run, found)[0])[0], run, folder=scratch())
    trainer.model.train()
    steps = trainer.plan.steps_of(0)
    counted = [steps[number % len(steps)] for number in range(WARMUP, WARMUP + args.steps)]
    weights, _ = dense_parameters(found)
    return lambda number: trainer.loop.step(steps[number % len(steps)]), 6 * weights * tokens_of(trainer, counted)


def synchronize(device):
    import train_step

    train_step.synchronize(device)


def split(events, device):
    """(what the device did, what the host did) as [(start, end, name)] in microseconds. Without a device its place
    takes what torch does: the outermost of its operations."""
    from torch.autograd import DeviceType

    spans = {kind: [] for kind in DeviceType.__members__.values()}
    for event in events:
        spans[event.device_type].append((event.time_range.start, event.time_range.end, event.name))
    host = sorted(spans[DeviceType.CPU])
    return (sorted(spans[DeviceType.CUDA]) if device == "cuda" else outermost(host)), host


def outermost(spans):
    """Those that lie in no other."""
    kept, until = [], float("-inf")
    for start, end, name in sorted(spans, key=lambda span: (span[0], -span[1])):
        if end > until:
            kept.append((start, end, name))
            until = end
    return kept


def summarised(device, host, steps):
    """What profile.json says of [(start, end, name)] of the device and of the host."""
    idle, busy, kernels = gaps(device), busy_time(device), Counter()
    for start, end, name in device:
        kernels[name] += end - start
    after, meanwhile = Counter(), Counter()
    for start, end, name in idle:
        after[name] += end - start
        meanwhile[doing(host, (start + end) / 2)] += end - start
    whole = device[-1][1] - device[0][0]
    return {
        "steps": steps,
        "seconds": whole / 1e6,
        "busy_share": busy / whole,
        "idle_share_in_gaps": sum(after.values()) / whole,
        "gaps": len(idle),
        "idle_before": _shares(after, whole),
        "idle_while_host": _shares(meanwhile, whole),
        "kernels": _shares(kernels, whole),
    }


def busy_time(spans):
    """How long at least one of the spans goes on."""
    total, until = 0.0, float("-inf")
    for start, end, _ in sorted(spans):
        total += max(0.0, end - max(start, until))
        until = max(until, end)
    return total


def gaps(spans, least=GAP):
    """[(start, end, name of what comes after)] of the times in which nothing goes on, at least so long."""
    found, until = [], None
    for start, end, name in sorted(spans):
        if until is not None and start - until >= least:
            found.append((until, start, name))
        until = end if until is None else max(until, end)
    return found


def doing(host, moment):
    """The innermost of the host's spans at a moment."""
    inside = [(end - start, name) for start, end, name in host if start <= moment < end]
    return min(inside)[1] if inside else "Python, outside of torch"


def _shares(counter, whole, most=12):
    return {name: round(time / whole, 4) for name, time in counter.most_common(most)}


def tell(found):
    each = 1e3 * found["seconds"] / found["steps"]
    print(f"a step: {each:.2f} ms; the device is busy {found['busy_share']:.3f} of the time")
    print(f"share of the matrix rate: {found['share_of_rate']:.3f}")
    print(f"idle gaps of {GAP:g} us and more: {found['gaps']}, together {found['idle_share_in_gaps']:.3f} of the time")
    for title, name in (
        ("idle before", "idle_before"),
        ("idle while the host does", "idle_while_host"),
        ("longest kernels", "kernels"),
    ):
        print(f"{title}:")
        for what, share in found[name].items():
            print(f"  {share:7.4f}  {what[:100]}")


if __name__ == "__main__":
    from minbert.script import carry_out

    sys.exit(carry_out(main))
