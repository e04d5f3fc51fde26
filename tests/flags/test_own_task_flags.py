"""A task told on the command line: what it comes to, and what is refused."""

import pytest
import tiny

from datasets import FIVE_STARS
from minbert.files import UserError
from minbert.flags import checks

MINE = ("--train", "a.csv", "--dev", "b.csv", "--text", "subject", "--label", "kind")
PAIR, SCORES = ("--text_pair", "reply"), ("--regression", "1,5")


def test_train_makes_a_task_that_is_trained_alone():
    options = tiny.options_of(*MINE)
    (name, task), *more = options.scored.items()
    assert (name, options.tasks, more) == ("own", ["own"], [])
    assert (task.kind, task.text, task.label, task.metric) == ("classification", ("subject",), "kind", "accuracy")
    assert task.files == {"train": "a.csv", "dev": "b.csv"}
    assert not task.is_pair


def test_tasks_say_what_it_is_trained_beside():
    assert list(tiny.options_of(*MINE, "--tasks", "own,cfimdb").scored) == ["own", "cfimdb"]
    assert list(tiny.options_of(*MINE, "--tasks", "sst,own").scored) == ["sst", "own"]


def test_test_is_one_more_file():
    assert tiny.options_of(*MINE, "--test", "c.csv").scored["own"].files["test"] == "c.csv"


def test_text_pair_makes_it_a_task_on_pairs():
    assert tiny.options_of(*MINE, *PAIR).scored["own"].text == ("subject", "reply")


def test_regression_makes_it_a_task_with_a_score():
    task = tiny.options_of(*MINE, *SCORES).scored["own"]
    assert (task.kind, task.score_range, task.labels, task.metric) == ("regression", (1.0, 5.0), (), "pearson")
    assert tiny.options_of(*MINE, "--regression=-1,1").scored["own"].score_range == (-1.0, 1.0)


def test_labels_in_an_order_of_ones_own():
    assert tiny.options_of(*MINE, "--labels", "low, middle,high").scored["own"].labels == ("low", "middle", "high")
    assert tiny.options_of(*MINE, "--labels", '["a, b", "[c"]').scored["own"].labels == ("a, b", "[c")


def test_name_is_what_every_other_flag_calls_it():
    options = tiny.options_of(*MINE, "--name", "mail", "--limit", "mail=10", "--batch_size", "mail=4")
    assert (list(options.scored), options.data.limit) == (["mail"], {"mail": 10})


@pytest.mark.parametrize("labels", [["a", "b"], ["a, b", "c"], ["[a", "b"], ["a", 'say "b"']])
def test_labels_are_saved_and_read_again(labels, tmp_path):
    saved = checks.to_saved(tiny.options_of(*MINE).changed(labels=labels))
    now = checks.parse(["--predict", "RUN"])
    assert checks.check(checks.of_saved_run(now, saved, tmp_path)).scored["own"].labels == tuple(labels)


def test_digests_of_runs_without_an_own_task_are_what_they_were():
    """A run that was begun before there were these flags goes on."""
    saved = checks.to_saved(tiny.options_of("--epochs", "3"))
    old = {name: value for name, value in saved.items() if name not in ("train", "name", "labels", "regression")}
    assert checks.digest(saved) == checks.digest(old)
    assert checks.digest(saved) != checks.digest(checks.to_saved(tiny.options_of(*MINE, "--epochs", "3")))


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (MINE[:2], "--train needs --text COLUMN: which column has the text"),
        (MINE[:2] + MINE[4:6], "--train needs --label COLUMN"),
        (MINE[:2] + MINE[4:], "--train needs --dev FILE: rows that are not trained on"),
        (MINE[2:], "--dev is of no use without --train"),
        ((*MINE, "--text_pair", "subject"), "--text and --text_pair name the same column, subject"),
        ((*MINE[:-1], "subject"), "--text and --label name the same column, subject"),
        ((*MINE, "--name", "sst"), "--name sst: there is a task of that name"),
        ((*MINE, "--name", "para"), "--name para: there is a task of that name"),
        ((*MINE, "--name", "My Task"), "'My Task': expected up to 31 of a-z, 0-9, - and _, a letter first"),
        ((*MINE, "--tasks", "sst,quora"), "--train: --tasks sst,quora leaves the task out; add own to it"),
        (("--tasks", "own"), "own: no such task; there are sst, cfimdb, quora"),
        ((*MINE, "--regression", "5,1"), "'5,1': expected two numbers LOW,HIGH, the smaller one first"),
        ((*MINE, "--regression", "0,nan"), "expected two numbers LOW,HIGH"),
        ((*MINE, "--regression", "3"), "expected two numbers LOW,HIGH"),
        ((*MINE, *SCORES, "--labels", "a,b"), "--regression says that there are none: leave one out"),
        ((*MINE, "--labels", "a"), "expected two names or more, each once"),
        ((*MINE, "--labels", "a,b,a"), "expected two names or more, each once"),
        ((*MINE, "--labels", '["a", 1]'), "or a JSON list of them"),
        ((*MINE, "--label_scheme", "soft_probability"), "--train is of no use with --label_scheme"),
        ((*MINE, "--sst_head", "coral"), "no task has ordered classes"),
        ((*MINE, "--pairs", "concat"), "no task reads pairs"),
        ((*MINE, "--sts_head", "linear"), "no task has a score"),
        ((*MINE, "--limit", "sst=3"), "--limit names sst: no use in a run with --tasks own"),
        ((*MINE, *SCORES, "--tsa", "linear"), "own has a regression head: add --sts_head classification"),
        ((*MINE, "--regression", "0,0.5", "--sts_head", "classification"), "which do not divide --regression 0,0.5"),
        ((*MINE, "--regression", "0,1e9", "--sts_head", "ordinal6"), "into 1,000 at the most"),
        (("--predict", "RUN", "--label", "kind"), "--label is of no use with --predict"),
    ],
)
def test_what_makes_no_task_is_refused_in_one_line(flags, says):
    assert says in tiny.script(*flags).error


@pytest.mark.parametrize("head", ["classification", "ordinal6"])
def test_a_range_that_the_steps_divide(head):
    assert tiny.options_of(*MINE, *SCORES, "--sts_head", head, "--tsa", "linear")


def test_ordered_classes_of_another_task_stay_allowed():
    assert tiny.options_of(*MINE, "--tasks", "sst,own", "--sst_head", "coral").scored["sst"].labels == FIVE_STARS


def test_a_saved_task_is_checked_too(tmp_path):
    saved = {**checks.to_saved(tiny.options_of(*MINE)), "labels": ["a", "b\x1b[2J"]}
    with pytest.raises(UserError, match="its record says --labels"):
        checks.of_saved_run(checks.parse(["--predict", "RUN"]), saved, tmp_path)
