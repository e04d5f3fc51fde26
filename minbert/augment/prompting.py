"""Copies of texts by prompting a chat model.

Yan, "BERT Multitask Learning in a Semi-Supervised Learning Setup", section 3.4.1:

back_translation     to French and back: Xie et al. 2020, "Unsupervised Data Augmentation for Consistency Training"
sentence_completion  the text, then "To put it differently,"
random_mask          15 to 30 % of its words, consecutive, blanked and filled again with about as many

A method is a file of prompts, each a call whose {answer} the next one may use. Every answer is paid for, so it is
written to a journal before anything is done with it; copies are then made from the journal's answers and those still
missing. Whatever ends the command, the same one asks only for what it does not have, at most --concurrency rows' calls
being on their way at the time. What an answer must look like is decided after it is written, and may change for free.
"""

import contextlib
import json
import os
import re
import shlex
import shutil
import subprocess
import threading
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from minbert.augment.chat import Answer, Failed
from minbert.augment.growing import growing, whole_lines
from minbert.files import UserError, short
from minbert.readers import lines_of, parse_json
from minbert.text.rows import generator

FOLDER = Path(__file__).parent / "prompts"
PROMPTS = {name: FOLDER / f"{name}.txt" for name in ("back_translation", "sentence_completion", "random_mask")}
BLANK = "____"
PLACEHOLDER = re.compile(r"\{(text|masked|words|answer)\}")
QUOTES = ('""', "''", "“”", "‘’", "«»", "„“", "``")
FILTER_SECONDS = 60
FAILURES_IN_A_ROW = 10  # rows without an answer one after the other: the endpoint is down, or refuses this command


class LeftOut(Exception):
    """An answer cannot be used; its text says why."""


# -------------------------------------------------------------------------------------------------------------- prompts


def read_prompts(path, method):
    """The prompts of a file: what lines of dashes separate, without the lines with # at the head.

    Raises UserError where the first one lacks the text, {text} or for random_mask {masked}, or another one {answer}.
    """
    lines = [line.rstrip("\r\n") for _, line in lines_of(path)]
    while lines and lines[0].startswith("#"):
        del lines[0]
    prompts = [part.strip() for part in re.split(r"(?m)^---+[ \t]*$", "\n".join(lines))]
    own = "masked" if method == "random_mask" else "text"
    known = {"text", "masked", "words"} if method == "random_mask" else {"text"}
    for number, prompt in enumerate(prompts, start=1):
        needed, found = "answer" if number > 1 else own, set(PLACEHOLDER.findall(prompt))
        if needed not in found:
            raise UserError(f"{path}: no {{{needed}}} in prompt {number}; see {PROMPTS[method]}")
        if strange := found - known - ({"answer"} if number > 1 else set()):
            raise UserError(f"{path}: {{{min(strange)}}} means nothing in prompt {number}; see {PROMPTS[method]}")
    return prompts


def fill(prompt, **values):
    """The prompt with its placeholders filled, in one pass: a text that has braces stays as it is."""
    return PLACEHOLDER.sub(lambda found: values[found[1]], prompt)


