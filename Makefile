# The same targets for people and for CI. `make help` lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help demo test check format bench-start clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# Each stamp is one installation; it is repeated only when pyproject.toml changes.
$(VENV)/.train: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[train]'
	@touch $@

$(VENV)/.dev: $(VENV)/.train
	$(BIN)/python -m pip install --quiet --editable '.[train,dev]'
	@touch $@

demo: $(VENV)/.train  ## train on real digits, then generate a hundred in a second process
	$(BIN)/python examples/demo.py

test: $(VENV)/.dev  ## the whole test suite
	$(BIN)/python -m pytest

check: $(VENV)/.dev  ## lint, format and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: $(VENV)/.dev  ## rewrite the code in the house format
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench-start: $(VENV)/.train  ## time to the first denoising step, and memory, beside a bare import and a full trainer
	$(BIN)/python benchmarks/start.py

clean:  ## remove the environment, caches and outputs
	rm -rf $(VENV) outputs .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage
