# shellcheck shell=bash
# Sourced by what runs in the lab VM.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

say() { printf 'vm  %6ss  %s\n' "$(cut -d' ' -f1 /proc/uptime)" "$*" >&2; }
die() { printf 'lab: %s\n' "$*" >&2; exit 1; }

# A place: nic1, nic2, host1, host2, central. It has a network, a mount and a UTS namespace.
place() { local p=$1; shift; nsenter --net="/run/netns/$p" --mount="/run/lab/ns/$p.mnt" --uts="/run/lab/ns/$p.uts" -- "$@"; }

# make_place NAME PATH...: the namespaces; each PATH becomes a directory of the place's own, seen from outside as
# /run/lab/root/NAME/PATH.
make_place() {
  local p=$1; shift
  [ -e "/run/netns/$p" ] || ip netns add "$p"
  touch "/run/lab/ns/$p.mnt" "/run/lab/ns/$p.uts"
  mkdir -p "/share/logs/$p"
  unshare --mount="/run/lab/ns/$p.mnt" --uts="/run/lab/ns/$p.uts" --propagation slave \
    nsenter --net="/run/netns/$p" /lab/place-init "$p" "$@"
}

# In tenths: how many times longer deadlines are than on the reference machine (patience in ../lib.sh).
lab_patience=$(</share/patience)

# within SECONDS WHAT CMD...: polls until CMD succeeds.
within() {
  local seconds=$1 end=$((${EPOCHREALTIME/./} + $1 * lab_patience * 100000)) what=$2; shift 2
  until "$@" >/dev/null 2>&1; do
    [ "${EPOCHREALTIME/./}" -lt $end ] || die "late: $what, after $((seconds * lab_patience / 10)) s"
    sleep 0.1
  done
}

# --- Daemons, each under a runsv that starts it again within a second ---

# define PLACE DAEMON [VAR=VALUE...] CMD...: its log (stdout and stderr) is /share/logs/PLACE/DAEMON.log.
define() {
  local p=$1 d=$2 dir=/run/lab/sv/$1.$2 ns=''; shift 2
  mkdir -p "$dir"; touch "$dir/down"
  [ "$p" = vm ] || ns="nsenter --net=/run/netns/$p --mount=/run/lab/ns/$p.mnt --uts=/run/lab/ns/$p.uts --"
  mkdir -p "/share/logs/$p"
  printf '#!/bin/bash\nexec </dev/null >>/share/logs/%s/%s.log 2>&1\nexec %s env %s\n' "$p" "$d" "$ns" "${*@Q}" >"$dir/run"
  chmod +x "$dir/run"
  if [ ! -e "$dir/supervise/ok" ]; then setsid runsv "$dir" </dev/null >>"/share/logs/$p/$d.log" 2>&1 & fi
}
# start PLACE DAEMON: tells its runsv and returns; whether it serves is for the caller to see.
start() {
  local control=/run/lab/sv/$1.$2/supervise/control
  within 120 "runsv of $1 $2" [ -p "$control" ]
  printf u >"$control"                       # waits until runsv reads
}
daemon_pid() { local pid; pid=$(cat "/run/lab/sv/$1.$2/supervise/pid" 2>/dev/null) && [ -n "$pid" ] && echo "$pid"; }

# fresh_copy NAME FILE: FILE is the share's binary NAME; copied when it changed, under a name of its own first.
fresh_copy() {
  [ -e "/share/bin/$1" ] || die "no $1: tests/lab/lab install agent|shim PATH"
  [ "$(stat -c %s.%Y "/share/bin/$1")" = "$(cat "$2.version" 2>/dev/null)" ] && return 0
  cp "/share/bin/$1" "$2.$$" && mv "$2.$$" "$2" && stat -c %s.%Y "/share/bin/$1" >"$2.version"
}
