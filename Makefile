# Two commands set everything up on a machine with Python 3.11 to 3.13:
#   make demo   installs into .venv, tries the shipped bank on unseen scans, names the report
#   make test   installs what tests need, runs everything CI runs
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
# A package of which nothing floats: the yardstick asks for torchvision, which is not wanted.
YARDSTICK := fastmri
# Public raw scans that lie beside the checkout.
RAW := ../shared/data/kspace

.PHONY: demo test lint bench clean system-packages

# One thread: the demonstration's arrays are small, and threads that share busy cores wait.
demo: .venv/adaptmr.stamp
	OMP_NUM_THREADS=1 $(BIN)/adaptmr demo --out demo --overwrite

# Two processes of one thread each: the tests' arrays are small. A file's tests stay together.
test: lint system-packages
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadfile

lint: .venv/test.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: .venv/test.stamp
	$(BIN)/python benchmarks/classical.py $(RAW)/brain_16ch_96.h5 $(RAW)/brain_8ch.h5 \
	  $(RAW)/brain_t1_7ch.h5 --json docs/benchmarks/classical.json
	$(BIN)/python benchmarks/real_raw.py $(RAW) --json docs/benchmarks/real_raw.json

clean:
	rm -rf .venv demo

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
	  || { echo "adaptmr needs Python 3.11 to 3.13: make PYTHON=/path/to/python3.12 ..." >&2; exit 2; }
	$(PYTHON) -m venv .venv

.venv/adaptmr.stamp: pyproject.toml constraints.txt | .venv/bin/python
	$(PIP) --editable .
	@touch $@

.venv/test.stamp: .venv/adaptmr.stamp
	$(PIP) --editable '.[test,lint]'
	$(PIP) --no-deps $(YARDSTICK)
	@touch $@

# The tests of the HTML report look at it in a browser. CI machines get one; a developer's own
# machine is left as it is, and those tests say why they skip.
system-packages:
	@if [ "$$CI" = true ] && ! command -v chromium >/dev/null && command -v apt-get >/dev/null; then \
	  apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium >/dev/null; fi
