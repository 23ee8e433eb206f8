# install, demo, test, lint, bench: each sets up all it needs. `make help` lists them.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
ARGS   ?=

.DEFAULT_GOAL := help
.PHONY: help install dev demo test lint fmt bench fuzz lock clean

help:  ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

install: $(VENV)/.installed  ## .venv with the locked dependencies and the project
dev: $(VENV)/.dev

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: requirements.lock pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install -q --no-input --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install -q --no-input --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: requirements-dev.lock $(VENV)/.installed
	$(BIN)/python -m pip install -q --no-input --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@touch $@

demo: install  ## customers write in, agents answer, rules refuse; ARGS=--once prints a transcript and ends
	@$(BIN)/gateway demo $(ARGS)

test: dev  ## every test, with the PostgreSQL, the Redis and the browser they need
	@sh tests/services.sh
	$(BIN)/python -m pytest $(ARGS)

lint: dev  ## ruff and mypy --strict
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

fmt: dev  ## format and mend what ruff can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: dev  ## speed as ratios, both sides in one run
	$(BIN)/python -m tests.bench $(ARGS)

fuzz: dev  ## the property tests, long
	HYPOTHESIS_PROFILE=fuzz $(BIN)/python -m pytest -q -k "fuzz or property" $(ARGS)

lock:  ## make the lock files again (needs uv)
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate --extra build pyproject.toml -o requirements.lock
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate --extra build --extra dev --constraint requirements.lock pyproject.toml -o requirements-dev.lock

clean:  ## remove what the targets above made
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
