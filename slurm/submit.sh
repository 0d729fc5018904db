#!/usr/bin/env bash
# Submit a job's seeds as an array, and their summary behind it:
# bash slurm/submit.sh JOB.yaml [flags of sbatch] [-- flags of train.sh]
set -Eeuo pipefail

main() {
  root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
  # shellcheck source-path=SCRIPTDIR source=common.sh
  source "$root/slurm/common.sh"
  export TEXTASSAY_HOME=${TEXTASSAY_HOME:-$root}
  load_site
  load_modules
  runtime=none # this part runs here, and needs no torch
  find_python
  exec "$python" -P -m textassay.cluster.submit "$@"
}

main "$@"
