"""The flags of augmentation.py for methods that ask a chat model. Imports no torch."""

import argparse

from minbert.files import short
from minbert.flags import types as flag_types
from minbert.readers import parse_json


def add_chat_flags(group):
    add = group.add_argument
    count = flag_types.positive(int)
    add("--base_url", metavar="URL", help="an OpenAI-compatible endpoint, as http://localhost:8000/v1")
    add("--api_key_env", metavar="NAME", help="the environment variable with the key (default: no key is sent)")
    add("--allow_plain_http", action="store_true", help="send the key also by http:// to another machine, unencrypted")
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
    add(
        "--prompt_file",
        metavar="FILE",
        help="prompts to use instead of minbert/augment/prompts/METHOD.txt, in the same form",
    )
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
        value = parse_json(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError(f"{short(text)}: expected a JSON object")
    if reserved := {"model", "messages", "stream", "n"} & value.keys():
        raise argparse.ArgumentTypeError(f"{min(reserved)!r} cannot be set here")
    return value
