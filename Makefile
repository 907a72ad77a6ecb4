# make demo    distil a real dataset on a laptop, in the scratch folder demo/
# make test    the test suite
# make check   linters, types, and the documentation without a broken link
# make docs    the documentation, in site/
# make repro   pull what is stored, rebuild what is not, for all that params.yaml lists
PYTHON ?= python3
BIN := .venv/bin
# Pages are read anew every time, as Sphinx does not repeat the warnings of those that it has read before.
SPHINX = $(BIN)/python -m sphinx --fresh-env --fail-on-warning --keep-going --quiet -d .cache/docs docs
READY := .venv/.ready
DVC := .venv/.dvc
# Compiled code is kept for the next time, by machine, as clones may be shared by several.
export JAX_COMPILATION_CACHE_DIR ?= $(CURDIR)/.cache/jax/$(shell uname -n)

.PHONY: demo test test-fast check docs repro

demo: $(DVC)
	@$(BIN)/python -m stages.demo

test: $(DVC)
	@$(BIN)/python -m pytest -n auto

test-fast: $(DVC)
	@$(BIN)/python -m pytest -n auto -m "not slow"

check: $(DVC)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(SPHINX) .cache/docs/checked --builder dummy

docs: $(DVC)
	@$(SPHINX) site
	@echo "open site/index.html"

repro: $(DVC)
	@$(BIN)/python -m stages.repro
	@$(BIN)/python -m stages.check_store

# The lock file pins every package by version and hash, so that all machines have the same environment.
$(READY): requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(None if (3, 11) <= sys.version_info[:2] <= (3, 12) else \
	  "error: Python 3.11 or 3.12 is needed, $(PYTHON) is %d.%d; name another: make PYTHON=python3.12" % sys.version_info[:2])'
	@echo "installing the environment into .venv (once, about two minutes)"
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@touch $@

# The packages' own `dvc` gives way to one that looks after the objects first.
$(DVC): $(READY) tools/dvc
	@install -m 755 tools/dvc .venv/bin/dvc
	@touch $@
