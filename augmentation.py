r"""Other words for the same text: augmented copies of a file's texts, keyed by id, for consistency training.

    python augmentation.py --method tfidf --in data/cs224n/ids-sst-train.csv --task sst --out sst-tfidf.tsv
    python augmentation.py --method eda --in my.csv --text review --out my-eda.tsv
    python augmentation.py --method mlm --model runs/in-domain/bert --in data/unlabelled/quora.tsv --out quora-mlm.tsv
    python augmentation.py --method back_translation --base_url http://localhost:8000/v1 --model llama-3-8b-instruct \
        --in data/unlabelled/sts.tsv --out sts-back.tsv

The file written is tab separated without quoting: id, sentence (or sentence1, sentence2), method. What is done to a row
depends on the seed and its id (for tfidf also on the words of the whole file, for mlm on its checkpoint), not on the
rows before it. A command that was stopped goes on where it was: its rows are kept in OUT.<digest>.partial.

tfidf, eda                                          words replaced, deleted and swapped, offline: word_changes.py
mlm                                                 words filled in by a masked language model, offline: word_filling.py
back_translation, sentence_completion, random_mask  by prompting a chat model: prompting.py

These files are in minbert/augment/, beside copies.py, which does the work of this command.
"""

from minbert.script import begin, carry_out

if __name__ == "__main__":
    begin()

import sys
from pathlib import Path

from datasets import told_of_broken
from minbert.augment.chat import Chat, Pace, api_key
from minbert.augment.chat_flags import add_chat_flags
from minbert.augment.copies import METHODS, augment, augment_by_prompting
from minbert.augment.prompting import PROMPTS, Filter, read_prompts
from minbert.augment.sentiment_words import KEPT
from minbert.files import UserError, sha256
from minbert.flags import types as flag_types
from minbert.flags.fields import Parser
from minbert.text.rows import read_lines_as_rows, read_rows

OF_ALL = {"method", "source", "out", "task", "text", "text_pair", "seed"}
OFFLINE = {"p", "keep_words"}  # those that a chat model's methods do not have
FLAGS_OF = {"tfidf": OFFLINE, "eda": OFFLINE, "mlm": {*OFFLINE, "model"}}


def build_parser():
    parser = Parser(prog="augmentation.py", description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--method", choices=[*METHODS, *PROMPTS], required=True, help="how to change the texts")
    add(
        "--in",
        dest="source",
        metavar="FILE",
        required=True,
        help="the texts: csv, tsv, jsonl(.gz), or .txt with one a line",
    )
    add("--out", metavar="FILE", required=True, help="where to write the changed texts (tsv)")
    add("--task", help="the file has this task's form (default: by its header; jsonl: id and text)")
    add("--text", metavar="COLUMN", help="the column with the texts, in a file with commas, tabs or JSON lines")
    add("--text_pair", metavar="COLUMN", help="the column with the second texts, where they are pairs")
    add("--seed", type=flag_types.seed, default=0, help="of the random numbers (default: 0)")
    defaults = ", ".join(f"{name} {p:g}" for name, p in METHODS.items())
    add("--p", type=flag_types.factor, help=f"share of words to change (default: {defaults})")
    add(
        "--keep_words",
        choices=KEPT,
        help="sentiment: negations, and words that praise or blame, stay as they are (default: for single texts)",
    )
    add("--model", metavar="NAME", help="mlm: a checkpoint with its head, as RUN/bert; else the endpoint's name for it")
    add_chat_flags(parser.add_argument_group(f"a chat model's methods ({', '.join(PROMPTS)})"))
    return parser


def check_flags(parser, options):
    """Raises UserError for a flag that the method does not know, and where one that it needs is missing."""
    method, every = options.method, vars(options).keys()
    if options.text and options.task:
        raise UserError("--text names a column, --task knows its own: leave one out")
    if options.text_pair and not options.text:
        raise UserError("--text_pair is of no use without --text, the column of the first texts")
    for name in sorted(every - OF_ALL - FLAGS_OF.get(method, every - OFFLINE)):
        if getattr(options, name) != parser.get_default(name):
            raise UserError(f"--{name} has no meaning with --method {method}")
    if method in PROMPTS and not (options.base_url and options.model):
        raise UserError(f"--method {method} asks a chat model: say which with --base_url and --model")
    if method == "mlm" and not options.model:
        raise UserError("--method mlm fills words in with a masked-LM head: say which with --model, as RUN/bert")


def main(argv=None):
    """Exit code: 0 all well, 1 rows without an answer, and those of carry_out."""
    again = "\nstopped; the same command goes on from here"
    return carry_out(work, argv, interrupted=again, lower="give --in in parts, or a smaller --model")


def work(argv):
    parser = build_parser()
    options = parser.parse_args(argv)
    check_flags(parser, options)
    source, out = Path(options.source), Path(options.out)
    columns = [column for column in (options.text, options.text_pair) if column]
    plain = source.suffix == ".txt" and not columns and options.task is None
    rows = read_lines_as_rows(source) if plain else read_rows(source, options.task, columns)
    if out.exists() and out.samefile(source):
        raise UserError(f"{out}: --out would replace the file that --in reads; choose another name")
    code = (prompted if options.method in PROMPTS else changed)(options, rows, [sha256(source), options.task, *columns])
    if rows.skipped:
        print(f"{len(rows.skipped):,} rows of {source} left out, the first: {rows.skipped[0]}")
    if rows.broken:
        print(f"{source}{told_of_broken(rows.broken)}")
    return code


def changed(options, rows, source):
    """The command's work for a method of METHODS; returns the exit code."""
    if rows.are_pairs:
        print("warning: these are pairs, and a copy of a pair may not keep its label: look at some before you use them")
    same, resumed = augment(
        rows, options.out, options.method, options.seed, options.p, source, options.model, options.keep_words
    )
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
        options.allow_plain_http,
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
    report(options.out, rows, copies, chat.pace.turns)
    return 1 if copies.failed or not copies.texts else 0


def report(out, rows, copies, requests):
    """Print what became of the rows: prompting.Copies."""
    for title, reasons in (("left out", copies.left_out), ("failed", copies.failed)):
        for id, reason in reasons.items():
            print(f"{title}: {id}: {reason}")
    total, done = len(rows.texts), len(copies.texts)
    same = sum(copy == rows.texts[id] for id, copy in copies.texts.items())
    print(f"{total:,} rows: {done:,} done, {len(copies.left_out):,} left out, {len(copies.failed):,} failed")
    print(f"requests made: {requests:,}; {same:,} ({same / max(done, 1):.1%}) equal to their input")
    print(f"{out}: {done:,} rows" if done else f"{out}: not written, for no row is done")
    if 0 < done < total:
        print("all answers are kept beside it: the same command asks for those that failed, and for no other")


if __name__ == "__main__":
    sys.exit(main())
