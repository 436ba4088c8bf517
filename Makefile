# One environment in .venv, made from pyproject.toml with the versions of constraints.txt.
SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: install demo test test-slow lint format clean

install: $(READY)

$(READY): pyproject.toml constraints.txt scripts/make_environment.sh
	bash scripts/make_environment.sh $(VENV)
	@touch $@

demo: install
	$(BIN)/vipa demo

test: install  # two processes of one thread each: two cores
	OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(BIN)/python -m pytest -n 2 --dist loadfile --durations=15

test-slow: install
	$(BIN)/python -m pytest -m slow

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build dist src/*.egg-info .pytest_cache .ruff_cache
