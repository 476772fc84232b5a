# `make run` and `make test` are all that a new machine needs: Python 3.11 to 3.13, pip and make.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
SUITE ?=
PEERS ?= peers

.PHONY: help run test install install-dev check lint types test-clients test-openai-suite test-vllm bench-overhead lock clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 20

run: install ## Serve on 127.0.0.1:4000 with what this machine has
	$(BIN)/farthing serve

test: install-dev ## Run the tests
	$(BIN)/python -m pytest

install: $(VENV)/.installed ## Make .venv with the gateway and its locked dependencies

install-dev: $(VENV)/.installed-dev ## The same, with what tests and checks need

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v <= (3, 13) else f"Farthing needs Python 3.11 to 3.13; {sys.executable} is {v[0]}.{v[1]}. Set PYTHON=python3.12, say.")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: requirements/base.txt requirements/build.txt pyproject.toml | $(VENV)/bin/python
	$(PIP) install -q --require-hashes -r requirements/build.txt -r requirements/base.txt
	$(PIP) install -q --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.installed-dev: requirements/dev.txt $(VENV)/.installed
	$(PIP) install -q --require-hashes -r requirements/dev.txt
	@touch $@

check: lint types ## Lint, types and the direction of imports

lint: install-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install-dev
	$(BIN)/mypy

clean: ## Remove what the targets above made
	rm -rf $(VENV) .venv-clients .pytest_cache .mypy_cache .ruff_cache
