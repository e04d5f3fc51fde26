"""The command line of `python -m minbert.look`."""

from minbert.files import UserError, check_replaceable
from minbert.flags.fields import Parser


def build_parser():
    parser = Parser(
        prog="python -m minbert.look", description="Write a page that shows one forward pass of BERT, step by step."
    )
    parser.add_argument("text", nargs="+", help='what to read, "in quotes"; and a second text to stand beside it')
    parser.add_argument("--pair", action="store_true", help="both texts in one sequence: [CLS] a [SEP] b [SEP]")
    parser.add_argument(
        "--model",
        help="a folder, a hub id, or minilm (default: bert-base-uncased, else minilm); with --run, the weights that "
        "the run began with (default: those that its record names)",
    )
    parser.add_argument("--run", metavar="DIR", help="a finished run: its prediction, and what training changed")
    parser.add_argument("--out", default="bert.html", metavar="FILE", help="the page (default: bert.html)")
    return parser


def command_line():
    """What `python -m minbert.look ...` asks for, checked as far as one can without a model."""
    parsed = build_parser().parse_args()
    if (count := len(parsed.text)) > 2:
        raise UserError(f"{count} texts: give one or two, each in quotes")
    if parsed.pair and count == 1:
        raise UserError("--pair: give two texts, each in quotes")
    check_replaceable(parsed.out, over="<!doctype html>")
    return parsed
