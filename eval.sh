#!/usr/bin/env bash
# Evaluate what can predict: bash eval.sh RUN_OR_CHECKPOINT … [--setting value …]
#
# A run, its model/ directory, an adapter, a model, a ZeRO checkpoint, or a hub name; several are
# taken one after another. `bash eval.sh --help` lists the settings.
set -Eeuo pipefail

INTERRUPTED=130

main() {
  local root
  root=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
  # shellcheck source-path=SCRIPTDIR source=scripts/environment.sh
  source "$root/scripts/environment.sh"
  find_python "$root" onnx,serving
  local -a places=()
  while (($#)) && [[ $1 != -* ]]; do
    places+=("$1")
    shift
  done
  if ((${#places[@]} < 2)); then
    exec "$PYTHON" "$root/scripts/evaluate.py" "${places[@]}" "$@"
  fi
  [[ " $* " != *" --output"[_-]"dir"* ]] || fail "--output_dir is one folder, and several places were named"
  evaluate_all "$root/scripts/evaluate.py" "$@"
}

# Each of the places; the exit code is that of the first that failed.
evaluate_all() {
  local script=$1 place code first=0
  shift
  for place in "${places[@]}"; do
    code=0
    "$PYTHON" "$script" "$place" "$@" || code=$?
    ((first)) || first=$code
    ((code != INTERRUPTED)) || break
  done
  exit "$first"
}

main "$@"
