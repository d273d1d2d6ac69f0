# syntax=docker/dockerfile:1
# Everything of requirements.lock: runs flows, and the MLflow and Prefect servers at the same versions. From the root:
#   docker build -f deploy/docker/pipeline.Dockerfile -t modelpress-pipeline .
# For GPUs: --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu128
FROM python:3.11-slim-bookworm AS build
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
WORKDIR /build
RUN python -m venv /venv
ENV PATH=/venv/bin:$PATH
COPY requirements.lock ./
RUN --mount=type=cache,target=/root/.cache/pip \
    pip install --disable-pip-version-check --index-url "$TORCH_INDEX" --extra-index-url https://pypi.org/simple \
        "$(grep '^torch==' requirements.lock)" \
    && pip install --disable-pip-version-check -r requirements.lock \
    && python -m compileall -q -j 0 /venv/lib

FROM python:3.11-slim-bookworm
LABEL org.opencontainers.image.title="modelpress-pipeline" org.opencontainers.image.licenses="MIT"
RUN apt-get update && apt-get install -y --no-install-recommends git && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --create-home modelpress \
    && install -d -o modelpress -g modelpress /workspace
COPY --from=build /venv /venv
COPY deploy/docker/run_flow.sh deploy/docker/start_worker.sh /usr/local/bin/
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 DO_NOT_TRACK=1 DVC_NO_ANALYTICS=1 MLFLOW_DISABLE_TELEMETRY=true
# modelpress itself comes with the workspace: a flow runs the code of the commit it records
ENV PYTHONPATH=/workspace
WORKDIR /workspace
USER 10001:10001
CMD ["sh", "/usr/local/bin/start_worker.sh"]
