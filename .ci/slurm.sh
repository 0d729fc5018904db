#!/usr/bin/env bash
# A real Slurm of two nodes on this machine, for tests:
#
#   bash .ci/slurm.sh start FOLDER       then: export SLURM_CONF=FOLDER/slurm.conf
#   bash .ci/slurm.sh node FOLDER n1     starts a node's daemon again that somebody killed
#   bash .ci/slurm.sh stop FOLDER
#
# As root. All daemons listen on the loopback alone and keep everything in FOLDER. The nodes have
# more CPUs and memory than the machine, and GPUs that are only device files. Jobs in the partition
# urgent drive out the others, which get a minute.
set -Eeuo pipefail

NODES=(n1 n2)
SECONDS_TO_START=30
SECONDS_TO_STOP=10
NULL_DEVICE=(c 1 3)

main() {
  local what=$1 folder=$2
  case $what in
    start) start "$folder" ;;
    node) start_node "$folder" "$3" ;;
    stop) stop "$folder" ;;
    *) fail "start, node or stop, not $what" ;;
  esac
}

fail() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

start() {
  local folder=$1 node
  install_slurm
  [[ ! -e $folder/slurm.conf ]] || fail "$folder: a cluster was started there already"
  mkdir -p "$folder/munge" "$folder/state"
  chmod 755 "$folder" # munged runs as another user
  trap 'stop "$folder"' EXIT
  start_munge "$folder/munge"
  write_configuration "$folder"
  SLURM_CONF=$folder/slurm.conf slurmctld -i
  for node in "${NODES[@]}"; do
    start_node "$folder" "$node"
  done
  wait_until "$SECONDS_TO_START" all_idle "$folder"
  trap - EXIT
}

install_slurm() {
  command -v slurmctld slurmd munged >/dev/null && return
  apt-get update -qq -o DPkg::Lock::Timeout=300
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq -o DPkg::Lock::Timeout=300 \
    --no-install-recommends slurm-wlm munge >/dev/null
}

# munged wants folders that nobody else may write to, and runs as its own user.
start_munge() {
  local folder=$1
  head -c 128 /dev/urandom >"$folder/key"
  chown -R munge "$folder"
  chmod 755 "$folder"
  chmod 400 "$folder/key"
  as_munge munged --key-file="$folder/key" --socket="$folder/sock" --pid-file="$folder/pid" \
    --log-file="$folder/log" --seed-file="$folder/seed"
}

as_munge() { setpriv --reuid=munge --regid=munge --clear-groups -- "$@"; }

write_configuration() {
  local folder=$1 host port=17001 node index
  host=$(hostname -s)
  cat >"$folder/slurm.conf" <<CONF
ClusterName=textassay
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=17000
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$folder/munge/sock,cred_expire=5
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SlurmdParameters=config_overrides
SchedulerParameters=batch_sched_delay=0,bf_interval=1,sched_interval=5
EnforcePartLimits=ALL
ReturnToService=2
SlurmdTimeout=10
KillWait=5
GresTypes=gpu
JobCompType=jobcomp/filetxt
JobCompLoc=$folder/completed.log
StateSaveLocation=$folder/state
SlurmctldPidFile=$folder/slurmctld.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdPidFile=$folder/%n.pid
SlurmdLogFile=$folder/%n.log
SlurmdSpoolDir=$folder/spool.%n
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
PartitionName=all Nodes=ALL Default=YES MaxTime=1-0 PriorityTier=1 GraceTime=60
PartitionName=urgent Nodes=ALL MaxTime=1-0 PriorityTier=2
CONF
  for node in "${NODES[@]}"; do
    printf 'NodeName=%s NodeHostname=%s NodeAddr=127.0.0.1 Port=%s CPUs=16 RealMemory=128000 Gres=gpu:h200:2\n' \
      "$node" "$host" "$((port++))" >>"$folder/slurm.conf"
    for index in 0 1; do
      mknod "$folder/$node-gpu$index" "${NULL_DEVICE[@]}"
    done
    printf 'NodeName=%s Name=gpu Type=h200 File=%s\n' "$node" "$folder/$node-gpu[0-1]" >>"$folder/gres.conf"
  done
}

start_node() {
  mkdir -p "$1/spool.$2"
  SLURM_CONF=$1/slurm.conf slurmd -N "$2"
}

all_idle() {
  (($(SLURM_CONF=$1/slurm.conf sinfo --noheader --partition=all --Node --states=idle 2>/dev/null | wc -l) == ${#NODES[@]}))
}

# wait_until SECONDS COMMAND…
wait_until() {
  local until=$((SECONDS + $1))
  shift
  until "$@"; do
    ((SECONDS < until)) || fail "after a while still not so: $*"
    sleep 0.2
  done
}

# By the pids that they wrote, and no other. Jobs that are left are cancelled first.
stop() {
  local folder=$1 pid_file
  SLURM_CONF=$folder/slurm.conf timeout 5 scancel --user="$(id -un)" 2>/dev/null || true
  for pid_file in "$folder"/n?.pid "$folder/slurmctld.pid" "$folder/munge/pid"; do
    [[ ! -s $pid_file ]] || end_daemon "$(<"$pid_file")"
  done
}

end_daemon() {
  local until=$((SECONDS + SECONDS_TO_STOP))
  kill "$1" 2>/dev/null || return 0
  while kill -0 "$1" 2>/dev/null; do
    ((SECONDS < until)) || { kill -KILL "$1"; return 0; }
    sleep 0.1
  done
}

main "$@"
