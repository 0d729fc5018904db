#!/usr/bin/env bash
# Build the image textassay:cpu or textassay:cuda: bash docker/build.sh cpu|cuda
#
# Variables, where the defaults do not fit:
#   TEXTASSAY_BASE_IMAGE   in place of python:3.11-slim-bookworm; NAME@sha256:… is that very image
#   TEXTASSAY_TORCH_INDEX  the package index of the CPU build of torch, as for train.sh
#   TEXTASSAY_BUILD_FLAGS  more flags of docker build, separated by blanks
set -Eeuo pipefail

USAGE_ERROR=2
BASE_IMAGE=python:3.11-slim-bookworm

main() {
  local root digest kind=${1:-} base=${TEXTASSAY_BASE_IMAGE:-$BASE_IMAGE}
  root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
  if (($# != 1)) || [[ $kind != cpu && $kind != cuda ]]; then
    printf 'error: docker/build.sh: name the image to build, cpu or cuda.\n' >&2
    exit "$USAGE_ERROR"
  fi
  local -a flags more
  digest=$(digest_of "$base")
  [[ $digest == unknown || $base == *@* ]] || base=$base@$digest
  flags=(
    --file "docker/$kind.Dockerfile" --tag "textassay:$kind"
    --build-arg "VERSION=$(version "$root")" --build-arg "COMMIT=$(commit "$root")"
    --build-arg "BASE_IMAGE=$base" --build-arg "BASE_DIGEST=$digest"
  )
  if [[ $kind == cpu && -n ${TEXTASSAY_TORCH_INDEX:-} ]]; then
    flags+=(--build-arg "TORCH_INDEX=$TEXTASSAY_TORCH_INDEX")
  fi
  read -ra more <<<"${TEXTASSAY_BUILD_FLAGS:-}"
  cd "$root"
  # An empty array is an unset one to the bash of macOS.
  DOCKER_BUILDKIT=1 exec docker build "${flags[@]}" ${more[@]+"${more[@]}"} .
}

# What a name of the registry stands for now, so that the label says what the image was built on, and
# all stages are built on the same. Unknown for what only this engine has, and where no registry answers.
digest_of() {
  if [[ $1 == *@* ]]; then
    printf '%s' "${1##*@}"
  else
    docker buildx imagetools inspect --format '{{.Manifest.Digest}}' "$1" 2>/dev/null |
      grep -x 'sha256:[0-9a-f]\{64\}' || printf unknown
  fi
}

version() {
  sed -n 's/^version = "\(.*\)"$/\1/p' "$1/pyproject.toml"
}

# The commit, marked where files that get into the image differ from it, or are in no commit; unknown
# in a tree without git.
commit() {
  local hash changed
  hash=$(git -C "$1" rev-parse HEAD 2>/dev/null) || hash=unknown
  changed=$(cd "$1" && sed -n 's/^!//p' .dockerignore |
    xargs git status --porcelain --untracked-files=all -- .dockerignore docker 2>/dev/null) || true
  printf '%s%s' "$hash" "${changed:+-changed}"
}

main "$@"
