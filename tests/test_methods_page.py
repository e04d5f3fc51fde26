"""docs/methods.md: every method is on it, with code that is there and tests that speak of it."""

import re
from dataclasses import fields

import pytest
import tiny

import labeling
from minbert import choices
from minbert.flags.groups import Heads, Optimisation, Schedule
from minbert.flags.methods import PLAIN, PseudoLabels, Regularizers, SemiSupervised
from minbert.methods.schedules import SCHEDULES

PAGE = (tiny.ROOT / "docs" / "methods.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| (`--.+?) \| (.+?) \| (.*?)\| (.*?)\| (.+?) \| (.+?) \|$", PAGE, re.MULTILINE)
LINK = re.compile(r"\[`?([\w]+)`?\]\(\.\./([^)]+)\)")
BESIDE = ("epochs", "batch_size", "seed")  # flags of these groups that are no methods
CHOICES = {  # flag: names, each of which has its row
    **{"pairs": choices.PAIRS, "pooling": choices.POOLING, "attention": choices.ATTENTION},
    **{"sts_head": choices.STS_HEADS, "sts_cosine": choices.STS_COSINES, "sts_predict": choices.STS_PREDICTIONS},
    **{"sst_head": choices.SST_HEADS, "lr_schedule": choices.LR_SCHEDULES, "schedule": SCHEDULES},
    **{"tsa": choices.TSA_SCHEDULES, "mean_teacher": choices.CONSISTENCIES},
    "label_scheme": (*labeling.SCHEMES, PLAIN),
}


def of(row):
    """[flag with or without a value] of a row."""
    return re.findall(r"`--([\w ]+)`", row[0])


def test_every_row_was_read():
    assert len(ROWS) == len(re.findall(r"^\| `", PAGE, re.MULTILINE)) > 60


def test_every_method_has_one_row():
    groups = (Heads, Schedule, Optimisation, Regularizers, SemiSupervised, PseudoLabels)
    flags = {one.name for group in groups for one in fields(group)} - set(BESIDE)
    expected = {name for name in flags if name not in CHOICES}
    expected |= {f"{flag} {name}" for flag, names in CHOICES.items() for name in names}
    found = [said for row in ROWS for said in of(row)]
    assert len(set(found)) == len(found)
    assert set(found) - expected <= {"option", "labels_per_class", "train_on_augmented"}
    assert expected <= set(found)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_a_row_s_code_is_where_it_says_and_its_tests_speak_of_it(row):
    code, tests = (LINK.findall(row[column]) for column in (4, 5))
    assert code
    assert tests
    for name, path in code:
        text = (tiny.ROOT / path).read_text(encoding="utf-8")
        assert re.search(rf"^ *(def|class) {name}\b", text, re.MULTILINE), f"{name} is not in {path}"
    words = {name for name, _ in code} | {word for said in of(row) for word in said.split()}
    for name, path in tests:
        assert path.endswith(f"/{name}.py")
        text = (tiny.ROOT / path).read_text(encoding="utf-8")
        said = any(re.search(rf"(?<![a-zA-Z]){word}(?![a-zA-Z])", text) for word in words)
        assert said, f"{path} says nothing of {', '.join(words)}"


def test_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)#:]+)\)", PAGE):
        assert (tiny.ROOT / "docs" / target).exists(), target
