# shellcheck shell=bash
# shellcheck disable=SC2034                # used where this is sourced
# Sourced by build, lab and demo: where things are, and how to say what happens.
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repo=$(cd "$here/../.." && pwd)
export here repo
cache=${DRAWBRIDGE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/drawbridge}/lab
lab_dir=${DRAWBRIDGE_LAB_DIR:-/tmp/drawbridge-lab-$UID}
simnic_src=${DRAWBRIDGE_SIMNIC:-$here/simnic}   # another module source, to try one out
begin=$EPOCHREALTIME

# Progress, on stderr: a command's stdout is its answer. DRAWBRIDGE_LAB_QUIET=1: problems only.
say() {
  [ -z "${DRAWBRIDGE_LAB_QUIET:-}" ] || return 0
  local us=$((${EPOCHREALTIME/./} - ${begin/./}))
  printf 'lab %4d.%ds  %s\n' $((us / 1000000)) $((us / 100000 % 10)) "$*" >&2
}
die() { printf 'lab: %s\n' "$*" >&2; exit 1; }

# shellcheck source=tests/lab/patience.sh
. "$here/patience.sh"

# The packages that lists name.
packages() { sed -e 's/#.*//' -e '/^[[:space:]]*$/d' "$@"; }

# A key for whatever stands on stdin.
key() { sha256sum | cut -c1-16; }
