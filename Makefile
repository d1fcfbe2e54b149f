# `make` prints what there is. Two commands do all the set-up on a fresh machine: `make demo`, `make test`.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PYTEST := $(BIN)/pytest
# Twice as many as the smallest machine has CPUs, for half of the time a test waits: for processes, servers, timers.
WORKERS ?= 4
# A file's tests share servers, so they stay on one worker. (Groups by mark are lost with pytest 9.2.) In the order
# of the folders, for those with the longest files come first.
BY_FILE := --dist=loadfile --no-loadscope-reorder
# sshd, nft and ip live there, and a login that is no login shell may not have them in its PATH.
export PATH := $(PATH):/usr/sbin:/sbin
# Compiled tests are kept: compiling them anew costs every worker of every run some ten seconds.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help dev check test test-unit attack fuzz bench demo up docs lock clean

help: ## Print this
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

dev: $(STAMP) ## Create the virtual environment and install everything, checked by hash

$(STAMP): requirements.lock pyproject.toml
	scripts/venv.sh $(VENV) "$(PYTHON)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps -e .
	$(BIN)/python -m compileall -q pkgs
	touch $@

check: dev ## The quick loop: format, lint, types, imports, unit tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	QUICK=1 $(PYTEST) -q -n 2 tests/unit

test: dev ## Set up what the tests need (Debian packages too, when root) and run them all
	scripts/debian-packages.sh tests/setup/packages.txt
	$(PYTEST) -n $(WORKERS) $(BY_FILE)

test-unit: dev ## The unit tests alone
	$(PYTEST) -q -n 2 tests/unit

attack: dev ## The attacks, one named test each
	$(PYTEST) -v tests/security

T ?= 60
fuzz: dev ## Fuzz the parsers for T seconds each (T=60)
	FUZZ_SECONDS=$(T) $(PYTEST) -v -m fuzz tests

bench: dev ## Measure beside the references; prints a table and JSON
	$(BIN)/python -m tests.bench

demo: dev ## The whole journey against a throw-away cluster in var/demo
	@scripts/debian-packages.sh scripts/demo-packages.txt
	$(BIN)/python scripts/demo.py

up: dev ## Keep a local cluster "demo" running in the foreground, data in var/demo
	$(BIN)/python scripts/demo.py up

docs: dev ## Write docs/reference from the help texts and the configuration's fields
	$(BIN)/python scripts/reference.py

lock: dev ## Resolve the dependencies again and write requirements.lock
	$(BIN)/pip-compile --quiet --generate-hashes --allow-unsafe --strip-extras --extra dev \
	    --no-emit-index-url --no-emit-trusted-host --no-emit-find-links \
	    --output-file requirements.lock pyproject.toml

clean: ## Delete everything that was made
	rm -rf $(VENV) var build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
