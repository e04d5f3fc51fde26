"""Pairs, heads and regularizers in whole runs: each flag changes what its help says and leaves the rest alone.

What each method computes is proved in test_pairs.py, test_heads.py, test_regularizers.py and test_gradient_surgery.py.
"""

import numpy as np
import pytest
import tiny
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from steps import one_step, padded

from minbert import evaluation
from minbert.files import UserError
from minbert.flags import parser as flags
from minbert.layers import heads
from minbert.methods.objective import Batch

pytestmark = pytest.mark.filterwarnings("ignore:a constant prediction")  # of so few examples
STILL = ("--hidden_dropout_prob", 0)  # for still_model: no dropout at all, so that equal steps have equal losses
COURSE = ("sst", "quora", "sts")


def sequences_in_passes(trainer, monkeypatch):
    """Fit: how many sequences each pass of the trunk had in training."""
    encode, seen = trainer.model.bert.encode, []

    def watched(embedded, packing):
        seen.extend([len(packing.order)] * trainer.model.training)
        return encode(embedded, packing)

    monkeypatch.setattr(trainer.model.bert, "encode", watched)
    trainer.fit()
    return seen


# ------------------------------------------------------------------------------------------------ pairs and heads


def test_choices_are_those_of_heads_py():
    choices = {action.dest: action.choices for action in flags.build_parser()._actions}
    assert {name: choices[name] for name in heads.CHOICES} == {
        name: tuple(told) for name, told in heads.CHOICES.items()
    }


@pytest.mark.parametrize(("name", "width"), [("concat", 32), ("absdiff", 16), ("cosine", 1), ("dot_attention", 32)])
def test_pairs(run_of, name, width):
    (one, fused), (two, separate) = run_of(), run_of("--pairs", name)
    assert one.batches == two.batches
    assert two.trunk_passes == [1] * 5
    widths = [trainer.model.heads[task].linear.in_features for trainer in (fused, separate) for task in COURSE]
    assert widths == [16, 16, 16, 16, width, width]
    assert all(a[task] != b[task] for a, b in zip(one.losses, two.losses, strict=True) for task in ("quora", "sts"))


def test_both_sentences_of_separate_pairs_are_in_the_one_pass(trainer_of, monkeypatch):
    trainer = trainer_of(*tiny.FINETUNE, "--pairs", "concat", "--epochs", 1)
    sizes = [
        {name: len(trainer.plan.batches[name](0, index)) for name, index in step} for step in trainer.plan.steps_of(0)
    ]
    expected = [size["sst"] + 2 * size["quora"] + 2 * size["sts"] for size in sizes]
    assert sequences_in_passes(trainer, monkeypatch) == expected


JOINS = {"concat": lambda u, v: torch.cat([u, v], dim=1), "absdiff": lambda u, v: (u - v).abs()}


@pytest.mark.parametrize("name", JOINS)
def test_separate_pairs_have_the_gradient_of_sentences_encoded_one_by_one(trainer_of, still_model, name):
    """The reference: each sentence through the padded call of the trunk, each task by itself, and the sum."""
    trainer = trainer_of(*tiny.FINETUNE, *STILL, "--pairs", name, model=still_model)
    model, losses = trainer.model, {}
    for step in (0, 4):
        _, found = one_step(trainer, step)
        for task, index in trainer.plan.steps_of(0)[step]:
            rows, train = trainer.plan.batches[task](0, index), trainer.data[task]["train"]
            embedded = [model.bert(*padded(part))["pooler_output"] for part in train.sequences.take(rows).parts]
            joint = JOINS[name](*embedded) if len(embedded) == 2 else embedded[0]
            logits = F.linear(joint, model.heads[task].linear.weight, model.heads[task].linear.bias)
            labels = torch.from_numpy(train.examples.labels[rows])
            losses[task] = {
                "sst": lambda z, y: F.cross_entropy(z, y),
                "quora": lambda z, y: F.binary_cross_entropy(z[:, 0].sigmoid(), y.float()),
                "sts": lambda z, y: F.mse_loss(5 * z[:, 0].sigmoid(), y),
            }[task](logits, labels)
        parameters = dict(model.named_parameters())
        expected = torch.autograd.grad(sum(losses.values()), parameters.values())
        for parameter, gradient in zip(parameters, expected, strict=True):
            error = (found[parameter] - gradient).abs().max()
            assert error < 3e-5 * gradient.abs().max() + 1e-7, parameter


