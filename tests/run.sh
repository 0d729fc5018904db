#!/usr/bin/env bash
# Every check that this machine allows: bash tests/run.sh [pytest arguments]
#
# Fast ones first. What is skipped is named with its reason at the end.
set -Eeuo pipefail

main() {
  local root
  root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
  # shellcheck source-path=SCRIPTDIR/.. source=scripts/environment.sh
  source "$root/scripts/environment.sh"
  find_python "$root" tests
  cd "$root"
  export HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=true
  if (($#)); then
    exec "$PYTHON" -m pytest "$@"
  fi
  check_style
  "$PYTHON" -m pytest -m "not slow"
  "$PYTHON" -m pytest -m slow
}

check_style() {
  "$PYTHON" -m ruff check .
  "$PYTHON" -m ruff format --check .
  "$PYTHON" -m mypy
  "$(dirname "$PYTHON")/lint-imports"
  "$(dirname "$PYTHON")/shellcheck" --external-sources train.sh eval.sh tests/run.sh .ci/run
}

main "$@"
