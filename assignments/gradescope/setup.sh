#!/usr/bin/env bash
# Gradescope runs this once, when the autograder's image is built: the packages that grade.py needs.
set -euo pipefail
apt-get update -q
apt-get install -yq python3 python3-pip python3-venv
python3 -m venv /autograder/venv
# On Linux the standard index has torch with CUDA, 2.7 GB: set PIP_EXTRA_INDEX_URL to the CPU address of pytorch.org.
/autograder/venv/bin/pip install -q -r /autograder/source/requirements.txt
chmod -R go-rwx /autograder/source # the reference is for root alone; student code runs as nobody
