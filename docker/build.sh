#!/usr/bin/env bash
# Build the image textassay:cpu or textassay:cuda: bash docker/build.sh cpu|cuda
#
# Variables, where the defaults do not fit:
#   TEXTASSAY_BASE_IMAGE   in place of python:3.11-slim-bookworm
#   TEXTASSAY_TORCH_INDEX  the package index of the CPU build of torch, as for train.sh
#   TEXTASSAY_BUILD_FLAGS  more flags of docker build, separated by blanks
set -Eeuo pipefail

USAGE_ERROR=2

main() {
  local root kind=${1:-}
  root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
  if (($# != 1)) || [[ $kind != cpu && $kind != cuda ]]; then
    printf 'error: docker/build.sh: name the image to build, cpu or cuda.\n' >&2
    exit "$USAGE_ERROR"
  fi
  local -a flags more
  flags=(
    --file "docker/$kind.Dockerfile" --tag "textassay:$kind"
    --build-arg "VERSION=$(version "$root")" --build-arg "COMMIT=$(commit "$root")"
  )
  [[ -z ${TEXTASSAY_BASE_IMAGE:-} ]] || flags+=(--build-arg "BASE_IMAGE=$TEXTASSAY_BASE_IMAGE")
  if [[ $kind == cpu && -n ${TEXTASSAY_TORCH_INDEX:-} ]]; then
    flags+=(--build-arg "TORCH_INDEX=$TEXTASSAY_TORCH_INDEX")
  fi
  read -ra more <<<"${TEXTASSAY_BUILD_FLAGS:-}"
  cd "$root"
  # An empty array is an unset one to the bash of macOS.
  DOCKER_BUILDKIT=1 exec docker build "${flags[@]}" ${more[@]+"${more[@]}"} .
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
