# Everything is installed into the checkout: .venv for Python, .local for what tests need besides.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PYTHONDONTWRITEBYTECODE := 1

.PHONY: help setup test lint bench demo lock clean
help: ## Say what each target does.
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

setup: $(VENV)/.ready ## Make the virtual environment from the locked requirements.

$(VENV)/.ready: requirements/dev.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements/dev.txt
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

test: setup ## Run the tests.
	$(BIN)/python -m pytest -n auto --dist loadgroup

lint: setup ## Check style, types and the direction of imports.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache
	$(BIN)/basedpyright --level error

bench: setup ## Print the benchmarks' figures, as ratios within one run.
	$(BIN)/python -m bench

demo: setup ## Work a small repository with scripted agents, end to end.
	COORDINATOR_DATA_DIR=$(CURDIR)/.local/coordinator $(BIN)/coordinator demo

lock: ## Lock the requirements anew (needs uv).
	uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --no-annotate --quiet -o requirements/run.txt
	uv pip compile pyproject.toml --group dev --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --no-annotate --quiet -o requirements/dev.txt

clean: ## Remove what the other targets made.
	rm -rf $(VENV) .local node_modules
