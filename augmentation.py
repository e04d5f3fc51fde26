r"""Other words for the same text: augmented copies of a file's texts, keyed by id, for consistency training.

    python augmentation.py --method tfidf --in data/cs224n/ids-sst-train.csv --task sst --out sst-tfidf.tsv
    python augmentation.py --method mlm --model runs/in-domain/bert --in data/unlabelled/quora.tsv --out quora-mlm.tsv
    python augmentation.py --method back_translation --base_url http://localhost:8000/v1 --model llama-3-8b-instruct \
        --in data/unlabelled/sts.tsv --out sts-back.tsv

The file written is tab separated without quoting: id, sentence (or sentence1, sentence2), method. What is done to a row
depends on the seed and its id (for tfidf also on the words of the whole file, for mlm on its checkpoint), not on the
rows before it. A command that was stopped goes on where it was: its rows are kept in OUT.<digest>.partial.

tfidf, eda                                          words replaced, deleted and swapped, offline: word_changes.py
mlm                                                 words filled in by a masked language model, offline: word_filling.py
back_translation, sentence_completion, random_mask  by prompting a chat model: prompting.py
"""

import argparse
import hashlib
import json
import os
import sys
from collections.abc import Callable
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

import datasets
from minbert.augment.chat import Chat, Pace, api_key
from minbert.augment.prompting import PROMPTS, Filter, Journal, make_copies, read_prompts
from minbert.augment.word_changes import Eda, TfIdf
from minbert.files import UserError, complain, sha256, short, written_whole
from minbert.flags import types as flag_types
from minbert.flags.parser import Parser
from minbert.text.rows import generator, read_rows

METHODS = {"tfidf": TfIdf.default, "eda": Eda.default, "mlm": 0.15}  # that need nobody else -> their p
OF_ALL = {"method", "source", "out", "task", "seed"}
FLAGS_OF = {"tfidf": {"p"}, "eda": {"p"}, "mlm": {"p", "model"}}  # besides; PROMPTS have all but p
SYNC_EVERY = 1000  # rows; what a power failure may lose
ROWS_FILLED = 32  # rows whose words mlm fills in with one pass; what a kill may lose


class Change(NamedTuple):
    """One of METHODS, on one file.

    many     [(text, RandomState)] -> [text]
    at_once  rows that it is given together
    made_by  what decides its texts besides p and the file
    said     what it says of itself first
    """

    many: Callable
    at_once: int = 1
    made_by: tuple = ()
    said: str = ""


def change_of(method, texts, p, model=None):
    """The Change that one of METHODS is on a file with these texts. model: mlm's checkpoint."""
    if method != "mlm":
        change = {"tfidf": TfIdf, "eda": Eda}[method](texts, p)
        return Change(lambda jobs: [change(text, random) for text, random in jobs])
    from minbert.augment.word_filling import FillMask  # torch takes a second, which the others do not need

    change = FillMask(p, model)
    return Change(change.many, ROWS_FILLED, (sha256(change.found.weights),), change.quality(texts))


def augment(rows, out, method, seed=0, p=None, source="", model=None):
    """Write the augmented copies of `rows` (Rows) to the file `out`; returns (rows equal to their input, rows that an
    earlier call had done already).

    Rows are appended to a partial file, which takes the place of `out` at the end. Its name has a digest of method,
    seed, p, model and `source` (whatever else decides the result, such as the input's digest), so that only rows made
    in the same way are gone on from. Raises UserError where `out` is something else than an ordinary file.
    """
    out = Path(out)
    p = METHODS[method] if p is None else p
    _check(out)
    change = change_of(method, list(chain.from_iterable(rows.texts.values())), p, model)
    if change.said:
        print(change.said)
    partial = _partial(out, [method, seed, p, source, *change.made_by])
    chunks = _chunks([*rows.texts.items()], change.at_once)

    with open(partial, "a+b", buffering=0) as f:  # unbuffered, so that a kill loses no more than the rows being made
        done = _done(f)
        resumed = len(done)
        if not f.tell():
            f.write(_header(rows))
        with tqdm(desc=method, total=len(rows.texts), unit="row", delay=1, dynamic_ncols=True) as bar:
            for chunk in chunks:
                for id, texts in _changed(change, chunk, seed, done):
                    done[id] = texts
                    f.write(_line(id, *texts, method))
                    if len(done) % SYNC_EVERY == 0:
                        os.fsync(f.fileno())
                bar.update(len(chunk))
        os.fsync(f.fileno())
    os.replace(partial, out)
    return sum(done[id] == texts for id, texts in rows.texts.items()), resumed


