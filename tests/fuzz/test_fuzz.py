"""Some spoiled files of every kind, the same in every run; `make fuzz` makes thousands."""

import gzip
import os
import random
import sys

import pytest
from fuzz import inputs, mutate, run

CASES = 300
SEED = 0
LENIENT = {"partial copies", "journal", "etag", "chat refusal"}  # what is damaged there is made or asked for again


@pytest.fixture(scope="module")
def known(tmp_path_factory):
    return inputs.all_of(tmp_path_factory.mktemp("good"))


def test_a_good_file_is_read(known, tmp_path, monkeypatch):
    """Otherwise every case would be refused for a reason of its own, and show nothing."""
    monkeypatch.setattr(mutate, "spoil", lambda content, form, random: content)
    for name in known:
        assert run.Case(f"0:{name}:0", known).run(tmp_path / name) == (run.ACCEPTED, ""), name


def test_a_spoiled_file_is_read_or_refused_in_one_line(known, tmp_path):
    counts, failures = run.run_all(run.names_of(CASES, SEED, known), known, tmp_path)
    assert not failures, "\n".join(f"--case '{name}'\n{said}" for name, said in failures.items())
    assert {name for name, became in counts if became == run.REFUSED} >= known.keys() - LENIENT


@pytest.mark.parametrize("form", mutate.FORMS)
def test_every_change_changes_some_good_file(known, form):
    """`spoil` flips bytes where a change does not fit; one that never fits would be tried by nobody."""
    good = [(one.folder / one.file).read_bytes() for one in known.values() if one.form.removesuffix(".gz") == form]
    good = [gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content for content in good] or [b"any bytes"]
    for change in mutate.FORMS[form]:
        assert any(fits(change, content, seed) for content in good for seed in range(20)), change


def fits(change, content, seed):
    try:
        return change(content, random.Random(seed)) != content
    except mutate.UNFIT:
        return False


@pytest.mark.parametrize("form", [*mutate.FORMS, "text.gz"])
def test_the_same_numbers_make_the_same_bytes(known, form):
    one = next(one for one in known.values() if one.form in (form, form.replace("text", "jsonl")) or form == "bytes")
    content = (one.folder / one.file).read_bytes()
    spoiled = [mutate.spoil(content, form, random.Random(seed)) for seed in (3, 3, 4)]
    assert spoiled[0] == spoiled[1] != spoiled[2]


def test_an_exception_and_a_slow_reader_are_failures(known, tmp_path, monkeypatch):
    def broken(path):
        raise KeyError("x")

    def slow(path):
        while True:
            pass

    monkeypatch.setattr(
        run.signal, "alarm", lambda seconds: run.signal.setitimer(run.signal.ITIMER_REAL, seconds / 100)
    )
    for name, read in (("KeyError", broken), ("TooSlow", slow)):
        one = known["rows.tsv"]._replace(read=read)
        became, said = run.Case("0:rows.tsv:0", {"rows.tsv": one}).run(tmp_path / name)
        assert became == run.FAILED
        assert name in said


def test_importing_the_command_leaves_python_s_caches_on():
    """Without them every run of the tests rewrites the assertions of all files that are read after this one."""
    assert sys.dont_write_bytecode == bool(os.environ.get("PYTHONDONTWRITEBYTECODE"))
