# `make demo` and `make test` do all the set-up on a fresh machine with Python 3.11 or newer.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: env demo test test-all check lint types docs coverage licences wheel sbom page clean

env: $(READY)

# The stamp is written last: an interrupted install is started again, never taken for whole.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "hwsi needs Python 3.11 or newer: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $(READY)

demo: env
	$(BIN)/hwsi demo -o demo

test: env
	$(BIN)/python -m pytest -m "not slow" -n 2

test-all: env
	$(BIN)/python -m pytest -n 2

lint: env
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: env
	$(BIN)/mypy

check: lint types test

# The documentation site, into site/; strict, and without a network.
docs: env
	NO_MKDOCS_2_WARNING=true $(BIN)/mkdocs build --strict --site-dir site

# All tests, since many lines are reached by slow ones only; fails below 90 % (pyproject.toml).
coverage: env
	$(BIN)/python -m pytest -n 2 --cov --cov-report=term

# The ledger of licences, from what is installed and from the registries.
licences: env
	$(BIN)/python tools/licences.py > docs/licences.md

# Wheel and sdist; the version is the git tag's.
wheel: env
	rm -rf dist
	$(BIN)/python -m build --outdir dist

# What is in this environment, as CycloneDX; the graph in it says what HWSI itself asks for.
sbom: env
	mkdir -p dist
	$(BIN)/cyclonedx-py environment --pyproject pyproject.toml --mc-type library --short-PURLs --output-reproducible \
		-o dist/sbom.json $(BIN)/python

# The viewer's page is built ahead and ships in the package; only who changes web/ needs Node.
page:
	cd web && npm ci && npm run build

clean:
	rm -rf .venv demo dist site .coverage .pytest_cache .mypy_cache .ruff_cache
