"""Which state of the project a run was made with, as git has it."""

import os
import subprocess
from pathlib import Path

HERE = Path(__file__).parents[2]
SECONDS = 10  # that git may take


def commit():
    """{"commit": 40 hex digits, "changed": whether files that git follows differ from it}; {} where the project is no
    clone, or there is no git."""
    try:
        top, digits = _git("rev-parse", "--show-toplevel", "HEAD").splitlines()
        if Path(top).resolve() != HERE.resolve():  # a copy inside somebody else's repository
            return {}
        return {"commit": digits, "changed": bool(_git("status", "--porcelain", "--untracked-files=no").strip())}
    except (OSError, ValueError, subprocess.SubprocessError):
        return {}


def _git(*words):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    return subprocess.run(
        ["git", "-C", HERE, "--no-optional-locks", *words],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=True,
        encoding="utf-8",
        timeout=SECONDS,
    ).stdout
