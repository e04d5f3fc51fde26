"""TSA, UDA and the consistency losses against equations worked out by hand and a second version in NumPy.

The checks take the module as an argument, so that the same check can be given the module with a bug planted in it,
and must then fail. The EMA teacher: test_ema_teacher.py. The thresholds by hand come from e^-5 = 0.0067379470,
e^-3.75 = 0.0235177459, e^-2.5 = 0.0820849986 and e^-1.25 = 0.2865047969 (tables of the exponential function).
"""

import math
import types
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import says_why
import torch
import torch.nn.functional as F

from minbert.layers.heads import BinaryHead, ClassesHead, CoralHead, LinearHead, RegressionHead, SoftmaxHead
from minbert.methods import semi_supervised as ours
from minbert.methods.semi_supervised import tsa_threshold

SOURCE = Path(ours.__file__).read_text(encoding="utf-8")


def planted(old, new):
    """semi_supervised.py with one piece of its text replaced, as a module."""
    assert SOURCE.count(old) == 1, f"{old!r} is in the file {SOURCE.count(old)} times"
    module = types.ModuleType("planted")
    exec(compile(SOURCE.replace(old, new), "planted", "exec"), module.__dict__)
    return module


HEADS = {
    "softmax": SoftmaxHead(4, 5, 0.0),
    "26 classes": ClassesHead(4, (0.0, 5.0), 0.0),
    "one logit": BinaryHead(4, 0.0),
    "coral": CoralHead(4, 5, 0.0),
}
OUTPUTS = {"softmax": 5, "26 classes": 26, "one logit": 1, "coral": 4}
ROWS = 40


def some_logits(name, seed, spread=2.0):
    """[ROWS, outputs] in float64; of CORAL, in the order that makes all its classes possible."""
    logits = spread * np.random.default_rng(seed).standard_normal((ROWS, OUTPUTS[name]))
    if name == "coral":
        logits = -np.sort(-logits, axis=1)
    return torch.tensor(logits, requires_grad=True)


def close(one, other):
    return torch.testing.assert_close(one, torch.as_tensor(other), rtol=1e-9, atol=1e-12)


# ---------------------------------------------------------------------------------------- a second version, in NumPy


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def probabilities(name, logits):
    """[B, outputs] -> [B, K], from each head's definition."""
    z = logits.detach().numpy()
    if name == "one logit":
        return np.hstack([1 - sigmoid(z), sigmoid(z)])
    if name == "coral":
        ones = np.ones((len(z), 1))
        above = np.hstack([ones, sigmoid(z), 0 * ones])
        return above[:, :-1] - above[:, 1:]
    powers = np.exp(z)
    return powers / powers.sum(axis=1, keepdims=True)


def kl(p, q):
    """KL(p || q) of each row, term by term."""
    return np.array([sum(a * math.log(a / b) for a, b in zip(*rows, strict=True)) for rows in zip(p, q, strict=True)])


def numpy_uda(name, original, augmented, temperature, threshold, over):
    p = probabilities(name, original)
    powers = p ** (1 / temperature)
    target = powers / powers.sum(axis=1, keepdims=True)
    each = kl(target, probabilities(name, augmented))
    kept = p.max(axis=1) > threshold
    count = len(kept) if over == "batch" else max(kept.sum(), 1)
    return sum(each[kept]) / count, kept


# ------------------------------------------------------------------------------------------------- TSA's threshold

PROGRESS = (0, 1 / 4, 1 / 2, 3 / 4, 1)

# eta at those five points: s (1 - 1/K) + 1/K, that is 0.5 s + 0.5, 0.8 s + 0.2, (25 s + 1) / 26
BY_HAND = {
    ("linear", 2): (0.5, 0.625, 0.75, 0.875, 1.0),
    ("linear", 5): (0.2, 0.4, 0.6, 0.8, 1.0),
    ("linear", 26): (0.0384615385, 0.2788461538, 0.5192307692, 0.7596153846, 1.0),
    ("log", 2): (0.5, 0.8567476016, 0.9589575007, 0.9882411271, 0.9966310265),
    ("log", 5): (0.2, 0.7707961625, 0.9343320011, 0.9811858033, 0.9946096424),
    ("log", 26): (0.0384615385, 0.7245146184, 0.9210721167, 0.9773867828, 0.9935212048),
    ("exp", 2): (0.5033689735, 0.5117588729, 0.5410424993, 0.6432523984, 1.0),
    ("exp", 5): (0.2053903576, 0.2188141967, 0.2656679989, 0.4292038375, 1.0),
    ("exp", 26): (0.0449403337, 0.0610747556, 0.1173894218, 0.3139469201, 1.0),
}


