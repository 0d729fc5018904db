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
  find_python "$root" onnx,serving
  exec "$PYTHON" "$root/scripts/evaluate.py" "$@"
}

main "$@"