def test_separate_pairs_on_a_frozen_trunk_are_computed_once_in_eval_mode(trainer_of, monkeypatch):
    trainer = trainer_of("--option", "pretrain", "--pairs", "absdiff", "--epochs", 3)
    model, passes = trainer.model, []
    encode = model.encode
    monkeypatch.setattr(model, "encode", lambda *args: passes.append(model.training) or encode(*args))
    trainer.fit()
    assert passes == [False] * (3 + 3)  # three training sets and three dev sets, whatever the epochs
    found = trainer.frozen.of("quora", "train")  # [37, 2, H]
    with torch.no_grad():
        parts = [model.eval().bert(*padded(part)) for part in trainer.data["quora"]["train"].sequences.parts]
    expected = torch.stack([part["pooler_output"] for part in parts], dim=1)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


def test_pooling(run_of, tiny_model):
    """The mean over the real tokens; the pooler, which reads [CLS], is then of no use and stays as it was."""
    (one, _), (two, trainer) = run_of(), run_of("--pooling", "mean", "--pairs", "concat")
    assert one.batches == two.batches
    assert one.losses[0]["sst"] != two.losses[0]["sst"]
    before = load_file(tiny_model / "model.safetensors")["pooler.dense.weight"]
    assert torch.equal(trainer.model.bert.pooler_dense.weight, before)
    sequences = {name: trainer.data[name]["dev"].sequences for name in ("quora", "sst")}
    with torch.no_grad():
        found = trainer.model.eval().embed(sequences)  # [B, P, H]
        for name, part in sequences.items():
            for place, side in enumerate(part.parts):
                ids, mask, types = padded(side)
                hidden = trainer.model.bert(ids, mask, types)["last_hidden_state"] * mask.unsqueeze(-1)
                mean = hidden.sum(dim=1) / mask.sum(dim=1, keepdim=True)
                torch.testing.assert_close(found[name][:, place], mean, rtol=0, atol=1e-6)


def says(trainer, task="sts"):
    """(what a trained head predicts of its dev set, the logits [B, outputs] behind it)."""
    dev = trainer.data[task]["dev"].sequences
    with torch.no_grad():
        logits = trainer.model.eval()({task: dev})[task]
    return evaluation.predict(trainer.model, task, dev).values, logits.double()


@pytest.mark.parametrize(
    ("name", "outputs", "score"),
    [
        ("linear", 1, lambda z: z[:, 0]),
        ("classification", 26, lambda z: z.argmax(dim=1) / 5),
        ("ordinal6", 6, lambda z: z.argmax(dim=1)),
    ],
)
def test_sts_head(run_of, still_model, name, outputs, score):
    (one, _), (two, trainer) = (run_of(*STILL, "--sts_head", head, model=still_model) for head in ("regression", name))
    assert one.batches == two.batches
    assert one.losses[0]["sts"] != two.losses[0]["sts"]
    assert [one.losses[0][task] for task in ("sst", "quora")] == [two.losses[0][task] for task in ("sst", "quora")]
    values, logits = says(trainer)
    assert logits.shape[1] == outputs
    np.testing.assert_allclose(values, score(logits), atol=1e-6)


COSINES = {  # --sts_cosine: (the score of a cosine, the loss of u, v and labels)
    "scaled": (lambda c: 5 * c, lambda u, v, y: F.mse_loss(5 * F.cosine_similarity(u, v), y)),
    "shifted": (lambda c: 2.5 * (c + 1), lambda u, v, y: F.mse_loss(2.5 * (F.cosine_similarity(u, v) + 1), y)),
    "embedding": (lambda c: 2.5 * (c + 1), lambda u, v, y: F.cosine_embedding_loss(u, v, (y >= 2.5) * 2.0 - 1)),
}


@pytest.mark.parametrize("name", COSINES)
def test_sts_cosine(trainer_of, still_model, name):
    argv = (*tiny.FINETUNE, *STILL, "--pairs", "concat", "--sts_head", "cosine", "--sts_cosine", name)
    trainer = trainer_of(*argv, model=still_model)
    assert [p.numel() for p in trainer.model.heads["sts"].parameters()] == []
    train, rows = trainer.data["sts"]["train"], trainer.plan.batches["sts"](0, 0)
    with torch.no_grad():
        u, v = trainer.model.embed({"sts": train.sequences.take(rows)})["sts"].unbind(1)
    score, loss = COSINES[name]
    expected = loss(u, v, torch.from_numpy(train.examples.labels[rows])).item()
    assert tiny.trace(trainer).losses[0]["sts"] == pytest.approx(expected, abs=1e-5)
    values, cosines = says(trainer)
    np.testing.assert_allclose(values, score(cosines[:, 0]), atol=1e-5)


