#!/usr/bin/env bash
# Gradescope runs this once, when the autograder's image is built: the packages that grade.py needs.
set -euo pipefail
apt-get update -q
apt-get install -yq python3 python3-pip python3-venv
python3 -m venv /autograder/venv
/autograder/venv/bin/pip install -q --index-url https://download.pytorch.org/whl/cpu torch==2.13.0
/autograder/venv/bin/pip install -q -r /autograder/source/requirements.txt
chmod -R go-rwx /autograder/source # the reference is for root alone; student code runs as nobody
