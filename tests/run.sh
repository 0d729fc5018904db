#!/usr/bin/env bash
# Every check that this machine allows: bash tests/run.sh [pytest arguments]
# All but those of a Slurm cluster and a Docker Engine: bash tests/run.sh --without-services
# What a change reaches, within about two minutes: bash tests/run.sh --changed [COMMIT]
#
# Fast ones first. What is skipped is named with its reason at the end. A change is what differs from
# the last commit on main, or from COMMIT.
set -Eeuo pipefail

main() {
  local root
  root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
  # shellcheck source-path=SCRIPTDIR/.. source=scripts/environment.sh
  source "$root/scripts/environment.sh"
  find_python "$root" tests
  unset PYTHONSAFEPATH # tests import the scripts, and each other, from here
  cd "$root"
  export HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=true
  case ${1:-} in
    "")
      test_without_services
      # One after another: they share a cluster, and an engine.
      "$PYTHON" -m pytest tests/slurm tests/docker -m "slurm or docker"
      ;;
    --without-services) test_without_services ;;
    --changed)
      check_style
      test_changed "${@:2}"
      ;;
    *) exec "$PYTHON" -m pytest "$@" ;;
  esac
}

test_without_services() {
  check_style
  test_in_parallel -m "not slow"
  test_in_parallel -m "slow and not slurm and not docker"
}

# A file's tests share what they made, so they stay in one process. Each computes on one thread: two
# processes of two threads on two cores wait for one another.
test_in_parallel() {
  OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} "$PYTHON" -m pytest --numprocesses auto --maxprocesses 4 \
    --dist loadfile --no-loadscope-reorder -p tests.progress "$@"
}

test_changed() {
  local -a reached
  mapfile -t reached < <("$PYTHON" tests/changed.py "$@")
  if [[ -z ${reached[*]} ]]; then
    say "no test is reached by it"
    return
  fi
  test_in_parallel -m "not slurm and not docker" "${reached[@]}"
}

check_style() {
  "$PYTHON" -m ruff check .
  "$PYTHON" -m ruff format --check .
  "$PYTHON" -m mypy
  "$(dirname "$PYTHON")/lint-imports"
}

main "$@"
