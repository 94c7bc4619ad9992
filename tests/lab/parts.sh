# shellcheck shell=bash
# shellcheck disable=SC2154                # cache, here: of lib.sh
# Sourced, after lib.sh, by what builds parts into the cache.
suite=trixie
export suite DEBIAN_FRONTEND=noninteractive LC_ALL=C

# install_packages [LIST...]: installs what the machine lacks. `apt-get update` only when it must be: it is slow and its result may be newer.
install_packages() {
  local missing=() p log=$cache/apt.log
  for p in $(packages "${@:-$here/host-packages}"); do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null)" = installed ] || missing+=("$p")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  [ "$(id -u)" = 0 ] || die "missing Debian packages, run as root: apt-get install ${missing[*]}"
  say "installing ${missing[*]} (log: $log)"
  local install=(apt-get -o DPkg::Lock::Timeout=600 install -y --no-install-recommends "${missing[@]}")
  "${install[@]}" >"$log" 2>&1 || { apt-get -o DPkg::Lock::Timeout=600 update >>"$log" 2>&1 && "${install[@]}" >>"$log" 2>&1; } ||
    { tail -5 "$log" >&2; die "installing packages failed (log: $log)"; }
}

# The mirror that this machine's apt uses for Debian itself.
mirror() {
  local uri
  uri=$(apt-get indextargets --format '$(CODENAME) $(ORIGIN) $(REPO_URI)' 'Created-By: Packages' |
    awk -v suite="$(. /etc/os-release && echo "$VERSION_CODENAME")" '$1 == suite && $2 == "Debian" {print $3; exit}')
  [ -n "$uri" ] || die "apt knows no Debian mirror: run apt-get update"
  echo "$uri"
}

# part NAME KEY: runs build_NAME unless its result is there. A lock per part: a second call waits for the first.
part() {
  local name=$1 dir=$cache/$1-$2 log=$cache/$1-$2.log tmp started=$SECONDS
  [ -e "$dir" ] || (
    exec 9>"$cache/$name.lock"
    flock -n 9 || { say "$name: another build runs, waiting for it"; flock 9; }
    [ ! -e "$dir" ] || exit 0
    [ "$(id -u)" = 0 ] || die "$name must be built: run $0 as root"
    rm -rf "$cache/$name".tmp.*
    tmp=$(mktemp -d "$cache/$name.tmp.XXXXXX"); chmod 755 "$tmp"
    say "$name: building (log: $log)"
    set +e                                 # not `if (...)`: there bash ignores set -e inside
    (set -e; cd "$tmp"; "build_$name") >"$log" 2>&1 9>&-
    failed=$?
    set -e
    if [ $failed = 0 ]; then
      mv -T "$tmp" "$dir"
      say "$name: built in $((SECONDS - started)) s"
    else
      rm -rf "$tmp"; tail -5 "$log" >&2; die "$name: build failed (log: $log)"
    fi
  )
  touch "$dir"
}

# Keeps the two parts used last; one that a running lab holds (a lock on its directory) stays as well.
prune() {
  local name=$1 dir
  while read -r dir; do
    # shellcheck disable=SC2094            # the descriptor is for the lock
    (flock -n 9 || exit 0; mv "$dir" "$cache/$name.tmp.old.$$" && rm -rf "$cache/$name.tmp.old.$$" "$dir.log") 9<"$dir"
  done < <(find "$cache" -maxdepth 1 -type d -name "$name-*" -printf '%T@ %p\n' | sort -rn | tail -n +3 | cut -d' ' -f2-)
}
