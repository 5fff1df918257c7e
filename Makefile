# Everything runs in .venv, which is made on demand from constraints.txt. PYTHON names the interpreter to make it with.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# Where PyTorch keeps its builds for the CPU, which are a tenth of the size of those for CUDA. Asked only where it
# answers; empty: take torch from pip's usual index.
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu

PACKAGES := client server model export
PROTOS := $(wildcard protos/dragoman_protos/*/*.proto)
# protoc finds its mypy plugins on the path.
PROTOC := PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m grpc_tools.protoc -Iprotos
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

# Installing compiles them.
KERNELS := hatch_build.py $(wildcard server/dragoman_server/kernels/*.*[ch] server/dragoman_server/kernels/build.py)

SERVER_STAMP := $(VENV)/.installed-server
DEV_STAMP := $(VENV)/.installed-dev
BENCH_STAMP := $(VENV)/.installed-bench

BENCHMARKS := offline latency saturation grpc_efficiency profile hugging_face roofline planning report

.PHONY: help serve audit lock test test-system fuzz robustness check proto bench load soak clean
.DEFAULT_GOAL := help

help:  ## Show this list.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

serve: $(SERVER_STAMP)  ## Install what the server needs, and serve the models under models/.
	@exec $(BIN)/dragoman serve

test: $(DEV_STAMP)  ## Install what the tests need, and run them.
	$(BIN)/python -m pytest

test-system: $(DEV_STAMP)  ## Check the dashboard with a real Prometheus and the playground in Chromium; root installs them.
	$(BIN)/python -m pytest tests/system

fuzz: $(DEV_STAMP)  ## Send 200,000 messages that nobody means, and HTTP/2 that is none: ten minutes; writes docs/benchmarks/fuzzing.md.
	$(BIN)/python -m tests.fuzz --messages 200000 --output docs/benchmarks

robustness: $(DEV_STAMP)  ## Inject faults under load for some minutes, and check every history (OPTIONS="--seed 7 --requests 2000").
	$(BIN)/python -m tests.robustness $(OPTIONS)

check: $(DEV_STAMP) audit  ## Style, formatting, strict types, known weaknesses, and whether the stubs are those of the protos.
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy --strict $(PACKAGES) tests
	@folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT && \
	$(PROTOC) --python_out="$$folder" --grpc_python_out="$$folder" --mypy_out="$$folder" --mypy_grpc_out="$$folder" \
	    $(PROTOS) && \
	for stub in "$$folder"/dragoman_protos/*/*; do \
	    diff -u "protos/$${stub#"$$folder/"}" "$$stub" \
	        || { echo "the stubs are not those of the protos: run make proto" >&2; exit 1; }; \
	done && echo "the stubs are those of the protos"

# Asks PyPI, where it knows: elsewhere it says that nothing was audited.
audit: $(DEV_STAMP)  ## Known weaknesses of what a server is installed with (requirements/server.txt).
	$(BIN)/python -m tests.audit

lock: $(DEV_STAMP)  ## Write requirements/server.txt anew from constraints.txt: needs uv.
	uv pip compile pyproject.toml --extra server --constraint constraints.txt --generate-hashes --python-version 3.11 \
	    --no-header --quiet --output-file requirements/server.txt

proto: $(DEV_STAMP)  ## Generate the stubs anew, and the API reference.
	$(PROTOC) --python_out=protos --grpc_python_out=protos --mypy_out=protos --mypy_grpc_out=protos $(PROTOS)
	$(BIN)/python -m tests.docs.api_reference

bench: $(BENCH_STAMP)  ## Measure speed against CTranslate2 and Hugging Face: up to an hour, on a quiet machine.
	@for name in $(BENCHMARKS); do $(BIN)/python -m tests.bench.$$name || exit 1; done

# QUICK=1: three workloads for a few seconds each.
load: $(DEV_STAMP)  ## Measure a server under rising load, with every answer checked: ten minutes, or two with QUICK=1.
	$(BIN)/python -m tests.load.sweep $(if $(QUICK),--quick)

soak: $(DEV_STAMP)  ## 50,000 mixed requests to a server, which must hold no more at the end: a quarter of an hour.
	$(BIN)/python -m tests.soak.run

clean:  ## Remove what was installed, built and cached; runs/ stays.
	rm -rf $(VENV) dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find $(PACKAGES) protos tests -name __pycache__ -prune -exec rm -rf {} +

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Dragoman needs Python 3.11 or newer (make PYTHON=...)")'
	$(PYTHON) -m venv $(VENV)

$(SERVER_STAMP): pyproject.toml constraints.txt $(KERNELS) | $(BIN)/python
	@echo "Installing what the server needs into $(VENV) ..."
	$(INSTALL) --editable '.[server]'
	@touch $@

# The index is asked first whether it is there: pip would ask it for every package, and wait each time.
$(DEV_STAMP): pyproject.toml constraints.txt $(KERNELS) | $(BIN)/python
	@echo "Installing what the tests need into $(VENV) ..."
	@index="$(TORCH_INDEX)"; \
	if [ -n "$$index" ] && $(BIN)/python -c 'import sys, urllib.request; urllib.request.urlopen(sys.argv[1], timeout=10)' \
	    "$$index/torch/" 2>/dev/null; \
	then set -- --extra-index-url "$$index"; else set --; fi; \
	$(INSTALL) "$$@" torch
	$(INSTALL) --editable '.[dev]'
	@touch $@ $(SERVER_STAMP)

$(BENCH_STAMP): $(DEV_STAMP)
	@echo "Installing what the benchmarks compare with into $(VENV) ..."
	$(INSTALL) --editable '.[bench]'
	@touch $@
