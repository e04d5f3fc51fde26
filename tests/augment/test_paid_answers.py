"""Copies by a chat model on the command line: whatever goes wrong, each row is done once or reported, no answer is lost
or paid for twice, and the key is seen by the endpoint alone."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from chat_server import command, completion, copies, serving, source

import augmentation
from augmentation import main
from minbert.augment import chat, prompting
from minbert.locks import alone_at

KEY = "sk-test-0123456789abcdef"
ERROR = json.dumps({"error": {"message": "slow down"}}).encode()


@pytest.fixture
def server():
    with serving() as server:
        yield server


@pytest.fixture
def flags(tmp_path, server):
    return command(tmp_path, server)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(chat, "FIRST_PAUSE", 0.001)


def partial(folder):
    (path,) = folder.glob("out.tsv.*.partial")
    return path


def number(row):
    return int(row[1:])


# -------------------------------------------------------------------------------------------------------- every trouble

PASSING = [
    "drop",
    (429, {}, ERROR),
    (429, {"Retry-After": "0.01"}, ERROR),
    (500, {}, b"<html>"),
    b"{nonsense",
    ERROR,
    (200, {"Content-Length": 500}, b"{"),
]
USELESS = ["", "word " * 2000]


def test_each_row_is_done_once_or_reported(tmp_path, server, flags, capsys):
    """Rows 0 mod 10 fail for good, rows 1 mod 10 get a useless answer, one in three of the others has passing trouble,
    some of it twice."""
    rows = source(tmp_path, 120)

    def behave(row, n):
        i = number(row)
        if i % 10 == 0:
            return PASSING[i // 10 % 5]
        if i % 10 == 1:
            return USELESS[i // 10 % 2]
        return PASSING[i % len(PASSING)] if i % 3 == 0 and n <= 1 + i % 2 else None

    server.behave = behave
    assert main(flags("sentence_completion", "--concurrency", 8)) == 1
    failed, useless = ({f"r{i}" for i in range(120) if i % 10 == rest} for rest in (0, 1))
    said = capsys.readouterr().out
    reported = {tuple(line.split(": ")[:2]): line for line in said.splitlines() if ": r" in line}
    assert set(reported) == {("failed", id) for id in failed} | {("left out", id) for id in useless}
    assert "after 6 attempts" in reported["failed", "r10"]
    assert "429 Too Many Requests: 'slow down'" in reported["failed", "r10"]
    assert "empty" in reported["left out", "r1"]
    assert "2,000 words, more than 100" in reported["left out", "r11"]
    assert "120 rows: 96 done, 12 left out, 12 failed" in said
    assert list(copies(tmp_path)) == [id for id in rows if id not in failed | useless]
    assert all(copy == (f"changed {rows[id][0]}",) for id, copy in copies(tmp_path).items())
    assert set(server.billed.values()) == {1}
    assert len(server.billed) == 108
    assert {server.asked[id] for id in failed} == {6}

    server.behave = lambda row, n: None  # the endpoint is well again: only what failed is asked
    server.asked.clear()
    assert main(flags("sentence_completion")) == 0
    assert set(server.asked) == failed
    assert list(copies(tmp_path)) == [id for id in rows if id not in useless]
    assert main(flags("sentence_completion", "--max_words", 3000)) == 0  # a laxer look at the same answers
    assert len(copies(tmp_path)) == 114
    assert sum(server.asked.values()) == 12
    assert set(server.billed.values()) == {1}


def test_an_endpoint_that_is_down_ends_the_command(tmp_path, server, flags, capsys):
    source(tmp_path, 100)
    server.behave = lambda row, n: None if number(row) < 5 else (500, {}, b"")
    assert main(flags("sentence_completion", "--concurrency", 2)) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: 10 rows in a row got no answer, the last one 'r")
    assert "500 Internal Server Error, after 6 attempts" in error
    assert 15 <= len(server.asked) <= 17
    assert not (tmp_path / "out.tsv").exists()
    server.behave = lambda row, n: None
    server.asked.clear()
    assert main(flags("sentence_completion")) == 0
    assert set(server.asked) == {f"r{i}" for i in range(5, 100)}
    assert len(copies(tmp_path)) == 100


@pytest.mark.parametrize("status", [401, 404])
def test_a_wrong_key_or_model_ends_the_command_at_once(tmp_path, server, flags, capsys, status):
    source(tmp_path, 100)
    server.behave = lambda row, n: (status, {}, b"")
    assert main(flags("sentence_completion")) == 2
    assert "check --base_url, --model and --api_key_env" in capsys.readouterr().err
    assert sum(server.asked.values()) <= 8
    assert [path.name for path in tmp_path.iterdir()] == ["in.tsv"]


def test_what_is_finished_is_not_paid_for_again(tmp_path, server, flags, capsys):
    source(tmp_path, 3)
    assert main(flags("sentence_completion")) == 0
    assert main(flags("sentence_completion")) == 2
    assert "there already; making it again would be paid again" in capsys.readouterr().err
    assert sum(server.asked.values()) == 3


def test_other_settings_are_other_answers(tmp_path, server, flags):
    source(tmp_path, 20)
    server.behave = lambda row, n: None if number(row) % 2 else (400, {}, b"")
    settings = [(), ("--temperature", 1), ("--seed", 1), ("--max_tokens", 9), ("--extra_body", '{"top_p": 1}')]
    for more in settings:
        (tmp_path / "out.tsv").unlink(missing_ok=True)
        assert main(flags("sentence_completion", "--concurrency", 1, *more)) == 1
    assert len(list(tmp_path.glob("*.partial"))) == len(settings)
    assert set(server.billed.values()) == {len(settings)}


def test_two_commands_do_not_pay_for_the_same(tmp_path, server, flags, capsys):
    source(tmp_path, 20)
    server.behave = lambda row, n: (400, {}, b"") if row == "r3" else None
    assert main(flags("sentence_completion")) == 1
    with alone_at(tmp_path / "out.tsv"):
        assert main(flags("sentence_completion")) == 2
    assert "out.tsv: another process is at work there" in capsys.readouterr().err


DAMAGED = {  # in place of the fifth line of a journal
    "no JSON": b"??",
    "zeros": b"\0" * 50,
    "not UTF-8": b'["\xff", 0, 0, "text", "stop"]',
    "no list": b"3",
    "null": b"null",
    "letters": b'"r0000"',
    "brackets": b"[" * 100_000,
    "too few cells": b'["r4", 0, 0, "text"]',
    "an unknown id": b'["r20", 0, 0, "text", "stop"]',
    "an id of a wrong type": b'[["r4"], 0, 0, "text", "stop"]',
    "no such text": b'["r4", 1, 0, "text", "stop"]',
    "a wrong number": b'["r4", 0.5, 0, "text", "stop"]',
    "no number": b'["r4", 0, "0", "text", "stop"]',
    "no text": b'["r4", 0, 0, null, "stop"]',
    "a list of texts": b'["r4", 0, 0, ["text"], "stop"]',
    "a wrong reason": b'["r4", 0, 0, "text", 3]',
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_answer_is_asked_for_again_and_no_other(tmp_path, server, flags, capsys, damage):
    source(tmp_path, 20)
    server.behave = lambda row, n: (400, {}, b"") if row == "r19" else None
    assert main(flags("sentence_completion", "--concurrency", 1)) == 1
    lines = partial(tmp_path).read_bytes().split(b"\n")
    assert json.loads(lines[4])[0] == "r4"
    partial(tmp_path).write_bytes(b"\n".join([*lines[:4], DAMAGED[damage], *lines[5:]]))
    server.asked.clear()
    server.behave = lambda row, n: None
    assert main(flags("sentence_completion")) == 0
    out = capsys.readouterr().out
    assert "partial: 1 damaged lines (the first: 5) do not count" in out
    assert "partial: 18 answers are there already" in out
    assert server.asked == {"r4": 1, "r19": 1}
    assert len(copies(tmp_path)) == 20


# -------------------------------------------------------------------------------------------------------------- the end


def start(words, **environment):
    return subprocess.Popen(
        [sys.executable, augmentation.__file__, *words],
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def until(condition, process):
    deadline = time.monotonic() + 60
    while not condition():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.002)


@pytest.mark.parametrize("method", ["sentence_completion", "back_translation"])
def test_a_kill_loses_at_most_what_is_on_its_way(tmp_path, server, flags, method):
    """500 rows, killed three times at different moments, the middle of a back-translation among them."""
    rows, calls, concurrency = source(tmp_path, 500), 1 + (method == "back_translation"), 6
    words = flags(method, "--concurrency", concurrency)
    server.delay = 0.004
    for share in (0.1, 0.45, 0.8):
        process = start(words)
        until(lambda share=share: len(server.billed) > share * 500 * calls, process)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert not (tmp_path / "out.tsv").exists()
    time.sleep(0.1)  # what was on its way is billed
    done = start(words)
    out, error = done.communicate()
    assert done.returncode == 0, error
    assert "500 rows: 500 done, 0 left out, 0 failed" in out
    assert list(copies(tmp_path)) == list(rows)
    assert len(server.billed) == 500 * calls
    assert sum(server.billed.values()) <= 500 * calls + 3 * concurrency
    assert max(server.billed.values()) <= 4
    assert not list(tmp_path.glob("*.partial"))


@pytest.mark.parametrize("cut", [1, 20, 90])
def test_a_line_that_a_kill_cut_is_asked_again(tmp_path, server, flags, cut):
    source(tmp_path, 20)
    server.behave = lambda row, n: (400, {}, b"") if row == "r3" and n == 1 else None
    assert main(flags("sentence_completion", "--concurrency", 1)) == 1
    with open(partial(tmp_path), "ab") as f:
        f.truncate(partial(tmp_path).stat().st_size - cut)
    assert main(flags("sentence_completion")) == 0
    assert len(copies(tmp_path)) == 20
    assert sum(server.billed.values()) == 20 + (1 if cut < 60 else 2)


def test_ctrl_c_waits_for_what_is_on_its_way(tmp_path, server, flags):
    source(tmp_path, 200)
    server.delay = 0.1
    process = start(flags("back_translation", "--concurrency", 5))
    until(lambda: len(server.billed) > 30, process)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=30)
    assert process.returncode == 130, error
    assert "the same command goes on from here" in error
    assert "Traceback" not in error
    billed = sum(server.billed.values())
    assert partial(tmp_path).read_bytes().count(b"\n") == billed
    server.delay = 0
    assert main(flags("back_translation")) == 0
    assert sum(server.billed.values()) == 400


def test_ctrl_c_ends_waiting_for_a_turn(tmp_path, server, flags):
    """With one request an hour, of which three rows wait for theirs."""
    source(tmp_path, 20)
    process = start(flags("back_translation", "--rate", 1 / 60))
    until(lambda: len(server.billed) == 1, process)
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=30)
    assert process.returncode == 130, error
    assert partial(tmp_path).read_bytes().count(b"\n") == 1


def test_a_full_disk_ends_the_command_and_loses_nothing_written(tmp_path, server, flags, capsys, monkeypatch):
    source(tmp_path, 50)
    journal, flushed = prompting.Journal.answer, []

    def answer(self, key, ask):
        flushed.append(key)
        if len(flushed) > 20:
            ask()
            raise OSError(28, "No space left on device")
        return journal(self, key, ask)

    with monkeypatch.context() as patch:
        patch.setattr(prompting.Journal, "answer", answer)
        assert main(flags("sentence_completion", "--concurrency", 1)) == 2
    assert "No space left on device" in capsys.readouterr().err
    assert main(flags("sentence_completion")) == 0
    assert sum(server.billed.values()) == 51


# -------------------------------------------------------------------------------------------------------------- the key


def test_the_key_is_in_no_output_file_or_log(tmp_path, server, flags):
    """Even where the endpoint gives it back in answers, errors, reasons and headers."""
    source(tmp_path, 30)
    echo = json.dumps({"error": {"message": f"no: {KEY}"}}).encode()
    hows = [
        completion(f"I know {KEY}, r1", finish=KEY).encode(),
        (400, {"X-Key": KEY}, echo),
        (403, {}, f"{'x' * 190}{KEY}".encode()),
        None,
    ]
    server.behave = lambda row, n: hows[number(row) % 4]
    more = ("--api_key_env", "MY_KEY", "--filter_cmd", "env")  # env prints what the filter may see
    for how in (*[hows[1]] * 2, (401, {}, echo)):
        hows[1] = how
        process = start(flags("back_translation", *more), MY_KEY=KEY, PYTHONFAULTHANDLER="1")
        out, error = process.communicate(timeout=60)
        assert process.returncode == (2 if how[0] == 401 else 1), error
        files = [path.read_text() for path in tmp_path.iterdir()]
        assert len(files) == 3
        assert any("I know [key], r1" in text for text in files)
        assert not any(KEY in text or KEY[:12] in text for text in (out, error, *files))
    assert {headers["Authorization"] for headers in server.headers} == {f"Bearer {KEY}"}


# ---------------------------------------------------------------------------------------------------------- the command

MISTAKES = {
    "no endpoint": (["--base_url", ""], "asks a chat model: say which with --base_url and --model"),
    "no model": (["--model", ""], "say which with --base_url and --model"),
    "no address": (["--base_url", "here"], "expected an address such as http://localhost:8000/v1"),
    "no such variable": (["--api_key_env", "NO_SUCH_KEY"], "the environment has no variable of that name"),
    "no such prompt": (["--prompt_file", "none.txt"], "none.txt: no such file"),
    "no filter": (["--filter_cmd", "no-such-program -x"], "no such program"),
    "half a filter": (["--filter_cmd", "cat '"], "No closing quotation"),
    "no JSON": (["--extra_body", "{x"], "expected a JSON object"),
    "no object": (["--extra_body", "[1]"], "expected a JSON object"),
    "a reserved member": (["--extra_body", '{"stream": true}'], "'stream' cannot be set here"),
    "no rate": (["--rate", "0"], "expected a number above 0"),
    "nobody at work": (["--concurrency", "0"], "expected a whole number above 0"),
    "a share": (["--p", "0.2"], "--p has no meaning with --method back_translation"),
    "an offline method": (["--method", "eda"], "has no meaning with --method eda"),
    "nowhere to write": (["--out", "nowhere/out.tsv"], "there is no folder"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line_and_costs_nothing(mistake, tmp_path, server, flags, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    source(tmp_path, 3)
    words, says = MISTAKES[mistake]
    assert main(flags("back_translation", *words)) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("error: ")
    assert says in said.err
    assert said.err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["in.tsv"]
    assert not server.asked
