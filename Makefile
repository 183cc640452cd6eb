# `make help` tells what there is. What a verb does is in tests/tools and tests/bench.

VENV := .venv
BIN := $(VENV)/bin
# Another interpreter: make PYTHON=/usr/bin/python3.12 check (after make clean).
PYTHON ?= $(shell sh tests/tools/find_python.sh)
NOTEBOOK := notebooks/01_quickstart.ipynb

.PHONY: help demo lab test check bench soak clean
.DEFAULT_GOAL := help

help: ## say what each verb does
	@echo "nbmodel: from a notebook cell to an edge device and back."
	@echo
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-7s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/.installed ## run the quickstart notebook and tell what happened (build/quickstart.html)
	@$(BIN)/python tests/tools/run_notebook.py $(NOTEBOOK) build/quickstart.html

lab: $(VENV)/.installed ## open the quickstart in JupyterLab
	@NBMODEL_HOME="$(CURDIR)/build/lab" $(BIN)/jupyter lab $(if $(filter 0,$(shell id -u)),--allow-root) $(NOTEBOOK)

check: $(VENV)/.installed ## lint, types, import contracts and the quick tests: under a minute
	@$(BIN)/python tests/tools/suite.py check

test: $(VENV)/.installed ## everything, with the fast tests on every other Python found
	@sh tests/tools/system_packages.sh
	@$(BIN)/python tests/tools/suite.py test

bench: $(VENV)/.installed ## measure against the bars: build/bench.md, build/bench.json
	@$(BIN)/python -m tests.bench

soak: $(VENV)/.installed ## mixed load on a runtime for SECONDS=600: right answers, flat memory
	@$(BIN)/python -m tests.tools.soak $(or $(SECONDS),600)

clean: ## remove what the other verbs made
	rm -rf .venv .venv-* build dist .*_cache .hypothesis
	find . -name __pycache__ -not -path './.git/*' -prune -exec rm -rf {} +

$(VENV)/.installed: pyproject.toml
	@test -n "$(PYTHON)" || exit 1
	@sh tests/tools/install.sh $(VENV) "$(PYTHON)" test lint
