#!/bin/bash
# usage: cyclonedx.sh OUT
#   Puts the JSON schema of CycloneDX 1.6, with those that it refers to, into the directory OUT: tests hold bills of materials to it. It
#   comes out of a package of PyPI, CycloneDX's own library; kept in the cache, the second time takes no time.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
# shellcheck source=common.sh
. "$here/common.sh"
[ $# = 1 ] || { usage "$0" >&2; exit 2; }
package=cyclonedx-python-lib version=11.12.0
sum=01f787a31607086320ed14985a011c52cddcacc6ee56cd0047736a9151987426
kept=$cache/cyclonedx/$sum
schemas=(bom-1.6 jsf-0.82 spdx)

is_whole() { [ "$(cd "$kept" 2> /dev/null && cat -- "${schemas[@]/%/.SNAPSHOT.schema.json}" 2> /dev/null | sha256sum)" = "$sum  -" ]; }

fetch() {
  local work
  work=$(mktemp -d)
  # shellcheck disable=SC2064
  trap "rm -rf '$work'" EXIT
  from_pypi "$package" "$version" "$work"
  mkdir -p "$kept"
  python3 - "$work"/*.whl "$kept" "${schemas[@]/%/.SNAPSHOT.schema.json}" << 'END'
import sys, zipfile

wheel = zipfile.ZipFile(sys.argv[1])
for name in sys.argv[3:]:
    with open(f"{sys.argv[2]}/{name}", "wb") as schema:
        schema.write(wheel.read(f"cyclonedx/schema/_res/{name}"))
END
}

locked "$cache/cyclonedx/lock"
is_whole || fetch
is_whole || die "$package $version brought other schemas than those with SHA-256 $sum"
mkdir -p "$1"
cp "$kept"/*.json "$1"
