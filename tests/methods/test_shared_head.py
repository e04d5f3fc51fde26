"""The shared head: its loss by hand, what each task sees of it, and that a frozen one stays as it was drawn."""

import itertools
import math

import numpy as np
import pytest
import tiny
import torch
from paper_labeling import ANALOGOUS, PRINTED
from safetensors.torch import load_file
from torch import nn

import labeling
from datasets import TASKS
from minbert.methods.shared_head import SharedHead
from minbert.training import analysis, pseudo_labels
from minbert.training.pseudo_labels import merging_of
from minbert.training.run_folder import find_model
from multitask_classifier import build_model

PAPER = {name: TASKS[name] for name in ("rte", "qqp", "mnli", "sst2")}
MORE = PAPER | {"cfimdb": TASKS["cfimdb"]}
OUTPUTS = [0.5, 0.25, 0.75, 0.5, 0.8, 0.1, 0.9, 0.625, 0.375]  # after the sigmoid, one for each class
EXAMPLES = [row[1:] for row in PRINTED + ANALOGOUS if row[2]]  # scheme, task, label, target
in_every_scheme = pytest.mark.parametrize("scheme", labeling.SCHEMES)


def head_of(scheme, tasks=PAPER, hidden=6, dropout=0.0):
    return SharedHead(hidden, scheme, merging_of(scheme, tasks), dropout)


# --------------------------------------------------------------------------------------------------------- the loss


def test_loss_and_gradient_in_figures():
    """t = (1, 0, 1/2), p = (1/2, 1/4, 1/2): (ln 2 + ln 4/3 + ln 2) / 3, and the gradient by z is (p - t) / 3."""
    tasks = {"mnli": TASKS["mnli"]}
    logits = torch.tensor([[0.0, -math.log(3), 0.0]], dtype=torch.float64, requires_grad=True)
    loss = head_of("independent", tasks).loss(logits, torch.tensor([[1, 0, 0.5]], dtype=torch.float64))
    loss.backward()
    assert loss.item() == pytest.approx(0.5579921445, abs=1e-10)
    np.testing.assert_allclose(logits.grad, [[-1 / 6, 1 / 12, 0]], atol=1e-15)


def test_there_is_an_example_of_each_scheme():
    assert {row[0] for row in EXAMPLES} == set(labeling.SCHEMES)


@pytest.mark.parametrize(("scheme", "task", "label", "target"), EXAMPLES)
def test_loss_and_gradient_of_the_paper_s_examples(scheme, task, label, target):
    head, p = head_of(scheme), OUTPUTS[: len(target)]
    logits = torch.logit(torch.tensor([p, p], dtype=torch.float64)).requires_grad_()
    losses = head.losses(logits, torch.tensor([target, [0.5] * len(p)], dtype=torch.float64))
    by_hand = -sum(t * math.log(q) + (1 - t) * math.log(1 - q) for t, q in zip(target, p, strict=True)) / len(p)
    assert losses.shape == (2,)
    assert losses[0].item() == pytest.approx(by_hand, abs=1e-14)
    losses[0].backward()
    expected = [(q - t) / len(p) for t, q in zip(target, p, strict=True)]
    np.testing.assert_allclose(logits.grad, [expected, [0] * len(p)], atol=1e-15)
    assert head.loss(logits, torch.zeros_like(logits)).item() == pytest.approx(
        -sum(math.log(1 - q) for q in p) / len(p), abs=1e-14
    )


@in_every_scheme
def test_gradient_of_loss_by_embeddings_weights_and_bias(scheme):
    torch.manual_seed(0)
    head = head_of(scheme).double()
    target = torch.rand(3, len(head.merging.classes), dtype=torch.float64)
    embeddings = torch.randn(3, 1, 6, dtype=torch.float64, requires_grad=True)

    def loss(embeddings, weight, bias):
        logits = torch.func.functional_call(head, {"linear.weight": weight, "linear.bias": bias}, (embeddings,))
        return head.loss(logits, target)

    weights = [p.detach().clone().requires_grad_() for p in head.parameters()]
    assert torch.autograd.gradcheck(loss, (embeddings, *weights))