def _chunks(rows, size):
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def _changed(change, chunk, seed, done):
    """[(id, copies of its texts)] of a chunk's rows that are not done. Those that are go through it too, so that the
    others become what they would have become in one go."""
    if all(id in done for id, _ in chunk):
        return []
    randoms = [generator(seed, id) for id, _ in chunk]
    jobs = [(text, random) for (_, texts), random in zip(chunk, randoms, strict=True) for text in texts]
    copies = iter(change.many(jobs))
    return [(id, copy) for id, texts in chunk for copy in [tuple(islice(copies, len(texts)))] if id not in done]


def augment_by_prompting(rows, out, method, prompts, chat, seed=0, source="", **settings):
    """Write the copies of `rows` (Rows) that a chat model makes of them to the file `out`, in the order of `rows`;
    returns prompting.Copies, which says why a row has none.

    Answers are kept in a partial file as they arrive, so that none is paid for twice. It stays as long as a row has no
    copy. settings: of prompting.make_copies; they and the endpoint's address may be other ones when a command goes on.
    Raises UserError where `out` is finished, or is something else than an ordinary file, and as make_copies does.
    """
    out = Path(out)
    partial = _partial(out, [method, seed, prompts, chat.body, source])
    if out.exists() and not partial.exists():
        raise UserError(f"{out}: there already; making it again would be paid again: remove it or choose another name")
    with Journal(partial) as journal:
        if kept := len(journal.answers):
            print(f"{partial}: {kept:,} answers are there already")
        copies = make_copies(rows, method, prompts, chat, journal, seed, **settings)
        if copies.texts:
            lines = (_line(id, *copies.texts[id], method) for id in rows.texts if id in copies.texts)
            with written_whole(out) as temporary:
                temporary.write_bytes(b"".join([_header(rows), *lines]))
    if len(copies.texts) == len(rows.texts):
        partial.unlink()
    return copies


def _check(out):
    if out.exists() and not out.is_file():
        raise UserError(f"{out}: not an ordinary file; choose another name")
    if not out.parent.is_dir():
        raise UserError(f"{out}: there is no folder {out.parent}")


def _partial(out, settings):
    """Where the rows of `out` are kept until they are whole: a file for each way of making them."""
    _check(out)
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]
    return out.with_name(f"{out.name}.{digest}.partial")


def _header(rows):
    names = datasets.PAIR if len(next(iter(rows.texts.values()))) == 2 else ("sentence",)
    return _line("id", *names, "method")


def _line(*cells):
    return "\t".join(cells).encode() + b"\n"


def _done(f):
    """{id: texts} of the rows in a partial file; a last line that a kill cut is taken off it."""
    f.seek(0)
    whole, newline, _ = f.read().rpartition(b"\n")
    f.truncate(len(whole + newline))
    f.seek(0, os.SEEK_END)
    rows = [line.split("\t") for line in whole.decode().split("\n")[1:]]
    return {id: tuple(texts) for id, *texts, _method in rows}


