# Each target does all of its own set-up; the first call of any of them installs the Python environment.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
# Hundreds of short processes import the same modules: they shall compile them once.
unexport PYTHONDONTWRITEBYTECODE

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
TYPED := $(wildcard src tests benchmarks migrations)

# More than there are cores: half of a test's time it waits for servers, which share the cores with the tests.
WORKERS ?= 4
PYTEST_ARGS ?=
PYTEST = $(BIN)/pytest -n $(WORKERS) --dist loadfile

# Each of the workflows on its own has to have this share of its lines and of its branches covered by quick tests.
WORKFLOWS := commands outbox projections
COVERED_PERCENT := 95

.PHONY: help demo test test-all suite selected durations trials trials-http check check-wheel lint types imports unit workflows compiled coverage interop bench equality upgrade bench-archive lock clean

help:  ## what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(INSTALLED)  ## all of it once, on real data: servers, commands, read models, audit
	$(BIN)/tidemill demo

# What takes seconds comes first. Types and coverage only compute, and the tests wait half of their time: beside them.
test: export SELECTED := -m "not slow"
test test-all: $(INSTALLED)
	$(MAKE) --jobs=3 --output-sync=target lint imports compiled
	$(MAKE) --jobs=3 --output-sync=target types workflows suite

# A make of its own, so that what pytest tells is seen while it runs; the output of the others comes as a whole.
suite:
	$(MAKE) --output-sync=none selected

selected: $(INSTALLED)
	$(PYTEST) $(WORKFLOWS:%=--ignore=tests/unit/%) $(SELECTED) $(PYTEST_ARGS)

test:  ## lint, types, imports, coverage of the workflows, then the tests that are not slow, on real servers
test-all:  ## the same with all tests, journeys of minutes included: what a change must pass

durations: $(INSTALLED)  ## a whole run of the tests, and which of them, which files and which fixtures took longest
	$(PYTEST) -p tests.support.durations --durations=40 --durations-min=1 $(PYTEST_ARGS)

# `TIDEMILL_TEST_SEED=NUMBER make trials` repeats the random ones: pytest prints the number first.
# The suite takes samples of these. One process, since each trial keeps the machine busy; docs/trials.md has the results.
TRIALS := TIDEMILL_ARCHIVE_WALK=full TIDEMILL_ARCHIVE_HISTORIES=100000 TIDEMILL_ARCHIVE_CYCLES=200 \
    TIDEMILL_ARCHIVE_KILLS=full TIDEMILL_HOSTILE_INPUTS=full TIDEMILL_CONTEXT_TRIALS=full TIDEMILL_TEST_EVERY_CASE=yes \
    TIDEMILL_SERIES_KILLS=20

WALKS := tests/unit/retention/test_walk.py tests/unit/retention/test_walk_generations.py
CUTS := tests/unit/commands/test_entity_cuts.py tests/unit/commands/test_batch_cuts.py \
    tests/unit/commands/test_internal_cuts.py \
    tests/unit/contexts/test_plugged_in.py tests/unit/contexts/test_hostile_fields.py
SERIES := tests/acceptance/test_time_series.py tests/integration/contexts/test_time_series.py
SAMPLED := $(addprefix tests/acceptance/test_, \
    upgrade.py rolling_upgrade.py outages.py newcomer.py rebuilt_states.py) \
    tests/architecture/test_where_to_change.py tests/integration/retention/test_settings_of_others.py \
    tests/integration/service/test_outages.py tests/integration/outbox/test_packs.py \
    tests/unit/outbox/test_lanes.py

trials: $(INSTALLED)  ## what tries to break the archive and the service, in full: docs/trials.md (over an hour)
	$(TRIALS) $(BIN)/pytest -s --durations=10 tests/trials $(WALKS) $(CUTS) $(SERIES) $(SAMPLED) $(PYTEST_ARGS)

# Tests of the suite with larger samples; `make trials-http TIDEMILL_HTTP_TRIALS=0.1` tries a tenth of them.
HTTP_TRIALS := described egress repeats leaving outages robot stops archive hostile threats grants
HTTP_FILTERS := tests/integration/queries/test_random_filters.py
HTTP_READS := $(addprefix tests/integration/queries/test_,hidden_columns.py pages.py injection.py) \
    tests/integration/storage/test_work_pool.py
HTTP_GRANTS := $(wildcard tests/integration/submissions/test_http_*.py)
trials-http: export TIDEMILL_HTTP_TRIALS ?= full
trials-http: export TIDEMILL_QUERY_FILTERS ?= 5000
trials-http: export TIDEMILL_HIDDEN_REQUESTS ?= 5000
trials-http: export TIDEMILL_QUERY_WALKS ?= 500

