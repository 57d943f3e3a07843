# The words CI uses too. `make setup` needs Python ≥ 3.11, Java ≥ 17 and Maven, and says which is missing.
SHELL := /bin/bash
.DELETE_ON_ERROR:
unexport PYTHONDONTWRITEBYTECODE  # without .pyc files every start compiles MLflow again: 8 s

PYTHON ?= python3
BIN := .venv/bin
UV := $(shell command -v uv 2>/dev/null || echo $(BIN)/uv)
JARS := infra/local/target/.stamp

.PHONY: setup demo up down check test unit integration e2e bench

setup: $(BIN)/.stamp $(JARS)

demo: setup
	$(BIN)/penstock demo $(if $(KEEP),--keep)

up: setup
	$(BIN)/penstock up

down: setup
	$(BIN)/penstock down

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: setup  # two processes: most of the time a test waits
	$(BIN)/python -m pytest -n 2

unit: setup
	$(BIN)/python -m pytest tests/unit

integration: setup
	$(BIN)/python -m pytest tests/integration

e2e: setup
	$(BIN)/python -m pytest tests/e2e

bench: setup  # within 40 minutes; needs wrk, and cargo or oha
	$(BIN)/python -m bench run $(BENCH)

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	  || { echo "make: Python 3.11 or later is needed; name one: make setup PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -m venv .venv || { echo "make: Python's venv module is missing (Debian: python3-venv)" >&2; exit 1; }

$(BIN)/uv: | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv

$(BIN)/.stamp: requirements.txt pyproject.toml | $(BIN)/python $(UV)
	VIRTUAL_ENV=$(CURDIR)/.venv $(UV) pip install --quiet --compile-bytecode --require-hashes -r requirements.txt
	VIRTUAL_ENV=$(CURDIR)/.venv $(UV) pip install --quiet --no-deps -e .
	touch $@

$(JARS): infra/local/pom.xml | $(BIN)/.stamp
	$(BIN)/python -m services.cli.preflight
	touch $@
