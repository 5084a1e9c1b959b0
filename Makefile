# make demo       sets up .venv, fetches the embedded models, runs the whole main job, prints the path of report.html
# make test       sets up what is missing, runs linters, type checker and every test (fetches the test models)
# make test-fast  the tests that take less than about a third of a second each: a minute once all is installed
# make lint       linters, type checker and the layers of the packages
# make clean      removes .venv and caches (not runs/, not the downloaded models)
#
# CI runs `make test` with Python 3.11. Where other versions are installed, each has an environment of its own:
#     make test-fast PYTHON=python3.12 VENV=.venv-3.12
#     make test-fast PYTHON=python3.13 VENV=.venv-3.13

PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
VENV ?= .venv
BIN := $(VENV)/bin
PYTEST = $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder
TORCH ?= torch==2.13.0

.PHONY: demo test test-fast lint setup setup-dev clean

demo: setup
	$(BIN)/finegrade demo

test: setup-dev lint
	$(BIN)/finegrade models fetch qwen2.5-coder-0.5b all-minilm-l6-v2 reranker-en bge-small-en sts-b
	$(PYTEST)

test-fast: setup-dev
	$(PYTEST) -m "not slow" --hypothesis-profile=fast

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
