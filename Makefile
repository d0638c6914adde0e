# Everything runs in a virtual environment of its own: VENV=dir chooses where (default .venv). Every target sets it up.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
READY := $(VENV)/.ready
OUT ?= out
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: help setup demo test check bench clean

help:
	@echo "make demo    a photo speaks: writes $(OUT)/demo.mp4 and a contact sheet"
	@echo "make test    the test suite"
	@echo "make check   lint, formatting, types"
	@echo "make bench   speed of the whole pipeline on this machine"
	@echo "Options: VENV=dir (environment, default .venv), PYTHON=python3.12, OUT=dir (demo output)"

setup: $(READY)

# The tracker's release with bundled models pins old versions of what we use newer; it runs with them (see
# docs/tracker.md), so it is installed without its declared dependencies, which the constraints file names instead.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if v in ((3, 11), (3, 12)) else f"Vivavoce needs Python 3.11 or 3.12, this is {v[0]}.{v[1]}: make PYTHON=python3.12 ...")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[tracker,speech,dev]'
	$(BIN)/python -m pip install --quiet --no-deps --constraint constraints.txt mediapipe
	touch $(READY)

demo: $(READY)
	@mkdir -p $(OUT)
	$(BIN)/vivavoce animate assets/demo_portrait.jpg assets/demo_speech.wav -o $(OUT)/demo.mp4 --sheet $(OUT)/demo.png

test: $(READY)
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist worksteal

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python

bench: $(READY)
	$(BIN)/vivavoce bench

clean:
	rm -rf $(OUT) .pytest_cache .ruff_cache .hypothesis
