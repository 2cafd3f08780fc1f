# Every target that is for people has a line of help. What takes more than a few lines is a script in scripts/.

LISTEN ?= $(or $(SELVAGE_LISTEN),127.0.0.1:8000)
WORKERS ?= 2
MODEL ?= fashion-mnist
# Where cargo puts what it builds.
BUILT := $(or $(CARGO_TARGET_DIR),target)
# What the tests are built with; the same everywhere, so that nothing is built twice.
TESTS := --workspace --locked --features selvage-gateway/failpoints,selvage-worker/failpoints
PICTURE := models/fashion-mnist/samples/9-ankle-boot.png

.DEFAULT_GOAL := help
.PHONY: help run fleet build test chaos fuzz test-cluster test-compose check fix train bench locust capacity

help: ## List these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
	@echo "Variables: LISTEN (address of run and fleet, now $(LISTEN)), WORKERS (of the fleet, now $(WORKERS)), MODEL (of train, now $(MODEL))"

run: ## Build and start the embedded gateway: one process, no services
	@library=$$(scripts/onnxruntime) && \
	cargo build --release --locked --package selvage-gateway && \
	printf '\nTry it, in another terminal:\n  curl --data-binary @%s -H "Content-Type: image/png" http://%s/predict\n\n' \
	  "$(PICTURE)" "$(LISTEN)" && \
	exec env -u SELVAGE_AMQP_URL -u SELVAGE_REDIS_URL -u SELVAGE_CACHE_URL SELVAGE_LISTEN="$(LISTEN)" ORT_DYLIB_PATH="$$library" \
	  $(BUILT)/release/selvage-gateway

fleet: build ## Start private RabbitMQ and Redis, one gateway and WORKERS workers; Ctrl-C ends all
	@exec scripts/fleet --programs $(BUILT)/release --listen "$(LISTEN)" --workers $(WORKERS)

build: ## Build gateway and worker for release, into target/release
	@scripts/onnxruntime >/dev/null
	cargo build --release --locked --package selvage-gateway --package selvage-worker --bins

test: ## Run every test, those on a real RabbitMQ and Redis included, and print the totals
	@scripts/test

chaos: ## Break things under load and judge every job: the whole matrix, or FAULT=worker-kill DURATION=10m
	@scripts/chaos

test-cluster: ## Kill a lane's leader and Redis' primary under load, on three RabbitMQ nodes and Redis behind Sentinel
	@scripts/onnxruntime >/dev/null
	@cargo build --locked --package selvage-gateway --package selvage-worker --bins
	@scripts/cluster-drill --programs $(BUILT)/debug

fuzz: ## Feed TARGET, or each fuzz target in turn, made-up bytes for SECONDS (60)
	@scripts/fuzz "$(TARGET)" "$(or $(SECONDS),60)"

test-compose: ## Build the images; scale, kill and roll the stack, then kill leaders of deploy/cluster, under load; needs a Docker engine
	@cargo test $(TESTS) --test compose

check: ## Formatting, lints, documentation and links, with warnings as errors
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	cargo clippy --package selvage-tests --test chaos --test compose --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --document-private-items --locked
	scripts/check-links
	scripts/check-alerts
	scripts/check-kubernetes

fix: ## Format, and apply what clippy can fix by itself
	cargo clippy --workspace --all-targets --locked --fix --allow-dirty --allow-staged
	cargo fmt --all

train: ## Train a model anew: MODEL=fashion-mnist or clothing; ARGUMENTS go to its train.py
	@scripts/train $(MODEL) $(ARGUMENTS)

bench: build ## Measure on this machine and print the table
	bench/run

locust: build ## Run the Locust scenario, 100 users, on the embedded gateway and on a fleet
	bench/locust

capacity: ## Say how many cores of each process RATE needs; MODEL_MS (of one image) and HIT_RATIO (0 to 1) if they matter
	@scripts/capacity --rate $(or $(RATE),1000) $(if $(MODEL_MS),--model-ms $(MODEL_MS)) $(if $(HIT_RATIO),--hit-ratio $(HIT_RATIO))
