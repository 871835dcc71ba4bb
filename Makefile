# Every command a developer or CI needs. `make help` lists them.

# Triton 24.10, the newest for laptops, wants numpy 1, which has no build for Python 3.13.
usable = $(shell $(1) -c 'import sys; raise SystemExit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null && echo $(1))
PYTHON ?= $(firstword $(foreach python,python3 python3.12 python3.11,$(call usable,$(python))) python3)
CACHE  ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/tritonllm

# Another version or base image for once: `make image DEBIAN_IMAGE=…`; a variable of the environment counts, too.
version = $(shell sed -n 's/^$(1)=//p' images/versions.env)
DEBIAN_IMAGE ?= $(call version,DEBIAN_IMAGE)
TRITON_IMAGE ?= $(call version,TRITON_IMAGE)
TRITON_VLLM_VERSION ?= $(call version,TRITON_VLLM_VERSION)
UV_VERSION   ?= $(call version,UV_VERSION)
labels = --label org.opencontainers.image.version=$$(sed -n 's/^version = "\(.*\)"/\1/p' tritonllm/pyproject.toml) \
  --label org.opencontainers.image.revision=$$(git describe --always --dirty --exclude='*' --abbrev=40)
build_args = $(foreach name,$(1),--build-arg $(name)=$($(name)))
TARGET ?= small

export UV := $(CACHE)/uv-$(UV_VERSION)/bin/uv
BIN := .venv/bin
# Tests of real processes depend on how busy the machine is: one that fails runs a second time, and the summary names it.
again := --reruns 1 -raR
export TRITONLLM_WEIGHTS ?= $(CACHE)/weights
# A Python that uv would have to download is never wanted: the machine's own has the shared library Triton needs.
export UV_PYTHON_DOWNLOADS := never
# A minute here; every start of vLLM, in a dozen processes of the tests, is seconds faster for it.
export UV_COMPILE_BYTECODE := 1

.DEFAULT_GOAL := help
.PHONY: help setup aiperf serve test test-container lint golden e2e image image-gpu bench load clean

help: ## This list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## /{printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/.ready ## Install everything into .venv (its bin/tritonllm works)

serve: .venv/.ready ## Build the demo model once and serve examples/smollm2.yaml until Ctrl-C
	@$(BIN)/python tools/demo_model.py
	@$(BIN)/tritonllm serve examples/smollm2.yaml

test: .venv/.ready .venv-bench/.ready ## All tests, on the real Triton and vLLM; those of the page where Chromium is installed
	@tools/helm.sh >/dev/null
	$(BIN)/pytest -n 2 tritonllm/tests/unit tritonllm/tests/golden tritonllm/tests/property operator/tests/unit charts/tests images/tests infra/tests
	$(MAKE) test-container
	@tools/kubernetes.sh >/dev/null
	$(BIN)/pytest $(again) operator/tests/api operator/tests/integration
	$(BIN)/pytest $(again) -n 2 tritonllm/tests/browser
	@$(BIN)/python tools/demo_model.py
	TRITONLLM_AIPERF=.venv-bench/bin/aiperf $(BIN)/pytest $(again) tritonllm/tests/integration

# pytest's own plugin of that container's anyio is older than the pytest here.
test-container: .venv-container/.ready ## What depends on libraries, with the packages of NVIDIA's container
	.venv-container/bin/python -m pytest -n 2 -p no:anyio -p no:cacheprovider $(addprefix tritonllm/tests/,golden \
	  unit/engines unit/render unit/files unit/weights unit/gateway property/test_weights_property.py \
	  $(addprefix integration/test_weights_,sync.py network.py faults.py))

lint: .venv/.ready ## Format, style, types and layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/lint-imports

golden: .venv/.ready ## Rewrite the golden files after a wanted change of the renderer or the chart
	@tools/helm.sh >/dev/null
	$(BIN)/pytest -q tritonllm/tests/golden charts/tests/test_goldens.py --golden-update

e2e: .venv/.ready ## Install the chart on a kind cluster: serve, change, scale, fail (docker, kind, kubectl, helm)
	$(BIN)/pytest $(again) e2e

image: ## Build tritonllm:small for trials without GPUs (TARGET=full has vLLM) and tritonllm-operator:latest
	docker build --target $(TARGET) --tag tritonllm:$(TARGET) $(call build_args,DEBIAN_IMAGE) $(labels) \
	  --file images/triton-cpu/Dockerfile .
	docker build --tag tritonllm-operator:latest $(call build_args,DEBIAN_IMAGE) $(labels) \
	  --file images/operator/Dockerfile .

image-gpu: ## Build tritonllm:gpu from NVIDIA's container (25 GB)
	docker build --tag tritonllm:gpu $(call build_args,TRITON_IMAGE TRITON_VLLM_VERSION) $(labels) \
	  --file images/triton/Dockerfile .

bench: .venv/.ready ## The serving path beside vLLM's own server, and guardrails beside better_profanity
	$(BIN)/python bench/guardrails.py
	$(BIN)/python bench/serving.py

aiperf: .venv-bench/.ready ## AIPerf, which `tritonllm bench` runs: .venv-bench/bin/aiperf

load: .venv/.ready ## 5,000 mixed requests, 200 at a time: each ends once, nothing is left behind
	$(BIN)/python bench/load.py

clean: ## Remove .venv and what tools left in the checkout; caches outside stay
	rm -rf .venv .venv-bench .venv-container .pytest_cache .ruff_cache .hypothesis .import_linter_cache

$(UV):
	@echo "Installing uv $(UV_VERSION) into $(CACHE)"
	@$(PYTHON) -m venv $(CACHE)/uv-$(UV_VERSION) || { \
	  rm -rf $(CACHE)/uv-$(UV_VERSION); \
	  echo "$(PYTHON) -m venv does not work here. On Debian: apt-get install python3-venv"; exit 1; }
	@$(CACHE)/uv-$(UV_VERSION)/bin/pip install --quiet uv==$(UV_VERSION)

.venv/.ready: $(UV) pyproject.toml uv.lock tritonllm/pyproject.toml operator/pyproject.toml
	@echo "Installing the locked environment into .venv (6 GB; minutes the first time, then from uv's cache)"
	@$(UV) sync --locked --all-groups --python "$$(command -v $(PYTHON))"
	@touch $@

# The container's Python, where this machine has it.
CONTAINER_PYTHON ?= $(firstword $(foreach python,python3.12 $(wildcard $(HOME)/.pyenv/versions/3.12.*/bin/python),\
  $(call usable,$(python))) $(PYTHON))

.venv-bench/.ready: $(UV) pyproject.toml uv.lock tritonllm/pyproject.toml
	@UV_PROJECT_ENVIRONMENT=.venv-bench $(UV) sync --quiet --locked --package tritonllm --extra bench --no-dev --python "$$(command -v $(PYTHON))"
	@touch $@

.venv-container/.ready: $(UV) images/triton/test-requirements.txt tritonllm/pyproject.toml
	@$(UV) venv --quiet --clear --python "$$(command -v $(CONTAINER_PYTHON))" .venv-container
	@$(UV) pip sync --quiet --no-config --require-hashes --python .venv-container images/triton/test-requirements.txt
	@$(UV) pip install --quiet --no-deps --python .venv-container --editable tritonllm
	@touch $@