def build_parser():
    parser = Parser(prog="augmentation.py", description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--method", choices=[*METHODS, *PROMPTS], required=True, help="how to change the texts")
    add("--in", dest="source", metavar="FILE", required=True, help="the texts: csv, tsv or jsonl(.gz)")
    add("--out", metavar="FILE", required=True, help="where to write the changed texts (tsv)")
    add("--task", help="the file has this task's form (default: by its header; jsonl: id and text)")
    add("--seed", type=flag_types.seed, default=0, help="of the random numbers (default: 0)")
    defaults = ", ".join(f"{name} {p:g}" for name, p in METHODS.items())
    add("--p", type=flag_types.factor, help=f"share of words to change (default: {defaults})")
    add("--model", metavar="NAME", help="mlm: a checkpoint with its head, as RUN/bert; else the endpoint's name for it")
    add_chat_flags(parser.add_argument_group(f"a chat model's methods ({', '.join(PROMPTS)})"))
    return parser


def add_chat_flags(group):
    add = group.add_argument
    count = flag_types.positive(int)
    add("--base_url", metavar="URL", help="an OpenAI-compatible endpoint, as http://localhost:8000/v1")
    add("--api_key_env", metavar="NAME", help="the environment variable with the key (default: no key is sent)")
    add("--temperature", type=flag_types.not_negative(float), default=0.5, metavar="X", help="default: %(default)s")
    add("--max_tokens", type=count, metavar="N", help="longest answer in tokens (default: the endpoint's own)")
    add(
        "--max_words",
        type=count,
        metavar="N",
        help="leave longer answers out (default: 3 times the text, at least 100)",
    )
    add(
        "--extra_body",
        type=json_object,
        default={},
        metavar="JSON",
        help="""more members of each request, as '{"repetition_penalty": 1}'""",
    )
    add("--prompt_file", metavar="FILE", help="prompts to use instead of prompts/METHOD.txt, in the same form")
    add("--concurrency", type=count, default=4, metavar="N", help="rows at a time (default: %(default)s)")
    add("--rate", type=flag_types.positive(float), metavar="N", help="most requests a minute (default: no limit)")
    add("--timeout", type=flag_types.positive(float), default=300, metavar="S", help="seconds (default: %(default)s)")
    add(
        "--filter_cmd",
        metavar="CMD",
        help="a program that gets each changed text and prints what to keep of it; nothing, or an exit code, drops it",
    )


def json_object(text):
    """The members of a JSON object that may be added to a request."""
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError(f"{short(text)}: expected a JSON object")
    if reserved := {"model", "messages", "stream", "n"} & value.keys():
        raise argparse.ArgumentTypeError(f"{min(reserved)!r} cannot be set here")
    return value


def check(parser, options):
    """Raises UserError for a flag that the method does not know, and where one that it needs is missing."""
    method, every = options.method, vars(options).keys()
    for name in sorted(every - OF_ALL - FLAGS_OF.get(method, every - {"p"})):
        if getattr(options, name) != parser.get_default(name):
            raise UserError(f"--{name} has no meaning with --method {method}")
    if method in PROMPTS and not (options.base_url and options.model):
        raise UserError(f"--method {method} asks a chat model: say which with --base_url and --model")
    if method == "mlm" and not options.model:
        raise UserError("--method mlm fills words in with a masked-LM head: say which with --model, as RUN/bert")


def main(argv=None):
    """Exit code: 0 all well, 1 rows without an answer, 2 a mistake of the user's, 130 stopped."""
    try:
        parser = build_parser()
        options = parser.parse_args(argv)
        check(parser, options)
        source, out = Path(options.source), Path(options.out)
        rows = read_rows(source, options.task)
        if out.exists() and out.samefile(source):
            raise UserError(f"{out}: --out would replace the file that --in reads; choose another name")
        code = (prompted if options.method in PROMPTS else changed)(options, rows, [sha256(source), options.task])
        if rows.skipped:
            print(f"{len(rows.skipped):,} rows of {source} left out, the first: {rows.skipped[0]}")
        return code
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on from here")
        return 130
    except (UserError, OSError) as error:
        return complain(error)


def changed(options, rows, source):
    """The command's work for a method of METHODS; returns the exit code."""
    same, resumed = augment(rows, options.out, options.method, options.seed, options.p, source, options.model)
    total = len(rows.texts)
    before = f", {resumed:,} of them by a command that was stopped" if resumed else ""
    print(f"{options.out}: {total:,} rows{before}; {same:,} ({same / total:.1%}) equal to their input")
    return 0


def prompted(options, rows, source):
    """The command's work for a chat model's method; returns the exit code."""
    chat = Chat(
        options.base_url,
        options.model,
        api_key(options.api_key_env) if options.api_key_env else None,
        options.temperature,
        options.max_tokens,
        options.extra_body,
        options.timeout,
        Pace(options.rate),
    )
    copies = augment_by_prompting(
        rows,
        options.out,
        options.method,
        read_prompts(options.prompt_file or PROMPTS[options.method], options.method),
        chat,
        options.seed,
        source,
        most_words=options.max_words,
        filter=Filter(options.filter_cmd, options.api_key_env) if options.filter_cmd else None,
        concurrency=options.concurrency,
    )
    for title, reasons in (("left out", copies.left_out), ("failed", copies.failed)):
        for id, reason in reasons.items():
            print(f"{title}: {id}: {reason}")
    total, done = len(rows.texts), len(copies.texts)
    same = sum(copy == rows.texts[id] for id, copy in copies.texts.items())
    print(f"{total:,} rows: {done:,} done, {len(copies.left_out):,} left out, {len(copies.failed):,} failed")
    print(f"requests made: {chat.pace.turns:,}; {same:,} ({same / max(done, 1):.1%}) equal to their input")
    print(f"{options.out}: {done:,} rows" if done else f"{options.out}: not written, for no row is done")
    if 0 < done < total:
        print("all answers are kept beside it: the same command asks for those that failed, and for no other")
    return 1 if copies.failed or not done else 0


if __name__ == "__main__":
    sys.exit(main())
