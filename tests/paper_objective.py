"""The loss of a step written out a second time, without heads.py, regularizers.py, semi_supervised.py and objective.py.

Each set of rows goes through the trunk's padded call by itself; from the logits on in float64. No dropout.

Shapes: B examples, K classes.
"""

import math

import torch
import torch.nn.functional as F
from steps import padded

CHANCE = {"sst": 1 / 5, "quora": 1 / 2, "classification": 1 / 26, "ordinal6": 1 / 6}


def logits_of(model, task, split, rows):
    """[B, outputs], double."""
    embedded = [model.bert(*padded(part))["pooler_output"] for part in split.sequences.take(rows).parts]
    head = model.heads[task]
    if not hasattr(head.linear, "weight"):
        return F.cosine_similarity(*embedded).double().unsqueeze(1)
    u, v = embedded if len(embedded) == 2 else (embedded[0], None)
    joint = u if v is None else (u - v).abs() if head.join == "absdiff" else torch.cat([u, v], dim=1)
    return (joint @ head.linear.weight.T + head.linear.bias).double()


def probabilities(options, task, z):
    """[B, K]; None for a head without classes."""
    one = torch.ones(len(z), 1)
    if task == "quora":
        return torch.cat([1 - z.sigmoid(), z.sigmoid()], dim=1)
    if task == "sst" and options.sst_head == "coral":
        return torch.cat([one, z.sigmoid()], dim=1) - torch.cat([z.sigmoid(), 0 * one], dim=1)
    if task == "sts" and options.sts_head not in ("classification", "ordinal6"):
        return None
    return z.exp() / z.exp().sum(dim=1, keepdim=True)


def score(options, z):
    return {"regression": 5 * z.sigmoid(), "linear": z, "cosine": 5 * z}[options.sts_head][:, 0]


def supervised(options, task, z, labels):
    """(loss of each example [B], probability of its true class [B] or None)"""
    p = probabilities(options, task, z)
    if p is None:
        return (score(options, z) - labels) ** 2, None
    if task == "sts":  # labels have two decimals: the nearest of 26 or 6 classes in whole numbers, halves go up
        step = {"classification": 20, "ordinal6": 100}[options.sts_head]
        labels = torch.tensor([(round(100 * float(y)) + step // 2) // step for y in labels])
    true = p[torch.arange(len(z)), labels]
    if z.shape[1] == p.shape[1] - 1 > 1:  # CORAL's sum over its thresholds
        above = labels.unsqueeze(1) > torch.arange(z.shape[1])
        return -torch.where(above, z.sigmoid(), 1 - z.sigmoid()).log().sum(dim=1), true
    return -true.log(), true


def distance(options, task, z, t):
    """The consistency of student z and teacher t for each example [B]."""
    kind, p, q = options.mean_teacher, probabilities(options, task, z), probabilities(options, task, t)
    if p is None:
        return (score(options, z) - score(options, t)) ** 2
    if kind in ("kl", "bregman") or z.shape[1] == 1:
        return (p * (p / q).log()).sum(dim=1) + (q * (q / p).log()).sum(dim=1)
    return ((z - t) ** 2 if kind == "mse" else (p - q) ** 2).sum(dim=1)


def reference(trainer, batches, p):
    """(terms, shares) of a step after the share p of training."""
    options, terms, shares = trainer.options, {}, {}
    for batch in batches:
        task, data = batch.task, trainer.data[batch.task]
        z = logits_of(trainer.model, task, data["train"], batch.rows)
        losses, known = supervised(options, task, z, torch.from_numpy(data["train"].examples.labels[batch.rows]))
        terms[task, ""] = losses.sum() / len(batch.rows)
        if options.tsa:
            chance = CHANCE[options.sts_head if task == "sts" else task]
            rise = {"linear": p, "log": 1 - math.exp(-5 * p), "exp": math.exp(5 * p - 5)}[options.tsa]
            kept = known <= rise * (1 - chance) + chance
            terms[task, ""] = losses[kept].sum() / max(int(kept.sum()), 1)
            shares[task, "TSA kept"] = int(kept.sum()) / len(kept)
        if task in options.uda:
            with torch.no_grad():
                o = probabilities(options, task, logits_of(trainer.model, task, data["unlabelled"], batch.unlabelled))
            s = probabilities(options, task, logits_of(trainer.model, task, data["augmented"], batch.unlabelled))
            target = o ** (1 / options.uda_temperature)
            target = target / target.sum(dim=1, keepdim=True)
            kept = o.amax(dim=1) > options.uda_threshold
            divergences = (target * (target / s).log()).sum(dim=1)[kept]
            count = max(int(kept.sum()), 1) if options.uda_mean == "kept" else len(batch.unlabelled)
            terms[task, "UDA"] = options.uda_weight * divergences.sum() / count
            shares[task, "UDA kept"] = int(kept.sum()) / len(kept)
        if trainer.teacher:
            splits = [("train", batch.rows)] + [("unlabelled", batch.unlabelled)] * (batch.unlabelled is not None)
            ours = torch.cat([logits_of(trainer.model, task, data[split], rows) for split, rows in splits])
            with torch.no_grad():
                theirs = [logits_of(trainer.teacher.model, task, data[split], rows) for split, rows in splits]
            ramp = math.exp(-5 * (1 - min(p / options.ramp_up, 1)) ** 2) if options.mean_teacher != "bregman" else 1
            apart = distance(options, task, ours, torch.cat(theirs)).sum() / len(ours)
            terms[task, "consistency"] = options.consistency_weight * ramp * apart
    return terms, shares
