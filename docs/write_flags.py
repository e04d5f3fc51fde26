"""Writes docs/flags.md, every flag of the four commands: python docs/write_flags.py"""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from minbert.files import write_text  # noqa: E402
from minbert.flags import parser  # noqa: E402
from minbert.flags.help import page  # noqa: E402

HEAD = """# Every flag

Written by `python docs/write_flags.py` from the flags themselves; what `--help-all` prints, by group. [methods.md](
methods.md) says what the methods do, `--config FILE` takes flags from a file (YAML, JSON, or a run's `config.json`).
"""


def content():
    lines = ["", "## multitask_classifier.py", *page(parser.build_parser())]
    return HEAD + "\n".join(lines) + "\n"


if __name__ == "__main__":
    write_text(HERE / "flags.md", content())
