"""The courses' sanity_check.py without a network: a folder in which `bert-base-uncased` is a smaller BERT.

    python course/offline.py FOLDER
    cd FOLDER && PYTHONPATH=.. python ../sanity_check.py

sanity_check.py, which a student has from the course and copies into the root, compares a BertModel with
sanity_check.data: what a correct one makes of two sentences. The courses' own snapshot is of bert-base-uncased, 440 MB
from the hub. Here a folder of that name holds another checkpoint, and beside it lies that one's snapshot; minilm's is
sanity_check.data of course/. It was made, as those of other models (--model) are, by `transformers`.
"""

import argparse
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT))

from minbert import hub  # noqa: E402
from minbert.files import UserError, written_whole  # noqa: E402
from minbert.script import carry_out  # noqa: E402
from minbert.text.tokenization import copy_tokenizer  # noqa: E402

MINILM = Path(__file__).parent / "sanity_check.data"
IDS = [[101, 7592, 2088, 102, 0, 0, 0, 0], [101, 7592, 15756, 2897, 2005, 17953, 2361, 102]]  # as in sanity_check.py


def snapshot(folder):
    """{"last_hidden_state" [2, 8, H], "pooler_output" [2, H]} of the checkpoint in a folder, by `transformers`."""
    import torch

    try:
        from transformers import BertModel
    except ImportError:
        raise UserError("a snapshot of another model is made by transformers: pip install transformers") from None
    ids = torch.tensor(IDS)
    with torch.no_grad():
        made = BertModel.from_pretrained(folder, dtype=torch.float32).eval()(ids, attention_mask=(ids != 0).long())
    return {"last_hidden_state": made.last_hidden_state, "pooler_output": made.pooler_output}


def lay_out(folder, model):
    """The checkpoint `model` as FOLDER/bert-base-uncased, and its snapshot. Raises UserError."""
    found, folder = hub.find_checkpoint(model), Path(folder)
    as_if = folder / hub.DEFAULT
    if as_if.exists():
        raise UserError(f"{as_if} exists: choose another folder")
    as_if.mkdir(parents=True)
    for path in (found.folder / "config.json", found.weights):
        shutil.copyfile(path, as_if / path.name)
    copy_tokenizer(found.folder, as_if)
    with written_whole(folder / MINILM.name) as temporary:
        if model == "minilm":
            shutil.copyfile(MINILM, temporary)
        else:
            import torch

            torch.save(snapshot(as_if), temporary)
    print(f"{folder}: {hub.DEFAULT} is {found.name} there; run sanity_check.py from inside")


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", metavar="FOLDER", help="a folder to be made")
    parser.add_argument("--model", default="minilm", metavar="NAME", help="the BERT to use (default: %(default)s)")
    given = parser.parse_args()
    return lay_out(given.folder, given.model)


if __name__ == "__main__":
    raise SystemExit(carry_out(main))
