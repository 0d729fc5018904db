#!/usr/bin/env bash
# Run a command beside a Docker Engine that has both images: bash .ci/docker.sh COMMAND …
#
# Needs root on Debian. The engine and all that it stores lie in memory (12 GB; unmounting takes a
# second, where deleting takes minutes) and are gone afterwards. Nothing is fetched from an image
# registry: a minimal Debian of this release stands in for python:3.11-slim-bookworm.
set -Eeuo pipefail

BASE_IMAGE=python:3.11-slim-bookworm
MEMORY=16g
PATIENCE_SECONDS=60
ENGINE_GROUP=4243 # nobody's

main() {
  local root
  root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
  # shellcheck source-path=SCRIPTDIR/.. source=scripts/environment.sh
  source "$root/scripts/environment.sh"
  (($#)) || fail "name the command to run beside Docker"
  install_docker
  WORK=$(mktemp -d)
  BRIDGE=$(find_bridge)
  # From here on no other engine than ours is asked for anything.
  export DOCKER_HOST=unix://$WORK/engine/socket TEXTASSAY_DOCKER_HOST=unix://$WORK/engine/socket
  trap clean_up EXIT
  # Debian's client builds with BuildKit; another one on the path may not.
  export PATH=/usr/bin:$PATH
  start_engine
  make_base_image
  serve_local_torch "$root"
  # Without address translation a build reaches the network through the host's.
  export TEXTASSAY_BUILD_FLAGS="--network host --quiet"
  bash "$root/docker/build.sh" cpu
  bash "$root/docker/build.sh" cuda
  TEXTASSAY_CPU_IMAGE=textassay:cpu TEXTASSAY_CUDA_IMAGE=textassay:cuda "$@"
}

install_docker() {
  [[ -x /usr/bin/docker && -x /usr/sbin/dockerd && -x /usr/sbin/debootstrap ]] && return
  apt-get update -qq -o DPkg::Lock::Timeout=300
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq -o DPkg::Lock::Timeout=300 \
    --no-install-recommends docker.io debootstrap >/dev/null
}

# A test is another user, in the group that may ask this engine; who may is as good as root, so nobody
# else may.
start_engine() {
  chmod 711 "$WORK"
  mkdir "$WORK/engine"
  mount -t tmpfs -o "size=$MEMORY,mode=711" tmpfs "$WORK/engine"
  dockerd --host "$DOCKER_HOST" --data-root "$WORK/engine/data" --exec-root "$WORK/engine/exec" \
    --pidfile "$WORK/engine/pid" --iptables=false --ip6tables=false --ip-forward=false \
    --ip-masq=false &>"$WORK/dockerd.log" &
  ENGINE=$!
  wait_for_engine
  chgrp "$ENGINE_GROUP" "$WORK/engine/socket"
  chmod 660 "$WORK/engine/socket"
}

wait_for_engine() {
  local until=$((SECONDS + PATIENCE_SECONDS))
  until docker info &>/dev/null; do
    if ((SECONDS > until)) || ! kill -0 "$ENGINE" 2>/dev/null; then
      tail -n 15 "$WORK/dockerd.log" >&2
      fail "the Docker Engine did not start"
    fi
    sleep 0.2
  done
}

# With the certificates of this machine, which its way to the package index may need.
make_base_image() {
  local base=$WORK/engine/base certificates=usr/local/share/ca-certificates
  debootstrap --variant=minbase --include=ca-certificates,python3.11,python3.11-venv,python3-pip \
    bookworm "$base" >"$WORK/debootstrap.log"
  cp "/$certificates"/*.crt "$base/$certificates/" 2>/dev/null || true
  chroot "$base" update-ca-certificates >/dev/null 2>&1
  rm -rf "$base"/usr/lib/python3.11/EXTERNALLY-MANAGED "$base"/var/{cache/apt,lib/apt/lists}/* \
    "$base"/usr/share/{doc,info,locale,man}/*
  ln -s python3.11 "$base/usr/bin/python"
  tar --directory "$base" --create . | docker import --change 'CMD ["python3"]' - "$BASE_IMAGE" >/dev/null
  rm -rf "$base"
}

# Where pip would take torch from a file of this machine, a build gets that file too.
serve_local_torch() {
  local torch index=$WORK/index/simple/torch port
  torch=$(grep '^torch==' "$1/constraints.txt")
  PYTHON=$(base_python)
  pip_would_take_a_local_file "$torch" || return 0
  mkdir -p "$index"
  "$PYTHON" -m pip download --quiet --no-deps --dest "$index" "$torch"
  "$PYTHON" -u -m http.server --bind 127.0.0.1 --directory "$WORK/index" 0 &>"$WORK/index.log" &
  SERVER=$!
  until port=$(grep -om1 'port [0-9]*' "$WORK/index.log"); do sleep 0.1; done
  export TEXTASSAY_TORCH_INDEX=http://127.0.0.1:${port#port }/simple
}

# Another engine on this machine has its bridge under the same name.
find_bridge() {
  ip link show docker0 2>/dev/null || true
}

clean_up() {
  local -a running
  mapfile -t running < <(docker ps --quiet 2>/dev/null)
  ((${#running[@]} == 0)) || docker kill "${running[@]}" >/dev/null
  end "${SERVER:-}"
  end "${ENGINE:-}"
  umount --lazy "$WORK/engine" 2>/dev/null || true
  rm -rf "$WORK"
  [[ -n $BRIDGE ]] || ip link delete docker0 2>/dev/null || true
}

end() {
  [[ -n $1 ]] || return 0
  kill "$1" 2>/dev/null || true
  wait "$1" || true
}

main "$@"
