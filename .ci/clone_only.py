"""In place of a build: installed, datasets.py and ssl.py would hide other modules of these names from every program."""

import sys


def build_wheel(*_, **__):
    sys.exit(
        "minBERT is not installed but runs from its clone: `make run` there makes .venv; from any other folder call "
        "CLONE/.venv/bin/python CLONE/multitask_classifier.py, or set PYTHONPATH=CLONE and import it"
    )


get_requires_for_build_wheel = get_requires_for_build_editable = build_wheel
build_sdist = build_editable = prepare_metadata_for_build_wheel = build_wheel
