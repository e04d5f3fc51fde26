"""Several processes train one model as one process does: same weights, same scores, one state."""

import numpy as np
import pytest
import several
import tiny
import torch
from safetensors.torch import load_file
from unlabelled_text import flags_for

from minbert.processes import ALONE, Part, Processes, counted_together, here

UNEVEN = "--batch_size sst=3,quora=5,sts=1"  # of two processes one has more of a batch, or all of it
CLASSES = "--sts_head classification --model {wild} --batch_size 5"  # a model of which TSA and UDA keep some
UDA = f"{CLASSES} --uda_threshold 0.3 {{uda}}"
ROWS = [
    *(f"--schedule {name} {UNEVEN}" for name in ("simultaneous", "sequential", "round_robin", "balanced_round_robin")),
    *(f"--schedule {name} {UNEVEN}" for name in ("in_turn", "mtdnn_upsample", "mtdnn", "annealed")),
    "--pcgrad --batch_size 5",
    f"--pcgrad {UNEVEN}",
    f"--smart 1 {UNEVEN}",
    f"--r_drop 1 {UNEVEN}",
    f"--clip 0.1 --accumulate 3 {UNEVEN}",
    "--layer_decay 0.9 --lr_schedule linear --warmup 0.3 --weight_decay 0.1 --no_decay_bias_norm",
    f"{CLASSES} --tsa exp",
    UDA,
    f"{UDA} --uda_mean kept --unlabeled_batch_size 3",
    f"{UDA} --mean_teacher kl --tsa exp --r_drop 1",
    "--mean_teacher mse --labels_per_class 1 --batch_size 3 --unlabeled_batch_size 1",
    "--mean_teacher bregman",
    f"--option pretrain {UNEVEN}",
    "--pairs concat --sts_head cosine --sst_head coral",
    "--pairs dot_attention --pooling mean --head_bias prior",
]
COMMON = "--option finetune --epochs 1 --lr 1e-4 --hidden_dropout_prob 0"


# ------------------------------------------------------------------------------------------------------ one of several


def process(rank, count):
    """One that has not been joined to others."""
    made = object.__new__(Processes)
    made.rank, made.count = rank, count
    return made


@pytest.mark.parametrize(("rows", "count"), [(8, 2), (7, 2), (7, 3), (2, 3), (1, 2)])
def test_each_row_counts_in_one_process(rows, count):
    parts = [process(rank, count).share(np.arange(rows) + 10) for rank in range(count)]
    counted = np.concatenate([part.rows[: part.counted] for part in parts])
    assert sorted(counted) == [*range(10, 10 + rows)]
    assert max(part.counted for part in parts) - min(part.counted for part in parts) <= 1
    assert all(len(part.rows) == max(part.counted, 1) and part.whole == rows for part in parts)


def test_parts_of_a_mean_sum_up_to_it():
    losses = torch.tensor([1.0, 2.0, 6.0, 7.0])
    for count in (1, 2, 3, 5):
        parts = [process(rank, count).share(np.arange(4)) for rank in range(count)]
        assert sum(part.weigh(losses[part.rows].mean()) for part in parts).item() == pytest.approx(4)
        twice = [part.twice() for part in parts]
        assert sum(part.weigh(losses[part.rows].mean()) for part in twice).item() == pytest.approx(4)


def test_a_borrowed_row_stays_out_of_a_common_mean():
    none, two = Part(np.array([4]), 0, 1), Part(np.array([1, 3]), 2, 4)
    keys, whole = counted_together({"train": none, "unlabelled": two})
    assert (keys, whole.counted, whole.whole) == (["unlabelled"], 2, 5)
    keys, whole = counted_together({"train": none, "unlabelled": none})
    assert (keys, whole.weigh(7.0)) == (["train"], 0)


def test_one_process_alone_joins_nothing(trainer_of):
    trainer = trainer_of("--option", "finetune", "--max_steps", 1)
    assert trainer.loop.processes is here() is ALONE
    mean = torch.tensor(3.0)
    assert ALONE.weigh_kept(mean, None, None) is mean
    assert ALONE.share(np.arange(3)).weigh(mean) is mean
    trainer.fit()
    assert not torch.distributed.is_initialized()


# -------------------------------------------------------------------------------------------- two, and one for both


@pytest.fixture(scope="module")
def both(tmp_path_factory, still_model, tiny_data):
    """{row: (folder of one process's training, that of two)}"""
    folder = tmp_path_factory.mktemp("both")
    wild = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "initializer_range": 0.5}
    places = {"wild": tiny.make_checkpoint(folder / "wild", **wild), **flags_for(folder, tiny_data)}
    rows = [[*COMMON.split(), *row.format(**places).split()] for row in ROWS]
    several.train_together(2, folder / "two", still_model, tiny_data, rows)
    several.train(folder / "one", still_model, tiny_data, rows)
    return {row: (folder / "one" / str(i), folder / "two" / str(i)) for i, row in enumerate(ROWS)}


@pytest.mark.parametrize("row", ROWS)
def test_two_processes_train_as_one_does(both, row):
    one, two = ({n: w.double() for n, w in load_file(f / "last.safetensors").items()} for f in both[row])
    apart = sum((one[name] - two[name]).square().sum() for name in one).sqrt()
    size = sum(weights.square().sum() for weights in one.values()).sqrt()
    assert apart / size < 1e-6
    mine, theirs = (tiny.metrics(folder)[-1] for folder in both[row])
    assert mine["loss"] == pytest.approx(theirs["loss"], rel=1e-5, abs=1e-6)
    assert mine["tokens"] == theirs["tokens"]
    if "kept" in mine:
        assert mine["kept"] == pytest.approx(theirs["kept"])
        assert any(0 < share < 1 for share in mine["kept"].values())
