#!/usr/bin/env bash
# Fine-tune, evaluate and report: bash train.sh [JOB.yaml | DATA.csv …] [--setting value …]
#
# Data in csv, tsv, json, jsonl or parquet, or a folder of such files, is a job of its own: default
# settings, three seeds.
# Without a job file: jobs/quickstart.yaml, on sample data, in a few minutes on two cores.
# `bash train.sh --help` lists the settings; README.md shows examples.
set -Eeuo pipefail

main() {
  local root
  root=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
  # shellcheck source-path=SCRIPTDIR source=scripts/environment.sh
  source "$root/scripts/environment.sh"
  find_python "$root" onnx,serving
  exec "$PYTHON" "$root/scripts/train_batch.py" "$@"
}

main "$@"