@says_why.each_part_of("minbert/methods/semi_supervised.py")
def test_known_mistakes(part):
    says_why.assert_right(*part)


@pytest.mark.parametrize(("schedule", "num_classes"), BY_HAND)
def test_threshold_by_hand(schedule, num_classes):
    ours = [tsa_threshold(p, num_classes, schedule) for p in PROGRESS]
    assert ours == pytest.approx(BY_HAND[schedule, num_classes], abs=6e-11)


@pytest.mark.parametrize(("schedule", "num_classes"), BY_HAND)
def test_threshold_rises_from_chance_to_certainty(schedule, num_classes):
    etas = [tsa_threshold(i / 1000, num_classes, schedule) for i in range(1001)]
    assert all(low < high for low, high in pairwise(etas))
    room = 1 - 1 / num_classes
    starts_above = {"linear": 0, "log": 0, "exp": math.exp(-5)}[schedule]
    ends_below = {"linear": 0, "log": math.exp(-5), "exp": 0}[schedule]
    assert etas[0] - 1 / num_classes == pytest.approx(starts_above * room, abs=1e-15)
    assert 1 - etas[-1] == pytest.approx(ends_below * room, abs=1e-15)


def test_log_releases_first_and_exp_last():
    for p in (0.1, 0.5, 0.9):
        late, even, early = (tsa_threshold(p, 5, schedule) for schedule in ("exp", "linear", "log"))
        assert late < even < early


@pytest.mark.parametrize("progress", [-0.001, 1.001, math.nan, math.inf])
def test_progress_out_of_range(progress):
    with pytest.raises(ValueError, match="from 0 to 1"):
        tsa_threshold(progress, 2, "linear")


def test_too_few_classes():
    with pytest.raises(ValueError, match="at least 2 classes"):
        tsa_threshold(0.5, 1, "linear")


def test_unknown_schedule_names_the_known():
    with pytest.raises(ValueError, match=r"'cosine'.*linear, log, exp"):
        tsa_threshold(0.5, 2, "cosine")


# ------------------------------------------------------------------------------------------------------- TSA's loss


def check_true_class_probability(module, name="softmax"):
    logits = some_logits(name, 1)
    head, expected = HEADS[name], probabilities(name, logits)
    labels = np.arange(ROWS) % expected.shape[1]
    told = torch.tensor(labels / 5) if name == "26 classes" else torch.tensor(labels)  # scores 0.0, 0.2, ... or classes
    found = module.true_class_probability(head, logits, told)
    close(found, expected[np.arange(ROWS), labels])
    assert not found.requires_grad


@pytest.mark.parametrize("name", HEADS)
def test_true_class_probability(name):
    check_true_class_probability(ours, name)


def test_true_class_probability_takes_a_binary_head_s_float_labels():
    found = ours.true_class_probability(HEADS["one logit"], torch.tensor([[2.0], [2.0]]), torch.tensor([1.0, 0.0]))
    torch.testing.assert_close(found, torch.tensor([0.880797, 0.119203]), rtol=0, atol=1e-6)


def check_tsa_loss(module):
    """Losses 1, 2, 4, 8 with probabilities 0.1, 0.5, 0.6, 0.9."""
    losses = torch.tensor([1.0, 2.0, 4.0, 8.0], requires_grad=True)
    probability = torch.tensor([0.1, 0.5, 0.6, 0.9])
    loss, kept = module.tsa_loss(losses, probability, 0.5)  # an example at the threshold stays
    assert kept.tolist() == [True, True, False, False]
    assert loss.item() == 1.5  # over the two kept, not over four
    loss.backward()
    assert losses.grad.tolist() == [0.5, 0.5, 0, 0]
    loss, kept = module.tsa_loss(losses, probability, 0.05)
    assert (loss.item(), kept.any().item()) == (0, False)


