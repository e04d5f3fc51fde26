"""Makes tests/golden/bert.pt: weights, inputs and outputs of attention, layer, embedding and model, by `transformers`.

Run from the project's root: python tests/golden/make_golden.py. The snapshot lets the tests check the hand-written
code where transformers is not installed, and pins today's numbers.
"""

import sys
import tempfile
from pathlib import Path

import torch

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE.parents[1])]

from reference import random_batch, random_pair  # noqa: E402

from minbert.layers.packing import Packing  # noqa: E402


def main():
    with tempfile.TemporaryDirectory() as folder:
        ours, theirs = random_pair(folder, seed=224)
    ids, mask, types = random_batch(seed=1, lengths=(7, 3, 12, 5))
    lengths = mask.sum(1)
    x = torch.randn(int(lengths.sum()), ours.config.hidden_size)  # one row a token, in packed order
    layer = theirs.encoder.layer[0]
    packing = Packing(lengths.tolist())
    attention, whole = torch.empty_like(x), torch.empty_like(x)
    with torch.no_grad():
        for sequence in range(len(lengths)):  # theirs, one sequence at a time: no padding, no packing
            rows = torch.from_numpy(packing.sequence == sequence)
            attention[rows] = layer.attention.self(x[rows][None])[0][0]
            out = layer(x[rows][None])
            whole[rows] = (out[0] if isinstance(out, tuple) else out).view(-1, x.shape[1])
        out = theirs(input_ids=ids, attention_mask=mask, token_type_ids=types)
        embedding = theirs.embeddings(input_ids=ids[:1], token_type_ids=types[:1])[0]
    golden = {
        "weights": ours.state_dict(),
        "ids": ids,
        "mask": mask,
        "types": types,
        "x": x,
        "attention": attention,
        "layer": whole,
        "embedding": embedding,
        "last_hidden_state": out.last_hidden_state * mask.unsqueeze(-1),
        "pooler_output": out.pooler_output,
    }
    torch.save(golden, HERE / "bert.pt")


if __name__ == "__main__":
    main()
