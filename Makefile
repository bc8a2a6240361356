# Requires GNU make, git and Python 3.11, 3.12 or 3.13. To select a Python: `make PYTHON=python3.12`.

PYTHON ?= python3
python := .venv/bin/python
pip := $(python) -m pip install -qq --disable-pip-version-check
pytest := $(python) -m pytest -q

.PHONY: help install train test test-slow test-slurm test-peers test-browser lint bench table verify docs
.DELETE_ON_ERROR:

help:
	@echo "make train       train a small Transformer and print samples (a few minutes)"
	@echo "make test        run the tests"
	@echo "make test-slow   run the slow tests"
	@echo "make test-slurm  run the tests that submit jobs to a running Slurm"
	@echo "make test-peers  run the tests that compare with PyTorch (installs it)"
	@echo "make test-browser run the tests of pages in Chromium, where it is installed"
	@echo "make bench       time all benchmarks beside PyTorch (installs it)"
	@echo "make lint        check style and types"
	@echo "make table       update the tables of README.md, results/, docs/coverage.md and benchmarks/"
	@echo "make verify      evaluate the weights in results/ and compare with the reported metrics (WEIGHTS=NAME: of one)"
	@echo "make docs        build the documentation in docs/_build/html (installs Sphinx)"
	@echo "make install     create .venv with the requirements for training"

install: .venv/installed
	@echo ".venv is ready"

train: .venv/installed
	@$(python) train.py --config=configs/transformer_nmt.py --workdir=runs/transformer_nmt

test: .venv/installed-test
	@$(pytest) -n auto --dist loadfile

test-slow: .venv/installed-test
	@$(pytest) -m slow

test-slurm: .venv/installed-test
	@$(pytest) -m slurm

test-peers: .venv/installed-peers
	@$(pytest) -m peers

test-browser: .venv/installed-browser
	@$(pytest) -m browser

bench: .venv/installed-peers
	@$(python) -m benchmarks

lint: .venv/installed-test
	@$(python) -m ruff check --quiet .
	@$(python) -m ruff format --quiet --check --diff .
	@$(python) -m mypy

table: .venv/installed
	@$(python) -m results.table
	@$(python) -m results.coverage
	@$(python) -m benchmarks.table

verify: .venv/installed
	@$(python) -m results.verify $(WEIGHTS)

docs: .venv/installed-docs
	@$(python) -m sphinx -q -W --keep-going -j auto -b html -d docs/_build/doctrees docs docs/_build/html
	@echo "docs/_build/html/index.html"

# Stamp files: reinstall only if a requirements file has changed.
.venv/installed: requirements.txt | .venv/bin/pip
	@echo "Installing $< into .venv (a few minutes, once)"
	@$(pip) -r $<
	@touch $@

.venv/installed-test: requirements-test.txt .venv/installed
	@echo "Installing $< into .venv"
	@$(pip) -r $<
	@touch $@

.venv/installed-browser: requirements-browser.txt .venv/installed-test
	@echo "Installing $< into .venv"
	@$(pip) -r $<
	@touch $@

.venv/installed-docs: requirements-docs.txt .venv/installed
	@echo "Installing $< into .venv"
	@$(pip) -r $<
	@touch $@

.venv/installed-peers: requirements-peers.txt .venv/installed-test
	@echo "Installing $< into .venv"
	@$(pip) -r $<
	@touch $@

.venv/bin/pip:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null || { \
	  echo "error: $(PYTHON) is not Python 3.11, 3.12 or 3.13;" \
	    "install one and select it, as in: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	@echo "Creating .venv with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv .venv || { rm -rf .venv; \
	  echo "error: $(PYTHON) cannot create virtual environments;" \
	    "on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