def test_tsa_loss_by_hand():
    check_tsa_loss(ours)


def test_at_the_end_linear_and_exp_are_cross_entropy_and_log_drops_the_surest():
    head, labels = HEADS["softmax"], torch.arange(ROWS) % 5
    logits = some_logits("softmax", 2).detach()
    logits[0] = torch.tensor([20.0, 0, 0, 0, 0])  # its true class has probability 1 - 8e-9
    losses, probability = head.losses(logits, labels), ours.true_class_probability(head, logits, labels)
    for schedule in ("linear", "exp"):
        loss, kept = ours.tsa_loss(losses, probability, tsa_threshold(1, 5, schedule))
        assert kept.all()
        close(loss, F.cross_entropy(logits, labels))
    loss, kept = ours.tsa_loss(losses, probability, tsa_threshold(1, 5, "log"))
    assert kept.tolist() == [False] + [True] * (ROWS - 1)
    close(loss, F.cross_entropy(logits[1:], labels[1:]))


@pytest.mark.parametrize("name", HEADS)
def test_tsa_drops_some_examples_and_the_others_still_teach(name):
    head, logits = HEADS[name], some_logits(name, 3)
    labels = (torch.arange(ROWS) % 26) / 5 if name == "26 classes" else torch.arange(ROWS) % head.classes
    losses = head.losses(logits, labels)
    (plain,) = torch.autograd.grad(losses.mean(), logits, retain_graph=True)
    threshold = tsa_threshold(0.2, head.classes, "linear")
    loss, kept = ours.tsa_loss(losses, ours.true_class_probability(head, logits, labels), threshold)
    (annealed,) = torch.autograd.grad(loss, logits)
    assert 0 < kept.sum() < ROWS
    assert annealed.norm() > 0
    assert not torch.allclose(annealed, plain)


# ----------------------------------------------------------------------------------------------------------- UDA


@pytest.mark.parametrize("temperature", [0.4, 1.0, 2.0])
def test_sharpen_is_softmax_of_the_tempered_logits(temperature):
    z = some_logits("softmax", 4).detach()
    for given in (z, z.log_softmax(dim=-1)):
        close(ours.sharpen(given, temperature).exp(), (z / temperature).softmax(dim=-1))
    z = some_logits("one logit", 4).detach()
    two = ours.sharpen(HEADS["one logit"].log_probabilities(z), temperature).exp()  # [B, 2]
    close(two[:, 1:], (z / temperature).sigmoid())
    close(two[:, :1], 1 - (z / temperature).sigmoid())


def check_uda(module, name="softmax", temperature=0.4, threshold=0.6, over="batch"):
    original, augmented = some_logits(name, 5), some_logits(name, 6)
    loss, kept = module.uda_loss(HEADS[name], original, augmented, temperature, threshold, over)
    expected, expected_kept = numpy_uda(name, original, augmented, temperature, threshold, over)
    assert 0 < expected_kept.sum() < ROWS
    assert kept.tolist() == expected_kept.tolist()
    close(loss, expected)
    loss.backward()
    assert original.grad is None, "a gradient reaches the target"
    assert augmented.grad[kept].abs().sum(dim=-1).min() > 0
    assert augmented.grad[~kept].abs().max() == 0


@pytest.mark.parametrize("over", ["batch", "kept"])
@pytest.mark.parametrize("name", HEADS)
def test_uda_against_numpy(name, over):
    check_uda(ours, name, over=over)
    check_uda(ours, name, temperature=1.3, threshold=0.65, over=over)


def test_uda_defaults_are_the_paper_s():
    logits = some_logits("softmax", 7), some_logits("softmax", 8)
    close(ours.uda_loss(HEADS["softmax"], *logits)[0], numpy_uda("softmax", *logits, 0.4, 0.8, "batch")[0])


