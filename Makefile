# Two commands do everything:   make quickstart   |   make test
PYTHON ?= python3
BIN := .venv/bin
PROCESSES ?= 2

.PHONY: quickstart test check format install clean help

help:            ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/ -/'

quickstart: .venv/installed  ## the whole pipeline on the documentation this machine already has
	$(BIN)/cloze run quickstart

test: .venv/tested  ## install what is missing and run every test
	$(BIN)/python -m pytest --numprocesses $(PROCESSES) --dist loadfile

check: .venv/tested  ## format, lint, types, import rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/test_house.py

format: .venv/tested  ## rewrite the code as `check` wants it
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

install: .venv/installed  ## the virtual environment with the locked dependencies

# torch first and alone: the lock names its version without a build, so that a CPU build that lies on the machine is
# taken where there is one, and the GPU build of the same version elsewhere
.venv/installed: pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "cloze needs Python 3.11 or newer; set PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade --constraint requirements.lock pip
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint requirements.lock torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint requirements.lock --editable .
	touch $@

.venv/tested: .venv/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint requirements.lock --group test
	touch $@

clean:           ## remove the virtual environment and this folder's results
	rm -rf .venv .cloze build *.egg-info
