# `make` alone prints the targets.
SHELL := /bin/sh
.DEFAULT_GOAL := help
VENV := .venv
BIN := $(VENV)/bin
PACKAGES := libs/contracts libs/servicekit libs/client services/auth services/ingest services/graph \
            services/content services/publish modules/reader cli
EDITABLE := $(foreach package,$(PACKAGES),-e $(package))
SOURCES := $(foreach package,$(PACKAGES),$(package)/pyproject.toml)
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.PHONY: help demo dev test test-all coverage mutants simulate faults bench check lock contracts format clean \
        up down logs ps scale reset test-stack bench-stack faults-stack
COMPOSE = docker compose $(if $(KGL_ENV_FILE),--env-file $(KGL_ENV_FILE))

help: ## print the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/runtime ## run the main job, end to end, on real documents (3 minutes at most)
	@$(BIN)/kgl demo $(if $(TARGET),--target $(TARGET))

dev: $(VENV)/runtime ## keep the system running on http://localhost:8080
	@$(BIN)/kgl dev

up: $(VENV)/runtime ## the same on real servers, by docker compose: check, build, start, wait, print where it is
	@$(BIN)/kgl up

down: ## stop it; the data stays in its volumes
	@$(COMPOSE) down --remove-orphans

logs: ## follow the logs of all, or of SERVICE=ingest-worker
	@$(COMPOSE) logs --follow --tail 100 $(SERVICE)

ps: ## what runs, and how it is
	@$(COMPOSE) ps --all

scale: ## SERVICE=ingest API=2 WORKERS=3
	@$(BIN)/kgl scale $(SERVICE) --api $(or $(API),1) --workers $(or $(WORKERS),1)

reset: $(VENV)/runtime ## remove it with all its data; asks first
	@$(BIN)/kgl reset

test: $(VENV)/development ## all tests (10 minutes on 2 cores, no Docker)
	@$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -q

test-all: $(VENV)/development ## all tests, and those that take long: killed at every failpoint, simulations
	@$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -q --run-slow

test-stack: $(VENV)/development ## tests on real servers (needs Docker): contracts of all adapters, faults, access
	@$(BIN)/python -m tools.test_stack $(if $(AGAIN),--again)

bench-stack: $(VENV)/development ## measure the compose system (needs Docker); writes build/bench-stack.json
	@$(BIN)/python -m tools.test_stack --bench

faults-stack: $(VENV)/development ## faults under load on real servers (needs Docker; 10 minutes); CLASSES="F5 F9" SEED=7 LONG=1
	@$(BIN)/python -m tools.test_stack --faults $(CLASSES) $(if $(SEED),--seed=$(SEED)) $(if $(LONG),--long)

coverage: $(VENV)/development ## how much of the code all tests but the end-to-end ones run: 95 % of the kit, 85 % of all
	@$(BIN)/coverage erase
	@$(BIN)/coverage run -m pytest -n 2 --dist loadfile --no-loadscope-reorder -q --ignore=tests/e2e
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage report --include='libs/servicekit/*' --fail-under=95
	@$(BIN)/coverage report --fail-under=85

mutants: $(VENV)/development ## seed bugs into the core, one at a time, and show that a test catches each
	@$(BIN)/python tools/mutants.py

simulate: $(VENV)/development ## 10,000 schedules of the core, with faults (2 minutes on 2 cores); SEED=7 replays one
	@$(BIN)/python -m tests.simulation $(if $(SEED),--seed $(SEED),$(if $(BASE),--base $(BASE)))

faults: $(VENV)/development ## faults under load, and what they lost (7 minutes); CLASSES="F1 F7" SEED=7 LONG=1
	@$(BIN)/python -m tests.faults $(if $(CLASSES),--classes $(CLASSES)) $(if $(SEED),--seed $(SEED)) $(if $(LONG),--long)

bench: $(VENV)/development ## measure against the limits; writes build/bench.json
	@$(BIN)/python -m benchmarks

check: $(VENV)/development ## format, lint, types, layers, drift of schemas, migrations and locks
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy $(foreach package,$(PACKAGES),$(wildcard $(package)/kgl_*)) tools tests benchmarks
	$(BIN)/lint-imports
	$(BIN)/python tools/contracts.py --check
	$(BIN)/python -m tools.compatibility
	$(BIN)/python -m tools.openapi --check
	$(BIN)/python tools/migrations.py
	$(BIN)/python -m tools.locks

contracts: $(VENV)/development ## write the JSON Schemas, asyncapi.yaml and openapi.json anew
	$(BIN)/python tools/contracts.py
	$(BIN)/python -m tools.openapi

format: $(VENV)/development ## format the code
	$(BIN)/ruff check --fix --quiet . ; $(BIN)/ruff format .

lock: ## compile the locks anew from requirements/*.in (needs uv)
	@tools/compile-locks

clean: ## remove the environment and what tests and builds left (not your data in .kgl)
	rm -rf $(VENV) build .pytest_cache .mypy_cache .ruff_cache .import_linter_cache

$(VENV)/bin/python:
	@python=$$(tools/find-python) && "$$python" -m venv $(VENV)

$(VENV)/runtime: requirements/runtime.txt $(SOURCES) | $(VENV)/bin/python
	@echo "installing (once) from requirements/runtime.txt ..."
	@$(PIP) install --require-hashes --no-deps -r requirements/runtime.txt
	@$(PIP) install --no-deps --no-build-isolation $(EDITABLE)
	@touch $@

$(VENV)/development: requirements/dev.txt $(SOURCES) | $(VENV)/bin/python
	@echo "installing (once) from requirements/dev.txt ..."
	@$(PIP) install --require-hashes --no-deps -r requirements/dev.txt
	@$(PIP) install --no-deps --no-build-isolation $(EDITABLE)
	@touch $@ $(VENV)/runtime
