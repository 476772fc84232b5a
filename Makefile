# `make run` and `make test` are all that a new machine needs: Python 3.11 to 3.13, pip and make.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
SUITE ?=
PEERS ?= peers
POINTS ?= 200
ARGS ?=
DATA ?=
VLLM_TEST_DIR ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/farthing/vllm-cpu
LOCK := --generate-hashes --no-emit-index-url --universal --python-version 3.11 --no-header

.PHONY: help run test install install-dev check lint types compiled test-compiled test-clients test-openai-suite test-vllm test-money test-crash bench-overhead bench-cache bench-routing cookbook lock clean

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

test-clients: install .venv-clients/.installed ## Real SDKs and frameworks against a live gateway (their own environment)
	FARTHING_COMMAND_UNDER_TEST=$(abspath $(BIN)/farthing) PYTHONPATH=. \
	  .venv-clients/bin/python -m pytest tests/integration/clients -W default -p no:cacheprovider

.venv-clients/.installed: requirements/clients.txt
	$(PYTHON) -m venv .venv-clients
	.venv-clients/bin/python -m pip --disable-pip-version-check install -q --require-hashes -r requirements/clients.txt
	@touch $@

test-openai-suite: install ## openai-python's own tests through the gateway: make test-openai-suite SUITE=checkout
	@test -n "$(SUITE)" || { echo "give a checkout of github.com/openai/openai-python: make $@ SUITE=DIR"; exit 2; }
	$(BIN)/python tests/suites/openai_suite/run.py --suite $(SUITE)

test-vllm: install-dev ## A real vLLM server on the CPU behind the gateway (3 GB, a few minutes the first time)
	tests/suites/vllm/setup.sh $(VLLM_TEST_DIR)
	VLLM_TEST_DIR=$(VLLM_TEST_DIR) $(BIN)/python -m pytest tests/suites/vllm

test-money: install-dev ## Keys, budgets and the ledger on SQLite, real Redis and PostgreSQL, with a thousand random schedules
	$(BIN)/python -m pytest tests/contract/accounts tests/contract/keys tests/contract/ledger tests/contract/ledger_reports \
	  tests/integration/test_money.py --hypothesis-profile=money

test-crash: install-dev ## 200 SIGKILLs, 200 open streams, Redis, PostgreSQL and disks failing (about 10 minutes; POINTS=N)
	$(BIN)/python -m pytest tests/suites/crash --points $(POINTS) -p no:cacheprovider

compiled: build/compiled/.built ## The package as a release has it, the books' path compiled, in build/compiled (needs a C compiler)

build/compiled/.built: $(VENV)/.installed-dev pyproject.toml $(shell find gateway -name '*.py')
	rm -rf build/sdist build/wheel build/compiled
	$(BIN)/python -m hatchling build -t sdist -d build/sdist
	HATCH_BUILD_HOOKS_ENABLE=1 $(PIP) wheel -q --no-deps --no-build-isolation -w build/wheel build/sdist/*.tar.gz
	$(BIN)/python -m zipfile -e build/wheel/*.whl build/compiled
	@touch $@

test-compiled: install-dev ## The tests of the books on the compiled package; says so and passes without a C compiler
	@if command -v cc >/dev/null; then $(MAKE) -s compiled && FARTHING_COMPILED=1 $(BIN)/python -m pytest \
	  -o pythonpath="build/compiled ." tests/unit/access tests/unit/ledger tests/contract/accounts tests/contract/ledger; \
	  else echo "skipped: no C compiler (cc)"; fi

bench-overhead: compiled ## CPU per request against the peers found in PEERS=DIR
	PYTHONPATH=build/compiled $(BIN)/python -m tests.benchmarks.overhead --peers $(PEERS) $(ARGS)

bench-cache: install-dev ## What the cache serves rightly and wrongly on the labelled pairs in DATA=DIR, what it costs, what it isolates
	@test -n "$(DATA)" || { echo "give a folder with *.jsonl[.gz] of labelled pairs: make $@ DATA=DIR"; exit 2; }
	$(BIN)/python -m tests.benchmarks.cache_quality --data $(DATA)
	$(BIN)/python -m tests.benchmarks.cache_overhead
	$(BIN)/python -m pytest tests/unit/cache/test_keys.py tests/unit/cache/test_keys_hostile.py
	$(BIN)/python -m pytest tests/integration/test_cache.py -k hundred

bench-routing: install-dev ## APGR, CPT and certified losses on the labelled prompts in DATA=DIR
	@test -n "$(DATA)" || { echo "give a folder with the labelled prompts: make $@ DATA=DIR"; exit 2; }
	$(BIN)/python -m tests.benchmarks.routing --data $(DATA) $(ARGS)

cookbook: install-dev ## Write the sample traffic and the figures of docs/policy-cookbook.md anew
	$(BIN)/python -m tests.support.cookbook

lock: ## Resolve the hashed lock files anew (needs uv)
	uv pip compile -q $(LOCK) pyproject.toml -o requirements/base.txt
	uv pip compile -q $(LOCK) --extra dev pyproject.toml -c requirements/base.txt -o requirements/dev.txt
	uv pip compile -q $(LOCK) requirements/build.in -o requirements/build.txt
	uv pip compile -q $(LOCK) requirements/clients.in -o requirements/clients.txt

clean: ## Remove what the targets above made
	rm -rf build $(VENV) .venv-clients .pytest_cache .mypy_cache .ruff_cache
