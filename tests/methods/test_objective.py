"""What a step minimises, term by term: values and gradients against formulas written out a second time.

The reference is in paper_objective.py; there is no dropout anywhere.
"""

import math
from dataclasses import replace
from unittest import mock

import pytest
import tiny
import torch
import torch.nn.functional as F
import unlabelled_text
from paper_objective import reference

from minbert.layers import heads
from minbert.methods import objective, semi_supervised

pytestmark = pytest.mark.filterwarnings("ignore:a constant prediction")  # of so few examples
STILL = (*tiny.FINETUNE, "--hidden_dropout_prob", 0)
COURSE = unlabelled_text.COURSE
CLASSES = "--sts_head classification"
CASES = {
    "tsa linear": f"--tsa linear {CLASSES}",
    "tsa exp": "--tsa exp --sts_head ordinal6 --sst_head coral --pairs absdiff",
    "uda": f"{{uda}} {CLASSES} --uda_threshold 0.65",
    "uda over the kept": f"{{uda}} {CLASSES} --uda_threshold 0.65 --uda_mean kept --uda_temperature 0.7 --uda_weight 3",
    "kl": "--mean_teacher kl {fresh}",
    "mse": "--mean_teacher mse {fresh} --unlabeled_batch_size 5 --consistency_weight 2 --ramp_up 0.9",
    "mse_prob": f"--mean_teacher mse_prob {{fresh}} {CLASSES} --sst_head coral",
    "bregman": "--mean_teacher bregman --sts_head linear",
    "cosine": "--mean_teacher kl --pairs absdiff --sts_head cosine",
    "all": f"--tsa log --mean_teacher kl {{fresh}} {{fresh_uda}} {CLASSES} --pairs concat --uda_threshold 0.65",
    "all on a frozen trunk": f"--option pretrain --tsa log --mean_teacher mse {{uda}} {CLASSES} --uda_threshold 0.65",
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
            if trainer.teacher:
                other = models[-1].heads if trainer.frozen else models[-1]
                for parameter in other.parameters():
                    parameter += 0.05 * torch.randn(parameter.shape, generator=random)
        for model in models:
            model.train()
        return trainer

    return make


def batches_of(trainer, number):
    return trainer.batches_of(trainer.plan.steps_of(0)[number])


def gradient(trainer, term):
    """{parameter: gradient of a term}"""
    parameters = {name: p for name, p in trainer.model.named_parameters() if p.requires_grad}
    found = torch.autograd.grad(term, parameters.values(), retain_graph=True, materialize_grads=True)
    return dict(zip(parameters, found, strict=True))


def check_steps(trainer, numbers, progress):
    """check_step for each. Returns all shares."""
    return [share for number in numbers for share in check_step(trainer, number, progress).values()]


def check_step(trainer, number, progress):
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
    numbers = SHORT if trainer.options.step is None else range(6, 15)
    sizes = {len(batch.rows) for number in numbers for batch in batches_of(trainer, number)}
    shares = check_steps(trainer, numbers, 0.4)
    assert {4, 5, 8} <= sizes
    if trainer.options.tsa or trainer.options.uda:
        assert any(0 < share < 1 for share in shares)


# ------------------------------------------------------------------------------------------------- planted bugs


def student_sharpened(head, original, augmented, temperature, threshold, over):
    o, s = head.log_probabilities(original.detach()), head.log_probabilities(augmented)
    kept = o.amax(dim=1).exp() > threshold
    apart = F.kl_div(semi_supervised.sharpen(s, temperature), o, log_target=True, reduction="none").sum(dim=1)
    return (apart * kept).sum() / len(kept), kept


def target_with_gradient(head, original, augmented, temperature, threshold, over):
    o, s = head.log_probabilities(original), head.log_probabilities(augmented)
    kept = o.amax(dim=1).exp() > threshold
    target = semi_supervised.sharpen(o, temperature)
    return ((target.exp() * (target - s)).sum(dim=1) * kept).sum() / len(kept), kept


def minus(*args):
    loss, kept = semi_supervised.uda_loss(*args)
    return -loss, kept


def over_nominal(loss, size=8):
    """The mean over examples, but as if every batch were full."""
    return lambda *args: loss(*args) * len(args[-1]) / size


BUGS = {  # (case, what is patched, the bug)
    "consistency on the teacher's own output": (
        "kl",
        (objective, "consistency", lambda kind, head, s, t: semi_supervised.consistency(kind, head, t, t)),
    ),
    "temperature on the student's side": ("uda", (objective, "uda_loss", student_sharpened)),
    "a target with a gradient": ("all", (objective, "uda_loss", target_with_gradient)),
    "UDA with a minus sign": ("uda", (objective, "uda_loss", minus)),
    "TSA on the largest probability": (
        "tsa linear",
        (objective, "true_class_probability", lambda head, z, y: head.probabilities(z.detach()).amax(dim=1)),
    ),
    "a softmax over one logit": (
        "kl",
        (heads.BinaryHead, "log_probabilities", lambda self, z: torch.cat([-1e9 + z * 0, z.log_softmax(dim=1)], dim=1)),
    ),
    "the loss divided by the nominal batch size": (
        "kl",
        (heads.Head, "loss", lambda self, z, y: self.losses(z, y).sum() / 8),
    ),
    "the consistency divided by the nominal batch size": (
        "kl",
        (objective, "consistency", over_nominal(semi_supervised.consistency, 16)),
    ),
    "no ramp-up": ("kl", (objective, "ramp_up", lambda progress, share: 1.0)),
}


@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_is_found(prepared, monkeypatch, bug):
    case, patch = BUGS[bug]
    trainer = prepared(CASES[case])
    monkeypatch.setattr(*patch)
    with pytest.raises(AssertionError):
        check_steps(trainer, SHORT, 0.1)


# ---------------------------------------------------------------------------------------------------- identities


def test_uda_is_nothing_where_the_copies_are_the_originals(prepared):
    line = f"{{same}} {CLASSES} --uda_temperature 1 --uda_threshold 0"
    trainer = prepared(line)
    loss = trainer.objective(batches_of(trainer, 0), 0.0)
    for task in COURSE:
        assert abs(loss.terms[task, "UDA"].item()) < 1e-6
        assert loss.shares[task, "UDA kept"] == 1
        for value in gradient(trainer, loss.terms[task, "UDA"]).values():
            assert value.abs().max() < 1e-4
    for changed in (line.replace("{same}", "{uda}"), line.replace("--uda_temperature 1", "--uda_temperature 0.4")):
        trainer = prepared(changed)
        loss = trainer.objective(batches_of(trainer, 0), 0.0)
        assert min(loss.terms[task, "UDA"].item() for task in COURSE) > 1e-3


@pytest.mark.parametrize("schedule", ["linear", "exp", "log"])
def test_tsa_ends_as_plain_cross_entropy_but_log_leaves_out_the_surest(prepared, schedule):
    plain, annealed = prepared(CLASSES), prepared(f"--tsa {schedule} {CLASSES}")
    with torch.no_grad():
        for trainer in (plain, annealed):
            trainer.model.heads["sst"].linear.weight *= 20  # surer than 0.995 of some
    one, two = (trainer.objective(batches_of(trainer, 0), 1.0) for trainer in (plain, annealed))
    same = schedule != "log"
    assert (two.shares["sst", "TSA kept"] == 1) == same
    assert (two.terms["sst", ""].item() == pytest.approx(one.terms["sst", ""].item(), rel=1e-6)) == same
    for task in ("quora", "sts"):
        assert two.terms[task, ""].item() == pytest.approx(one.terms[task, ""].item(), rel=1e-6)
    early = annealed.objective(batches_of(annealed, 0), 0.0)
    assert early.shares["sst", "TSA kept"] < 1
    assert early.terms["sst", ""] >= two.terms["sst", ""]  # what is left is what is not yet known


@pytest.mark.parametrize("kind", [*semi_supervised.CONSISTENCIES, "bregman"])
@pytest.mark.parametrize("more", ["", CLASSES, "--sst_head coral --pairs absdiff --sts_head cosine"])
def test_a_teacher_that_is_the_student_asks_for_nothing(trainer_of, still_model, texts, kind, more):
    line = f"--mean_teacher {kind} {{fresh}} {more}".format(**texts)
    trainer = trainer_of(*STILL, *line.split(), model=still_model)  # it starts as a copy
    trainer.model.train()
    loss = trainer.objective(batches_of(trainer, 0), 1.0)
    assert [abs(loss.terms[task, "consistency"].item()) for task in COURSE] == pytest.approx([0, 0, 0], abs=1e-9)


def test_the_consistency_s_weight_ramps_up(prepared):
    trainer = prepared("--mean_teacher kl --consistency_weight 3 --ramp_up 0.5")
    batches = batches_of(trainer, 0)
    values = {p: trainer.objective(batches, p).terms["sst", "consistency"].item() for p in (0, 0.25, 0.5, 1)}
    shares = {p: value / values[1] for p, value in values.items()}
    expected = {0: math.exp(-5), 0.25: math.exp(-5 / 4), 0.5: 1, 1: 1}
    assert shares == pytest.approx(expected, rel=1e-5)
    assert trainer.objective(batches, 0).terms["sst", ""] == trainer.objective(batches, 1).terms["sst", ""]


def test_bregman_has_its_whole_weight_of_1_from_the_start(prepared):
    """Jiang et al. 2020, section 4: mu = 1, whatever the flags of the other teachers have as their defaults."""
    trainer = prepared("--mean_teacher bregman")
    batches = batches_of(trainer, 0)
    for progress in (0, 1):
        found = trainer.objective(batches, progress).terms
        for key, term in reference(trainer, batches, progress)[0].items():
            assert found[key].item() == pytest.approx(term.item(), rel=1e-4), f"{key} at progress {progress}"


# ------------------------------------------------------------------------------------- passes of the trunk, gradients


def passes_of(trainer, number=0):
    """[(student or teacher, with a gradient or without, sequences)] of one step's passes, its batches, its losses."""
    seen = []

    def watched(name, encode):
        def noted(embedded, packing):
            seen.append((name, torch.is_grad_enabled(), len(packing.order)))
            return encode(embedded, packing)

        return noted

    batches, models = batches_of(trainer, number), {"student": trainer.model}
    if trainer.teacher:
        models["teacher"] = trainer.teacher.model
    with mock.patch.multiple(trainer.model.bert, encode=watched("student", trainer.model.bert.encode)):
        if trainer.teacher:
            trainer.teacher.model.bert.encode = watched("teacher", trainer.teacher.model.bert.encode)
        loss = trainer.objective(batches, 0.5)
    return seen, batches, loss


@pytest.mark.parametrize(
    ("line", "of_an_example"),
    [
        ("", []),
        (f"--tsa linear {CLASSES}", []),
        (f"{{uda}} {CLASSES}", ["augmented"]),
        (f"{{uda}} {CLASSES} --pairs concat", ["augmented"]),
        ("--mean_teacher kl", []),
        ("--mean_teacher kl {fresh} --pairs concat", ["unlabelled"]),
        (f"{{fresh_uda}} {{fresh}} --mean_teacher mse {CLASSES}", ["augmented", "unlabelled"]),
    ],
)
def test_one_pass_with_a_gradient_and_one_a_model_without(prepared, line, of_an_example):
    trainer = prepared(line + " --unlabeled_batch_size 3" * bool(of_an_example))
    seen, batches, loss = passes_of(trainer)
    wide = {batch.task: 1 if batch.task == "sst" or trainer.model.fused else 2 for batch in batches}
    labelled = sum(len(batch.rows) * wide[batch.task] for batch in batches)
    beside = sum(3 * wide[batch.task] for batch in batches)
    expected = [("student", True, labelled + beside * len(of_an_example))]
    if trainer.teacher:  # UDA's originals are among what the student reads for the teacher's sake
        expected.append(("teacher", False, labelled + beside * ("unlabelled" in of_an_example)))
    elif trainer.options.uda:
        expected.append(("student", False, beside))
    assert seen == expected
    parts = [(batch.task, "train", batch.rows) for batch in batches]
    parts += [(batch.task, split, batch.unlabelled) for batch in batches for split in of_an_example]
    assert loss.tokens == sum(int(trainer.data[t][split].sequences.lengths[rows].sum()) for t, split, rows in parts)


def test_no_pass_at_all_on_a_frozen_trunk(prepared):
    trainer = prepared(CASES["all on a frozen trunk"])
    first, _, loss = passes_of(trainer)
    assert loss.tokens == 0
    assert {(name, grad) for name, grad, _ in first} == {("student", False)}  # each text once a run
    again, _, _ = passes_of(trainer)
    assert again == []


SIDES = {
    "clean": lambda classify, embedded, clean, heads, **numbers: {key: z.sum() for key, z in clean.items()},
    "perturbed": lambda classify, embedded, clean, heads, **numbers: {
        key: z.sum() for key, z in classify(embedded).items()
    },
}


@pytest.mark.parametrize("side", SIDES)
def test_smart_holds_two_outputs_against_each_other_that_both_learn(prepared, monkeypatch, side):
    """Jiang et al. 2020: R_s is minimised over the parameters of f(x + d) and of f(x) alike; only d is fixed."""
    trainer = prepared("--smart 2")
    monkeypatch.setattr(objective, "smoothness", SIDES[side])
    batches = batches_of(trainer, 0)
    loss = trainer.objective(batches, 0.0)
    for batch in batches:
        term = loss.terms[batch.task, "SMART"]
        assert term.requires_grad, f"SMART's {side} outputs are cut off from the parameters"
        moved = gradient(trainer, term)
        for name in ("bert.word_embedding.weight", f"heads.{batch.task}.linear.weight"):
            assert moved[name].any(), f"no gradient of SMART's {side} outputs reaches {name}"


@pytest.mark.parametrize("case", [case for case in CASES if "frozen" not in case])
def test_each_method_moves_trunk_and_heads_and_no_gradient_reaches_the_teacher(prepared, case):
    trainer = prepared(CASES[case])
    batches = batches_of(trainer, 0)
    loss = trainer.objective(batches, 0.0)
    for task, name in loss.terms.keys() - {(batch.task, "") for batch in batches}:
        moved = gradient(trainer, loss.terms[task, name])
        assert moved["bert.word_embedding.weight"].abs().max() > 1e-5, name
        for parameter, value in moved.items():
            if parameter.startswith("heads."):
                assert bool(value.any()) == (parameter.split(".")[1] == task), (name, parameter)
    if trainer.options.tsa:
        annealed = gradient(trainer, loss.terms["sst", ""])
        trainer.objective.unlabelled = replace(trainer.objective.unlabelled, tsa=None)
        plain = gradient(trainer, trainer.objective(batches, 0.0).terms["sst", ""])
        assert annealed["bert.word_embedding.weight"].any()
        assert max((annealed[name] - plain[name]).abs().max() for name in plain) > 1e-3
    sum(loss.terms.values()).backward()
    if trainer.teacher:
        assert all(p.grad is None and not p.requires_grad for p in trainer.teacher.model.parameters())
