# make run      start a mirror here;  LISTEN=0.0.0.0:5000, DATA=folder and CONFIG=file are optional
# make demo     see it work, without Docker and without a network
# make test     everything that must hold: format, lint, types, import rules, tests
# make lint     the first four of them;  make format  mends what can be mended
# make bench    measure it beside its peers
# make install  as root: a service of this system, or a newer one in its place;  make uninstall  keeps data and settings
# make clean    remove .venv and caches (never data)

SHELL := /bin/sh
MAKEFLAGS += --no-print-directory
BIN := .venv/bin
RUNS := .venv/.runs
TESTS := .venv/.tests
SETTINGS := pyproject.toml constraints.txt .ci/venv .ci/python

LISTEN ?=
DATA ?=
CONFIG ?=
PYTEST ?=
DESTDIR ?=

space := $(subst ,, )
comma := ,
flags = $(if $(CONFIG),--config '$(CONFIG)') $(if $(DATA),--data '$(DATA)') \
	$(foreach address,$(subst $(comma),$(space),$(LISTEN)),--listen '$(address)')

.PHONY: run demo test lint format bench coverage clean help
.DEFAULT_GOAL := help

help:  # what stands above, to the first empty line
	@sed -n '/^$$/q; s/^# //p' Makefile

run: $(RUNS)
	@exec $(BIN)/mirror serve $(flags)

demo: $(RUNS)
	@exec $(BIN)/python -m benchmarks.demo

test: lint packages
	@$(BIN)/coverage run -m pytest $(PYTEST)

# Below DESTDIR, where one is given, and then nothing of the system is touched.
.PHONY: install uninstall
install uninstall:
	@DESTDIR='$(DESTDIR)' systemd/install.sh $@

lint: $(TESTS)
	@$(BIN)/ruff format --check --quiet . || { echo 'type: make format' >&2; exit 1; }
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: $(TESTS)
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

# Debian's real clients and registry: installed as root, else the tests say which of them are missing.
.PHONY: packages
packages: $(TESTS)
	@if [ "$$(id -u)" = 0 ]; then $(BIN)/python -m tests.support.packages; \
	else $(BIN)/python -m tests.support.packages || echo 'tests with real clients need these packages' >&2; fi

bench: $(TESTS)
	@if [ "$$(id -u)" = 0 ]; then $(BIN)/python -m tests.support.packages --benchmarks; fi
	@exec $(BIN)/python -m benchmarks

coverage:
	@$(BIN)/coverage report --show-missing --skip-covered

$(RUNS): $(SETTINGS)
	@.ci/venv
	@touch $@

$(TESTS): $(SETTINGS)
	@.ci/venv test
	@touch $(RUNS) $@

clean:
	rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage*
