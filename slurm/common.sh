# shellcheck shell=bash
# Sourced by the sbatch files and submit.sh: what the site wants, one step on each node, and the way
# back into the queue. What is to be done there is decided by textassay.cluster.
#
# Variables, from the environment or from slurm/site.env (see docs/cluster.md):
#   TEXTASSAY_SLURM_SITE     another file in place of slurm/site.env
#   TEXTASSAY_SLURM_MODULES  environment modules to load, separated by blanks
#   TEXTASSAY_SLURM_RUNTIME  none (default), apptainer or pyxis: where the programs run
#   TEXTASSAY_SLURM_IMAGE    the container image, with a runtime
#   TEXTASSAY_SLURM_MOUNTS   more folders that the container sees, separated by commas
#   TEXTASSAY_SLURM_PYTHON   the Python to use (default: the active environment's, else .venv's)
#   TEXTASSAY_SLURM_SCRATCH  a folder that all nodes see, for caches

USAGE=2
STOPPED=75
# Of the 120 that the sbatch files ask --signal for: who has not ended by then would be counted as
# timed out, and would not come back.
SECONDS_TO_STOP=100
# A job that gets nowhere in its time limit must not come back for ever.
MOST_RESTARTS=100
stopping=
step=

fail() {
  printf 'error: %s\n' "$*" >&2
  exit "$USAGE"
}

# begin ROOT: in the sbatch files, before carry_out.
begin() {
  root=$1
  load_site
  load_modules
  find_runtime
  find_python
  use_scratch
  # srun has stopped to take it over from sbatch.
  [[ -z ${SLURM_CPUS_PER_TASK:-} ]] || export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK
  trap stop USR1 TERM
}

# NAME=value lines; what the environment says wins.
load_site() {
  local file=${TEXTASSAY_SLURM_SITE:-$root/slurm/site.env} name value
  [[ -f $file ]] || return 0
  while IFS='=' read -r name value || [[ -n $name ]]; do
    [[ $name =~ ^[A-Z][A-Z0-9_]*$ ]] || continue
    [[ -v $name ]] || export "$name=$value"
  done <"$file"
}

load_modules() {
  local -a modules
  read -ra modules <<<"${TEXTASSAY_SLURM_MODULES:-}"
  ((${#modules[@]})) || return 0
  declare -F module >/dev/null || fail "TEXTASSAY_SLURM_MODULES: this node knows no command module"
  module load "${modules[@]}" || fail "TEXTASSAY_SLURM_MODULES: module load ${modules[*]} failed"
}

find_runtime() {
  runtime=${TEXTASSAY_SLURM_RUNTIME:-none}
  case $runtime in
    none) return ;;
    apptainer) command -v apptainer >/dev/null || fail "TEXTASSAY_SLURM_RUNTIME: there is no apptainer here" ;;
    pyxis) ;;
    *) fail "TEXTASSAY_SLURM_RUNTIME: $runtime is not none, apptainer or pyxis" ;;
  esac
  [[ -n ${TEXTASSAY_SLURM_IMAGE:-} ]] || fail "TEXTASSAY_SLURM_IMAGE: $runtime needs the image's name"
  # The image has its own of the first two, and must not find the libraries of a module's Python.
  unset TEXTASSAY_HOME TEXTASSAY_PYTHON PYTHONPATH PYTHONHOME
}

find_python() {
  local candidate
  python=${TEXTASSAY_SLURM_PYTHON:-python}
  [[ $runtime == none ]] || return 0
  for candidate in "${TEXTASSAY_SLURM_PYTHON:-}" "${TEXTASSAY_PYTHON:-}" \
    "${VIRTUAL_ENV:+$VIRTUAL_ENV/bin/python}" "${CONDA_PREFIX:+$CONDA_PREFIX/bin/python}" \
    "$root/.venv/bin/python"; do
    [[ -n $candidate ]] || continue
    python=$candidate
    break
  done
  "$python" -c 'import textassay' 2>/dev/null ||
    fail "$python is no Python with textassay on $(hostname); run bash train.sh --show_config once, which makes $root/.venv, or set TEXTASSAY_SLURM_PYTHON"
}