@pytest.mark.parametrize("head", ["classification", "ordinal6"])
def test_sts_predict(run_of, head):
    (one, _), (two, trainer) = (run_of("--sts_head", head, "--sts_predict", by) for by in ("argmax", "expectation"))
    assert one.losses == two.losses  # training is not touched
    values, logits = says(trainer)
    scores = np.linspace(0, 5, logits.shape[1])
    np.testing.assert_allclose(values, logits.softmax(dim=1).numpy() @ scores, atol=1e-5)


def test_sst_head(run_of, still_model):
    (one, _), (two, trainer) = (run_of(*STILL, "--sst_head", head, model=still_model) for head in ("softmax", "coral"))
    assert one.batches == two.batches
    assert one.losses[0]["sst"] != two.losses[0]["sst"]
    values, logits = says(trainer, "sst")
    assert logits.shape[1] == 4
    assert values.tolist() == (logits > 0).sum(dim=1).tolist()


def test_pairs_without_a_task_on_pairs_are_refused(trainer_of):
    with pytest.raises(UserError, match="--pairs is of no use in a run with --tasks cfimdb: no task reads pairs"):
        trainer_of("--tasks", "cfimdb", "--pairs", "concat")


# -------------------------------------------------------------------------------------------- regularizers, gradients


def test_pcgrad(run_of, trainer_of, still_model):
    (one, _), (two, _) = run_of(), run_of("--pcgrad")
    assert one.batches == two.batches
    assert two.trunk_passes == [3] * 5  # each task's own gradient needs its own pass
    plain, surgery = (
        one_step(trainer_of(*tiny.FINETUNE, *STILL, *more, model=still_model))[1] for more in ((), ("--pcgrad",))
    )
    of_heads = {name for name in plain if name.startswith("heads.")}
    for name in of_heads:  # no other task's gradient reaches a head
        torch.testing.assert_close(surgery[name], plain[name], rtol=1e-4, atol=1e-6)
    assert any((surgery[name] - plain[name]).abs().max() > 1e-3 for name in plain.keys() - of_heads)


def test_pcgrad_takes_the_conflicting_part_out_of_the_trunk_s_gradient(trainer_of, still_model):
    """Yu et al. 2020, Algorithm 1, for two tasks, of which some steps are in conflict and some are not."""
    trainer = trainer_of(*tiny.FINETUNE, *STILL, "--tasks", "sst,quora", "--pcgrad", model=still_model)
    trunk, conflicts = list(trainer.model.bert.parameters()), []
    for number, step in enumerate(trainer.plan.steps_of(0)):
        alone = []
        for task, index in step:
            (loss,) = trainer.objective([Batch(task, trainer.plan.batches[task](0, index))]).terms.values()
            alone.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, trunk)]).double().numpy())
        a, b = alone
        conflicts.append(bool(a @ b < 0))
        expected = a + b - (min(a @ b, 0) * (b / (b @ b) + a / (a @ a)))
        _, found = one_step(trainer, number)
        found = np.concatenate([found[f"bert.{name}"].flatten() for name, _ in trainer.model.bert.named_parameters()])
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6 * np.abs(expected).max())
    assert set(conflicts) == {True, False}


def test_smart(run_of, trainer_of, still_model):
    (one, _), (two, trainer) = run_of(), run_of("--smart", 1)
    assert one.batches == two.batches
    assert two.trunk_passes == [3] * 5  # as it is, with noise, with the worst small change
    assert list(trainer.loop.progress.history[0]["loss"]) == [
        f"{task}{term}" for task in COURSE for term in ("", " SMART")
    ]
    (plain, before), (once, after), (twice, _) = (
        one_step(trainer_of(*tiny.FINETUNE, *STILL, *more, model=still_model))
        for more in ((), *(("--smart", weight, "--smart_radius", 0.05) for weight in (1, 2)))
    )
    for task in COURSE:
        assert once[task] == plain[task]
        assert once[f"{task} SMART"] > 1e-4
        assert twice[f"{task} SMART"] == pytest.approx(2 * once[f"{task} SMART"], rel=1e-6)
        assert (after[f"heads.{task}.linear.weight"] - before[f"heads.{task}.linear.weight"]).abs().max() > 1e-4
    assert (after["bert.word_embedding.weight"] - before["bert.word_embedding.weight"]).abs().max() > 1e-4