@pytest.mark.parametrize("name", HEADS)
def test_uda_is_nothing_where_the_copy_says_the_same_and_nothing_is_sharpened(name):
    logits = some_logits(name, 9)
    loss, kept = ours.uda_loss(HEADS[name], logits, logits, temperature=1.0, threshold=0.0)
    assert kept.all()
    assert abs(loss.item()) < 1e-15
    (gradient,) = torch.autograd.grad(loss, logits)
    assert gradient.abs().max() < 1e-15
    sharpened, _ = ours.uda_loss(HEADS[name], logits, logits, temperature=0.4, threshold=0.0)
    assert sharpened > 0.01


@pytest.mark.parametrize("name", HEADS)
def test_every_setting_of_uda_changes_the_loss(name):
    logits = some_logits(name, 10), some_logits(name, 11)
    settings = [{}, {"temperature": 0.5}, {"threshold": 0.5}, {"over": "kept"}]
    losses = [ours.uda_loss(HEADS[name], *logits, **{"threshold": 0.6, **given})[0].item() for given in settings]
    assert len(set(losses)) == len(settings)


@pytest.mark.parametrize("over", ["batch", "kept"])
def test_uda_with_none_kept_is_zero(over):
    logits = some_logits("softmax", 12), some_logits("softmax", 13)
    loss, kept = ours.uda_loss(HEADS["softmax"], *logits, threshold=1.0, over=over)
    assert loss.item() == 0
    assert not kept.any()


@pytest.mark.parametrize(("threshold", "kept"), [(0.999, True), (1.0, False)])
def test_uda_keeps_what_is_above_the_threshold_and_not_what_equals_it(threshold, kept):
    """Logits 1000 and 0: the probability is exactly 1."""
    sure = torch.tensor([[1000.0, 0.0]], dtype=torch.float64)
    _, found = ours.uda_loss(SoftmaxHead(4, 2, 0.0), sure, torch.zeros_like(sure), threshold=threshold)
    assert found.tolist() == [kept], f"a probability of 1 at the threshold {threshold}"


def test_uda_stays_finite_where_a_probability_rounds_to_zero():
    original, augmented = torch.tensor([[300.0, 0.0, -300.0]]), torch.tensor([[-300.0, 0.0, 300.0]])
    augmented.requires_grad_()
    loss, _ = ours.uda_loss(SoftmaxHead(4, 3, 0.0), original, augmented)
    loss.backward()
    assert loss.item() == pytest.approx(600)
    assert augmented.grad.isfinite().all()


def test_uda_over_something_else():
    with pytest.raises(ValueError, match="'batch' or 'kept'"):
        ours.uda_loss(HEADS["softmax"], some_logits("softmax", 0), some_logits("softmax", 1), over="all")


# ---------------------------------------------------------------------------------------------------- consistency


def numpy_consistency(kind, name, student, teacher):
    s, t = probabilities(name, student), probabilities(name, teacher)
    if kind == "kl" or name == "one logit":
        return (kl(t, s) + kl(s, t)).mean()
    if kind == "mse":
        s, t = student.detach().numpy(), teacher.detach().numpy()
    return sum(sum(row) for row in (s - t) ** 2) / len(s)


def check_consistency(module, kind="kl", name="softmax"):
    student, teacher = some_logits(name, 14), some_logits(name, 15)
    loss = module.consistency(kind, HEADS[name], student, teacher)
    close(loss, numpy_consistency(kind, name, student, teacher))
    assert loss.requires_grad, "no gradient"
    loss.backward()
    assert teacher.grad is None, "a gradient reaches the teacher"
    assert student.grad.abs().sum(dim=-1).min() > 0
    assert module.consistency(kind, HEADS[name], student, student.detach()).item() == 0


@pytest.mark.parametrize("kind", ours.CONSISTENCIES)
@pytest.mark.parametrize("name", HEADS)
def test_consistency_against_numpy(kind, name):
    check_consistency(ours, kind, name)


def test_the_kinds_of_consistency_differ():
    student, teacher = some_logits("softmax", 16), some_logits("softmax", 17)
    values = {ours.consistency(kind, HEADS["softmax"], student, teacher).item() for kind in ours.CONSISTENCIES}
    assert len(values) == 3


