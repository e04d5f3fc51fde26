"""-h on two screens, --help-all with everything, and the page docs/flags.md, which is up to date."""

import re
import runpy
from pathlib import Path

import pytest

from minbert.flags import help as flags_help
from minbert.flags.parser import build_parser

DOCS = Path(__file__).parents[2] / "docs"
FLAGS = {name for name in build_parser()._option_string_actions if name.startswith("--")}


def shown(capsys, flag):
    with pytest.raises(SystemExit) as end:
        build_parser().parse_args([flag])
    assert end.value.code == 0
    return capsys.readouterr().out


def named(text):
    return set(re.findall(r"--[\w-]*\w", text))


def test_short_help_fits_two_screens_and_names_every_flag():
    lines = flags_help.short(build_parser(), 80).splitlines()
    assert len(lines) <= 100
    told = lines[: lines.index("examples:")]
    assert max(map(len, told)) < 80
    assert named(" ".join(told)) >= FLAGS - {"--help"}


def test_h_is_short_and_help_all_has_every_flag_in_full(capsys):
    assert shown(capsys, "-h") == shown(capsys, "--help")
    full = shown(capsys, "--help-all")
    assert named(full) >= FLAGS
    parser = build_parser()
    for action in parser._actions:
        assert flags_help.help_of(parser, action)[:40] in " ".join(full.split())


def test_the_page_of_flags_is_current():
    written = runpy.run_path(str(DOCS / "write_flags.py"))["content"]()
    assert (DOCS / "flags.md").read_text(encoding="utf-8") == written, "run: python docs/write_flags.py"
    assert named(written) >= FLAGS
