"""How fast is a masked-LM step? Ours against the same step with transformers.BertForMaskedLM and torch's fused AdamW.

    python benchmarks/masked_lm.py

Both take the same batches of training sentences with the same masks (`masking.mask_tokens`), the same weights,
head included, dropout on, clipping, thread count and process, in turns. Ours is the step of a run (pretraining.py):
real tokens only, logits only where a token was chosen. Theirs pads each batch to its longest sentence, takes sdpa
attention and labels of -100 elsewhere. Reported are medians of whole steps (masking, forward, backward, update) and
their ratio, after the gap between the losses of the first batch without dropout: both must compute the same.
Every figure is a ratio within one run; absolute times belong to the machine.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # as pretraining.py, for both sides
sys.path.insert(1, str(Path(__file__).resolve().parents[1]))  # after this folder, of which train_step.py is


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="minilm", help="checkpoint (default: %(default)s)")
    parser.add_argument("--data_dir", help="the course's files (default: as pretraining.py)")
    parser.add_argument("--batch_sizes", type=int, nargs="+", default=[32], help="sentences a batch (default: 32)")
    parser.add_argument("--repeats", type=int, default=15, help="counted steps of each side (default: %(default)s)")
    parser.add_argument("--warmup", type=int, default=3, help="steps not counted (default: %(default)s)")
    parser.add_argument("--threads", type=int, help="CPU threads (default: torch's choice)")
    parser.add_argument("--compile", action="store_true", help="our optimizer's compiled update")
    parser.add_argument("--use_gpu", action="store_true", help="CUDA, bf16 autocast on both sides")
    args = parser.parse_args()

    import torch
    from train_step import in_turns

    from minbert.script import keep_freed_memory

    keep_freed_memory()
    if args.threads:
        torch.set_num_threads(args.threads)
    device = "cuda" if args.use_gpu else "cpu"
    print(f"{args.model}; {torch.get_num_threads()} threads; {device}; torch {torch.__version__}")
    for size in args.batch_sizes:
        run = ours(args, size)
        model, step = theirs(run, device)
        print(f"batch {size:3}: the losses differ by {gap(run, model):.1e} on the first batch without dropout")
        model.train(), run.model.train()
        steps = run.loop.plan.steps_of(0)[: args.warmup + args.repeats]
        a, b = in_turns({"ours": run.loop.step, "transformers": step}, steps, args.warmup, device).values()
        print(f"batch {size:3}: ours {1e3 * a:.1f} ms, transformers {1e3 * b:.1f} ms, {b / a:.2f} times as fast")


def ours(args, size):
    """The Pretraining of a run with these flags. Of its files there are none: only steps are made."""
    import torch
    from train_step import scratch

    import pretraining
    from bert import BertForMaskedLM
    from minbert.hub import resolve
    from minbert.masked_lm.text import encode, read_text
    from minbert.masked_lm.trainer import MaskedLMTrainer
    from minbert.text.tokenization import Tokenizer

    argv = ["--batch_size", str(size), *(["--data_dir", args.data_dir] if args.data_dir else [])]
    argv += [*["--use_gpu"] * args.use_gpu, *["--compile"] * args.compile]
    options, text, _ = pretraining.check(pretraining.parse(argv))
    folder = resolve(args.model).folder
    tokenizer = Tokenizer.from_folder(folder)
    sequences = encode(read_text(*text, options.tasks, options.data)[0], tokenizer, options.model.max_length)
    torch.manual_seed(0)
    model = BertForMaskedLM.from_pretrained(folder).to("cuda" if args.use_gpu else "cpu")
    return MaskedLMTrainer(model, tokenizer, sequences, options, folder=scratch())


def theirs(run, device):
    """(transformers' model with the weights of `run`, a function that makes one whole step of it)."""
    import torch
    import transformers
    from torch.nn.utils import clip_grad_norm_

    with tempfile.TemporaryDirectory() as folder:
        run.model.save_pretrained(folder)
        model = transformers.BertForMaskedLM.from_pretrained(folder, attn_implementation="sdpa", dtype=torch.float32)
    model.to(device)
    settled = run.loop.settings
    optimizer = torch.optim.AdamW(model.parameters(), lr=settled.lr, weight_decay=settled.weight_decay, fused=True)
    autocast = torch.autocast("cuda", torch.bfloat16, enabled=device == "cuda")

    def step(batches):
        inputs = padded(run, batches, device)
        optimizer.zero_grad(set_to_none=True)
        with autocast:
            loss = model(**inputs).loss
        loss.backward()
        clip_grad_norm_(model.parameters(), settled.clip)
        optimizer.step()

    return model, step


def padded(run, batches, device):
    """The inputs of transformers for a step of `run`: the same sentences with the same tokens hidden."""
    import numpy as np
    import torch

    from minbert.masked_lm.masking import mask_tokens

    ((name, index),) = batches
    rows = run.loop.plan.batches[name](0, index)
    batch = run.text.take(rows[np.argsort(run.text.lengths[rows], kind="stable")])
    hidden, chosen = mask_tokens(batch.ids, run.tokenizer, np.random.default_rng([run.seed, index]))
    is_token = np.arange(batch.lengths.max()) < batch.lengths[:, None]
    ids, labels = np.zeros(is_token.shape, np.int64), np.full(is_token.shape, -100)
    ids[is_token] = hidden
    labels.flat[np.flatnonzero(is_token)[chosen]] = batch.ids[chosen]
    arrays = {"input_ids": ids, "attention_mask": is_token.astype(np.int64), "labels": labels}
    return {name: torch.from_numpy(array).to(device, non_blocking=True) for name, array in arrays.items()}


def gap(run, model):
    """How far the losses of the first step's batch lie apart, without dropout."""
    import torch

    run.model.eval(), model.eval()
    first = run.loop.plan.steps_of(0)[0]
    ((name, index),) = first
    with torch.no_grad():
        loss = run.loss_of(run.loop.plan.batches[name](0, index)).total
        return abs(loss.item() - model(**padded(run, first, run.device)).loss.item())


if __name__ == "__main__":
    from minbert.script import carry_out

    sys.exit(carry_out(main))