@pytest.mark.parametrize("kind", ours.CONSISTENCIES)
def test_regression_heads_take_the_squared_error_of_the_score(kind):
    student, teacher = some_logits("one logit", 18), some_logits("one logit", 19)
    z, y = student.detach().numpy(), teacher.detach().numpy()
    bounded, linear = RegressionHead(4, (0.0, 5.0), 0.0), LinearHead(4, (0.0, 5.0), 0.0)
    close(ours.consistency(kind, bounded, student, teacher), ((5 * sigmoid(z) - 5 * sigmoid(y)) ** 2).mean())
    close(ours.consistency(kind, linear, student, teacher), ((z - y) ** 2).mean())
    ours.consistency(kind, bounded, student, teacher).backward()
    assert teacher.grad is None
    assert student.grad.abs().min() > 0


def test_unknown_consistency_names_the_known():
    with pytest.raises(ValueError, match=r"'huber'.*kl, mse, mse_prob"):
        ours.consistency("huber", HEADS["softmax"], some_logits("softmax", 0), some_logits("softmax", 1))


def test_ramp_up_by_hand():
    by_hand = {0: 0.0067379470, 0.1: 0.2865047969, 0.2: 1, 0.6: 1, 1: 1}  # exp(-5), exp(-5/4), exp(0)
    for progress, weight in by_hand.items():
        assert ours.ramp_up(progress) == pytest.approx(weight, abs=6e-11)
    assert ours.ramp_up(0.25, share=0.5) == pytest.approx(0.2865047969, abs=6e-11)
    assert ours.ramp_up(0, share=0) == 1


# --------------------------------------------------------------------------------------------- bugs that are found

BUGS = {
    "the largest instead of the true-class probability": (
        "head.log_probabilities(logits.detach()).gather(-1, classes).squeeze(-1).exp()",
        "head.log_probabilities(logits.detach()).amax(-1).exp()",
        check_true_class_probability,
    ),
    "TSA's sum divided by the whole batch": ("/ kept.sum().clamp(min=1), kept", "/ len(kept), kept", check_tsa_loss),
    "TSA keeps the known": ("kept = probability <= threshold", "kept = probability > threshold", check_tsa_loss),
    "temperature on the student's side": (
        "    target = sharpen(original, temperature)\n",
        "    target, student = original, sharpen(student, temperature)\n",
        check_uda,
    ),
    "the mask on the sharpened probability": (
        "kept = original.amax(dim=-1)",
        "kept = target.amax(dim=-1)",
        check_uda,
    ),
    "KL the other way round": ("F.kl_div(student, target,", "F.kl_div(target, student,", check_uda),
    "UDA's target with a gradient": (
        "head.log_probabilities(original_logits.detach())",
        "head.log_probabilities(original_logits)",
        check_uda,
    ),
    "UDA's sum divided by the kept": ("count = max(len(kept), 1)", "count = max(int(kept.sum()), 1)", check_uda),
    "the mean over classes": ('reduction="none").sum(dim=-1)', 'reduction="none").mean(dim=-1)', check_uda),
    "softmax over one logit": (
        "student = head.log_probabilities(augmented_logits)",
        "student = F.log_softmax(augmented_logits, dim=-1)",
        lambda module: check_uda(module, "one logit"),
    ),
    "softmax over one logit, in the consistency": (
        "head.probabilities(student_logits) - head.probabilities(teacher_logits)",
        "student_logits.softmax(-1) - teacher_logits.softmax(-1)",
        lambda module: check_consistency(module, "mse_prob", "coral"),
    ),
    "consistency on the teacher's own output": (
        "return apart(head, student_logits, teacher_logits)",
        "return apart(head, teacher_logits, teacher_logits)",
        check_consistency,
    ),
    "the teacher with a gradient": ("teacher_logits = teacher_logits.detach()", "pass", check_consistency),
    "the consistency's mean over classes": (
        "(student_logits - teacher_logits).square().sum(dim=-1).mean()",
        "(student_logits - teacher_logits).square().mean()",
        lambda module: check_consistency(module, "mse"),
    ),
}


@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_is_found(bug):
    old, new, check = BUGS[bug]
    check(ours)
    module = planted(old, new)  # outside: it is the check that shall fail, not the search for the text
    with pytest.raises(AssertionError):
        check(module)
