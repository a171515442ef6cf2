# make solve   one PDE to machine precision, on all devices of this machine; a second time with
#              ARGS=--force, which replaces the older run; CONFIG=... for another problem
# make test    every check: style, types, import directions, tests
# make test-cluster  runs, jobs and faults on local Ray clusters (half an hour on two quiet cores)
# make cluster a job on a local Ray cluster: submitted, watched, stopped, resumed, fetched (minutes)
# make table   every config over ten seeds (hours; goes on where it stopped), then make tables
# make suite   the standard suite, nothing tuned: ten minutes a run (hours; goes on where it stopped)
# make tables  the tables of the READMEs, from tests/bench/results/*.json
# make newcomer  a new user's path, timed: a fresh clone, the README's own equation, its report
# make clean   remove the environment and caches; runs/ stays

VENV    := .venv
BIN     := $(VENV)/bin
WORKERS ?= 2
CONFIG  ?= configs/laplace2d.toml

.PHONY: solve test test-cluster cluster table suite tables newcomer clean
.DELETE_ON_ERROR:

solve: $(VENV)/.run
	$(BIN)/distgram solve $(CONFIG) $(ARGS)

test: $(VENV)/.test build/names/distgram_launch
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports
	$(BIN)/pytest -q -n $(WORKERS)

test-cluster: $(VENV)/.test
	$(BIN)/pytest -q -m cluster $(ARGS)

cluster: $(VENV)/.ray
	$(BIN)/python tests/bench/cluster.py $(ARGS)

table: $(VENV)/.run
	$(BIN)/python tests/bench/table.py --results tests/bench/results
	$(BIN)/python tests/bench/tables.py

suite: $(VENV)/.run
	$(BIN)/python tests/bench/suite.py $(ARGS)
	$(BIN)/python tests/bench/suite.py --table $(ARGS)

tables: $(VENV)/.run
	$(BIN)/python tests/bench/tables.py

newcomer:
	tests/bench/newcomer.sh

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .import_linter_cache build *.egg-info
	find distgram launch tests -name __pycache__ -type d -prune -exec rm -rf {} +

# The folder launch/ under the name that it is installed as, for the type checker.
build/names/distgram_launch:
	mkdir -p build/names && ln -s ../../launch $@

# The environment: the first of these interpreters that starts and is at least Python 3.11.
$(BIN)/python:
	@for python in $(PYTHON) python3.11 python3 python3.12 python3.13 python; do \
	    if $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	        echo "$$python -m venv $(VENV)"; exec $$python -m venv $(VENV); \
	    fi; \
	done; \
	echo "distgram needs Python >= 3.11 with venv: install it, or run make PYTHON=/path/to/python" >&2; \
	exit 1

# Stamps: written when everything that pyproject.toml asks for is installed.
$(VENV)/.run: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	touch $@

$(VENV)/.ray: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[ray]'
	touch $@ $(VENV)/.run

$(VENV)/.test: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[test]'
	touch $@ $(VENV)/.run
