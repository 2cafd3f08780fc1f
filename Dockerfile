# The images, `--target gateway`, `--target worker` and `--target worker-cuda`, and the programs' symbols, `--target symbols`. Needs
# BuildKit.
#
# Stages are ordered by how often they change: the library and the dependencies rarely, the sources often.
# `rust-toolchain.toml` is not copied: the base image provides the compiler.

# ONNX Runtime from the pinned wheel, verified by its hash. Only the worker image contains it.
FROM python:3.11-slim-bookworm AS onnxruntime
WORKDIR /selvage
COPY scripts/onnxruntime scripts/onnxruntime
RUN python3 scripts/onnxruntime

# The same for NVIDIA GPUs, with CUDA and cuDNN. Only the image worker-cuda contains it, for x86-64 only.
FROM onnxruntime AS cuda
RUN python3 scripts/onnxruntime --device cuda

# Manifests, with empty crates in place of the real ones. An empty build script makes cargo build its dependencies too.
FROM debian:bookworm-slim AS manifests
WORKDIR /selvage
COPY . .
RUN mkdir /empty \
 && find . -name 'Cargo.*' -exec cp --parents --target-directory /empty {} + \
 && find . -path '*/src/main.rs' -o -path '*/benches/*.rs' -o -name build.rs -o -name lib.rs | while read -r file; do \
      mkdir -p "/empty/$(dirname "$file")"; \
      case "$file" in */lib.rs) : ;; *) echo 'fn main() {}' ;; esac > "/empty/$file"; \
    done

# All dependencies. This layer is cached until a manifest or the lock file changes.
FROM rust:1-slim-bookworm AS dependencies
WORKDIR /selvage
# The JPEG decoder's SIMD code is assembled with NASM.
RUN apt-get update && apt-get install -y --no-install-recommends nasm && rm -rf /var/lib/apt/lists/*
COPY --from=manifests /empty .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    cargo build --release --locked --package selvage-gateway --no-default-features \
 && cargo build --release --locked --package selvage-worker

FROM dependencies AS build
COPY core core
COPY gateway gateway
COPY worker worker
# The home page contains these pictures. No model is copied, so another one does not rebuild the programs.
COPY models/fashion-mnist/samples models/fashion-mnist/samples
COPY scripts/split-symbols scripts/split-symbols
# Cargo compares modification times, and the sources are older than the empty crates.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    find core gateway worker -name '*.rs' -exec touch {} + \
 && cargo build --release --locked --package selvage-gateway --no-default-features \
 && cargo build --release --locked --package selvage-worker \
 && scripts/split-symbols target/release/selvage-gateway target/release/selvage-worker

# Symbols and line tables of both programs: `docker build --target symbols --output symbols .` writes them into a folder.
FROM scratch AS symbols
COPY --from=build /selvage/target/release/*.debug /

# The default models: only the files that serving needs, without training code and samples.
FROM debian:bookworm-slim AS models
COPY models /models
RUN find /models -type f ! -name model.toml ! -name model.onnx -delete && find /models -type d -empty -delete

FROM debian:bookworm-slim AS base
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
# Mount a folder at /models to replace the default models, or at /models/NAME to add one.
COPY --from=models /models /models
COPY LICENSE /opt/selvage/
ENV SELVAGE_MODELS=/models SELVAGE_LOG_FORMAT=json
WORKDIR /opt/selvage
# A numeric user, so that an orchestrator can verify that it is not root. It needs no entry in passwd.
USER 10001:10001

FROM base AS gateway
ENV SELVAGE_LISTEN=0.0.0.0:8000 SELVAGE_OPS_LISTEN=0.0.0.0:9100
EXPOSE 8000 9100
COPY --from=build /selvage/target/release/selvage-gateway /usr/local/bin/
HEALTHCHECK --interval=5s --timeout=3s --start-period=20s --retries=3 CMD ["selvage-gateway", "check"]
ENTRYPOINT ["selvage-gateway"]
# Labels come last, so that another revision changes no layer. docker-bake.hcl sets the arguments.
ARG VERSION=0.1.0 REVISION=unknown SOURCE=unknown
LABEL org.opencontainers.image.title="selvage-gateway" \
      org.opencontainers.image.description="Selvage's gateway: HTTP in, jobs out" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.source="$SOURCE" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION"

FROM base AS worker
ENV SELVAGE_OPS_LISTEN=0.0.0.0:9100 ORT_DYLIB_PATH=/opt/selvage/onnxruntime/libonnxruntime.so
EXPOSE 9100
COPY --from=onnxruntime /selvage/.onnxruntime/libonnxruntime.so /selvage/.onnxruntime/LICENSE \
     /selvage/.onnxruntime/ThirdPartyNotices.txt /opt/selvage/onnxruntime/
COPY --from=build /selvage/target/release/selvage-worker /usr/local/bin/
HEALTHCHECK --interval=5s --timeout=3s --start-period=30s --retries=3 CMD ["selvage-worker", "check"]
ENTRYPOINT ["selvage-worker"]
ARG VERSION=0.1.0 REVISION=unknown SOURCE=unknown
LABEL org.opencontainers.image.title="selvage-worker" \
      org.opencontainers.image.description="Selvage's worker: jobs in, predictions out" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.source="$SOURCE" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION"

# The worker for NVIDIA GPUs. The host provides the driver, by the NVIDIA Container Toolkit.
FROM worker AS worker-cuda
ENV SELVAGE_DEVICE=cuda ORT_DYLIB_PATH=/opt/selvage/cuda/libonnxruntime.so \
    NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY --from=cuda /selvage/.onnxruntime/cuda /opt/selvage/cuda
ARG VERSION=0.1.0 REVISION=unknown SOURCE=unknown
LABEL org.opencontainers.image.title="selvage-worker-cuda" \
      org.opencontainers.image.description="Selvage's worker on an NVIDIA GPU: jobs in, predictions out" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.source="$SOURCE" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION"

# The Locust scenario, for the compose profile `load`.
FROM python:3.11-slim-bookworm AS load
COPY bench/requirements-locust.txt /selvage/bench/
RUN pip install --no-cache-dir --disable-pip-version-check --requirement /selvage/bench/requirements-locust.txt
COPY bench/locustfile.py /selvage/bench/
COPY models/fashion-mnist/samples /selvage/models/fashion-mnist/samples
WORKDIR /tmp
USER 10001:10001
ENTRYPOINT ["locust", "--locustfile", "/selvage/bench/locustfile.py"]
