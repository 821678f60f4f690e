#!/bin/bash
# usage: cargo-deb.sh
#   Prints the path of cargo-deb (3.8.0), which packs the Debian package of a release. Compiled once, in about two minutes, and kept in
#   the cache. Needs Rust.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
# shellcheck source=common.sh
. "$here/common.sh"
[ $# = 0 ] || { usage "$0" >&2; exit 2; }
version=3.8.0
root=$cache/cargo-deb/$version

if [ ! -x "$root/bin/cargo-deb" ]; then
  locked "$cache/cargo-deb/lock"
  if [ ! -x "$root/bin/cargo-deb" ]; then
    say "==> compiling cargo-deb $version, once"
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    # in /, since this project's settings of cargo are not for its tools
    (cd / && cargo install --quiet --locked --no-default-features --version "$version" --target-dir "$work" --root "$root" cargo-deb >&2) ||
      die "cargo-deb $version cannot be installed: see above"
  fi
fi
echo "$root/bin/cargo-deb"
