# shellcheck shell=bash
# Sourced by what has deadlines and runs on the machine; `die` is the one who sources' own.

# patience SECONDS: how long a deadline is on this machine, in tenths of a second. DRAWBRIDGE_PATIENCE says how many times longer it
# is than on the reference machine: a number from 1 on, with one decimal at most (tests/runner/speed.py).
patience() {
  local p=${DRAWBRIDGE_PATIENCE:-1}
  [[ $p =~ ^([1-9][0-9]*)(\.([0-9]))?$ ]] || die "DRAWBRIDGE_PATIENCE is a number from 1 on, with one decimal at most, not '$p'"
  echo $(($1 * (BASH_REMATCH[1] * 10 + ${BASH_REMATCH[3]:-0})))
}
