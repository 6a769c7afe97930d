# CI runs the same targets. `make help` lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
OLDEST := .venv-oldest
TESTS ?=
# A peer. Tests import its samplers alone, and some of what the rest of it depends on wants numpy 1
PEER := 'k-diffusion>=0.1.1'

.DEFAULT_GOAL := help
.PHONY: help demo augment-digits augment-emoji test test-oldest test-studio check format docs pictures bench-start bench-solvers bench-tune bench-generate bench-network bench-training bench-recipes bench-transfer bench-distill bench-kills bench-machines bench-eval bench-eyes clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# Each stamp is one installation; it is repeated only when pyproject.toml changes.
$(VENV)/.train: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[train,evaluate]'
	@touch $@

$(VENV)/.dev: $(VENV)/.train
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	$(BIN)/python -m pip install --quiet --no-deps $(PEER)
	@touch $@

demo: $(VENV)/.train  ## train on real digits, then generate a hundred in a second process
	$(BIN)/python examples/demo.py

test: $(VENV)/.dev  ## the whole test suite
	$(BIN)/python -m pytest --numprocesses logical --maxprocesses 8 --dist worksteal

$(OLDEST)/.dev: pyproject.toml
	test -x $(OLDEST)/bin/python || $(PYTHON) -m venv $(OLDEST)
	$(OLDEST)/bin/python -m pip install --quiet uv
	$(OLDEST)/bin/uv pip install --quiet --python $(OLDEST)/bin/python --resolution lowest-direct --editable '.[dev]'
	$(OLDEST)/bin/uv pip install --quiet --python $(OLDEST)/bin/python --no-deps $(PEER)
	@touch $@

# What old libraries say of newer ones is no error here
test-oldest: $(OLDEST)/.dev  ## the suite with the oldest libraries that pyproject.toml allows; TESTS=tests/core takes a part
	$(OLDEST)/bin/python -m pytest --numprocesses logical --maxprocesses 8 --dist worksteal -W default $(TESTS)

$(VENV)/.browser: $(VENV)/.dev
	$(BIN)/python -m pip install --quiet --editable '.[browser]'
	command -v chromium || command -v chromium-browser || command -v google-chrome || $(BIN)/playwright install chromium
	@touch $@

test-studio: $(VENV)/.browser  ## the studio in a real browser; makes the pictures in docs/studio.md again
	$(BIN)/python -m pytest tests/browser --override-ini addopts="--import-mode=importlib -q"

check: $(VENV)/.dev  ## lint, format and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: $(VENV)/.dev  ## rewrite the code in the house format
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

docs: $(VENV)/.dev  ## build the docs site, outputs/site/index.html; a broken link or anchor stops it
	$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going docs outputs/site
	@echo outputs/site/index.html

augment-digits: $(VENV)/.train  ## do generated images help where two digits have 20 images (docs/augment.md): minutes
	$(BIN)/python benchmarks/augment_data.py digits outputs/augment/digits-images
	$(BIN)/snowmelt augment outputs/augment/digits-images --out outputs/augment/digits --budget 5m

augment-emoji: $(VENV)/.train  ## the same for emoji in their own unequal classes: an hour (needs npm)
	$(BIN)/python benchmarks/augment_data.py emoji outputs/augment/emoji-images
	$(BIN)/snowmelt augment outputs/augment/emoji-images --out outputs/augment/emoji --budget 1h

pictures: $(VENV)/.train  ## make the pictures in docs/ again, from the demo's checkpoint
	$(BIN)/python docs/pictures.py

bench-start: $(VENV)/.train  ## time to the first denoising step and memory, compared with a bare import and a full trainer
	$(BIN)/python benchmarks/start.py

bench-solvers: $(VENV)/.dev  ## accuracy and overhead of the solvers, compared with other libraries (docs/solvers.md): half an hour
	$(BIN)/python benchmarks/solvers.py

bench-tune: $(VENV)/.dev  ## how near tuned plans come to their teacher (docs/tuning.md): an hour
	$(BIN)/python benchmarks/tune.py

bench-generate: $(VENV)/.dev  ## images per second compared with diffusers, memory, processes
	$(BIN)/python benchmarks/generate.py

bench-network: $(VENV)/.dev  ## the U-Net's time and memory, compared with diffusers (docs/network.md): half an hour
	$(BIN)/python benchmarks/network.py

bench-training: $(VENV)/.dev  ## our training step beside those of others, from a folder of PNG files (docs/training.md)
	$(BIN)/python benchmarks/training.py

bench-recipes: $(VENV)/.dev  ## time to quality of the training recipe and of each of its ingredients: hours (needs npm)
	$(BIN)/python benchmarks/recipes.py

bench-transfer: $(VENV)/.dev  ## thirty images of a class, from nothing and from others' weights: an hour (needs npm)
	$(BIN)/python benchmarks/transfer.py

bench-distill: $(VENV)/.dev  ## students of 1, 2 and 4 steps beside their teacher, the demo's network (docs/distilling.md)
	$(BIN)/python benchmarks/distill.py

bench-kills: $(VENV)/.dev  ## kill runs at random moments, and compare what they end with (docs/training.md, docs/augment.md)
	$(BIN)/python benchmarks/kills.py

bench-machines: $(VENV)/.dev  ## train on two machines, which are network namespaces of this one (needs root)
	$(BIN)/python benchmarks/machines.py

bench-eval: $(VENV)/.dev  ## FID, KID, precision and recall, compared with other libraries (docs/evaluation.md)
	$(BIN)/python benchmarks/evaluation.py --large

bench-eyes: $(VENV)/.dev  ## which metric sees what a person sees, on digits, emoji and photographs (needs npm)
	$(BIN)/python benchmarks/eyes.py

clean:  ## remove the environment, caches and outputs
	rm -rf $(VENV) $(OLDEST) outputs .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage
