"""How fast are predictions? Ours against an unsorted loop over transformers, on a Quora dev set.

    python benchmarks/prediction.py

Ours is `evaluation.predict`: sequences of similar length together, real tokens only. Theirs takes batches of 64 in the
file's order, padded to each batch's longest, through sdpa attention. Same weights, same process, in turns; both give
the same pooled vectors. Reported: pairs a second (medians) and their ratio.
"""

import argparse
import os
import statistics
import sys
import time
from pathlib import Path

os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # as multitask_classifier.py, for both sides
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="minilm", help="checkpoint (default: %(default)s)")
    parser.add_argument("--data_dir", help="the course's files (default: as multitask_classifier.py)")
    parser.add_argument("--rows", type=int, default=10_000, help="pairs at the most (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="counted passes of each side (default: %(default)s)")
    parser.add_argument("--threads", type=int, help="CPU threads (default: torch's choice)")
    parser.add_argument("--use_gpu", action="store_true", help="CUDA, bf16 autocast on both sides")
    args = parser.parse_args()

    import numpy as np
    import torch
    import transformers

    import evaluation
    from bert import BertModel
    from datasets import TASKS, data_folder, read
    from minbert.hub import resolve
    from minbert.script import keep_freed_memory
    from minbert.text.tokenization import Tokenizer
    from multitask_classifier import MultitaskBERT

    keep_freed_memory()
    if args.threads:
        torch.set_num_threads(args.threads)
    device = "cuda" if args.use_gpu else "cpu"
    autocast = torch.autocast("cuda", torch.bfloat16, enabled=args.use_gpu)
    folder, why = data_folder(args.data_dir)
    found = resolve(args.model)
    texts = read(TASKS["quora"], folder / TASKS["quora"].files["dev"], "dev").texts[: args.rows]
    sequences = Tokenizer.from_folder(found.folder).encode(texts, 512)
    torch.manual_seed(0)
    ours = MultitaskBERT(BertModel.from_pretrained(found.folder), {"quora": TASKS["quora"]}).to(device).eval()
    theirs = transformers.BertModel.from_pretrained(found.folder, attn_implementation="sdpa", dtype=torch.float32)
    theirs = theirs.to(device).eval()
    head = ours.heads["quora"]

    def run_ours():
        with autocast:
            return evaluation.predict(ours, "quora", sequences).values

    @torch.inference_mode()
    def run_theirs():
        predictions = []
        for start in range(0, len(sequences), 64):
            batch = sequences.take(np.arange(start, min(start + 64, len(sequences))))
            mask = np.arange(batch.lengths.max()) < batch.lengths[:, None]
            ids, types = np.zeros(mask.shape, np.int64), np.zeros(mask.shape, np.int64)
            ids[mask], types[mask] = batch.ids, batch.types
            ids, mask, types = (torch.from_numpy(a).to(device) for a in (ids, mask.astype(np.int64), types))
            with autocast:
                pooled = theirs(input_ids=ids, attention_mask=mask, token_type_ids=types).pooler_output
                predictions.append(head.predict(head(pooled[:, None])))
        return torch.cat(predictions).cpu().numpy()

    print(f"{found.name}; {why}; {len(sequences):,} pairs; {torch.get_num_threads()} threads; {device}")
    times = {"ours": [], "transformers": []}
    for _ in range(args.repeats):
        for side, run in (("ours", run_ours), ("transformers", run_theirs)):
            start = time.perf_counter()
            predictions = run()
            times[side].append(time.perf_counter() - start)
            if side == "ours":
                expected = predictions
    print(f"equal predictions: {np.mean(predictions == expected):.4f}")
    a, b = (statistics.median(times[side]) for side in ("ours", "transformers"))
    print(f"ours {len(sequences) / a:,.0f} pairs/s, transformers {len(sequences) / b:,.0f}: {b / a:.2f} times as fast")


if __name__ == "__main__":
    from minbert.script import carry_out

    sys.exit(carry_out(main))