use_scratch() {
  local caches=${TEXTASSAY_SLURM_SCRATCH:-}
  # The image's own caches cannot be written to, and are gone with the container.
  [[ $runtime == none ]] || caches=${caches:-$HOME/.cache}
  [[ -n $caches ]] || return 0
  export TEXTASSAY_CACHE=${TEXTASSAY_CACHE:-$caches/textassay}
  export HF_HOME=${HF_HOME:-$caches/huggingface}
  mkdir -p "$TEXTASSAY_CACHE" "$HF_HOME" || fail "TEXTASSAY_SLURM_SCRATCH: $caches cannot be written to"
}

# carry_out NODES MODULE ARGUMENTS…: python -m MODULE once a node, and then out, or back to the queue.
carry_out() {
  local code=0
  step_command "$@"
  if [[ -n $stopping ]]; then
    code=$STOPPED
  else
    run_step || code=$?
  fi
  # A signal ends programs that do not heed it yet, and those that have had their time.
  [[ -z $stopping ]] || ((code <= 128)) || code=$STOPPED
  ((code != STOPPED)) || queue_again
  exit "$code"
}

# step_command NODES MODULE ARGUMENTS…: sets `command`.
step_command() {
  local nodes=$1
  shift
  command=(srun --nodes="$nodes" --ntasks="$nodes" --ntasks-per-node=1)
  case $runtime in
    apptainer)
      command+=(apptainer exec --pwd "$PWD" --bind "$(mounts)")
      [[ -z ${SLURM_JOB_GPUS:-} ]] || command+=(--nv)
      command+=("$TEXTASSAY_SLURM_IMAGE")
      ;;
    pyxis)
      command+=(--container-image="$TEXTASSAY_SLURM_IMAGE" --container-workdir="$PWD")
      command+=(--container-mounts="$(mounts)")
      # Else the image's values would win.
      command+=("--container-env=HF_HOME,TEXTASSAY_CACHE")
      ;;
  esac
  command+=("$python" -m "$@")
}

# What the container sees under the same path as the node.
mounts() {
  local folder
  local -a folders=() more
  IFS=, read -ra more <<<"${TEXTASSAY_SLURM_MOUNTS:-}"
  for folder in "$PWD" "$root" "${HF_HOME:-}" "${TEXTASSAY_CACHE:-}" "${TEXTASSAY_DATA_DIR:-}" "${more[@]}"; do
    [[ -z $folder || " ${folders[*]} " == *" $folder:$folder "* ]] || folders+=("$folder:$folder")
  done
  (IFS=,; printf '%s' "${folders[*]}")
}

# A signal interrupts `wait`; the step is waited for until it is gone.
run_step() {
  "${command[@]}" &
  step=$!
  while kill -0 "$step" 2>/dev/null; do
    wait "$step" || true
  done
  wait "$step"
}

# srun hands SIGUSR1 on to all processes of the step; SIGTERM would make it kill them.
stop() {
  [[ -z $stopping ]] || return 0
  stopping=yes
  [[ -n $step ]] || return 0
  printf 'told to stop: the step saves what it has\n' >&2
  kill -USR1 "$step" 2>/dev/null || return 0
  (sleep "$SECONDS_TO_STOP" && kill -TERM "$step" 2>/dev/null) &
}

# Only a job that is still running wants to come back: not one that was cancelled.
queue_again() {
  local me=$SLURM_JOB_ID
  # An array's id is also that of one of its elements.
  [[ -z ${SLURM_ARRAY_TASK_ID:-} ]] || me=${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID
  [[ $(squeue --noheader --jobs="$me" --format=%T) == RUNNING ]] || return 0
  if ((${SLURM_RESTART_COUNT:-0} >= MOST_RESTARTS)); then
    printf 'error: came back %s times; submit it again, and it goes on from its checkpoint\n' "$MOST_RESTARTS" >&2
    return 0
  fi
  printf 'back into the queue; it goes on from its checkpoint\n' >&2
  scontrol requeue "$me" || printf 'error: submit it again, and it goes on from its checkpoint\n' >&2
}
