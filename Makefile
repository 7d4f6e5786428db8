# `make demo` and `make test` need Python 3.11+ and nothing else: they make .venv themselves.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
VIDEO ?=
# On a machine that also does other work, threads that wait actively for one another slow small steps down by far.
export OMP_WAIT_POLICY ?= PASSIVE

.PHONY: demo test lint mutants gpu-check clean
EXTRAS := requirements-scenes3d.txt requirements-dino.txt requirements-ray.txt requirements-slurm.txt
$(VENV)/installed: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "error: Python 3.11 or newer is needed: make PYTHON=python3.12 ..."; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

$(VENV)/installed-extras: $(VENV)/installed $(EXTRAS)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(EXTRAS:%=-r %)
	touch $@

demo: $(VENV)/installed
	$(BIN)/python -m benchmarks.demo $(if $(VIDEO),--video "$(VIDEO)")

test: $(VENV)/installed-extras
	$(BIN)/python -m pytest

lint: $(VENV)/installed
	$(BIN)/ruff check .

# Bugs of one token planted in the numeric modules, one after the other: which of them do the tests catch? Takes hours;
# MODULES='losses training.schedules' tests only those. See docs/mutants.md.
mutants: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	$(BIN)/mutmut run --max-children 1 $(patsubst %,'%.*',$(MODULES))
	$(BIN)/python -m benchmarks.mutants

# Every part on a GPU against the same on the CPU, then what each stage costs on a clip: SOURCE=my.mp4 WEIGHTS=raft-small.pth
gpu-check: $(VENV)/installed
	$(BIN)/python -m benchmarks.gpu $(if $(SOURCE),--source "$(SOURCE)") $(if $(WEIGHTS),--raft_weights "$(WEIGHTS)",--flow dis)

clean:
	rm -rf mutants demo .pytest_cache .ruff_cache
