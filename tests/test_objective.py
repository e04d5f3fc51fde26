"""What a step minimises, term by term: values and gradients against formulas written out here.

The reference takes each task's logits from the trunk's padded call, one set of rows at a time, and knows nothing of
heads.py, regularizers.py and semi_supervised.py. In float64 from the logits on; no dropout anywhere.
"""

import math
from unittest import mock

import pytest
import torch
import torch.nn.functional as F
import unlabelled_text
from test_strategy_flags import padded

import heads
import objective
import semi_supervised
import tiny
from objective import Batch

pytestmark = pytest.mark.filterwarnings("ignore:a constant prediction")  # of so few examples
STILL = (*tiny.FINETUNE, "--hidden_dropout_prob", 0)
COURSE = unlabelled_text.COURSE
CLASSES = "--sts_head classification"
CASES = {
    "tsa linear": f"--tsa linear {CLASSES}",
    "tsa exp": f"--tsa exp --sts_head ordinal6 --sst_head coral --pairs absdiff",
    "uda": f"{{uda}} {CLASSES} --uda_threshold 0.5",
    "uda over the kept": f"{{uda}} {CLASSES} --uda_threshold 0.5 --uda_mean kept --uda_temperature 0.7 --uda_weight 3",
    "kl": "--mean_teacher kl {fresh}",
    "mse": "--mean_teacher mse {fresh} --unlabeled_batch_size 5 --consistency_weight 2 --ramp_up 0.9",
    "mse_prob": f"--mean_teacher mse_prob {{fresh}} {CLASSES} --sst_head coral",
    "bregman": "--mean_teacher bregman --sts_head linear",
    "cosine": "--mean_teacher kl --pairs absdiff --sts_head cosine",
    "all": f"--tsa log --mean_teacher kl {{fresh}} {{fresh_uda}} {CLASSES} --pairs concat --uda_threshold 0.5",
    "all on a frozen trunk": f"--option pretrain --tsa log --mean_teacher mse {{uda}} {CLASSES} --uda_threshold 0.5",
    "each its own": "--mean_teacher mse {fresh} --step per_task",
}
SHORT = (2, 3, 4)  # steps whose batches are not all full: 4 rows of SST, 5 of Quora, 5 of STS


@pytest.fixture(scope="module")
def texts(tmp_path_factory, tiny_data):
    return unlabelled_text.flags_for(tmp_path_factory.mktemp("texts"), tiny_data)


@pytest.fixture
def prepared(trainer_of, still_model, texts):
    """prepared(flags) -> a Trainer without dropout whose heads are sure of some examples, and whose teacher, if it has
    one, is not the student."""

    def make(line):
        trainer = trainer_of(*STILL, *line.format(**texts).split(), model=still_model)
        random = torch.Generator().manual_seed(0)
        models = [trainer.model, *([trainer.teacher.model] if trainer.teacher else [])]
        with torch.no_grad():
            for head in (head for model in models for head in model.heads.values() if hasattr(head.linear, "weight")):
                head.linear.weight *= 8
            for parameter in models[-1].parameters() if trainer.teacher else ():
                parameter += 0.05 * torch.randn(parameter.shape, generator=random)
        for model in models:
            model.train()
        return trainer

    return make


def batches_of(trainer, number):
    return [trainer._batch(name, index) for name, index in trainer.steps_of(0)[number]]


# ------------------------------------------------------------------------------------------------- the reference


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
        terms[task] = losses.sum() / len(batch.rows)
        if options.tsa:
            chance = {"sst": 1 / 5, "quora": 1 / 2, "sts": 1 / (26 if options.sts_head == "classification" else 6)}[task]
            rise = {"linear": p, "log": 1 - math.exp(-5 * p), "exp": math.exp(5 * p - 5)}[options.tsa]
            kept = known <= rise * (1 - chance) + chance
            terms[task] = losses[kept].sum() / max(int(kept.sum()), 1)
            shares[f"{task} TSA kept"] = int(kept.sum()) / len(kept)
        if task in options.uda:
            with torch.no_grad():
                o = probabilities(options, task, logits_of(trainer.model, task, data["unlabelled"], batch.unlabelled))
            s = probabilities(options, task, logits_of(trainer.model, task, data["augmented"], batch.unlabelled))
            target = o ** (1 / options.uda_temperature)
            target = target / target.sum(dim=1, keepdim=True)
            kept = o.amax(dim=1) > options.uda_threshold
            divergences = (target * (target / s).log()).sum(dim=1)[kept]
            count = max(int(kept.sum()), 1) if options.uda_mean == "kept" else len(batch.unlabelled)
            terms[f"{task} UDA"] = options.uda_weight * divergences.sum() / count
            shares[f"{task} UDA kept"] = int(kept.sum()) / len(kept)
        if trainer.teacher:
            splits = [("train", batch.rows)] + [("unlabelled", batch.unlabelled)] * (batch.unlabelled is not None)
            ours = torch.cat([logits_of(trainer.model, task, data[split], rows) for split, rows in splits])
            with torch.no_grad():
                theirs = [logits_of(trainer.teacher.model, task, data[split], rows) for split, rows in splits]
            ramp = math.exp(-5 * (1 - min(p / options.ramp_up, 1)) ** 2) if options.mean_teacher != "bregman" else 1
            apart = distance(options, task, ours, torch.cat(theirs)).sum() / len(ours)
            terms[f"{task} consistency"] = options.consistency_weight * ramp * apart
    return terms, shares


def gradient(trainer, term):
    """{parameter: gradient of a term}"""
    parameters = {name: p for name, p in trainer.model.named_parameters() if p.requires_grad}
    found = torch.autograd.grad(term, parameters.values(), retain_graph=True, materialize_grads=True)
    return dict(zip(parameters, found, strict=True))


def check_step(trainer, number, progress=0.4):
    """Every term of a step and its gradient, and every share. Returns the shares."""
    batches = batches_of(trainer, number)
    found, (terms, shares) = trainer.objective(batches, progress), reference(trainer, batches, progress)
    assert found.terms.keys() == terms.keys()
    assert {name: share.item() for name, share in found.shares.items()} == pytest.approx(shares, rel=1e-6)
    for name, term in terms.items():
        assert found.terms[name].item() == pytest.approx(term.item(), rel=1e-4, abs=1e-7), name
        if not term.requires_grad:  # nothing kept
            continue
        expected, actual = gradient(trainer, term), gradient(trainer, found.terms[name])
        for parameter, value in expected.items():
            error = (actual[parameter] - value).abs().max()
            assert error < 2e-4 * max(g.abs().max() for g in expected.values()) + 1e-7, (name, parameter)
    return shares


@pytest.mark.parametrize("case", CASES)
def test_every_term_and_its_gradient(prepared, case):
    trainer = prepared(CASES[case])
    numbers = SHORT if trainer.options.step is None else range(5, 12)
    sizes = {len(batch.rows) for number in numbers for batch in batches_of(trainer, number)}
    shares = [share for number in numbers for share in check_step(trainer, number).values()]
    assert {4, 5, 8} <= sizes
    if "TSA kept" in case or "uda" in case:
        assert any(0 < share < 1 for share in shares)
