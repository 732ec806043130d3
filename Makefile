# Every target sets up .venv from the lock first if it is stale; nothing else is needed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help demo test test-fast lint bench lock clean

help:  ## what can be made
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

# torch goes in first and by itself, by its locked version: a resolver that meets a bare "torch" may choose another build.
$(STAMP): pyproject.toml requirements.lock
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $$(grep -E '^(torch|torchvision)==' requirements.lock) -c requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c requirements.lock -e '.[dev]'
	@touch $@

demo: $(STAMP)  ## three hospitals train one CT model together, over HTTP, encrypted
	$(BIN)/pleura-simulate demo

test: $(STAMP)  ## the whole suite, real data included where it is there
	$(BIN)/python -m pytest -n 2 --dist worksteal

test-fast: $(STAMP)  ## without the long ones
	$(BIN)/python -m pytest -n 2 --dist worksteal -m 'not slow and not real_data'

lint: $(STAMP)  ## ruff, mypy, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

bench: $(STAMP)  ## seal and add, timed
	$(BIN)/python benchmarks/sealing.py

lock: $(STAMP)  ## write requirements.lock from what is installed now
	$(BIN)/python -m pip freeze --exclude-editable | sed -e 's/+cpu$$//' | grep -v -i -E '^(pleura|pip|setuptools|wheel)\b' > requirements.lock

clean:  ## remove the environment and what runs left behind
	rm -rf $(VENV) runs build dist .pytest_cache .mypy_cache .ruff_cache