def test_loss_weight(trainer_of, still_model):
    (plain, before), (two, after) = (
        one_step(trainer_of(*tiny.FINETUNE, *STILL, *more, model=still_model))
        for more in ((), ("--loss_weight", "sst=2,sts=0.5"))
    )
    assert two == {"sst": 2 * plain["sst"], "quora": plain["quora"], "sts": 0.5 * plain["sts"]}
    for task, weight in (("sst", 2), ("quora", 1), ("sts", 0.5)):
        name = f"heads.{task}.linear.weight"
        torch.testing.assert_close(after[name], weight * before[name])
    assert not torch.equal(after["bert.word_embedding.weight"], before["bert.word_embedding.weight"])


def test_smart_sees_the_small_change_and_not_another_dropout(trainer_of, run_of):
    """With dropout on, all its passes drop the same: two dropouts alone would be apart a thousand times as far."""
    terms, _ = one_step(trainer_of(*tiny.FINETUNE, "--smart", 1))
    apart, _ = one_step(trainer_of(*tiny.FINETUNE, "--r_drop", 1))
    for task in COURSE:
        assert 0 < terms[f"{task} SMART"] < 1e-6 < 1e-3 < apart[f"{task} R-Drop"]
    (one, _), (two, _) = run_of(), run_of("--smart", 1e-30)
    assert one.losses[0] == two.losses[0]  # and what is drawn besides is as without it
    assert one.losses[1]["sst"] != two.losses[1]["sst"]  # but for SMART's own noise, drawn between two steps


def test_smart_radius(trainer_of, still_model):
    default, named, large = (
        one_step(trainer_of(*tiny.FINETUNE, *STILL, "--smart", 1, *more, model=still_model))[0]
        for more in ((), ("--smart_radius", 1e-5), ("--smart_radius", 0.01))
    )
    assert default == named
    for task in COURSE:  # the divergence grows with the square of a small change
        assert large[f"{task} SMART"] > 1e4 * default[f"{task} SMART"] > 0


def test_r_drop(run_of, trainer_of, monkeypatch):
    (one, _), (two, trainer) = run_of(), run_of("--r_drop", 1)
    assert one.batches == two.batches
    loss = trainer.loop.progress.history[0]["loss"]
    assert list(loss) == [f"{task}{term}" for task in COURSE for term in ("", " R-Drop")]
    assert all(loss[f"{task} R-Drop"] > 1e-3 for task in COURSE)
    plain, doubled = (
        sequences_in_passes(trainer_of(*tiny.FINETUNE, *more), monkeypatch) for more in ((), ("--r_drop", 1))
    )
    assert doubled == [2 * size for size in plain]
    once, twice = (one_step(trainer_of(*tiny.FINETUNE, "--r_drop", weight))[0] for weight in (1, 2))
    assert twice == {name: value * (1 + ("R-Drop" in name)) for name, value in once.items()}


def test_r_drop_is_nothing_without_dropout(run_of, still_model):
    (one, _), (two, trainer) = (run_of(*STILL, *more, model=still_model) for more in ((), ("--r_drop", 1)))
    loss = trainer.loop.progress.history[0]["loss"]
    assert [loss[f"{task} R-Drop"] for task in COURSE] == pytest.approx([0, 0, 0], abs=1e-12)
    for a, b in zip(one.losses, two.losses, strict=True):
        assert a == pytest.approx(b, abs=1e-5)


def test_layer_decay(run_of):
    (one, _), (two, trainer) = run_of(), run_of("--layer_decay", 0.5)
    assert one.batches == two.batches
    assert one.losses[0] == two.losses[0]
    assert two.rates == [{1e-3, 0.5e-3, 0.25e-3, 0.125e-3}] * 5  # heads, second layer, first layer, embeddings
    linear, _ = run_of("--layer_decay", 0.5, "--lr_schedule", "linear")
    assert sorted(linear.rates[4]) == pytest.approx([0.025e-3, 0.05e-3, 0.1e-3, 0.2e-3])
    assert trainer.loop.optimizer.param_groups[0]["params"][0] is trainer.model.bert.word_embedding.weight


