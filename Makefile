# make demo    everything end to end from a fresh machine: trained, exported, evaluated, measured
# make test    lint, types and tests; .ci/run has all that must hold before a change lands
# make test-zoo  exports the networks that make test, with one or two a family, does not
# make test-arm  the same on an emulated AArch64 board, where root, QEMU and a network allow it
# make bench   the measured figures of README.md and docs
# make claims  what is claimed of the networks, small: an hour or more of training
# make clean   remove what these made (not the bundles you exported elsewhere)

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
# torch stands on the line of everything that needs it: alone, pip may bring another version.
INSTALL = $(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt "torch==2.13.0"

# Two processes of one thread each: two of two would wait for each other's. They keep the memory
# that they free, or a tenth of the time goes into getting it back for the next copy of the weights.
PYTEST = OMP_NUM_THREADS=1 MALLOC_TRIM_THRESHOLD_=4294967296 MALLOC_MMAP_THRESHOLD_=1073741824 \
         $(BIN)/python -m pytest -q -n 2

# What a board installs must run on JetPack 6's Python 3.10.
BOARD = $(addprefix edgekit/,__init__.py __main__.py errors.py optional.py targets.py bundle \
        runtimes profiling cli \
        $(addprefix models/,__init__.py zoo.py variant.py rows labels.py))

BENCHES = import_time export_time run_overhead graph_forms dcd zoo vs_peers training_speed \
          vlm_extractors vlm_decoding vlm_roi_align
CLAIMS  = digits micronet_claim seed_claim
# Our TFLite files beside onnx2tf's, where that is installed apart: make bench ONNX2TF=PATH
ONNX2TF ?=

.PHONY: demo test test-zoo test-arm lint types bench claims clean

demo: $(VENV)/.user
	$(BIN)/python examples/demo.py

# A file's tests in one process: what they trace once is not traced in the other, too.
test: lint types
	$(PYTEST) --dist loadfile

test-zoo: $(VENV)/.dev
	$(PYTEST) -m zoo

# Says why where it cannot run. What it makes is kept in EDGEKIT_ARM_ROOT (~/.cache/edgekit-arm).
test-arm: $(VENV)/.dev
	$(BIN)/python -m tests.arm.run

lint: $(VENV)/.dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: $(VENV)/.dev
	$(BIN)/mypy
	# silent: what a board does not install may need a newer Python
	$(BIN)/mypy --python-version 3.10 --follow-imports silent $(BOARD)

bench: $(VENV)/.dev
	set -e; for each in $(BENCHES); do $(BIN)/python benchmarks/$$each.py; done
	test -z "$(ONNX2TF)" || $(BIN)/python benchmarks/vs_onnx2tf.py --onnx2tf "$(ONNX2TF)"

claims: $(VENV)/.dev
	set -e; for each in $(CLAIMS); do $(BIN)/python benchmarks/$$each.py; done

clean:
	rm -rf $(VENV) build dist out *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Stamps, so that the second call starts at once. Whoever develops has what a user has.
$(VENV)/.user: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) -e ".[all]"
	touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) -e ".[all,dev]"
	touch $(VENV)/.user $@

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
