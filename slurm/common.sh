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
# Who has not ended so long before the time limit would be counted as timed out, and not come back.
SECONDS_TO_LEAVE=20
# A job that gets nowhere in its time limit must not come back for ever.
MOST_RESTARTS=100
# A busy controller does not answer at once.
ATTEMPTS=5
SECONDS_BETWEEN_ATTEMPTS=3
stopping=
step=

fail() {
  printf 'error: %s\n' "$*" >&2
  exit "$USAGE"
}

# begin ROOT: in the sbatch files, before carry_out.
begin() {
  root=$1
  [[ -n ${SLURM_JOB_ID:-} && -n ${SLURM_NNODES:-} ]] ||
    fail "$0 runs inside a job of Slurm; submit it with: sbatch $0 … (without Slurm: bash train.sh … or bash eval.sh …)"
  trap stop USR1 TERM
  load_site
  load_modules
  find_runtime
  find_python
  use_scratch
  # srun has stopped to take it over from sbatch.
  [[ -z ${SLURM_CPUS_PER_TASK:-} ]] || export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK
  # What was set above is for the step, also where sbatch was told --export=NONE.
  export SLURM_EXPORT_ENV=ALL
  # The nodes meet at a port that others cannot tell from the job's number.
  TEXTASSAY_PORT_SECRET=$(od -An -N16 -tx8 /dev/urandom | tr -d ' \n')
  export TEXTASSAY_PORT_SECRET
  # No module is taken from the folder that the job is submitted in.
  export PYTHONSAFEPATH=1
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
  # Theirs is not written for it.
  set +u
  declare -F module >/dev/null || define_module
  module load "${modules[@]}" || fail "TEXTASSAY_SLURM_MODULES: module load ${modules[*]} failed"
  set -u
}

# A shell that is not a login shell may not know it: Lmod and Environment Modules say where it is.
define_module() {
  local file
  for file in "${LMOD_PKG:+$LMOD_PKG/init/bash}" "${MODULESHOME:+$MODULESHOME/init/bash}" \
    /etc/profile.d/{lmod,z00_lmod,modules}.sh; do
    # shellcheck source=/dev/null
    [[ ! -r $file ]] || source "$file"
    ! declare -F module >/dev/null || return 0
  done
  fail "TEXTASSAY_SLURM_MODULES: this node knows no command module"
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
  local named=${TEXTASSAY_SLURM_PYTHON:-${TEXTASSAY_PYTHON:-}}
  python=${TEXTASSAY_SLURM_PYTHON:-python}
  [[ $runtime == none ]] || return 0
  local -a candidates=("${VIRTUAL_ENV:+$VIRTUAL_ENV/bin/python}"
    "${CONDA_PREFIX:+$CONDA_PREFIX/bin/python}" "$root/.venv/bin/python")
  [[ -z $named ]] || candidates=("$named")
  for python in "${candidates[@]}"; do
    [[ -z $python ]] || ! "$python" -P -c 'import textassay' 2>/dev/null || return 0
  done
  fail "$python is no Python with textassay on $(hostname); run bash train.sh --show_config once, which makes $root/.venv, or set TEXTASSAY_SLURM_PYTHON"
}

