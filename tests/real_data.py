"""Where tests find real data: below the folder that the environment variable MINBERT_DATA names, then in data/.

Both are laid out as the program expects it: cs224n/, glue/, imdb/, unlabelled/."""

import os
from pathlib import Path

import pytest

HOMES = [Path(home).resolve() for home in (os.environ.get("MINBERT_DATA"), Path(__file__).parents[1] / "data") if home]


def real(*parts):
    """The path of a file or folder of real data, as real("cs224n", "sts-dev.csv"); None where it is not here."""
    return next((path for home in HOMES if (path := home.joinpath(*parts)).exists()), None)


def needs(*parts):
    """A mark for tests that need this file or folder of real data: they are skipped where it is not here."""
    fetch = ", or fetch with data/download.py" if parts[0] in ("cs224n", "glue") else ""
    reason = f"needs real data: set MINBERT_DATA{fetch} ({'/'.join(parts)} is not here)"
    return pytest.mark.skipif(real(*parts) is None, reason=reason)
