# `make ledger` and `make test` are all one types; both begin by making the environment.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: ledger test lint deep bench lean clean

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $(READY)

ledger: $(READY)  ## measure the embedded model; table, figures and page in ./ledger
	$(BIN)/quantgap ledger pocket-llama --out ledger --open

test: $(READY) lint  ## every test, after the linters
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2

lint: $(READY)  ## style and types
	$(BIN)/ruff check .
	$(BIN)/mypy

deep: $(READY)  ## the property tests with many more examples
	HYPOTHESIS_PROFILE=deep $(BIN)/python -m pytest --numprocesses 2 tests/theory

bench: $(READY)  ## ratios measured side by side, the peers installed first
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[bench]'
	for script in benchmarks/*.py; do $(BIN)/python $$script || exit 1; done

lean: $(READY)  ## build the Lean project, where lake is; fails on sorry and axioms outside the lists
	cd lean && lake exe cache get
	cd lean && { lake build 2>&1 || echo "error: the build failed"; } | ../$(BIN)/python -m theory.lean.build

clean:
	rm -rf $(VENV) ledger .hypothesis .mypy_cache .ruff_cache
