# Everything is installed into the checkout: Python packages in .venv, other programs that the tests need in .local.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
OPENCODE := .local/opencode
AGENTS := .local/agents
SANDBOX := .local/bubblewrap
BROWSER := .local/chromium
POSTGRES := .local/postgres
export PYTHONDONTWRITEBYTECODE := 1
export COORDINATOR_CACHE_DIR ?= $(CURDIR)/.local/cache

.PHONY: help setup opencode agents sandbox chromium postgres test browser screenshots fuzz chaos remote lint bench demo demo-opencode lock clean
help: ## List the targets.
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

setup: $(VENV)/.ready ## Create the virtual environment from the locked requirements.

$(VENV)/.ready: requirements/dev.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements/dev.txt
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

# npm may have skipped the install script, so opencode_provider finds the installed program and checks that it runs.
# Without npm, make continues, and the tests that need opencode are reported as skipped; with CI=true it is an error.
opencode: setup ## Install the opencode that the tests drive (needs npm).
	@if [ -e $(OPENCODE)/.ready ] && cmp -s tests/opencode/package-lock.json $(OPENCODE)/package-lock.json; then :; \
	elif command -v npm >/dev/null 2>&1; then \
		mkdir -p $(OPENCODE) && rm -f $(OPENCODE)/.ready \
		&& cp tests/opencode/package.json tests/opencode/package-lock.json tests/opencode/.npmrc $(OPENCODE)/ \
		&& npm ci --prefix $(OPENCODE) --loglevel=error && $(BIN)/python -m flows.demo.opencode_provider $(OPENCODE) \
		&& touch $(OPENCODE)/.ready || [ "$$CI" != true ]; \
	else \
		echo "npm was not found: opencode is not installed, and its tests will be skipped." >&2; [ "$$CI" != true ]; \
	fi

# As with opencode. Each program is tried, as npm may have skipped what fetches the binary.
agents: setup ## Install the Claude Code and the Codex that the tests drive (needs npm).
	@if [ -e $(AGENTS)/.ready ] && cmp -s tests/agent_programs/package-lock.json $(AGENTS)/package-lock.json; then :; \
	elif command -v npm >/dev/null 2>&1; then \
		mkdir -p $(AGENTS) && rm -f $(AGENTS)/.ready \
		&& cp tests/agent_programs/package.json tests/agent_programs/package-lock.json tests/agent_programs/.npmrc $(AGENTS)/ \
		&& npm ci --prefix $(AGENTS) --loglevel=error \
		&& $(AGENTS)/node_modules/.bin/claude --version && $(AGENTS)/node_modules/.bin/codex --version \
		&& touch $(AGENTS)/.ready || [ "$$CI" != true ]; \
	else \
		echo "npm was not found: Claude Code and Codex are not installed, and their tests will be skipped." >&2; [ "$$CI" != true ]; \
	fi

# Debian packages are extracted into the checkout, which needs no root; apt's lists are stored next to them.
APT = apt-get -qq -o Dir::State=$(CURDIR)/$(1)/state -o Dir::State::status=/var/lib/dpkg/status \
	-o Dir::Cache=$(CURDIR)/$(1)/cache -o APT::Sandbox::User= -o Debug::NoLocking=1

sandbox: ## Install bubblewrap for the sandbox test (needs bwrap or apt).
	@if command -v bwrap >/dev/null 2>&1 || [ -x $(SANDBOX)/usr/bin/bwrap ]; then :; \
	elif command -v apt-get >/dev/null 2>&1; then \
		mkdir -p $(SANDBOX)/state/lists/partial $(SANDBOX)/cache/archives/partial \
		&& $(call APT,$(SANDBOX)) update && (cd $(SANDBOX) && $(call APT,$(SANDBOX)) download bubblewrap && dpkg-deb --extract bubblewrap_*.deb .) \
		&& rm -rf $(SANDBOX)/state $(SANDBOX)/cache && $(SANDBOX)/usr/bin/bwrap --version || [ "$$CI" != true ]; \
	else \
		echo "Neither bwrap nor apt-get was found: the sandbox test will be skipped." >&2; [ "$$CI" != true ]; \
	fi

