# Two commands do everything: `make train` and `make test`. Both set up .venv first, the latter with what tests need.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
READY := $(VENV)/.ready
# Only a part of what is installed is ever imported, and compiled then.
INSTALL := $(BIN)/python -m pip install --quiet --no-compile --editable

.PHONY: train test lint format docs clean

train: $(INSTALLED)
	$(BIN)/python -m experiments.pdebench --config=configs/flare_elas.py:smoke

test: $(READY)
	@# pytest-xdist may wait for ever where it replaces a worker that crashed: let it stop instead, with an error.
	$(BIN)/python -m pytest -n 2 --dist loadfile --max-worker-restart 0

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(READY)
	$(INSTALL) '.[docs]'
	@# -W: a link that leads nowhere, or a name that is not there, is an error.
	$(BIN)/python -m sphinx -q -W --keep-going -b html docs build/docs

$(INSTALLED): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "flare_jax needs Python 3.11 or newer, found " + sys.version.split()[0] + "; run make PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) .
	@touch $(INSTALLED)

$(READY): $(INSTALLED)
	$(INSTALL) '.[test]'
	@touch $(READY)

clean:
	rm -rf $(VENV) build docs/api .pytest_cache .ruff_cache *.egg-info
