"""The course's starters: their form is told by their imports, their bugs are named, theirs and ours get full marks."""

import pytest
from assignments_graded import ALL, changed, reference

from assignments.school.submissions import dialect_of

SCORES = "query @ key.transpose(-2, -1) / math.sqrt(self.attention_head_size) + attention_mask"
MIXED = "mixed = self.dropout(F.softmax(scores, dim=-1)) @ value"
BUGS = [  # (assignment, part, file, what stands in the reference, what a student wrote, words of a message)
    ("a1", "attention", "bert.py", SCORES, "query @ key.transpose(-2, -1) + attention_mask", "not divided by sqrt(D)"),
    ("a1", "attention", "bert.py", " + attention_mask  #", "  #", "the mask is not used"),
    ("a1", "attention", "bert.py", SCORES, SCORES.replace("+", "*"), None),
    (
        "a1",
        "attention",
        "bert.py",
        "mixed.transpose(1, 2).flatten(2)",
        "mixed.reshape(len(mixed), -1, self.all_head_size)",
        "side by side without the transpose",
    ),
    ("a1", "attention", "bert.py", "mixed.transpose(1, 2).flatten(2)", "mixed", "[B, T, H]"),
    ("a1", "attention", "bert.py", MIXED, "mixed = F.softmax(scores, dim=-1) @ value", "there is no dropout"),
    (
        "a2",
        "add_norm",
        "bert.py",
        "ln_layer(input + dropout(dense_layer(output)))",
        "ln_layer(dropout(input + dense_layer(output)))",
        "residual included",
    ),
    (
        "a2",
        "add_norm",
        "bert.py",
        "ln_layer(input + dropout(dense_layer(output)))",
        "input + ln_layer(dropout(dense_layer(output)))",
        "acts before x is added",
    ),
    (
        "a2",
        "layer",
        "bert.py",
        "return self.add_norm(y, inner,",
        "return self.add_norm(hidden_states, inner,",
        "layer's input x",
    ),
    ("a3", "embed", "bert.py", " + self.pos_embedding(positions)", "", "position embeddings are missing"),
    (
        "a3",
        "embed",
        "bert.py",
        "self.embed_dropout(self.embed_layer_norm(total))",
        "self.embed_layer_norm(self.embed_dropout(total))",
        "before LayerNorm",
    ),
    (
        "a4",
        "step",
        "optimizer.py",
        'state["v"].sqrt() + group["eps"]',
        '(state["v"] + group["eps"]).sqrt()',
        "under the root",
    ),
    (
        "a4",
        "step",
        "optimizer.py",
        "grad, state = p.grad.data, self.state[p]",
        'grad, state = p.grad.data, self.state["all"]',
        None,
    ),
    (
        "a4",
        "step",
        "optimizer.py",
        'alpha *= math.sqrt(1 - beta2 ** state["t"]) / (1 - beta1 ** state["t"])',
        "pass",
        "no bias correction",
    ),
    (
        "a4",
        "step",
        "optimizer.py",
        '                state["t"] += 1\n',
        '                state["t"] = 1\n',
        "step count stays 1",
    ),
    (
        "a4",
        "step",
        "optimizer.py",
        'p.data.sub_(p.data, alpha=group["lr"] * group["weight_decay"])',
        'p.data.sub_(p.data, alpha=group["weight_decay"])',
        "weight_decay alone",
    ),
    (
        "a4",
        "step",
        "optimizer.py",
        "                grad, state = p.grad.data, self.state[p]\n",
        '                p.data.sub_(p.data, alpha=group["lr"] * group["weight_decay"])\n'
        "                grad, state = p.grad.data, self.state[p]\n"
        '                group = {**group, "weight_decay": 0}\n',
        "the decay saw the old p",
    ),
    ("a4", "step", "optimizer.py", "        return loss", "        return None", "closure's loss is not returned"),
]


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: f"{bug[0]}-{bug[1]}")
def test_a_bug_is_caught_and_named(grade, bug):
    name, part, file, old, new, words = bug
    wrong = [c for c in grade(name, part, {file: changed(file, old, new, "starter")}, "starter").checks if not c.passed]
    assert wrong, "nobody noticed"
    assert words is None or any(words in check.message for check in wrong), "\n".join(c.message for c in wrong)


@pytest.mark.parametrize("name", ["a1", "a2", "a3", "a4"])
def test_the_dialect_is_told(name):
    for dialect in ("ours", "starter"):
        assert dialect_of({file: reference(file, dialect) for file in ALL[name].files(dialect)}) == dialect
