# `make demo` and `make test` need Python 3.11+ and nothing else: they make .venv themselves.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
VIDEO ?=
TESTERS ?= 2
# On a machine that also does other work, threads that wait actively for one another slow small steps down by far.
export OMP_WAIT_POLICY ?= PASSIVE

.PHONY: demo test lint mutants gpu-check faults clean
EXTRAS := $(addprefix requirements-,scenes3d.txt dino.txt dlc.txt exr.txt rerun.txt viewer.txt browser.txt faults.txt ray.txt \
	slurm.txt)
BLENDER := $(VENV)/blender
$(VENV)/installed: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "error: Python 3.11 or newer is needed: make PYTHON=python3.12 ..."; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

$(VENV)/installed-extras: $(VENV)/installed $(EXTRAS)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(EXTRAS:%=-r %)
	touch $@

# Blender as a module runs only on its own version of Python, with an older numpy: it has an environment of its own.
$(BLENDER)/installed: $(VENV)/installed requirements-blender.txt
	if $(BIN)/python -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))'; then \
		$(BIN)/python -m venv $(BLENDER) && \
		$(BLENDER)/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-blender.txt; \
	else mkdir -p $(BLENDER) && echo "without Python 3.11 the scripts for Blender are not tested"; fi
	touch $@

demo: $(VENV)/installed
	$(BIN)/python -m benchmarks.demo $(if $(VIDEO),--video "$(VIDEO)")

test: $(VENV)/installed-extras $(BLENDER)/installed
	$(BIN)/python -m pytest -n $(TESTERS) --dist loadfile --no-loadscope-reorder

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

# Kills, full disks, two at once, every file damaged in every way, evil files: the table of docs/reliability.md. Minutes;
# as root on Linux it mounts small disks of its own.
faults: $(VENV)/installed-extras
	$(BIN)/python -m tests.faults.campaign

clean:
	rm -rf mutants demo .pytest_cache .ruff_cache