def blank(text, random):
    """(the text with k consecutive of its n words blanked, k): k is drawn evenly among the numbers from 0.15 n to
    0.30 n, one where there is none, and the place evenly among all. Raises LeftOut for a text of one word."""
    words = text.split()
    n = len(words)
    if n < 2:
        raise LeftOut("one word: nothing would stand around the blank")
    least = -(-15 * n // 100)  # rounded up
    k = random.randint(least, max(least, 30 * n // 100) + 1)
    start = random.randint(n - k + 1)
    return " ".join([*words[:start], BLANK, *words[start + k :]]), k


def taken(answer, prompt, text, most_words=None):
    """The words of an Answer to `prompt` as a copy of `text`: on one line, without what the model put around them.

    Raises LeftOut for an answer that is empty, cut, or longer than most_words (default: three times the text's, at
    least 100), has no <answer> though the prompt asks for one, or still has the blank.
    """
    if answer.finish in ("length", "content_filter"):
        raise LeftOut(f"the endpoint cut its answer ({answer.finish})")
    words = re.sub(r"(?s)^\s*<think>.*?</think>", "", answer.text)  # a reasoning model's, where nobody took it away
    if "<answer>" in prompt:
        found = re.findall(r"(?s)<answer>((?:(?!<answer>).)*?)</answer>", words)
        if not found:
            raise LeftOut("no <answer> in its answer")
        words = found[-1]
    words = _one_line(words)
    lead = _one_line(PLACEHOLDER.split(prompt)[-1])
    if " " in lead:  # "To put it differently,", not the quotation mark behind a quoted text
        words = re.split(re.escape(lead), words, flags=re.IGNORECASE)[-1].strip()
    if _quoted(words) and not _quoted(text):
        words = words[1:-1].strip()
    if not words:
        raise LeftOut("its answer is empty")
    count, most = len(words.split()), most_words or max(100, 3 * len(text.split()))
    if count > most:
        raise LeftOut(f"its answer has {count:,} words, more than {most:,}")
    if BLANK in words and BLANK not in text:
        raise LeftOut("the blank is still in its answer")
    return words


def _one_line(text):
    return " ".join(re.sub(r"[\x00-\x1f\x7f-\x9f]", " ", text).split())


def _quoted(text):
    """Whether all of the text is one quotation: '"a" and "b"' is not, though an apostrophe may be in it."""
    marks = text[:1] + text[-1:]
    return marks in QUOTES and len(text) > 1 and not re.search(rf"(?<!\w)[{marks}]|[{marks}](?!\w)", text[1:-1])


class Filter:
    """A command that gets a text on its standard input and prints what is to stand in its place. It does not get the
    environment's variable `secret`. Raises UserError where there is no such program."""

    def __init__(self, command, secret=None):
        try:
            self.words = shlex.split(command)
        except ValueError as error:
            raise UserError(f"--filter_cmd {command!r}: {error}") from None
        if not self.words or not shutil.which(self.words[0]):
            raise UserError(f"--filter_cmd {short(command)}: no such program")
        self.environment = {name: value for name, value in os.environ.items() if name != secret}

    def __call__(self, text):
        """text -> text; raises LeftOut where the command drops it."""
        try:
            done = subprocess.run(
                self.words,
                input=text + "\n",
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                timeout=FILTER_SECONDS,
                env=self.environment,
            )
        except subprocess.TimeoutExpired:
            raise LeftOut(f"the filter took more than {FILTER_SECONDS} s") from None
        if done.returncode:
            raise LeftOut(f"the filter dropped it (exit code {done.returncode})")
        if not (words := _one_line(done.stdout)):
            raise LeftOut("the filter dropped it (no text)")
        return words


# ---------------------------------------------------------------------------------------------------------- the answers


class Journal:
    """Answers by (id, which of its texts, which prompt), kept in an open file of JSON lines (growing.py).

    texts: {id: its texts}. `damaged`: the numbers of lines that are no answer to one of these. Each line was paid for
    by itself, so those behind a damaged one count.
    """

    def __init__(self, file, texts):
        self.file, self.lock = file, threading.Lock()
        self.answers, self.damaged = {}, []
        for number, line in enumerate(whole_lines(file), start=1):
            if entry := _entry(line, texts):
                self.answers[entry[0]] = entry[1]
            else:
                self.damaged.append(number)

    @classmethod
    @contextlib.contextmanager
    def opened(cls, path, texts):
        """The journal in the file at `path`, which is gone afterwards if nothing is in it."""
        journal = None
        try:
            with growing(path) as f:
                journal = cls(f, texts)
                yield journal
        finally:
            if journal and not (journal.answers or journal.damaged):
                path.unlink(missing_ok=True)

    def answer(self, key, ask):
        """The answer kept under `key`; where there is none, ask() for it and keep it before it is returned."""
        if key not in self.answers:
            answer = ask()
            with self.lock:
                self.file.write(json.dumps([*key, *answer]).encode() + b"\n")
                self.file.flush()
            self.answers[key] = answer
        return self.answers[key]


def _entry(line, texts):
    """(key, Answer) of a journal's line; None for a line that is damaged."""
    try:
        id, place, prompt, text, finish = parse_json(line)
    except (ValueError, TypeError):
        return None
    numbers = type(place) is type(prompt) is int and prompt >= 0
    words = all(isinstance(word, str) for word in (id, text, "" if finish is None else finish))
    if numbers and words and place in range(len(texts.get(id, ()))):
        return (id, place, prompt), Answer(text, finish)
    return None


class Copies(NamedTuple):
    """What became of each row, by id: its changed texts, why its answer was not used, or why it got none."""

    texts: dict[str, tuple[str, ...]]
    left_out: dict[str, str]
    failed: dict[str, str]


def make_copies(rows, method, prompts, chat, journal, seed=0, most_words=None, filter=None, concurrency=4):
    """The Copies of `rows` (Rows) by asking `chat` the `prompts`, `concurrency` rows at a time.

    Raises UserError where the endpoint would refuse every row, or gave none to FAILURES_IN_A_ROW rows one after the
    other. However this ends, answers on their way are waited for and kept.
    """

    def copy_of(id):
        random, texts = generator(seed, id), rows.texts[id]
        values = [values_of(text, random) for text in texts]  # before any call: a text that cannot be used costs none
        return tuple(answer_to(id, place, text, values[place]) for place, text in enumerate(texts))

    def values_of(text, random):
        if method != "random_mask":
            return {"text": text}
        masked, count = blank(text, random)
        return {"text": text, "masked": masked, "words": str(count)}

    def answer_to(id, place, text, values):
        for number, prompt in enumerate(prompts):
            answer = journal.answer((id, place, number), partial(chat.ask, fill(prompt, **values)))
            values["answer"] = taken(answer, prompt, text, most_words)
        return filter(values["answer"]) if filter else values["answer"]

    copies, failures_in_a_row = Copies({}, {}, {}), 0
    left = iter(rows.texts)
    bar = tqdm(desc=method, total=len(rows.texts), unit="row", delay=1, dynamic_ncols=True)
    with bar, ThreadPoolExecutor(concurrency) as pool:
        try:
            working = {pool.submit(copy_of, id): id for id in islice(left, concurrency)}
            while working:
                for future in wait(working, return_when=FIRST_COMPLETED).done:
                    id = working.pop(future)
                    failures_in_a_row += 1
                    try:
                        copies.texts[id] = future.result()
                        failures_in_a_row = 0
                    except LeftOut as error:
                        copies.left_out[id] = str(error)
                        failures_in_a_row = 0
                    except Failed as error:
                        copies.failed[id] = str(error)
                        if failures_in_a_row == FAILURES_IN_A_ROW:
                            raise UserError(
                                f"{failures_in_a_row} rows in a row got no answer, the last one {short(id)}: {error}; "
                                "what was answered is kept, and the same command goes on from there"
                            ) from None
                    bar.update()
                    bar.set_postfix(left_out=len(copies.left_out), failed=len(copies.failed), refresh=False)
                    working |= {pool.submit(copy_of, id): id for id in islice(left, 1)}
        finally:
            chat.pace.stop()  # nothing new is asked; leaving the pool waits for what is on its way
    return copies
