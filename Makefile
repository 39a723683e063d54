# Everything is installed into the checkout: .venv for Python, .local for what tests need besides.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
OPENCODE := .local/opencode
SANDBOX := .local/bubblewrap
export PYTHONDONTWRITEBYTECODE := 1

.PHONY: help setup opencode sandbox test fuzz chaos lint bench demo demo-opencode lock clean
help: ## Say what each target does.
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

setup: $(VENV)/.ready ## Make the virtual environment from the locked requirements.

$(VENV)/.ready: requirements/dev.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements/dev.txt
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

# npm may have skipped the install script, so the program that counts is the one that find_installed finds and that runs.
# Without npm this goes on, and the tests that need opencode say that they are skipped; where CI is true it is a failure.
opencode: setup ## Install the opencode that the tests drive (needs npm).
	@if [ -e $(OPENCODE)/.ready ] && cmp -s tests/opencode/package-lock.json $(OPENCODE)/package-lock.json; then :; \
	elif command -v npm >/dev/null 2>&1; then \
		mkdir -p $(OPENCODE) && rm -f $(OPENCODE)/.ready \
		&& cp tests/opencode/package.json tests/opencode/package-lock.json tests/opencode/.npmrc $(OPENCODE)/ \
		&& npm ci --prefix $(OPENCODE) --loglevel=error && $(BIN)/python -m flows.demo.opencode_provider $(OPENCODE) \
		&& touch $(OPENCODE)/.ready || [ "$$CI" != true ]; \
	else \
		echo "There is no npm here, so opencode is not installed and its tests are skipped." >&2; [ "$$CI" != true ]; \
	fi

# A bwrap that is there already is used. Debian's package needs no right to install it, and apt's lists go where it goes.
APT := apt-get -qq -o Dir::State=$(CURDIR)/$(SANDBOX)/state -o Dir::State::status=/var/lib/dpkg/status \
	-o Dir::Cache=$(CURDIR)/$(SANDBOX)/cache -o APT::Sandbox::User=
sandbox: ## Install the sandbox that a test puts around an agent (needs bwrap, or apt).
	@if command -v bwrap >/dev/null 2>&1 || [ -x $(SANDBOX)/usr/bin/bwrap ]; then :; \
	elif command -v apt-get >/dev/null 2>&1; then \
		mkdir -p $(SANDBOX)/state/lists/partial $(SANDBOX)/cache/archives/partial \
		&& $(APT) update && (cd $(SANDBOX) && $(APT) download bubblewrap && dpkg-deb --extract bubblewrap_*.deb .) \
		&& rm -rf $(SANDBOX)/state $(SANDBOX)/cache && $(SANDBOX)/usr/bin/bwrap --version || [ "$$CI" != true ]; \
	else \
		echo "There is neither bwrap nor apt here, so its test is skipped." >&2; [ "$$CI" != true ]; \
	fi

test: setup opencode sandbox ## Run the tests.
	$(BIN)/python -m pytest -n auto --dist loadgroup

fuzz: setup ## Try 20,000 hostile task files and configurations (FUZZ_SEED, FUZZ_FIRST, FUZZ_COUNT).
	PYTHONPATH=tests $(BIN)/python tests/fuzz/campaign.py

lint: setup ## Check style, types and the direction of imports.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache
	$(BIN)/basedpyright --level error

bench: setup ## Print the benchmarks' figures, as ratios within one run.
	$(BIN)/python -m bench

chaos: setup ## Kill a coordinator at every side effect of a small run, and see that running again mends it.
	PYTHONPATH=tests $(BIN)/python -m chaos

demo: setup ## Work a small repository with scripted agents, end to end.
	COORDINATOR_DATA_DIR=$(CURDIR)/.local/coordinator $(BIN)/coordinator demo

demo-opencode: setup opencode ## The same with sessions of the real opencode and a scripted model.
	COORDINATOR_DATA_DIR=$(CURDIR)/.local/coordinator $(BIN)/coordinator demo --backend opencode

lock: ## Lock the requirements anew (needs uv).
	uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --no-annotate --quiet -o requirements/run.txt
	uv pip compile pyproject.toml --group dev --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --no-annotate --quiet -o requirements/dev.txt

clean: ## Remove what the other targets made.
	rm -rf $(VENV) .local node_modules
