# Everything a person or CI needs. Each target sets up what it needs by itself.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help run demo install test fast lint format unit audit bench fuzz clean faults soak

help: ## Show the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  make \1\t\2/' | expand -t 18

install: $(VENV)/.installed ## Create .venv with the journey command

run: $(VENV)/.installed ## Run the engine in one process (gateway :8080, receiver :8090)
	$(BIN)/journey dev $(ARGS)

demo: $(VENV)/.installed ## The same with a stream of believable customers
	$(BIN)/journey dev --demo $(ARGS)

test: fast unit ## Every check and test, with a real Kafka and a real Redis
	AUDIT_OFFLINE=allow $(BIN)/python deploy/audit.py

fast: $(VENV)/.installed-dev ## Style, types, layers, rules: under half a minute
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/journey lint rules
	$(BIN)/journey test rules

unit: $(VENV)/.installed-dev
	./tests/install-debian
	$(BIN)/pytest $(ARGS)

fuzz: $(VENV)/.installed-dev ## Fuzz gateway, intake and rule loader with EXAMPLES=1000 new ones each
	FUZZ_EXAMPLES=$(or $(EXAMPLES),1000) $(BIN)/pytest tests/fuzz $(ARGS)

audit: $(VENV)/.installed-dev ## Look the image's dependencies up among known vulnerabilities
	$(BIN)/python deploy/audit.py

simulate: $(VENV)/.installed-dev ## Simulate faults: SEEDS=n worlds, or SEED=s step by step
	$(BIN)/python -m load_tests.simulation $(if $(SEED),--seed $(SEED),--seeds $(or $(SEEDS),2000)) $(ARGS)

faults: $(VENV)/.installed-dev ## Do every fault to real processes and write docs/faults.md (some 30 minutes)
	./tests/install-debian
	$(BIN)/python -m load_tests.faults --report docs/faults.md $(ARGS)

soak: $(VENV)/.installed-dev ## An hour at half load with random faults; writes docs/soak.md
	./tests/install-debian
	$(BIN)/python -m load_tests.soak --report docs/soak.md $(ARGS)

bench: $(VENV)/.installed-bench .cache/quix/.installed ## Measure the speed against baselines: under 20 minutes
	./tests/install-debian
	mkdir -p .cache/bench
	$(BIN)/python -m load_tests.bench --json .cache/bench/results.json --plots .cache/bench $(ARGS)

format: $(VENV)/.installed-dev ## Put the code into shape
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean: ## Remove the environment, caches and the embedded store
	rm -rf $(VENV) .cache .data .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or later is needed: set PYTHON=...")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	touch $@

$(VENV)/.installed-dev: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@ $(VENV)/.installed

$(VENV)/.installed-bench: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[bench]'
	touch $@ $(VENV)/.installed

# Quix Streams wants other versions of libraries that the engine uses, so it gets an environment of its own.
.cache/quix/.installed: | $(VENV)/bin/python
	$(BIN)/python -m venv .cache/quix
	.cache/quix/bin/python -m pip install --quiet --disable-pip-version-check 'quixstreams>=3.23,<4'
	touch $@
