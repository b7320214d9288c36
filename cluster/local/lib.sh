# shellcheck shell=bash
# What up, down and status share: where things lie, and which processes are ours.

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
if [ "$(id -u)" = 0 ]; then  # PostgreSQL runs as another user then, who must get there
  folder=${SQTUNE_LOCAL:-/var/lib/sqtune-local}
else
  folder=${SQTUNE_LOCAL:-$HOME/.sqtune/local}
fi
venv=${SQTUNE_VENV:-$root/.venv}
if [ -d "$venv/bin" ]; then export PATH=$venv/bin:$PATH; fi

fail() { echo "error: $*" >&2; exit 1; }

started() {  # when a process began, in ticks since the machine did; nothing if there is none
  local stat
  stat=$(cat "/proc/$1/stat" 2> /dev/null) || return 0
  stat=${stat##*) }  # the name before may hold anything
  cut -d ' ' -f 20 <<< "$stat"
}

running() {  # prints "NAME PID" of each process of ours that lives
  local name pid begun
  [ -e "$folder/processes" ] || return 0
  while read -r name pid begun; do
    if [ "$(started "$pid")" = "$begun" ]; then echo "$name $pid"; fi
  done < "$folder/processes"
}

stop() {  # a process and all of its session: first asked, then ended
  local name=$1 pid=$2 deadline=$((SECONDS + 15)) signal=TERM
  if [ "$name" = postgres ]; then signal=INT; fi  # its fast way: whoever is connected is let go
  kill "-$signal" "$pid" 2> /dev/null || true
  while kill -0 "$pid" 2> /dev/null && ((SECONDS < deadline)); do sleep 0.1; done
  pkill -KILL --session "$pid" || true
}

end_all() {  # in the opposite order
  local line
  tac <(running) | while read -r line; do
    # shellcheck disable=SC2086  # a name and a number
    stop $line
  done
  if [ -e "$folder/ray" ]; then
    rm -rf "$(cat "$folder/ray")"
  fi
  rm -f "$folder/processes" "$folder/ray"
}
