# Every public target has a help line. Recipes of more than a few lines are scripts in scripts/.

LISTEN ?= $(or $(SELVAGE_LISTEN),127.0.0.1:8000)
WORKERS ?= 2
MODEL ?= fashion-mnist
# What models run on: cpu, cuda or openvino.
DEVICE ?= $(or $(SELVAGE_DEVICE),cpu)
# Cargo's output folder.
BUILT := $(or $(CARGO_TARGET_DIR),target)
# How the tests are built. The same everywhere, so that nothing is built twice.
TESTS := --workspace --locked --features selvage-gateway/failpoints,selvage-worker/failpoints
PICTURE := models/fashion-mnist/samples/9-ankle-boot.png

.DEFAULT_GOAL := help
.PHONY: help run fleet build wheel test chaos fuzz test-cluster test-compose site check fix train bench locust capacity

help: ## List these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
	@echo "Variables: LISTEN (address of run and fleet, now $(LISTEN)), WORKERS (of the fleet, now $(WORKERS)), MODEL (of train, now $(MODEL)), DEVICE (of run, now $(DEVICE))"

run: ## Build and start the embedded gateway: one process, no services; DEVICE is what models run on
	@scripts/nasm
	@library=$$(scripts/onnxruntime --device $(DEVICE)) && \
	cargo build --profile first-run --locked --package selvage-gateway && \
	printf '\nTry it, in another terminal:\n  curl --data-binary @%s -H "Content-Type: image/png" http://%s/predict\n\n' \
	  "$(PICTURE)" "$(LISTEN)" && \
	exec env -u SELVAGE_AMQP_URL -u SELVAGE_REDIS_URL -u SELVAGE_CACHE_URL SELVAGE_LISTEN="$(LISTEN)" ORT_DYLIB_PATH="$$library" \
	  SELVAGE_DEVICE=$(DEVICE) \
	  $(BUILT)/first-run/selvage-gateway

fleet: build ## Start private RabbitMQ and Redis, one gateway and WORKERS workers; Ctrl-C stops everything
	@exec scripts/fleet --programs $(BUILT)/release --listen "$(LISTEN)" --workers $(WORKERS)

build: ## Build gateway and worker in release mode, into target/release, with their symbols in files beside them
	@scripts/nasm
	@scripts/onnxruntime >/dev/null
	cargo build --release --locked --package selvage-gateway --package selvage-worker --bins
	@scripts/split-symbols $(BUILT)/release/selvage-gateway $(BUILT)/release/selvage-worker

wheel: ## Build the Python package for this processor, with the programs and models in it, into dist/
	@scripts/nasm
	@scripts/wheel

test: ## Run the tests, including those on a real RabbitMQ and Redis and some faults, and print the totals
	@scripts/nasm
	@scripts/test

chaos: ## Inject faults under load and check every job: the whole matrix, or FAULT=worker-kill DURATION=10m
	@scripts/chaos

test-cluster: ## Kill a queue leader and the Redis primary under load, on three RabbitMQ nodes and Redis behind Sentinel
	@scripts/onnxruntime >/dev/null
	@cargo build --locked --package selvage-gateway --package selvage-worker --bins
	@scripts/cluster-drill --programs $(BUILT)/debug

fuzz: ## Run the fuzz target TARGET, or each in turn, for SECONDS (60)
	@scripts/fuzz "$(TARGET)" "$(or $(SECONDS),60)"

test-compose: ## Build the images; scale, kill and roll the stack and kill leaders of deploy/cluster, all under load; needs a Docker engine
	@cargo test $(TESTS) --test compose

site: ## Build the documentation as a site into dist/site, and check its links
	@scripts/site

check: ## Check formatting, lints, types, documentation, links, terms, the Helm chart and the workflows, with warnings as errors
	@scripts/nasm
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	cargo clippy --package selvage-tests --test chaos --test compose --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --document-private-items --locked
	scripts/check-links
	scripts/site
	scripts/check-language
	scripts/check-alerts
	scripts/check-kubernetes
	scripts/check-workflows
	scripts/check-structure
	scripts/check-python

fix: ## Format the code and apply clippy's automatic fixes
	cargo clippy --workspace --all-targets --locked --fix --allow-dirty --allow-staged
	cargo fmt --all

train: ## Train a model: MODEL=fashion-mnist or clothing; ARGUMENTS are passed to its train.py
	@scripts/train $(MODEL) $(ARGUMENTS)

bench: build ## Run the benchmark on this machine and print the tables
	bench/run

locust: build ## Run the Locust scenario with 100 users, on the embedded gateway and on a fleet
	bench/locust

capacity: ## Print how many cores each process needs at RATE; optional: MODEL_MS (per image) and HIT_RATIO (0 to 1)
	@scripts/capacity --rate $(or $(RATE),1000) $(if $(MODEL_MS),--model-ms $(MODEL_MS)) $(if $(HIT_RATIO),--hit-ratio $(HIT_RATIO))
