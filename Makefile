# tfeffi: `make demo` and `make test` set up everything they need, then run.

FITS := -c "import sys, venv; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))"
PYTHON ?= $(shell for p in python3.12 python3.11 python3.10 python3 python; do \
  $$p $(FITS) >/dev/null 2>&1 && { echo $$p; break; }; done)
BIN := .venv/bin
READY := .venv/.ready

.PHONY: demo sprint test test-all lint lock clean

# On CPUs where TensorFlow leaves oneDNN off; our trainings go around what it gets wrong.
demo sprint: export TF_ENABLE_ONEDNN_OPTS ?= 1

demo: $(READY)
	$(BIN)/tfeffi-sweep --config=configs/demo.py --workdir=runs/demo

sprint: $(READY)  # CIFAR-10 to 94 %: minutes a seed where the CPU computes in bfloat16, hours on others
	$(BIN)/tfeffi-fetch-data --dataset=cifar10
	$(BIN)/tfeffi-experiment --config=configs/cifar10_sprint.py

test: $(READY)
	$(BIN)/ruff check . && $(BIN)/ruff format --check .
	$(BIN)/python -m pytest -n 2 --dist loadfile

test-all: $(READY)
	tests/bench/devices/get_arm64.sh || echo 'no emulated ARM64 could be had: its tests skip' >&2
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "slow or not slow" --hypothesis-profile=new

lint: $(READY)
	$(BIN)/ruff check --fix . && $(BIN)/ruff format .

lock:  # needs uv
	uv pip compile --quiet --universal --python-version 3.10 requirements.in -o requirements.lock

$(READY): requirements.lock setup.py
	@$(PYTHON) $(FITS) || { echo 'tfeffi needs Python 3.10, 3.11 or 3.12 with venv;' \
	  'say which: make PYTHON=/path/to/python3.12' >&2; exit 2; }
	@echo 'making .venv with $(PYTHON): some minutes'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --editable .
	touch $@

clean:
	rm -rf .venv runs build dist *.egg-info
