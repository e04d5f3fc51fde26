"""Lines in, answers out: who answers what, in which form, which lines are refused, and how much is read at a time."""

import io
import json
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from bert import BertModel
from datasets import TASKS
from minbert import evaluation
from minbert.evaluation import Predictions
from minbert.files import UserError
from minbert.text.tokenization import Tokenizer
from minbert.training import inference
from multitask_classifier import MultitaskBERT

SENTENCE, PAIR = "the film was good", "where is the dog \t where is the cat"


@pytest.fixture(scope="module")
def tokenizer(tiny_model):
    return Tokenizer.from_folder(tiny_model)


@pytest.fixture
def build(tiny_model):
    """build(names, choices...) -> a model with a head for each of these tasks."""

    def make(*names, **choices):
        torch.manual_seed(2)
        return MultitaskBERT(BertModel.from_pretrained(tiny_model), {name: TASKS[name] for name in names}, **choices)

    return make


@pytest.fixture
def ask(tokenizer):
    """ask(model, lines) -> the list of texts to print."""

    def texts(model, lines, **more):
        answered = inference.answer_lines(model, tokenizer, lines, 64, **more)
        return [inference.as_text(line, model.tasks) for line in answered]

    return texts


@pytest.fixture
def says(monkeypatch):
    """says[task] = (value, probabilities): what a head is made to answer to every text."""
    said = {}

    def read_out(model, name, embeddings):
        value, probabilities = said[name]
        rows = None if probabilities is None else np.array([probabilities] * len(embeddings), np.float32)
        return Predictions(np.array([value] * len(embeddings)), rows)

    monkeypatch.setattr(evaluation, "read_out", read_out)
    return said


# ------------------------------------------------------------------------------------------------ what is printed


def test_a_sentence_goes_to_every_head_of_single_texts(build, ask, says):
    says["sst"] = (3, [0.03, 0.04, 0.10, 0.61, 0.22])
    says["cfimdb"] = (1, [0.08, 0.92])
    assert ask(build("sst", "quora", "cfimdb"), [SENTENCE]) == [
        "the film was good\n"
        "    sst     somewhat positive 0.61 (positive 0.22, neutral 0.10, somewhat negative 0.04, negative 0.03)\n"
        "    cfimdb  positive          0.92 (negative 0.08)"
    ]


def test_a_pair_goes_to_every_head_of_pairs(build, ask, says):
    says["quora"] = (0, [0.75, 0.25])
    says["sts"] = (3.4166, None)
    assert ask(build("sst", "sts", "quora"), [PAIR]) == [
        "where is the dog | where is the cat\n"
        "    sts    3.42 (from 0 to 5)\n"
        "    quora  not_duplicate 0.75 (duplicate 0.25)"
    ]


def test_a_score_told_in_classes_is_a_score_with_the_likeliest_of_them(build, ask, says):
    probabilities = np.full(26, 0.01)
    probabilities[[14, 15, 2]] = 0.4, 0.3, 0.07
    says["sts"] = (2.8, probabilities)
    (text,) = ask(build("sts", sts_head="classification"), [PAIR])
    assert text.splitlines()[1] == "    sts  2.80 (from 0 to 5: 2.8 0.40, 3.0 0.30, 0.4 0.07)"


def test_of_more_than_five_classes_the_first_three_are_printed(build, ask, says):
    model = build("sst")
    model.tasks["sst"] = replace(TASKS["sst"], labels=tuple("abcdef"))
    says["sst"] = (4, [0.05, 0.06, 0.19, 0.1, 0.5, 0.1])
    (text,) = ask(model, [SENTENCE])
    assert text.splitlines()[1] == "    sst  e 0.50 (c 0.19, d 0.10)"


