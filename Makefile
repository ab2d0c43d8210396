# Discreet. `make help` explains the targets; CI calls nothing else.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DATA := data/grocery

.DEFAULT_GOAL := help
.PHONY: help setup data run examples plan test lint format bench bench-text bench-ledger test-ledger servers accuracy clean

help:  ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(VENV)/.installed: setup.py pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Discreet needs Python 3.11 or newer; start make with PYTHON=python3.11 or newer"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' || \
	  { echo "Python's venv module is missing; on Debian: apt-get install python3-venv"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[sample,dev]'
	@touch $@

setup: $(VENV)/.installed  ## set up .venv with everything that running and testing needs

# The last file that was added to the sample data: where it is missing, the data is of an older version.
$(DATA)/orders.jsonl: $(VENV)/.installed
	$(BIN)/python samples/grocery.py $(DATA)
	@touch $@

data: $(DATA)/orders.jsonl  ## write the sample data, a year of a grocery chain, to data/grocery

run: data  ## release the sample data and print what was published and what it cost
	$(BIN)/discreet run configs/grocery.yaml

examples: data  ## release every example config
	@set -e; for config in configs/*.yaml; do $(BIN)/discreet run $$config; done

plan: setup  ## show what the sample release spends; reads no data
	$(BIN)/discreet plan configs/grocery.yaml

test: setup data  ## run every test of the default suite
	$(BIN)/python -m pytest -q -n 2 tests ledger privacy transforms pipelines

lint: setup  ## check style (ruff) and types (mypy, strict)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: setup  ## write the code in the project's style
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format --quiet .

bench: setup  ## time 10 million events against DuckDB without privacy
	$(BIN)/python -m benchmarks.compare

servers: setup  ## install the servers that tests start: PostgreSQL (Debian, as root), an emulator of Cloud Storage (with Go)
	@ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || \
	  { apt-get update --quiet && apt-get install --yes --quiet --no-install-recommends postgresql; } || \
	  echo "PostgreSQL is untested here"
	@test -x $(BIN)/fake-gcs-server || GOBIN=$(CURDIR)/$(BIN) go install github.com/fsouza/fake-gcs-server@v1 || \
	  echo "Cloud Storage is untested here"

test-ledger: setup  ## the ledger's tests at length: 2,000 histories, 200 rounds of 50 starters, 20 kills a point
	DISCREET_SLOW=1 $(BIN)/python -m pytest -q -n 2 tests/ledger tests/pipelines/test_ledger_runs.py

bench-ledger: setup  ## time a ledger of 3,650 charges
	$(BIN)/python -m benchmarks.ledger

bench-text: setup  ## time 10 million events as CSV and JSON Lines against Parquet
	$(BIN)/python -m benchmarks.text

accuracy: data  ## show what bounds and noise cost on the sample data
	$(BIN)/python -m benchmarks.accuracy configs/grocery.yaml

clean:  ## remove the sample data, its releases and their ledger, but not .venv
	rm -rf data out configs/.discreet
