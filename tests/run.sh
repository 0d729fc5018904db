#!/usr/bin/env bash
# Every check that this machine allows: bash tests/run.sh [pytest arguments]
#
# Fast ones first. What is skipped is named with its reason at the end.
set -Eeuo pipefail

NONE_CHOSEN=5 # pytest's exit code

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
  test_in_parallel -m "not slow"
  test_in_parallel -m "slow and not slurm and not docker"
  # One after another: they share a cluster, and an engine.
  "$PYTHON" -m pytest -m "slurm or docker" || (($? == NONE_CHOSEN))
}

# A file's tests share what they made, so they stay in one process. Each computes on one thread: two
# processes of two threads on two cores wait for one another.
test_in_parallel() {
  OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} "$PYTHON" -m pytest --numprocesses auto --maxprocesses 4 \
    --dist loadfile --no-loadscope-reorder "$@"
}

check_style() {
  "$PYTHON" -m ruff check .
  "$PYTHON" -m ruff format --check .
  "$PYTHON" -m mypy
  "$(dirname "$PYTHON")/lint-imports"
}

main "$@"
