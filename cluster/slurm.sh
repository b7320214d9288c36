#!/usr/bin/env bash
#SBATCH --job-name=sqtune
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=32
#SBATCH --gpus-per-node=4
#SBATCH --exclusive
#SBATCH --time=24:00:00
#SBATCH --signal=B:USR1@300
#SBATCH --requeue
#SBATCH --no-kill
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log
#
# A search over the nodes of one Slurm job; the first node is Ray's head, and trains too:
#
#   sbatch cluster/slurm.sh --space search_spaces/resnet.yaml --store /shared/sqtune-store
#
# What follows the script goes to `sqtune search`; options before it change the lines above. Five
# minutes before the time limit the search ends in good order and the job queues again; the same
# command then goes on. A lost worker costs the epoch that it was training.
set -euo pipefail
umask 077

venv=${SQTUNE_VENV:-$SLURM_SUBMIT_DIR/.venv}  # on all nodes at this path
run=${SQTUNE_RUN_DIR:-$HOME/.sqtune}/$SLURM_JOB_ID  # on all nodes too
port=$((20000 + SLURM_JOB_ID % 10000))
export PATH=$venv/bin:$PATH RAY_USAGE_STATS_ENABLED=0

mapfile -t hosts < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
head=${hosts[0]}
ip=$(getent ahostsv4 "$head" | awk 'NR == 1 { print $1 }')
case $ip in
  '' | 127.*) echo "error: $head has no address that other nodes can reach (\"$ip\")" >&2; exit 1 ;;
esac
address=$ip:$port

# The token of this job. Its path is in the environment and in process lists; the token is only in
# the file, which other users cannot read.
mkdir -p "$run"
chmod 700 "$run"
head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n' > "$run/token"
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=$run/token
unset RAY_ADDRESS RAY_AUTH_TOKEN  # of the shell that gave the job; they would go first

pids=()
clean_up() {
  trap - EXIT
  if ((${#pids[@]})); then
    kill "${pids[@]}" 2> /dev/null || true
    wait "${pids[@]}" 2> /dev/null || true
  fi
  rm -rf "$run"
}
trap clean_up EXIT

start() {  # srun's options, --, ray start's options
  local options=()
  while [ "$1" != -- ]; do options+=("$1"); shift; done
  shift
  srun --overlap --no-kill --kill-on-bad-exit=0 --wait=0 --ntasks-per-node=1 \
    --cpus-per-task="${SLURM_CPUS_PER_TASK:-1}" "${options[@]}" \
    ray start "$@" --num-cpus="${SLURM_CPUS_PER_TASK:-1}" --num-gpus="${SLURM_GPUS_ON_NODE:-0}" \
    --temp-dir="/tmp/ray-$SLURM_JOB_ID" --disable-usage-stats --block > "$run/ray-${#pids[@]}.log" 2>&1 &
  pids+=($!)
}

joined() {  # how many nodes there are
  timeout 60 python -m sqtune.search.nodes "$address" 2> /dev/null |
    python -c 'import json, sys; print(len(json.load(sys.stdin)["nodes"]))' 2> /dev/null || echo 0
}

start --nodes=1 --ntasks=1 --nodelist="$head" -- \
  --head --node-ip-address="$ip" --port="$port" --include-dashboard=false
deadline=$((SECONDS + ${SQTUNE_START_SECONDS:-180}))
until (: > "/dev/tcp/$ip/$port") 2> /dev/null; do
  if ! kill -0 "${pids[0]}" 2> /dev/null || ((SECONDS > deadline)); then
    echo "error: Ray's head does not start on $head:" >&2
    tail -n 20 "$run/ray-0.log" >&2
    exit 1
  fi
  sleep 1
done
if ((${#hosts[@]} > 1)); then
  start --nodes=$((${#hosts[@]} - 1)) --ntasks=$((${#hosts[@]} - 1)) --exclude="$head" -- \
    --address="$address"
fi
# The search counts slots when it begins, so it waits for the nodes; not for ever for a broken one.
until count=$(joined) && ((count >= ${#hosts[@]} || SECONDS > deadline)); do sleep 1; done
echo "Ray at $address: $count of ${#hosts[@]} nodes"

search=''
again=''
# shellcheck disable=SC2329  # by the traps
stop() { if [ -n "$search" ]; then kill -TERM "$search" 2> /dev/null || true; fi; }
trap 'again=yes; stop' USR1  # the time limit is near
trap stop TERM INT           # scancel, or preempted
sqtune search --address "$address" "$@" &
search=$!
code=0
while true; do
  code=0
  wait "$search" || code=$?
  kill -0 "$search" 2> /dev/null || break  # a signal ends the wait, not the search
done
if [ -n "$again" ]; then
  echo "the time limit is near: the search queues again and will go on"
  clean_up
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
