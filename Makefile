# Advlens. `make help` lists what it can do.
SHELL := /bin/bash
.DEFAULT_GOAL := help

PROFILE ?= standard
DATASET ?= mnist
RUN     ?= $(basename $(notdir $(PROFILE)))
SEED    ?= 0
# Where to look for Python; the first that runs and is 3.10 to 3.13 makes the environment.
PYTHONS ?= python3.11 python3.12 python3.13 python3.10 python3 python

VENV    := .venv
PY      := $(VENV)/bin/python
READY   := $(VENV)/.ready
NOTEBOOKS := $(wildcard notebooks/[0-9]*.ipynb)

.PHONY: help env run test lab data baselines publish benchmark sweep bench site check format lock gpu clean

help:  ## Show this list
	@echo "Advlens: make TARGET [PROFILE=standard|full|smoke|your.yaml] [DATASET=mnist|fashion_mnist|all] [RUN=name] [SEED=n]"
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## */\1\t/' | expand -t 12 | sed 's/^/  /'

env: $(READY)  ## Make the environment alone, for advlens fit, screen and evaluate
	@echo "Ready. Next: source $(VENV)/bin/activate"

run: $(READY)  ## Execute the notebooks, one or two at a time, skipping what is done, and print the headline table
	@$(PY) -m advlens.cli run --profile '$(PROFILE)' --dataset '$(DATASET)' --run '$(RUN)' --seed '$(SEED)'

test: $(READY) data  ## Run the unit tests, then nbval on the notebooks' regression baselines
	@$(PY) -m pytest --nbval tests --numprocesses 2 --dist loadfile --no-loadscope-reorder

lab: $(READY)  ## Open JupyterLab in the notebooks folder
	@$(VENV)/bin/jupyter lab --notebook-dir notebooks

data: $(READY)  ## Fetch and verify MNIST and Fashion-MNIST
	@$(PY) -m advlens.cli data mnist fashion_mnist

baselines: $(READY)  ## Remake the nbval baselines in tests/notebooks
	@$(PY) -m advlens.cli baselines

publish: $(READY)  ## Copy a finished run's outputs and figures into notebooks/ and figures/
	@$(PY) -m advlens.cli publish --profile '$(PROFILE)' --run '$(RUN)' --seed '$(SEED)'

benchmark: $(READY) data  ## Put every detector against every attack; `advlens benchmark --help` has the sizes
	@$(PY) -m advlens.cli benchmark --dataset '$(DATASET)' --run '$(RUN)' --seed '$(SEED)'

sweep: $(READY)  ## Do the grid that CONFIG=your.yaml names, on this machine's cores or SCHEDULER=tcp://host:8786
	@$(PY) -m advlens.cli sweep '$(CONFIG)' --scheduler '$(SCHEDULER)'

bench: $(READY)  ## Measure this project's hot paths against the libraries' own
	@rm -f bench/results.csv; export ADVLENS_PROGRESS=off; \
	for script in bench/bench_*.py; do $(PY) -m bench.$$(basename $$script .py) || exit 1; done

site: $(READY)  ## Build the site (notebooks, docs, API) into site/ and check its links; it opens from disk
	@rm -rf site && mkdir -p site/.source
	@$(PY) -m sphinx -qWn --keep-going -c docs/site site/.source site && echo "Open site/index.html"

check: $(READY)  ## Lint, check the format (ruff) and the types (pyright)
	@$(VENV)/bin/ruff check . && $(VENV)/bin/ruff format --check . && $(VENV)/bin/pyright --pythonpath $(PY)

format: $(READY)  ## Format and mend what ruff can mend
	@$(VENV)/bin/ruff format . && $(VENV)/bin/ruff check --fix .

lock: $(READY)  ## Derive requirements.txt from requirements.in
	@$(PY) -m pip install --quiet uv && $(VENV)/bin/uv pip compile --quiet --universal --python-version 3.10 \
	  --override requirements-overrides.txt requirements.in --output-file requirements.txt

gpu: $(READY)  ## Switch the environment to TensorFlow with CUDA (Linux, NVIDIA)
	@$(PY) -m pip install --quiet "tensorflow[and-cuda]==$$($(PY) -c 'import importlib.metadata as m; print(m.version("tensorflow"))')"

clean:  ## Remove the environment, the site and all runs (the data sets and committed figures stay)
	rm -rf $(VENV) site data/runs

# The lock is complete, so nothing is resolved here: iNNvestigate's metadata, which forbids this TensorFlow, NumPy and
# Python 3.12, is passed over on purpose (its maps were measured to be the same).
$(READY): requirements.txt pyproject.toml
	@set -e; found=; \
	for python in $(PYTHONS); do \
	  if $$python -c 'import sys, venv, ensurepip; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; \
	  then found=$$python; break; fi; \
	done; \
	if [ -z "$$found" ]; then \
	  echo "No Python 3.10 to 3.13 with the venv module was found: install one, or name yours with make PYTHONS=/path/to/python" >&2; \
	  exit 1; \
	fi; \
	echo "Making the environment in $(VENV) with $$($$found --version)"; \
	$$found -m venv $(VENV); \
	$(PY) -m pip install --quiet --disable-pip-version-check --no-deps --ignore-requires-python -r requirements.txt; \
	$(PY) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .; \
	touch $@