# The packages that Chromium needs and this machine lacks come along.
chromium: ## Install Chromium for the browser tests (needs chromium or apt).
	@if command -v chromium >/dev/null 2>&1 || [ -e $(BROWSER)/.ready ]; then :; \
	elif command -v apt-get >/dev/null 2>&1; then \
		rm -rf $(BROWSER) && mkdir -p $(BROWSER)/state/lists/partial $(BROWSER)/cache/archives/partial \
		&& $(call APT,$(BROWSER)) update \
		&& $(call APT,$(BROWSER)) install --yes --no-install-recommends --download-only chromium >$(BROWSER)/apt.log \
		&& for package in $(BROWSER)/cache/archives/*.deb; do dpkg-deb --extract "$$package" $(BROWSER) || exit 1; done \
		&& rm -rf $(BROWSER)/state $(BROWSER)/cache && touch $(BROWSER)/.ready || [ "$$CI" != true ]; \
	else \
		echo "Neither chromium nor apt-get was found: the browser tests will be skipped." >&2; [ "$$CI" != true ]; \
	fi

postgres: ## Install Postgres for the tests of `coordinator up --postgres` (needs initdb or apt).
	@if command -v initdb >/dev/null 2>&1 || ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || [ -e $(POSTGRES)/.ready ]; then :; \
	elif command -v apt-get >/dev/null 2>&1; then \
		rm -rf $(POSTGRES) && mkdir -p $(POSTGRES)/state/lists/partial $(POSTGRES)/cache/archives/partial \
		&& $(call APT,$(POSTGRES)) update \
		&& $(call APT,$(POSTGRES)) install --yes --no-install-recommends --download-only postgresql >$(POSTGRES)/apt.log \
		&& for package in $(POSTGRES)/cache/archives/*.deb; do dpkg-deb --extract "$$package" $(POSTGRES) || exit 1; done \
		&& rm -rf $(POSTGRES)/state $(POSTGRES)/cache && ls $(POSTGRES)/usr/lib/postgresql/*/bin/initdb \
		&& touch $(POSTGRES)/.ready || [ "$$CI" != true ]; \
	else \
		echo "Neither initdb nor apt-get was found: the tests of --postgres will be skipped." >&2; [ "$$CI" != true ]; \
	fi

test: setup opencode agents sandbox postgres chromium ## Run the tests.
	$(BIN)/python -m pytest -n auto --dist loadgroup

browser: setup chromium ## Test Prefect's UI in a real browser.
	$(BIN)/python -m pytest tests/browser

screenshots: setup chromium ## Take the pictures in docs/images anew.
	$(BIN)/python -m pytest tests/browser --pictures docs/images

fuzz: setup ## Try 20,000 hostile task files and configurations (FUZZ_SEED, FUZZ_FIRST, FUZZ_COUNT).
	PYTHONPATH=tests $(BIN)/python tests/fuzz/campaign.py

lint: setup ## Check style, types, and the direction of imports.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache
	$(BIN)/basedpyright --level error

bench: setup ## Run the benchmarks; prints ratios within one run.
	$(BIN)/python -m bench

chaos: setup ## Kill a small run at every side effect, and check that running again recovers it.
	PYTHONPATH=tests $(BIN)/python -m chaos

remote: setup opencode ## Measure sessions on other machines, and kill a run with some five times (REMOTE=kills for that alone).
	$(BIN)/python -m bench.remote $(REMOTE)

demo: setup ## Run scripted agents on a small repository, end to end.
	COORDINATOR_DATA_DIR=$(CURDIR)/.local/coordinator $(BIN)/coordinator demo

demo-opencode: setup opencode ## Run the demo with real opencode sessions and a scripted model.
	COORDINATOR_DATA_DIR=$(CURDIR)/.local/coordinator $(BIN)/coordinator demo --backend opencode

lock: ## Update the locked requirements (needs uv).
	uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --no-annotate --quiet -o requirements/run.txt
	uv pip compile pyproject.toml --group dev --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --no-annotate --quiet -o requirements/dev.txt

clean: ## Remove everything that the other targets created.
	rm -rf $(VENV) .local node_modules
