"""--head_bias prior: each head's first bias is the one at which nothing but the text is left to learn."""

import numpy as np
import pytest
import tiny
import torch
from head_cases import HEADS, H, head_of, labels_of
from kills import stop_at

import labeling
from minbert.files import UserError
from minbert.methods.shared_head import SharedHead
from minbert.training.trainer import start_from_priors

WITH_LAYER = [name for name in HEADS if not name.startswith("cosine")]


@pytest.mark.parametrize("name", WITH_LAYER)
def test_it_fits_the_labels_best(name):
    """Without a word of the text the gradient of the bias is 0: no other bias has a smaller loss (each of these losses
    is convex in the bias there, but for a sigmoid's squared error, whose only zero this is). The one more example of
    each class is drowned in a million."""
    head = head_of(name)
    labels = labels_of(name).repeat(1_000_000)
    head.start_from_prior(labels)
    with torch.no_grad():
        head.linear.weight.zero_()
    few = labels_of(name)
    logits = head(torch.zeros(len(few), 1 if head.join is None else 2, H, dtype=torch.float64))
    head.loss(logits, few).backward()
    assert head.linear.bias.grad.abs().max() < 2e-6
    if head.classes:
        shares = np.bincount(head.class_of(few), minlength=head.classes) / len(few)
        assert head.probabilities(logits)[0].detach().numpy() == pytest.approx(shares, abs=1e-5)


def test_classes_without_an_example_stay_possible():
    head = head_of("softmax")
    head.start_from_prior(torch.tensor([0, 0, 0]))
    assert head.linear.bias.exp().tolist() == pytest.approx([4 / 8, *[1 / 8] * 4])  # one more of each


def test_the_shared_head():
    merging = labeling.SCHEMES["independent"].merging
    head = SharedHead(H, "independent", merging, 0.0)
    targets = torch.zeros(98, len(merging.classes))
    targets[:24, 0] = 1
    targets[:, 1] = 0.5
    head.start_from_prior(targets)
    shares = head.linear.bias.detach().sigmoid().tolist()
    assert shares == pytest.approx([25 / 100, 50 / 100, *[1 / 100] * (len(merging.classes) - 2)])


def test_a_run_starts_from_it(trainer_of):
    plain, prior = trainer_of(*tiny.FINETUNE), trainer_of(*tiny.FINETUNE, "--head_bias", "prior")
    for name, split in prior.data.items():
        ours, before = prior.model.heads[name].linear, plain.model.heads[name].linear
        labels = torch.from_numpy(split["train"].examples.labels)
        assert torch.equal(ours.bias, prior.model.heads[name].prior_bias(labels))
        assert torch.equal(ours.weight, before.weight)
        assert not torch.equal(ours.bias, before.bias)
    start_from_priors(plain.model, plain.data)
    assert all(torch.equal(a, b) for a, b in zip(plain.model.parameters(), prior.model.parameters(), strict=True))


def test_a_killed_run_goes_on_from_its_own_bias(tmp_path, tiny_model, tiny_data):
    run = tiny.runner(tmp_path / "whole", tiny_model, tiny_data)
    assert run("--head_bias", "prior").code == 0
    stopped = tiny.runner(tmp_path / "run", tiny_model, tiny_data)
    with pytest.MonkeyPatch.context() as patch:
        stop_at(patch, 3)
        assert stopped("--head_bias", "prior").code == 130
    assert tiny.script("--resume", tmp_path / "run").code == 0
    tiny.assert_same_results(tmp_path / "whole", tmp_path / "run")


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--pairs", "concat", "--sts_head", "cosine", "--option", "finetune"), "--sts_head cosine has no layer"),
        (("--init", "runs/x"), "--init brings heads that are trained"),
    ],
)
def test_where_there_is_no_bias_to_set(flags, says):
    with pytest.raises(UserError, match=says):
        tiny.parse("--head_bias", "prior", *flags)