use_scratch() {
  local caches=${TEXTASSAY_SLURM_SCRATCH:-} usual=~/.cache
  # The image's own caches cannot be written to, and are gone with the container.
  [[ $runtime == none ]] || caches=${caches:-$usual}
  [[ -n $caches ]] || return 0
  # Who has logged in to the hub has done so at the usual place.
  export HF_TOKEN_PATH=${HF_TOKEN_PATH:-${HF_HOME:-$usual/huggingface}/token}
  export TEXTASSAY_CACHE=${TEXTASSAY_CACHE:-$caches/textassay}
  export HF_HOME=${HF_HOME:-$caches/huggingface}
  TEXTASSAY_CACHE=${TEXTASSAY_CACHE/#\~\//${HOME:-~}/} # in quotes it is still there
  mkdir -p "$TEXTASSAY_CACHE" "$HF_HOME" || fail "TEXTASSAY_SLURM_SCRATCH: $caches cannot be written to"
}

# carry_out_job ARGUMENTS…: a job's runs, on all nodes, once each of them has what it needs.
carry_out_job() {
  # One that lacks something leaves, and the others would wait for it.
  ((SLURM_NNODES == 1)) || run_step "$SLURM_NNODES" textassay.cluster.check "$@" || leave "$?"
  carry_out "$SLURM_NNODES" textassay.cluster.train "$@"
}

# carry_out NODES MODULE ARGUMENTS…: python -P -m MODULE once a node, and then out, or back to the queue.
carry_out() {
  local code=0
  run_step "$@" || code=$?
  leave "$code"
}

leave() {
  (($1 != STOPPED)) || queue_again
  exit "$1"
}

# step_command NODES MODULE ARGUMENTS…: sets `command`.
step_command() {
  local nodes=$1
  shift
  # The first node still saves, publishes and evaluates when the others have ended, well or not.
  command=(srun --wait=0 --kill-on-bad-exit=0)
  command+=(--nodes="$nodes" --ntasks="$nodes" --ntasks-per-node=1)
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
  command+=("$python" -P -m "$@")
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

# run_step NODES MODULE ARGUMENTS…: its exit code. A signal interrupts `wait`; the step is waited for
# until it is gone.
run_step() {
  local code=0
  [[ -z $stopping ]] || return "$STOPPED"
  step_command "$@"
  "${command[@]}" &
  step=$!
  [[ -z $stopping ]] || tell_step
  while kill -0 "$step" 2>/dev/null; do
    wait "$step" || true
  done
  wait "$step" || code=$?
  step=
  # Signals end a program that does not heed them yet, and one that has had its time.
  [[ -z $stopping ]] || ((code <= 128)) || code=$STOPPED
  # Slurm tells the step alone of a preemption.
  ((code != 128 + $(kill -l TERM))) || code=$STOPPED
  return "$code"
}

stop() {
  [[ -z $stopping ]] || return 0
  stopping=yes
  [[ -z $step ]] || tell_step
}

# srun hands SIGUSR1 on to all processes of the step; SIGTERM would make it kill them.
tell_step() {
  printf 'told to stop: the step saves what it has\n' >&2
  kill -USR1 "$step" 2>/dev/null || return 0
  end_step_in_time &
}

# Before the time limit, if the job has one. It looks again and again, and so is gone when the step
# is: some clusters would let a process that sleeps till then outlive its job.
end_step_in_time() {
  local end
  end=$(SLURM_TIME_FORMAT=%s squeue --noheader --jobs="$(my_id)" --format=%e)
  [[ $end =~ ^[0-9]+$ ]] || return 0
  while kill -0 "$step" 2>/dev/null && ((EPOCHSECONDS < end - SECONDS_TO_LEAVE)); do
    sleep 1
  done
  kill -TERM "$step" 2>/dev/null
}

# An array's id is also that of one of its elements.
my_id() {
  local element=${SLURM_ARRAY_TASK_ID:+${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID}
  printf %s "${element:-$SLURM_JOB_ID}"
}

# Only a job that is still running wants to come back: not one that was cancelled.
queue_again() {
  local state
  state=$(attempt squeue --noheader --jobs="$(my_id)" --format=%T) || state=unknown
  [[ $state == RUNNING || $state == unknown ]] || return 0
  if ((${SLURM_RESTART_COUNT:-0} >= MOST_RESTARTS)); then
    printf 'error: came back %s times; submit it again with more --time, and it goes on from there\n' "$MOST_RESTARTS" >&2
    return 0
  fi
  printf 'back into the queue; it goes on from its checkpoint\n' >&2
  attempt scontrol requeue "$(my_id)" || printf 'error: submit it again, and it goes on from its checkpoint\n' >&2
}

# attempt COMMAND…: until it does not fail, but not for ever.
attempt() {
  local turn
  for ((turn = 1; turn <= ATTEMPTS; turn++)); do
    ! "$@" || return 0
    ((turn == ATTEMPTS)) || sleep "$SECONDS_BETWEEN_ATTEMPTS"
  done
  return 1
}
