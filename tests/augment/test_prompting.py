"""prompting.py: what is asked, and what is taken from the answers."""

import sys
import threading
from collections import Counter

import numpy as np
import pytest
from chat_server import command, copies, serving, source

from augmentation import main
from minbert.augment.chat import Answer
from minbert.augment.prompting import BLANK, PROMPTS, LeftOut, blank, fill, read_prompts, taken
from minbert.files import UserError
from minbert.text.rows import generator

KEY = "sk-test-0123456789abcdef"
THINKING = PROMPTS["back_translation"].with_stem("back_translation_chain_of_thought")


@pytest.fixture
def server():
    with serving() as server:
        yield server


@pytest.fixture
def flags(tmp_path, server):
    return command(tmp_path, server)


# -------------------------------------------------------------------------------------------------------------- prompts


def test_the_prompts_that_come_with_it():
    for method, path in PROMPTS.items():
        assert len(read_prompts(path, method)) == (2 if method == "back_translation" else 1)
    (thinking,) = read_prompts(THINKING, "back_translation")
    assert "<answer>" in thinking
    (completion,) = read_prompts(PROMPTS["sentence_completion"], "sentence_completion")
    assert completion.endswith("{text} To put it differently,")


def test_texts_with_braces_and_dashes_stay_as_they_are():
    assert fill("{text}|{answer}|{x}", text="{answer} {words}", answer="{text}") == "{answer} {words}|{text}|{x}"


@pytest.mark.parametrize(
    ("method", "content", "says"),
    [
        ("back_translation", "Translate!", "no {text} in prompt 1"),
        ("back_translation", "", "no {text} in prompt 1"),
        ("back_translation", "{text}\n---\nBack: {text}", "no {answer} in prompt 2"),
        ("back_translation", "{text} {masked}", "{masked} means nothing in prompt 1"),
        ("back_translation", "{text} {answer}", "{answer} means nothing in prompt 1"),
        ("random_mask", "{text}", "no {masked} in prompt 1"),
        ("back_translation", "caf\udce9 {text}", "not UTF-8"),
    ],
)
def test_prompt_files_that_cannot_work(tmp_path, method, content, says):
    (tmp_path / "p.txt").write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(UserError) as caught:
        read_prompts(tmp_path / "p.txt", method)
    assert says in str(caught.value)


def test_a_prompt_file_without_an_end():
    with pytest.raises(UserError, match="/dev/zero, line 1: longer than"):
        read_prompts("/dev/zero", "back_translation")


# ------------------------------------------------------------------------------------------------------------ the blank