def test_eval_train(trainer_of):
    def scores(*flags):
        trainer = trainer_of(*tiny.FINETUNE, "--tasks", "sst,sts", *flags)
        trainer.fit()
        found = trainer.finish()  # goes back to the best weights
        return trainer, {name: value for name, value in found.items() if name not in tiny.TIMES}

    (_, plain), (trainer, asked) = scores(), scores("--eval_train")
    train = asked.pop("train")
    assert asked == plain
    assert list(train) == ["sst", "sts"]
    part = trainer.data["sst"]["train"]
    values = evaluation.predict(trainer.model, "sst", part.sequences).values
    assert train["sst"]["accuracy"] == np.mean(values == part.examples.labels)


# -------------------------------------------------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("--sts_head cosine", "--pairs fused has one: add --pairs concat"),
        ("--sts_head cosine --pairs concat", "nothing to train on a frozen trunk: use --option finetune"),
        ("--sts_cosine shifted", "needs --sts_head cosine"),
        ("--sts_predict expectation", "needs --sts_head classification or ordinal6"),
        ("--sts_head linear --sts_predict expectation", "needs --sts_head classification or ordinal6"),
        ("--tasks cfimdb --sts_head linear", "--sts_head is of no use in a run with --tasks cfimdb"),
        ("--tasks rte,qqp --sst_head coral", "--sst_head is of no use in a run with --tasks rte,qqp"),
        ("--schedule in_turn --step summed", "a step of --schedule in_turn has one task only"),
        ("--schedule mtdnn --step summed", "a step of --schedule mtdnn has one task only"),
        ("--schedule annealed --step summed", "a step of --schedule annealed has one task only"),
        ("--schedule mtdnn --task_order sst", "--schedule mtdnn mixes the tasks at random"),
        ("--schedule annealed --task_order sst", "--schedule annealed mixes the tasks at random"),
        ("--task_order sst,rte", "--task_order names rte, not among --tasks sst,quora,sts"),
        ("--balanced_sample once", "needs --schedule balanced_round_robin"),
        ("--batch_size sst=8", "gives no size for quora, sts: name every task"),
        ("--pcgrad", "--option pretrain freezes: use --option finetune"),
        ("--smart 1", "--option pretrain freezes: use --option finetune"),
        ("--r_drop 1", "--option pretrain freezes: use --option finetune"),
        ("--layer_decay 0.9", "--option pretrain freezes: use --option finetune"),
        ("--option finetune --smart_radius 0.1", "of no use without --smart"),
        ("--option finetune --pcgrad --schedule sequential", "--pcgrad needs steps with several tasks"),
        ("--option finetune --pcgrad --step per_task", "--pcgrad needs steps with several tasks"),
        ("--option finetune --pcgrad --tasks sst", "--pcgrad needs steps with several tasks"),
        ("--layer_decay 0", "expected a number above 0 and at most 1"),
        ("--layer_decay 1.01", "expected a number above 0 and at most 1"),
        ("--smart 0", "expected a number above 0"),
        ("--loss_weight 2", "expected task=value"),
        ("--loss_weight sst=0", "expected a number above 0"),
        ("--tasks sst --loss_weight sts=2", "--loss_weight names sts: no use in a run with --tasks sst"),
        ("--smart_radius nan", "expected a number above 0"),
        ("--r_drop -1", "expected a number above 0"),
        ("--task_order sst,sst", "names a task twice"),
        ("--pairs arc1", "invalid choice: 'arc1'"),
        ("--init RUN --model minilm", "--init brings its run's model: leave --model out"),
        ("--skip_test --sts_test_out FILE", "--sts_test_out is of no use with --skip_test"),
        ("--input FILE", "give --predict RUN too"),
        ("--output FILE", "give --predict RUN too"),
        ("--evaluate RUN --format json", "--format is of no use with --evaluate"),
        ("--export RUN", "--export: expected 2 arguments"),
        ("--export RUN FOLDER --predict RUN", "--export is of no use with --predict"),
        ("--export RUN FOLDER --epochs 3", "--epochs is of no use with --export"),
        ("--evaluate RUN --epochs 3", "--epochs is of no use with --evaluate"),
        ("--evaluate RUN --predict RUN", "--predict is of no use with --evaluate"),
        ("--evaluate RUN --resume RUN", "--resume is of no use with --evaluate"),
        ("--predict RUN --data_dir DIR", "--data_dir is of no use with --predict"),
        ("--predict RUN --pooling mean", "--pooling is of no use with --predict"),
    ],
)
def test_combinations_that_make_no_sense_are_refused_in_one_line(line, says):
    assert says in tiny.script(*line.split()).error