def test_an_output_far_off_still_has_a_finite_loss():
    logits = torch.tensor([[200.0, -200.0, 0.0]], requires_grad=True)
    loss = head_of("independent", {"mnli": TASKS["mnli"]}).loss(logits, torch.tensor([[0.0, 1.0, 0.5]]))
    loss.backward()
    assert loss.item() == pytest.approx((400 + math.log(2)) / 3)
    np.testing.assert_allclose(logits.grad, [[1 / 3, -1 / 3, 0]])


# --------------------------------------------------------------------------------- what a task sees of a shared head


def logits_for(merging, n=200):
    """Random outputs, and some where classes are equal."""
    logits = torch.randn(n, len(merging.classes), generator=torch.Generator().manual_seed(1)) * 2
    logits[0] = 0
    logits[1, 0], logits[1, 1:3] = 0, -math.log(3)  # 1/2 = 1/4 + 1/4: in five classes, e = c + n
    return logits


def label_by_hand(merging, task, p, rule):
    """Nine classes: the highest of the task's own. Five: RTE and QQP say yes iff e > c + n, or iff e is highest."""
    if merging.classes[0] == "e" and task in ("rte", "qqp"):
        e, c, n = p[:3]
        yes = e > c + n if rule == "settled" else e >= max(c, n)
        return {"rte": ("not_entailment", "entailment"), "qqp": ("not_duplicate", "duplicate")}[task][int(yes)]
    own = {names[0]: label for label, names in merging.tasks[task].items()}
    return own[max(own, key=lambda name: (p[merging.classes.index(name)], -merging.classes.index(name)))]


@pytest.mark.parametrize("rule", ["settled", "argmax"])
@in_every_scheme
def test_labels_are_those_of_the_scheme_s_decoder(scheme, rule):
    head = head_of(scheme, MORE)
    logits = logits_for(head.merging)
    outputs = logits.sigmoid().double().numpy()
    for name, task in MORE.items():
        predicted = head.view(task, rule).predict(logits)
        assert (predicted.dtype, predicted.shape) == (torch.int64, (200,))
        ours = [task.labels[i] for i in predicted]
        assert ours == labeling.decode(scheme, name, outputs, rule, head.merging)
        assert ours == [label_by_hand(head.merging, name, p, rule) for p in outputs]
        assert len(set(ours)) == len(task.labels)


@in_every_scheme
def test_probabilities_of_a_task_sum_to_1_and_agree_with_its_label(scheme):
    head = head_of(scheme, MORE)
    logits = logits_for(head.merging)[2:]
    for task in MORE.values():
        view = head.view(task)
        probabilities = view.probabilities(logits)
        assert probabilities.shape == (198, view.classes)
        assert view.classes == len(task.labels)
        np.testing.assert_allclose(probabilities.sum(-1), 1, rtol=1e-6)
        assert torch.equal(probabilities.argmax(-1), view.predict(logits))


def test_probabilities_by_hand():
    """e, c, n, +, - = 0.6, 0.3, 0.1, 0.2, 0.6: duplicate 6/10, MNLI as they are, positive 2/8."""
    head = head_of("soft_probability")
    logits = torch.logit(torch.tensor([[0.6, 0.3, 0.1, 0.2, 0.6]], dtype=torch.float64))
    expected = {"rte": [0.6, 0.4], "qqp": [0.4, 0.6], "mnli": [0.6, 0.3, 0.1], "sst2": [0.75, 0.25]}
    for name, shares in expected.items():  # in the order of the task's labels
        np.testing.assert_allclose(head.view(TASKS[name]).probabilities(logits), [shares], atol=1e-12)


@in_every_scheme
def test_the_rules_may_differ_where_a_label_means_two_classes(scheme):
    head = head_of(scheme, MORE)
    differ = {name for name, task in MORE.items() if head.view(task).may_differ}
    assert differ == ({"rte", "qqp"} if len(head.merging.classes) == 5 else set())