@pytest.mark.parametrize("choices", [{}, {"pairs": "concat"}, {"pairs": "cosine", "sts_head": "cosine"}], ids=str)
def test_the_answers_are_the_predictions_of_each_head(build, ask, tokenizer, choices):
    """One trunk pass for all heads of a kind, mixed lines in their order."""
    model = build("sst", "cfimdb", "quora", "sts", **choices)
    sentences, pairs = ["the film", "a dull slow plot and bad music"], [("a dog", "a big old cat"), ("how", "why")]
    lines = [sentences[0], "\t".join(pairs[0]), "", "\t".join(pairs[1]), sentences[1]]
    answers = ask(model, lines)
    assert len(answers) == 4
    single = tokenizer.encode([(text,) for text in sentences], 64)
    double = tokenizer.encode(pairs, 64, fused=model.fused)
    expected = {name: evaluation.predict(model, name, single if name in ("sst", "cfimdb") else double)
                for name in model.tasks}  # fmt: skip
    for answer, row in zip(answers, (0, 0, 1, 1), strict=True):
        names = ("quora", "sts") if "|" in answer else ("sst", "cfimdb")
        for line, name in zip(answer.splitlines()[1:], names, strict=True):
            said, task = expected[name], model.tasks[name]
            assert line.split()[0] == name
            if task.kind == "regression":
                assert float(line.split()[1]) == pytest.approx(said.values[row], abs=0.0051)
            else:
                label = task.labels[said.values[row]]
                found = line.split(maxsplit=1)[1]
                assert found.startswith(label + " ")
                probability = float(found.removeprefix(label).split()[0])
                assert probability == pytest.approx(said.probabilities[row].max(), abs=0.0051)


def test_the_trunk_reads_each_text_once_whatever_the_heads(build, ask, monkeypatch):
    model, passes = build("sst", "cfimdb", "sst2", "quora", "sts"), []
    embed = model.embed

    def watched(sequences, **asked):
        passes.append([len(s) for s in sequences.values()])
        return embed(sequences, **asked)

    monkeypatch.setattr(model, "embed", watched)
    ask(model, [SENTENCE, PAIR, SENTENCE])
    assert passes == [[2], [1]]


# --------------------------------------------------------------------------------------------- lines not answered


def test_lines_that_cannot_be_answered_are_named(build, ask):
    lines = [SENTENCE, "", "a\tb\tc", " \t ", "a dog\t", PAIR, "a dog"]
    texts = ask(build("sst"), lines)
    assert [text.split("\n")[0] for text in texts] == [
        SENTENCE,
        "line 3: 2 tabs; a sentence has none, a pair one: not answered",
        "line 5: no text on one side of the tab: not answered",
        "line 6: a pair of sentences, and this model has no head for one: not answered",
        "a dog",
    ]


@pytest.mark.parametrize("batch", [1, 2, 64])
def test_numbers_and_order_do_not_depend_on_the_batch(build, ask, batch):
    lines = [SENTENCE, "a\tb\tc", PAIR, "", SENTENCE, "a\tb\tc\td"]
    model = build("sst", "quora")
    texts = ask(model, lines, batch=batch)
    assert [text.split("\n")[0][:6] for text in texts] == ["the fi", "line 2", "where ", "the fi", "line 6"]
    assert texts == ask(model, lines)


def test_nothing_answered_at_all_is_an_error_that_says_what_would_be(build, tokenizer):
    answers = inference.answer_lines(build("quora", "sts"), tokenizer, [SENTENCE, SENTENCE], 64)
    assert next(answers).note.startswith("a sentence, and this model has no head")
    assert next(answers).number == 2
    with pytest.raises(UserError, match="no line held a pair of sentences that the heads of quora, sts could answer"):
        next(answers)
    with pytest.raises(UserError, match="a sentence or a pair of sentences"):
        list(inference.answer_lines(build("sst", "quora"), tokenizer, ["", "  "], 64))


@pytest.mark.parametrize("batch", [1, 5])
def test_lines_are_read_as_they_are_answered(build, tokenizer, batch):
    read = []

    def endless():
        while True:
            read.append(1)
            yield SENTENCE

    answers = inference.answer_lines(build("sst"), tokenizer, endless(), 64, batch=batch)
    for _ in range(batch):
        next(answers)
    assert len(read) == batch  # an answer does not wait for the line after it
    next(answers)
    assert len(read) == 2 * batch


# ---------------------------------------------------------------------------------------------------- other forms

LINES = [SENTENCE, PAIR, "a\tb\tc"]


@pytest.fixture
def two_heads(build, says):
    says["sst"] = (3, [0.03, 0.04, 0.1, 0.61, 0.22])
    says["sts"] = (3.5, None)
    return build("sst", "sts")


def told(model, tokenizer, form, path=None):
    return inference.deliver(inference.answer_lines(model, tokenizer, LINES, 64), model.tasks, form, path)


