# One target for each thing a person does; `make help` lists them.
PYTHON ?= $(firstword $(shell for p in python3.11 python3.12 python3.13 python3; do command -v $$p; done) python3.11)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
export PATH := $(CURDIR)/$(BIN):$(PATH)
export PYTHONDONTWRITEBYTECODE :=
export DVC_NO_ANALYTICS := 1

.PHONY: run test lint ui bench clean help
.DEFAULT_GOAL := help

run: $(READY)  ## Set up, then run the default recipe from data to a packaged, compressed model
	@modelpress run

# two workers of one thread each: with more, threads wait for each other most of the time
test: $(READY) lint  ## Set up, then check style, types and import rules, and run all tests
	@echo "== tests" && OMP_NUM_THREADS=1 pytest -q -n 2 --dist loadfile

lint: $(READY)  ## Check style (ruff), types (mypy) and which part may import which (import-linter)
	@echo "== ruff" && ruff check . && ruff format --check .
	@echo "== mypy" && mypy
	@echo "== import rules" && lint-imports

ui: $(READY)  ## Start the MLflow and Prefect pages on this machine
	@modelpress ui

bench: $(READY)  ## Rerun the benchmarks and rewrite docs/results.md from what they measured
	@python -m benchmarks

clean:  ## Remove what runs left behind (data, models, bundles, reports, databases, dvc.lock), not the installation
	rm -rf data models exports bundles reports metrics curves hardware.json .modelpress .dvc/cache .dvc/tmp dvc.lock

help:  ## Show this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*##/\1\t/' | expand -t 10

# torch first and alone: a later resolver step must find this very build in place
$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "modelpress needs Python 3.11 or newer, this is " + sys.version.split()[0] + "; name one: make PYTHON=/path/to/python3.11")'
	@echo "== setting up $(VENV) with $$($(PYTHON) --version), about 2 GB and 2 to 4 minutes"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "== 1/4 torch" && $(BIN)/pip install -q --disable-pip-version-check "$$(grep '^torch==' requirements.lock)"
	@echo "== 2/4 everything else ($$(wc -l < requirements.lock) pinned packages)" && $(BIN)/pip install -q --disable-pip-version-check -r requirements.lock
	@echo "== 3/4 modelpress itself" && $(BIN)/pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@echo "== 4/4 compiling, so that every later start is fast" && $(BIN)/python -m compileall -qq -j 0 $(VENV)/lib || true
	@touch $(READY)
