# The commands that people and CI use; `make help` lists them.
SHELL := /bin/bash
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
BENCH_INSTALLED := $(VENV)/.installed-bench
CLUSTER_INSTALLED := $(VENV)/.installed-cluster
BROWSER_INSTALLED := $(VENV)/.installed-browser
OLD_VENV := .venv-old
OLD_INSTALLED := $(OLD_VENV)/.installed
OLD_FILES := $(OLD_VENV)/files
UV := $(BIN)/uv
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder
SPACE ?= search_spaces/resnet.yaml
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-all coverage test-browser test-cluster test-old-runtime check lock bench docs reference figures format clean

help:  ## list these commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-16s %s\n", $$1, $$2}'

setup: $(INSTALLED)  ## make .venv and install the locked versions (nothing is reinstalled the second time)

$(UV):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || \
	  { echo "error: Python 3.11 is needed, \"$(PYTHON)\" is not; name one: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "$$(grep -s '^uv==' requirements.lock || echo uv)"

$(INSTALLED): requirements.lock pyproject.toml | $(UV)
	$(UV) pip install --quiet --python $(BIN)/python --compile-bytecode -r requirements.lock
	$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $@

demo: setup  ## search low-bit networks on real digits, under 4 minutes on 2 cores (ARGS="--trials 6" shortens it)
	$(BIN)/sqtune search --space $(SPACE) $(ARGS)

# A worker takes a file at a time, in the order of tests/conftest.py; two threads on each of two
# cores would only wait for each other.
test: setup  ## run the tests (ARGS="-k quant" selects)
	$(PYTEST) -m "not long" $(ARGS)

test-all: setup  ## the same, and those that take long: more ways to end a search, every command of the documents
	$(PYTEST) $(ARGS)

coverage:  ## all of them, and print which lines of the package they take (half as long again)
	$(MAKE) test-all ARGS="--cov --cov-report=term:skip-covered $(ARGS)"

# ONNX Runtime 1.16.3 with numpy below 2, and nothing of ours but the sources of what is checked.
$(OLD_INSTALLED): requirements-old-runtime.lock | $(UV)
	$(UV) venv --quiet --allow-existing --python $(BIN)/python $(OLD_VENV)
	$(UV) pip install --quiet --python $(OLD_VENV)/bin/python --no-deps -r requirements-old-runtime.lock
	@touch $@

test-old-runtime: setup $(OLD_INSTALLED)  ## write ONNX files with the newest versions and run them under ONNX Runtime 1.16.3
	rm -rf $(OLD_FILES)
	PYTHONPATH=. $(BIN)/python tests/old_runtime/write.py $(OLD_FILES)
	PYTHONPATH=. $(OLD_VENV)/bin/python tests/old_runtime/run.py $(OLD_FILES)
	SQTUNE_OLD_RUNTIME=$(OLD_VENV)/bin/python $(BIN)/python -m pytest tests/deploy/test_checking_old_runtime.py $(ARGS)

# What a head with a dashboard needs; like below, without changing anything of requirements.lock.
$(CLUSTER_INSTALLED): requirements-cluster.lock requirements-test-cluster.lock $(INSTALLED)
	$(UV) pip install --quiet --python $(BIN)/python --no-deps -r requirements-cluster.lock -r requirements-test-cluster.lock
	@touch $@

test-cluster: setup $(CLUSTER_INSTALLED)  ## what needs a cluster's own packages, root or PostgreSQL: jobs, nodes in namespaces, faults
	$(BIN)/python -m pytest tests/cluster tests/search/test_cluster.py $(ARGS)

# The browser itself is Debian's: apt-get install chromium.
$(BROWSER_INSTALLED): requirements-browser.lock $(INSTALLED)
	$(UV) pip install --quiet --python $(BIN)/python --no-deps -r requirements-browser.lock
	@touch $@

test-browser: setup $(BROWSER_INSTALLED)  ## what needs a browser: the report and MLflow's pages in Chromium, and Optuna's dashboard
	@command -v chromium >/dev/null || { echo "error: there is no chromium; apt-get install chromium" >&2; exit 2; }
	$(BIN)/python -m pytest tests/browser tests/tracking/test_mlflow_pages.py tests/search/test_dashboard.py $(ARGS)

check: setup  ## ruff (lint and format), mypy --strict on the package, import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy tests/api/typed_example.py
	$(BIN)/lint-imports --no-cache

docs: setup  ## build the site from docs/ into docs/_build/html, links checked
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html

reference: setup  ## write docs/space-reference.md anew from the schema of space files
	$(BIN)/python docs/make_reference.py

figures: setup  ## draw the figures of docs/method.md anew
	$(BIN)/python docs/make_figures.py

format: setup  ## put the code into its standard form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Only what requirements.lock does not have; without dependencies, so that nothing of it changes.
$(BENCH_INSTALLED): requirements-bench.lock $(INSTALLED)
	$(UV) pip install --quiet --python $(BIN)/python --no-deps -r requirements-bench.lock
	@touch $@

bench: setup $(BENCH_INSTALLED)  ## measure what the README claims (about three hours); results go to benchmarks/results/
	$(BIN)/python benchmarks/step_tax.py
	$(BIN)/python benchmarks/train_throughput.py
	$(BIN)/python benchmarks/gpu_sharing.py
	$(BIN)/python benchmarks/reestimation.py
	$(BIN)/python benchmarks/rung_metric.py
	$(BIN)/python benchmarks/early_stopping.py
	$(BIN)/python benchmarks/stage_cost.py
	$(BIN)/python benchmarks/stage_sharing.py
	$(BIN)/python benchmarks/search_overhead.py
	$(BIN)/python benchmarks/driver_scale.py
	$(BIN)/python benchmarks/propose.py
	$(BIN)/python benchmarks/scale_parts.py
	$(BIN)/python benchmarks/cluster_scale.py
	$(BIN)/python benchmarks/slot_memory.py
	$(BIN)/python benchmarks/data_sharing.py
	$(BIN)/python benchmarks/tracking_cost.py
	$(BIN)/python benchmarks/deploy.py

# brevitas 0.13.4 asks for setuptools<81 and imports nothing of it; torch is locked with a later one.
lock: | $(UV)  ## write requirements.lock and those of benchmarks and clusters anew from pyproject.toml
	$(UV) pip compile --quiet --python $(BIN)/python --extra dev --no-header --no-annotate --no-emit-index-url \
	  --upgrade pyproject.toml -o requirements.lock
	$(UV) pip compile --quiet --python $(BIN)/python --extra bench --no-header --no-annotate --no-emit-index-url \
	  --override <(echo setuptools) --constraint requirements.lock pyproject.toml | grep -vxFf requirements.lock > requirements-bench.lock
	$(UV) pip compile --quiet --python $(BIN)/python --extra cluster --no-header --no-annotate --no-emit-index-url \
	  --constraint requirements.lock pyproject.toml | grep -vxFf requirements.lock > requirements-cluster.lock
	$(UV) pip compile --quiet --python $(BIN)/python --extra test-cluster --no-header --no-annotate --no-emit-index-url \
	  --constraint requirements.lock --constraint requirements-cluster.lock pyproject.toml \
	  | grep -vxFf requirements.lock -f requirements-cluster.lock > requirements-test-cluster.lock
	$(UV) pip compile --quiet --python $(BIN)/python --extra test-browser --extra dashboard --no-header --no-annotate --no-emit-index-url \
	  --constraint requirements.lock pyproject.toml | grep -vxFf requirements.lock > requirements-browser.lock

clean:  ## remove .venv and caches; stores of studies are left alone
	rm -rf $(VENV) $(OLD_VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage
