"""Several processes that train one model together: torchrun starts them, torch.distributed joins them.

    torchrun --nproc_per_node 2 multitask_classifier.py --option finetune --run_dir runs/NAME

Every process reads all data, has the same weights and draws the same batches; of each batch it takes its share of the
rows. A loss is a mean over the *whole* batch, so a process adds to it the sum over its own rows, divided by the number
of all: `Part.weigh`. These addends have the loss as their sum, and so do their gradients: one sum over the processes
before each update gives every one of them the gradient that a single process has, to float rounding. That holds

- for shares of different length, since what divides is the number of all rows: it is no mean of means;
- for a task of which a process has no row: it borrows one and weighs it 0, so that the same parameters have a gradient
  everywhere, and all processes meet at the same sums;
- for means over the examples that TSA or UDA keep: their number is summed over the processes first (`weigh_kept`).

The gradients are summed here and not by the hooks of DistributedDataParallel, which want one backward pass an update,
through the forward of one module. An update of several steps, PCGrad's gradients task by task, SMART's inner gradient
and heads without a batch are nothing like that.

Random numbers: those of dropout are drawn anew from (seed, rank, update), so each process has its own and need not
remember where it was. What one process draws besides, PCGrad's order and SMART's noise, is drawn alike by all from
`generator`, which stands where one process's would and is what a checkpoint saves: any number can go on from that.

One process without torchrun is `Alone`: nothing is divided, summed or waited for, nor torch.distributed imported.
"""

import contextlib
import os
import sys
from dataclasses import dataclass, replace
from datetime import timedelta

import numpy as np
import torch

from minbert import files, launch
from minbert.files import UserError, one_line
from minbert.layers.packing import Packing
from minbert.script import INTERRUPTED

BUCKET = 1 << 23  # floats that are summed at a time: 32 MB
GOODBYE = timedelta(seconds=20)  # how long the others stay for the first one's last word


@dataclass(frozen=True)
class Part:
    """What a process has of a batch: its `rows`, of which `counted` count (0 where the only one is borrowed), how many
    the `whole` batch has, and their `places` in that."""

    rows: np.ndarray
    counted: int
    whole: int
    places: np.ndarray

    def weigh(self, mean):
        """A mean over these rows -> what it adds to the mean over the whole batch."""
        return mean if self.counted == self.whole else mean * (self.counted / self.whole)

    def twice(self):
        """The rows, and after them all of them again."""
        places = np.concatenate([self.places, self.places + self.whole])
        return Part(np.concatenate([self.rows, self.rows]), 2 * self.counted, 2 * self.whole, places)


def counted_together(parts):
    """{key: Part} whose examples have one mean -> (the keys of those to take the mean over, a Part that weighs it):
    borrowed rows stay away from others."""
    counted, whole = (sum(getattr(part, name) for part in parts.values()) for name in ("counted", "whole"))
    keys = [key for key, part in parts.items() if part.counted] or [*parts][:1]
    return keys, replace(parts[keys[0]], counted=counted, whole=whole)


def tokens_among_all(parts, sequences):
    """(tokens of all processes, where among them, as one process packs them, this one's stand [N]) in a step of `parts`
    {key: Part}. sequences: {key: those of the whole batch}."""
    lengths = [one.lengths for key in parts for one in sequences[key].parts]
    before = np.cumsum([0, *map(len, lengths)])
    places = [part.places for key, part in parts.items() for _ in sequences[key].parts]
    lengths = np.concatenate(lengths)
    own = np.concatenate([start + place for start, place in zip(before, places, strict=False)])  # of all sequences
    whole, mine = Packing(lengths), Packing(lengths[own])
    sequence = mine.sequence  # [N]
    within = np.arange(len(sequence)) - mine.first.numpy()[sequence]
    return int(lengths.sum()), whole.first.numpy()[own[sequence]] + within


class Alone:
    """One process, which has all of every batch."""

    count, first = 1, True  # first: this process prints and writes
    generator = None  # of what all must draw alike; None is torch's own

    def share(self, rows):
        """The `Part` of a batch's row numbers that is this process's."""
        return Part(rows, len(rows), len(rows), np.arange(len(rows)))

    def weigh_kept(self, mean, kept, part):
        """As Part.weigh, of a mean over the `kept` [B] of a part's examples."""
        return mean

    def noise(self, shape, dtype, device, among_all):
        """Standard normal noise for tokens [N, H], the same for each token as one process draws. among_all: a function
        that gives what `tokens_among_all` does."""
        return torch.randn(shape, dtype=dtype, device=device)

    def sum(self, tensors):
        """Tensors of one type -> each summed over the processes."""
        return tensors

    def sum_gradients(self, parameters):
        """Sum the gradients of these parameters, all of which have one, over the processes."""

    def map(self, function, jobs, sizes):
        """torch.cat of function(job) for all jobs, in their order. Each process does some of them, and gets all.
        sizes: the rows of each result."""
        return torch.cat([function(job) for job in jobs])

    def agree(self, wish):
        """Whether any process has that wish."""
        return wish

    def meet(self):
        """Wait for all others to be here."""

    def first_goes_first(self):
        """A context through which the first process goes before the others: they find what it has written."""
        return contextlib.nullcontext()

    def begin_update(self, number):
        """Before the random numbers of an update are drawn."""

    def random_state(self):
        """The state of `generator`."""
        return torch.get_rng_state()

    def set_random_state(self, state):
        torch.set_rng_state(state)

    def leave(self, code):
        """At the end of a program with this exit code."""


ALONE = Alone()