@in_every_scheme
def test_a_model_has_one_head_that_all_tasks_see(scheme, tiny_model):
    options = tiny.options_of("--model", tiny_model, "--option", "finetune", "--label_scheme", scheme)
    model = build_model(find_model(options.model), options).eval()
    classes = len(labeling.SCHEMES[scheme].merging.classes)
    assert {name: tuple(p.shape) for name, p in model.heads.named_parameters()} == {
        "union.linear.weight": (classes, 16),
        "union.linear.bias": (classes,),
    }
    vectors = torch.randn(3, 1, 16)
    logits = model.classify(dict.fromkeys((*PAPER, pseudo_labels.UNION), vectors))
    by_hand = nn.functional.linear(vectors[:, 0], *model.heads["union"].linear.parameters())
    assert all(torch.equal(values, by_hand) for values in logits.values())
    assert model.heads["union"].dropout.p == 0.3


def test_dropout_of_the_shared_head():
    head = head_of("independent", dropout=0.5)
    torch.manual_seed(0)
    vectors = torch.randn(4, 1, 6)
    assert not torch.equal(head(vectors), head(vectors))
    head.eval()
    assert torch.equal(head(vectors), head(vectors))


# ------------------------------------------------------------------------------------------------------ frozen heads


@pytest.fixture(scope="module")
def glue(tmp_path_factory):
    return tiny.make_glue_data(tmp_path_factory.mktemp("glue"))


@pytest.fixture
def trained(tmp_path, tiny_model, glue, monkeypatch):
    """trained(scheme, flags...) -> ({name: tensor} before training, after the last epoch, of the best epoch)"""
    monkeypatch.setattr(analysis, "draw", lambda *_: None)  # takes longer than all the rest
    numbers = itertools.count()

    def run(scheme, *flags):
        folder = tmp_path / str(next(numbers))
        flags = ("--model", tiny_model, "--glue_dir", glue, "--plain_dir", tmp_path / "plain", "--run_dir", folder,
                 *tiny.FINETUNE, "--keep_state", "--label_scheme", scheme, *flags)  # fmt: skip
        done = tiny.script(*flags)
        assert done.code == 0, done.err
        options = tiny.options_of(*flags)
        before = build_model(find_model(options.model), options).state_dict()
        return before, load_file(folder / "last.safetensors"), load_file(folder / "model.safetensors")

    return run


def moved(before, after):
    return {name for name in before if not torch.equal(before[name], after[name])}


HEAD = {"heads.union.linear.weight", "heads.union.linear.bias"}


@pytest.mark.parametrize("flags", [(), ("--weight_decay", 0.1, "--clip", 0.5, "--layer_decay", 0.9)], ids=["", "decay"])
@pytest.mark.parametrize("scheme", ["independent_frozen", "soft_independent_frozen"])
def test_a_frozen_head_stays_as_it_was_drawn_and_the_trunk_does_not(trained, scheme, flags):
    before, last, best = trained(scheme, *flags)
    assert before.keys() == last.keys()
    for after in (last, best):
        assert moved(before, after) == before.keys() - HEAD  # the pooler and every layer
    assert before["heads.union.linear.weight"].std() > 0.05  # random, not zero


@pytest.mark.parametrize("scheme", [name for name, s in labeling.SCHEMES.items() if not s.frozen_head])
def test_the_head_of_every_other_scheme_is_trained(trained, scheme):
    before, last, _ = trained(scheme, "--epochs", 1, "--limit", "rte=8,qqp=8,mnli=8,sst2=8")
    assert moved(before, last) == before.keys()


def test_a_shared_head_may_learn_on_a_frozen_trunk(trained):
    before, last, _ = trained("soft_probability", "--option", "pretrain")
    assert moved(before, last) == HEAD


def test_frozen_head_and_frozen_trunk_leave_nothing_to_train(tmp_path):
    line = tiny.script("--label_scheme", "independent_frozen", "--run_dir", tmp_path / "run").error
    assert "independent_frozen freezes the head: use --option finetune" in line
    assert not (tmp_path / "run").exists()
