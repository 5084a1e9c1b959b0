# make demo       sets up .venv, fetches the embedded models, runs the whole main job, prints the path of report.html
# make test       sets up what is missing, runs linters, type checker and every test (fetches the test models)
# make test-fast  the tests that need no model, about a minute
# make clean      removes .venv and caches (not runs/, not the downloaded models)

PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
VENV ?= .venv
BIN := $(VENV)/bin
TORCH ?= torch==2.13.0

.PHONY: demo test test-fast lint setup setup-dev clean

demo: setup
	$(BIN)/finegrade demo

test: setup-dev lint
	$(BIN)/finegrade models fetch qwen2.5-coder-0.5b all-minilm-l6-v2 reranker-en bge-small-en sts-b
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test-fast: setup-dev
	$(BIN)/python -m pytest -m "not slow"

lint: setup-dev
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/ruff format --check src tests benchmarks
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

setup: $(VENV)/.installed
setup-dev: $(VENV)/.installed-dev

$(VENV)/.installed: pyproject.toml
	TORCH="$(TORCH)" ./scripts/setup.sh "$(PYTHON)" "$(VENV)" .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml $(VENV)/.installed
	$(BIN)/python -m pip install --quiet -e ".[dev]"
	@touch $@

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist src/*.egg-info
