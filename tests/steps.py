"""What tests of flags and of the objective share: one step of a Trainer, and what a padded model would read."""

import itertools
from unittest import mock

import torch

from minbert.training.loss_record import label


def one_step(trainer, number=0):
    """(terms of the loss {term: value}, gradient {parameter: tensor}) of a step of the first epoch, without update."""
    objective, terms = trainer.objective, {}

    def watched(*args):
        loss = objective(*args)
        terms.update({label(*key): term.item() for key, term in loss.terms.items()})
        return loss

    trainer.model.train()
    with mock.patch.object(trainer.loop.optimizer, "step"), mock.patch.object(trainer, "objective", watched):
        trainer.loop.step(trainer.plan.steps_of(0)[number])
    return terms, {name: p.grad.clone() for name, p in trainer.model.named_parameters() if p.grad is not None}


def padded(sequences):
    """Sequences as (ids, mask, types), each [B, T]: what BertModel.forward reads."""
    ids, mask, types = torch.zeros(3, len(sequences), int(sequences.lengths.max()), dtype=torch.int64)
    for row, (start, stop) in enumerate(itertools.pairwise(sequences.offsets)):
        ids[row, : stop - start] = torch.from_numpy(sequences.ids[start:stop])
        types[row, : stop - start] = torch.from_numpy(sequences.types[start:stop])
        mask[row, : stop - start] = 1
    return ids, mask, types