trials-http: $(INSTALLED)  ## what tries to break the API from outside, in full: docs/trials.md (half an hour and more)
	$(BIN)/pytest -s --durations=10 $(HTTP_TRIALS:%=tests/acceptance/test_http_%.py) $(HTTP_FILTERS) \
	    $(HTTP_READS) $(HTTP_GRANTS) $(PYTEST_ARGS)

check: lint types imports  ## lint, types and the import contract only

# It downloads what the wheel needs, so it is no part of `test`: pytest does not find the file by its name.
check-wheel: $(INSTALLED)  ## the wheel in an empty environment outside the checkout: without extras, then the demo
	$(BIN)/pytest --durations=5 tests/acceptance/installed_wheel.py $(PYTEST_ARGS)

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(INSTALLED)
	$(BIN)/mypy $(TYPED)

imports: $(INSTALLED)
	$(BIN)/lint-imports

unit: $(INSTALLED)  ## the tests that need no servers
	$(PYTEST) $(wildcard tests/unit tests/architecture) $(PYTEST_ARGS)

workflows: WORKERS := 2
workflows: $(INSTALLED)  ## the workflows' tests on fakes: each has at least 95 % of its branches covered
	$(PYTEST) $(WORKFLOWS:%=tests/unit/%) tests/conformance -k "unit or memory" \
	    $(WORKFLOWS:%=--cov=tidemill.%) --cov-branch --cov-report=json:.coverage.workflows.json
	$(BIN)/python tools/coverage-gate .coverage.workflows.json $(COVERED_PERCENT) $(WORKFLOWS)

# The tests as pytest rewrites them: each worker would do it anew. Once is enough, later changes are few.
COMPILED := .pytest_cache/compiled
compiled: $(INSTALLED)
	test -e $(COMPILED) || { $(BIN)/pytest --collect-only -qq >/dev/null && mkdir -p $(dir $(COMPILED)) && touch $(COMPILED); }

coverage: $(INSTALLED)  ## all tests with branch coverage, reported for every module
	$(PYTEST) --cov --cov-report=term --cov-report=json:.coverage.all.json $(PYTEST_ARGS)
	$(BIN)/python tools/coverage-gate .coverage.all.json $(COVERED_PERCENT) $(WORKFLOWS)

# Clients that the suite tries where they are: kcat, Kafka's console tools, and for Node, which is installed here only.
interop: $(INSTALLED)  ## other programs' clients against the product; says which are missing on this machine
	tools/interop .interop
	$(BIN)/pytest -rs tests/acceptance/interop tests/unit/lakehouse/test_readers_of_folders.py $(PYTEST_ARGS)

bench: $(INSTALLED)  ## throughput beside the floor, as docs/performance.md shows it
	$(BIN)/python -m benchmarks

upgrade: $(INSTALLED)  ## from every version before to this one, to packs, back, and forward again, under load
	TIDEMILL_TEST_EVERY_CASE=yes $(BIN)/pytest --durations=10 tests/acceptance/test_upgrade.py $(PYTEST_ARGS)

AGAINST ?= HEAD
equality: $(INSTALLED)  ## whether an older version (AGAINST=REVISION) makes the same records, rows and read models, though killed
	$(BIN)/python -m benchmarks.alike --against $(AGAINST)

bench-archive: $(INSTALLED)  ## what the archive takes, and what others notice of it, as docs/performance.md shows it
	$(BIN)/python -m benchmarks.archive --rows 1000000 --rounds 3
	$(BIN)/python -m benchmarks.archive --rows 20000000 --rounds 1
	$(BIN)/python -m benchmarks.archive_live --only insert --seconds 15 --rounds 3
	$(BIN)/python -m benchmarks.archive_live --only read --seconds 10

# pip-tools makes the hashes: by version only, in an environment apart, and nothing of it is installed or shipped.
lock:  ## pin the newest versions that pyproject.toml allows, with hashes
	python=$$(tools/find-python 3.11); test -d .lock-venv || $$python -m venv .lock-venv
	.lock-venv/bin/pip install --quiet pip-tools==7.6.2
	tools/lock .lock-venv/bin/pip-compile

clean:  ## remove caches and builds; the environment stays
	rm -rf .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis build dist htmlcov .coverage .coverage.*
	find src tests -name __pycache__ -prune -exec rm -rf {} +

$(INSTALLED): constraints.txt pyproject.toml
	@tools/install $(VENV)