class Processes:
    """One of several processes, joined (`join`). What the methods are for, `Alone` says."""

    def __init__(self):
        from torch import distributed

        self._engine = distributed
        self.rank, self.count = distributed.get_rank(), distributed.get_world_size()
        self.first = self.rank == 0
        self.generator = torch.Generator()

    def share(self, rows):
        own = np.arange(self.rank, len(rows), self.count)
        places = own if len(own) else np.zeros(1, int)
        return Part(rows[places], len(own), len(rows), places)

    def weigh_kept(self, mean, kept, part):
        own = kept.sum().to(mean.dtype) * bool(part.counted)
        (whole,) = self.sum([own])
        return mean * (own / whole.clamp(min=1))

    def noise(self, shape, dtype, device, among_all):
        count, places = among_all()
        whole = torch.randn(count, *shape[1:], dtype=dtype, generator=self.generator)
        return whole[torch.from_numpy(places)].to(device)

    def sum(self, tensors):
        sums, waits = [], []
        for bucket in _buckets(tensors):
            flat = torch.cat([tensor.flatten() for tensor in bucket])
            with self._all_of_them():
                waits.append(self._engine.all_reduce(flat, async_op=True))
            pieces = flat.split([tensor.numel() for tensor in bucket])
            sums += [piece.view_as(tensor) for piece, tensor in zip(pieces, bucket, strict=True)]
        with self._all_of_them():
            for wait in waits:
                wait.wait()
        return sums

    def sum_gradients(self, parameters):
        sums = self.sum([parameter.grad for parameter in parameters])
        for parameter, whole in zip(parameters, sums, strict=True):
            parameter.grad = whole

    def map(self, function, jobs, sizes):
        own = range(self.rank, len(jobs), self.count)
        done = {i: function(jobs[i]) for i in own or [0]}  # one that is borrowed tells the form of the result
        like = next(iter(done.values()))
        found = like.new_zeros(sum(sizes), *like.shape[1:], dtype=torch.float32)
        for i, rows in enumerate(found.split(sizes)):
            if i in own:
                rows.copy_(done[i])
        (found,) = self.sum([found])  # 0 in all processes but one: no rounding
        return found.to(like.dtype)

    def agree(self, wish):
        wishes = torch.tensor(int(wish))
        with self._all_of_them():
            self._engine.all_reduce(wishes)
        return bool(wishes)

    def meet(self):
        self.agree(False)

    @contextlib.contextmanager
    def first_goes_first(self):
        if not self.first:
            self.meet()
        yield
        if self.first:
            self.meet()

    def begin_update(self, number):
        seeds = np.random.SeedSequence([self.generator.initial_seed(), self.rank, number])
        torch.manual_seed(int(seeds.generate_state(1, np.uint64)[0]))

    def random_state(self):
        return self.generator.get_state()

    def set_random_state(self, state):
        self.generator.set_state(state)

    def leave(self, code):
        """torchrun ends all once one of them has ended, so the others let the first one say its last word."""
        if code in (0, INTERRUPTED):
            with contextlib.suppress(RuntimeError):
                self._engine.all_reduce(torch.zeros(1), async_op=True).wait(GOODBYE)
        sys.stdout.flush(), sys.stderr.flush()
        os._exit(code)  # gloo's threads, which may wait for a process that has ended, abort an orderly end

    @contextlib.contextmanager
    def _all_of_them(self):
        try:
            yield
        except RuntimeError as error:
            reason = one_line(str(error).partition("\n")[0])[:200]
            raise UserError(
                f"process {self.rank} of {self.count}: another one has ended, or cannot be reached ({reason}); start "
                "all again with --resume, to go on from the last state"
            ) from None


def _buckets(tensors):
    """Lists of tensors with at most BUCKET numbers together; a larger tensor is alone in its own."""
    bucket, size = [], 0
    for tensor in tensors:
        if bucket and size + tensor.numel() > BUCKET:
            yield bucket
            bucket, size = [], 0
        bucket.append(tensor)
        size += tensor.numel()
    if bucket:
        yield bucket


_here = ALONE


def here():
    """The processes that this one has joined, or `Alone`."""
    return _here


def join(use_gpu=False):
    """Become one of the processes that torchrun started, with a GPU of its own where they `use_gpu`. Those that are not
    the first print and write nothing from here on. Without torchrun nothing happens. Raises UserError."""
    global _here
    if launch.count() == 1 or isinstance(_here, Processes):
        return
    from torch import distributed

    on_gpu = use_gpu and torch.cuda.is_available()  # where it is not, that is told elsewhere
    if on_gpu:
        if launch.local_rank() >= (there := torch.cuda.device_count()):
            raise UserError(f"--use_gpu: this machine has {there}, one for each process; --nproc_per_node {there}")
        torch.cuda.set_device(launch.local_rank())
    try:
        store, rank, count = next(distributed.rendezvous("env://"))
        # Processes that are started again may find the addresses of those before them: each time has its own names.
        store = distributed.PrefixStore(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"), store)
        engine = "cpu:gloo,cuda:nccl" if on_gpu else "gloo"
        distributed.init_process_group(engine, store=store, rank=rank, world_size=count)
    except (ValueError, RuntimeError) as error:  # an address is missing, or nobody answers there
        raise UserError(
            f"WORLD_SIZE says that there are {launch.count()} processes, but they do not meet "
            f"({one_line(error)[:200]}); start them with torchrun, or unset WORLD_SIZE"
        ) from None
    _here = Processes()
    if not _here.first:
        files.write_nothing()
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  (open to the end)