def test_15_to_30_percent_of_consecutive_words_are_blanked():
    for n in (2, 3, 4, 7, 10, 20, 40, 100):
        words = [f"w{j}" for j in range(n)]
        seen = Counter()
        for i in range(400):
            text, k = blank(" ".join(words), generator(0, i))
            new = text.split()
            start = new.index(BLANK)
            assert new == [*words[:start], BLANK, *words[start + k :]]
            assert k == 1 if n < 4 else 0.15 * n <= k <= 0.30 * n
            seen[k, start] += 1
        ks = range(-(-15 * n // 100), max(1, 30 * n // 100) + 1)
        assert {k for k, _ in seen} == set(ks)
        if n <= 20:  # every place is reached; the number of words is drawn evenly
            assert seen.keys() == {(k, start) for k in ks for start in range(n - k + 1)}
            for k in ks:
                share = sum(count for (of, _), count in seen.items() if of == k) / 400
                assert share == pytest.approx(1 / len(ks), abs=4 * np.sqrt(0.25 / 400))


def test_a_text_of_one_word_is_left_out(tmp_path, server, flags, capsys):
    """And the pair that it is in, before its other text is paid for."""
    (tmp_path / "in.tsv").write_text("id\tsentence1\tsentence2\na\tone two r0\tthree\nb\tone two r1\tthree four r1\n")
    assert main(flags("random_mask")) == 0
    assert "left out: a: one word: nothing would stand around the blank" in capsys.readouterr().out
    assert sum(server.asked.values()) == 2
    assert list(copies(tmp_path)) == ["b"]


def test_each_row_has_a_blank_of_its_own(tmp_path, server, flags):
    text = " ".join(f"w{j}" for j in range(20))
    (tmp_path / "in.tsv").write_text("id\tsentence\n" + "".join(f"{i}\t{text}\n" for i in range(20)))
    assert main(flags("random_mask")) == 0
    assert len({body["messages"][0]["content"] for body in server.bodies}) > 10


def test_the_blank_depends_on_seed_and_id_alone(tmp_path, server, flags):
    source(tmp_path, 12, pairs=True)
    sent = []
    for seed, count in ((3, 12), (3, 5), (4, 12)):
        lines = (tmp_path / "in.tsv").read_text().splitlines()
        (tmp_path / "in.tsv").write_text("\n".join([lines[0], *lines[: -count - 1 : -1]]) + "\n")
        server.bodies.clear()
        (tmp_path / "out.tsv").unlink(missing_ok=True)
        assert main(flags("random_mask", "--seed", seed)) == 0
        sent.append({body["messages"][0]["content"] for body in server.bodies})
        source(tmp_path, 12, pairs=True)
    assert sent[1] < sent[0]
    assert len(sent[0] & sent[2]) < len(sent[0]) / 2
    for prompt in sent[0]:
        text = prompt.rpartition("\n")[2].split()
        (words,) = (line.split()[-1] for line in prompt.splitlines() if line.startswith("Number of words"))
        assert words in ("2.", "3.")  # of 8 to 13
        assert text.count(BLANK) == 1


# ---------------------------------------------------------------------------------------------------------- the answers

LEAD = "{text} To put it differently,"
TAKEN = [  # prompt, text, answer, words taken
    ("{text}", "a b", " one\ttwo\r\nthree\x00four\u2028five \n", "one two three four five"),
    ("{text}", "a b", '"Quoted words."', "Quoted words."),
    ("{text}", "a b", "“It’s quoted.”", "It’s quoted."),
    ("{text}", "a b", "« C'est ça »", "C'est ça"),
    ("{text}", "a b", "'It's quoted.'", "It's quoted."),
    ("{text}", "a b", '"Yes" and "no"', '"Yes" and "no"'),
    ("{text}", "a b", '"Yes", he said', '"Yes", he said'),
    ("{text}", '"a b"', '"Quoted words."', '"Quoted words."'),
    ("{text}", "a b", '"', '"'),
    ("{text}", "a b", "<think>hm,\n<answer>no</answer></think>\nyes", "yes"),
    ('Say "{text}"', "a b", 'He said "no" to me', 'He said "no" to me'),
    ("Think. <answer> {text}", "a b", "1. <answer>no</answer>\n2.\n<answer>\n'yes'\n</answer> so", "yes"),
    ("Think. <answer> {text}", "a b", "I put it between <answer> tags: <answer>yes</answer>", "yes"),
    (LEAD, "a b", "another b.", "another b."),
    (LEAD, "a b", "To put it differently, another b.", "another b."),
    (LEAD, "a b", "a b to put it\n differently, another b.", "another b."),
]


@pytest.mark.parametrize(("prompt", "text", "answer", "words"), TAKEN)
def test_what_is_taken(prompt, text, answer, words):
    assert taken(Answer(answer, "stop"), prompt, text) == words


@pytest.mark.parametrize(
    ("prompt", "answer", "finish", "most", "says"),
    [
        ("{text}", "", "stop", None, "empty"),
        ("{text}", '\n"  "', "stop", None, "empty"),
        ("{text}", "w " * 101, "stop", None, "101 words, more than 100"),
        ("{text}", "w " * 8, "stop", 7, "8 words, more than 7"),
        ("{text}", "w", "length", None, "cut its answer"),
        ("{text}", "w", "content_filter", None, "cut its answer"),
        ("<answer> {text}", "so it is yes", "stop", None, "no <answer>"),
        ("{masked}", f"a {BLANK} film", "stop", None, "still in its answer"),
    ],
)
def test_what_is_left_out(prompt, answer, finish, most, says):
    with pytest.raises(LeftOut, match=says):
        taken(Answer(answer, finish), prompt, "a b", most)


def test_a_long_text_may_have_a_long_answer():
    assert taken(Answer("w " * 150, None), "{text}", "w " * 50) == ("w " * 150).strip()


# ---------------------------------------------------------------------------------------------------------- the methods


def test_back_translation_is_two_calls_for_each_text(tmp_path, server, flags):
    rows = source(tmp_path, 6, pairs=True)
    french = {}

    def answer(prompt):
        text = prompt.rpartition("\n")[2]
        if "into French" in prompt:
            french[text] = f"le {text[::-1]} {text.split()[-1]}"
            return french[text]
        assert text in french.values()
        return f"back from {text}"

    server.answer = answer
    assert main(flags("back_translation")) == 0
    assert copies(tmp_path) == {id: tuple(f"back from {french[text]}" for text in texts) for id, texts in rows.items()}
    assert list(copies(tmp_path)) == list(rows)
    assert set(server.asked.values()) == {4}
    lines = (tmp_path / "out.tsv").read_text().splitlines()
    assert lines[0] == "id\tsentence1\tsentence2\tmethod"
    assert all(line.endswith("\tback_translation") for line in lines[1:])
    assert not list(tmp_path.glob("*.partial"))


def test_completion_and_chain_of_thought(tmp_path, server, flags):
    rows = source(tmp_path, 3)
    assert main(flags("sentence_completion")) == 0
    assert {body["messages"][0]["content"].splitlines()[-1] for body in server.bodies} == {
        f"{text} To put it differently," for (text,) in rows.values()
    }
    (tmp_path / "out.tsv").unlink()
    server.answer = lambda prompt: f"1. Un film.\n<answer>film {prompt.split()[-1]}</answer>"
    assert main(flags("back_translation", "--prompt_file", THINKING)) == 0
    assert copies(tmp_path) == {id: (f"film {id}",) for id in rows}


def test_settings_reach_the_endpoint(tmp_path, server, flags, capsys):
    source(tmp_path, 1)
    body = '{"repetition_penalty": 1}'
    assert main(flags("sentence_completion", "--temperature", 0.7, "--max_tokens", 50, "--extra_body", body)) == 0
    sent = server.bodies[0]
    assert (sent["temperature"], sent["max_tokens"], sent["repetition_penalty"], sent["model"]) == (0.7, 50, 1, "m")
    assert "requests made: 1; 0 (0.0%) equal to their input" in capsys.readouterr().out


def test_how_many_are_equal_to_their_input(tmp_path, server, flags, capsys):
    rows = source(tmp_path, 4)
    server.answer = lambda prompt: rows["r1"][0] if "r1" in prompt else "other"
    assert main(flags("back_translation")) == 0
    assert "1 (25.0%) equal to their input" in capsys.readouterr().out


@pytest.mark.parametrize("count", [1, 5])
def test_rows_really_go_side_by_side(tmp_path, server, flags, count):
    source(tmp_path, 20)
    everyone = threading.Barrier(count)
    server.answer = lambda prompt: f"answer {everyone.wait(10)}"
    assert main(flags("sentence_completion", "--concurrency", count)) == 0
    assert server.most_at_once == count


# ----------------------------------------------------------------------------------------------------------- the filter


def test_the_filter_changes_drops_and_never_sees_the_key(tmp_path, server, flags, capsys, monkeypatch):
    monkeypatch.setenv("MY_KEY", KEY)
    program = tmp_path / "filter.py"
    program.write_text(
        "import os, sys\ntext = sys.stdin.read().strip()\nif 'r2' in text: sys.exit(3)\nif 'r3' not in text:\n"
        "    print(text.upper(), 'MY_KEY' in os.environ, os.environ['HOME_OF'])\n"
    )
    monkeypatch.setenv("HOME_OF", "x")
    source(tmp_path, 5)
    command = flags("back_translation", "--api_key_env", "MY_KEY", "--filter_cmd", f"{sys.executable} {program}")
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "left out: r2: the filter dropped it (exit code 3)" in said
    assert "left out: r3: the filter dropped it (no text)" in said
    assert "5 rows: 3 done, 2 left out, 0 failed" in said
    assert copies(tmp_path)["r0"][0].endswith(" R0 False x")
    program.write_text("import sys; print(sys.stdin.read().lower())")  # another filter costs nothing
    assert main(command) == 0
    assert len(copies(tmp_path)) == 5
    assert sum(server.asked.values()) == 10