def test_json_is_an_object_a_line_with_every_digit(two_heads, tokenizer, capsys):
    assert told(two_heads, tokenizer, "json") == ""
    probabilities = dict(zip(TASKS["sst"].labels, [0.03, 0.04, 0.1, 0.61, 0.22], strict=True))
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == [
        {
            "line": 1,
            "texts": [SENTENCE],
            "answers": {"sst": {"label": "somewhat positive", "probabilities": probabilities}},
        },
        {"line": 2, "texts": ["where is the dog", "where is the cat"], "answers": {"sts": {"score": 3.5}}},
        {"line": 3, "texts": ["a", "b", "c"], "note": "2 tabs; a sentence has none, a pair one: not answered"},
    ]


TABLE = f"""line\ttext\ttext_pair\tsst\tsst_probability\tsts\tsts_probability\tnote
1\t{SENTENCE}\t\tsomewhat positive\t0.61\t\t\t
2\twhere is the dog\twhere is the cat\t\t\t3.5\t\t
3\t\t\t\t\t\t\t2 tabs; a sentence has none, a pair one: not answered
"""


def test_a_table_has_a_row_a_line(two_heads, tokenizer, capsys):
    told(two_heads, tokenizer, "tsv")
    assert capsys.readouterr().out == TABLE


def test_a_file_is_written_and_what_is_not_answered_told(two_heads, tokenizer, tmp_path):
    path = tmp_path / "out.tsv"
    assert told(two_heads, tokenizer, "tsv", path) == (
        f"{path}: 2 lines answered; 1 not, the first: line 3: 2 tabs; a sentence has none, a pair one: not answered"
    )
    assert path.read_text(encoding="utf-8") == TABLE


def test_a_file_is_there_whole_or_not_at_all(two_heads, tokenizer, tmp_path):
    def stopped():
        yield SENTENCE
        raise KeyboardInterrupt

    lines = inference.answer_lines(two_heads, tokenizer, stopped(), 64, batch=1)
    with pytest.raises(KeyboardInterrupt):
        inference.deliver(lines, two_heads.tasks, "json", tmp_path / "out.jsonl")
    assert not [*tmp_path.iterdir()]


def test_outputs_that_cannot_be_are_refused_first(tmp_path):
    source = tmp_path / "lines.txt"
    source.write_text("a\n")
    with pytest.raises(UserError, match=r"--input reads that file"):
        inference.check_output(source, source)
    with pytest.raises(UserError, match="there is no folder"):
        inference.check_output(tmp_path / "none" / "out")
    with pytest.raises(UserError, match="not an ordinary file"):
        inference.check_output(tmp_path)
    inference.check_output(tmp_path / "new", source)
    assert [path.name for path in tmp_path.iterdir()] == ["lines.txt"]


# --------------------------------------------------------------------------------------------------- where from


def test_lines_of_a_file(tmp_path):
    path = tmp_path / "lines.txt"
    path.write_bytes("\ufeffçok güzel\r\n\na\tb c \nthe \u2028 end".encode())
    assert list(inference.read_lines(path)) == ["çok güzel", "", "a\tb c ", "the \u2028 end"]


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(UserError, match=r"none\.txt: cannot be read \(No such file"):
        inference.read_lines(tmp_path / "none.txt")  # at once, before a model is loaded
    with pytest.raises(UserError, match="cannot be read"):
        inference.read_lines(tmp_path)
    for name in ("mail.csv", "mail.jsonl", "mail.jsonl.gz"):
        (tmp_path / name).write_text("subject,kind\nbuy,spam\n")
        with pytest.raises(UserError, match=rf"{name}: a table; expected lines, a sentence each"):
            inference.read_lines(tmp_path / name)
    path = tmp_path / "latin.txt"
    path.write_bytes(b"fine\ncaf\xe9\n")
    lines = inference.read_lines(path)
    assert next(lines) == "fine"
    with pytest.raises(UserError, match=r"latin\.txt, line 2: bytes that are not UTF-8"):
        next(lines)


@pytest.mark.parametrize("terminal", [True, False])
def test_lines_of_standard_input_with_a_hint_at_a_terminal(monkeypatch, capsys, terminal):
    stream = io.TextIOWrapper(io.BytesIO("one\ntwo é\n".encode()), encoding="ascii")  # whatever the locale says
    monkeypatch.setattr(sys, "stdin", stream)
    monkeypatch.setattr(inference, "interactive", lambda path=None: terminal)
    assert list(inference.read_lines()) == ["one", "two é"]
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == terminal
    assert ("tab" in err) == terminal


def test_who_waits_for_answers(monkeypatch, tmp_path):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr(sys, "stdin", Terminal())
    assert inference.interactive()
    assert not inference.interactive(tmp_path / "lines.txt")
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    assert not inference.interactive()
