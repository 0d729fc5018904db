#!/usr/bin/env bash
# Evaluate what can predict: bash eval.sh RUN_OR_CHECKPOINT … [--setting value …]
#
# A run, its model/ directory, an adapter, a model, a ZeRO checkpoint, or a hub name; several are
# taken one after another. `bash eval.sh --help` lists the settings.
set -Eeuo pipefail

main() {
  local root
  root=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
  # shellcheck source-path=SCRIPTDIR source=scripts/environment.sh
  source "$root/scripts/environment.sh"
  find_python "$root" ""
  local -a places=()
  while (($#)) && [[ $1 != -* ]]; do
    places+=("$1")
    shift
  done
  if ((${#places[@]} == 0)); then
    exec "$PYTHON" "$root/scripts/evaluate.py" "$@"
  fi
  local place worst=0
  for place in "${places[@]}"; do
    "$PYTHON" "$root/scripts/evaluate.py" "$place" "$@" || worst=$?
  done
  exit "$worst"
}

main "$@"
