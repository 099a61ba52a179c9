# The only commands anyone types. `make run` and `make test` start from a bare clone; neither needs the other first.
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
OLDEST := 3.11
# The first of these that starts and is new enough makes the environment; `make PYTHON=/path/to/python run` overrides.
PYTHONS := $(or $(PYTHON),python3.11 python3.12 python3.13 python3)
CAMPAIGN := workloads/campaigns/quickstart.toml

.DEFAULT_GOAL := help
.PHONY: help setup run test check lab lab-arm64 bench report clean

help:                ## this list
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):[^#]*## /make \1\t/' | expand -t 16

setup: $(STAMP)      ## make .venv with the exact versions of constraints.txt (done by every other command)

run: setup           ## the quickstart campaign: train, export, push, run, ingest, report; resumes where it stopped
	@$(BIN)/edgefleet run $(CAMPAIGN); code=$$?; [ $$code -le 1 ] || exit $$code; $(BIN)/edgefleet report && exit $$code

test: setup          ## unit, contract, golden and end-to-end tests; no root, no display, no network
	$(BIN)/python -m pytest -n logical --dist loadfile tests/unit tests/contract tests/golden tests/e2e tests/test_architecture.py

check: setup         ## style, types, who may import whom, and the agent on Python 3.6 where there is one
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/vermin -t=3.6- --no-tips --violations device_agents
	$(BIN)/python tests/python36.py

lab: setup           ## the virtual fleet: real sshd and adbd in network namespaces; needs root
	$(BIN)/python -m pytest -n 2 --dist worksteal -m lab tests/lab || [ $$? -eq 5 ]

lab-arm64: setup     ## a 64-bit ARM Debian under qemu-user behind sshd; needs root, mmdebstrap, qemu-user-static, minutes
	$(BIN)/python -m pytest -m arm64 tests/lab --timeout 1500 || [ $$? -eq 5 ]

bench: setup         ## the figures of docs/benchmarks.md, measured again on this machine
	$(BIN)/python tests/benchmarks/record.py

report: setup        ## tables, figures and the page, from the database alone
	$(BIN)/edgefleet report

clean:               ## remove environments and caches; results in .edgefleet/ stay
	rm -rf $(VENV) .venv36 .mypy_cache .ruff_cache .import_linter_cache .hypothesis build *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(STAMP): pyproject.toml constraints.txt
	@python=; for candidate in $(PYTHONS); do \
	    if "$$candidate" -c 'import sys; sys.exit(sys.version_info < tuple(map(int, "$(OLDEST)".split("."))))' 2>/dev/null; \
	    then python=$$candidate; break; fi; done; \
	if [ -z "$$python" ]; then \
	    echo "edgefleet needs Python >= $(OLDEST); none of these is one: $(PYTHONS)." >&2; \
	    echo "Install one (Debian 12: apt install python3 python3-venv) or name it: make PYTHON=/path/to/python3 $(MAKECMDGOALS)" >&2; \
	    exit 2; fi; \
	"$$python" -c 'import ensurepip, venv' 2>/dev/null || { \
	    echo "$$python cannot make environments. Debian and Ubuntu: apt install python3-venv" >&2; exit 2; }; \
	echo "setting up $(VENV) with $$("$$python" --version); the first time takes a few minutes"; \
	"$$python" -m venv $(VENV)
	$(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt setuptools
	$(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt --no-build-isolation -e '.[dev]'
	@touch $@
