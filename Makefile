# Everything is installed into .venv; nothing else on the machine changes.
PYTHON ?= python3
# cuda13, cuda12 or cpu. CuPy and NVRTC come with the first two: without a GPU they still compile the kernels for one.
EXTRA ?= cuda13
VENV := .venv
# With EXTRA=cpu: the address of the index with torch for CPUs, from pytorch.org/get-started. Without it PyPI's torch is
# fetched, which is for CUDA and larger. pip prefers 2.13.0+cpu to 2.13.0.
TORCH_INDEX ?=
PIP := $(VENV)/bin/python -m pip install --disable-pip-version-check -c tests/constraints.txt
FETCHED := $(if $(TORCH_INDEX),0.7 GB,4 GB)
# A process for each core, each with whole files of tests.
PYTEST := $(VENV)/bin/python -m pytest -n logical --dist loadfile
INSTALLED := $(VENV)/installed-$(EXTRA)

.PHONY: help setup demo test test-slow lint bench clean

help:
	@echo "make demo       make a small data set, stream it, draw demo.png (without a GPU: EXTRA=cpu)"
	@echo "make test       linters, types and the tests but the long ones (about ten minutes on two cores)"
	@echo "make test-slow  the long tests"
	@echo "make bench      the loader compared with decoding alone (VIDEOS=folder of class folders)"
	@echo "make setup      only install into .venv; EXTRA=cuda13 (default), cuda12 or cpu"

setup: $(INSTALLED)

# Another EXTRA is installed from scratch: two CuPy wheels overwrite each other.
$(INSTALLED): setup.py pyproject.toml tests/constraints.txt $(wildcard kernels/*)
	$(PYTHON) -m venv $(if $(filter-out $@,$(wildcard $(VENV)/installed-*)),--clear) $(VENV)
	@echo "installing into $(VENV), with EXTRA=$(EXTRA): pip fetches up to $(FETCHED) if nothing is cached"
	$(if $(TORCH_INDEX),$(PIP) --no-deps --extra-index-url $(TORCH_INDEX) torch torchvision)
	$(PIP) -e '.[$(EXTRA),test]'
	touch $@

demo: $(INSTALLED)
	$(VENV)/bin/dali-vidaug demo --output demo.png

lint: $(INSTALLED)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

test: lint
	$(PYTEST) -m "not slow"

test-slow: $(INSTALLED)
	$(PYTEST) -m slow

bench: $(INSTALLED)
	$(VENV)/bin/python benchmarks/loader.py $(VIDEOS)

clean:
	rm -rf $(VENV) build dist *.egg-info
