# shellcheck shell=bash
# shellcheck disable=SC2034                # used where this is sourced
# Sourced by deb and what checks it: where things are, and the toolchain's root with the repository in it.
packaging=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repo=$(cd "$packaging/.." && pwd)
out=${DRAWBRIDGE_PACKAGES:-$repo/target/packages}
# Where the repository, its crates and what is built are in the toolchain's root. The packages' bytes do not depend on it.
place=${DRAWBRIDGE_PLACE:-/mnt/drawbridge}
programs=(nic-agent host-shim cluster-controller)

say() { printf 'packages  %s\n' "$*" >&2; }
die() { printf 'packages: %s\n' "$*" >&2; exit 1; }

# triple ARCHITECTURE: Rust's name of a Debian architecture.
triple() {
  case $1 in
    amd64) echo x86_64-unknown-linux-gnu ;;
    arm64) echo aarch64-unknown-linux-gnu ;;
    *) die "no architecture '$1': amd64 or arm64" ;;
  esac
}

# The moment that packages bear: the last commit's, and where there is no git, the changelog's.
source_date() {
  git -C "$repo" log -1 --format=%ct 2>/dev/null ||
    date -d "$(sed -n 's/^ -- .*>  //p' "$packaging/debian/changelog" | head -1)" +%s
}

# The crates of Cargo.lock, fetched by this machine's cargo as it is configured, so that what builds needs no network.
vendor() {
  local crates=$out/crates key
  key=$(sha256sum <"$repo/Cargo.lock" | cut -c1-16)
  [ -e "$crates/$key" ] && return
  say "fetching crates"
  rm -rf "$crates"; mkdir -p "$crates"
  (cd "$repo" && cargo vendor --locked --versioned-dirs "$crates/vendor") >"$crates/config.toml" 2>"$crates/log" ||
    { tail -5 "$crates/log" >&2; die "fetching crates failed (log: $crates/log)"; }
  grep -q "^directory = " "$crates/config.toml" || die "cargo vendor did not say how to use what it fetched"
  touch "$crates/$key"
}

# inside COMMAND...: in the toolchain's root, without network, with mounts that end with the command:
#   $place/source (the repository, read only), $place/crates (read only), $place/out ($out)
# It begins in $place/source, with cargo told where the crates are.
inside() {
  local root
  root=$("$packaging/toolchain") || exit
  unshare --mount --net --pid --fork --kill-child bash -euc '
    root=$1 place=$2 repo=$3 out=$4; shift 4
    mount -t tmpfs -o mode=755 tmpfs "$root/mnt"
    mkdir -p "$root$place"/{source,crates,out,cargo}
    mount --bind "$repo" "$root$place/source"
    mount -o remount,bind,ro "$root$place/source"
    mount --bind "$out/crates" "$root$place/crates"
    mount -o remount,bind,ro "$root$place/crates"
    mount --bind "$out" "$root$place/out"
    mount -t proc proc "$root/proc"
    mount --rbind /dev "$root/dev"
    sed "s|^directory = .*|directory = \"$place/crates/vendor\"|" "$out/crates/config.toml" >"$root$place/cargo/config.toml"
    exec chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C HOME=/root CARGO_HOME="$place/cargo" \
      CARGO_BUILD_JOBS="${CARGO_BUILD_JOBS:-$(nproc)}" SOURCE_DATE_EPOCH="$SOURCE_DATE_EPOCH" \
      sh -c "cd \"$place/source\" && exec \"\$@\"" sh "$@"
  ' inside "$root" "$place" "$repo" "$out" "$@"
}
