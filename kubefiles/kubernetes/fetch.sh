#!/bin/bash
# usage: fetch.sh VERSION ARCH OUT
#   Fills the directory OUT with what upstream releases of Kubernetes VERSION (v1.20.2) for ARCH (amd64, arm64): kubeadm, kubelet,
#   kubectl, crictl of the same minor version; `images`, the control plane's container images by their names at registry.k8s.io; and
#   `kubeadm-images`, what this kubeadm makes of `imageRepository: registry.k8s.io`. Every file's checksum is verified against
#   upstream's; what is there already is not fetched again. Needs internet.
#   KUBERNETES_MIRROR (default https://dl.k8s.io) and CRICTL_MIRROR (default GitHub's releases) name other places.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
# shellcheck source=../../scripts/common.sh
. "$here/../../scripts/common.sh"
[ $# = 3 ] || { usage "$0" >&2; exit 2; }
version=$1
arch=$2
out=$3
[[ $version =~ ^v[0-9]+\.[0-9]+\.[0-9]+$ ]] || die "a version is like v1.20.2, not '$version'"
case $arch in amd64 | arm64) ;; *) die "an architecture is amd64 or arm64, not '$arch'" ;; esac
kubernetes=${KUBERNETES_MIRROR:-https://dl.k8s.io}/$version/bin/linux/$arch
crictl_release=${version%.*}.0
crictl=${CRICTL_MIRROR:-https://github.com/kubernetes-sigs/cri-tools/releases/download}/$crictl_release/crictl-$crictl_release-linux-$arch.tar.gz
work=$out/.fetch

get() { curl --fail --silent --show-error --location --retry 3 --output "$2" "$1" || die "cannot fetch $1"; }

# verified URL FILE: fetches both the file and its checksum, and refuses what does not match.
verified() {
  local wanted got
  get "$1" "$2.partial"
  get "$1.sha256" "$2.sha256"
  wanted=$(cut -d' ' -f1 "$2.sha256")
  got=$(sha256sum "$2.partial" | cut -d' ' -f1)
  [ "$wanted" = "$got" ] || die "$1 has the checksum $got, upstream says $wanted: not used"
  mv "$2.partial" "$2"
}

# images FILE OPTION...: what kubeadm of this very version would pull. kubeadm must run here to say so.
images() {
  local file=$1 kubeadm=$out/kubeadm native
  shift
  native=$(dpkg --print-architecture)
  if [ "$arch" != "$native" ]; then
    kubeadm=$work/kubeadm-$native
    [ -e "$kubeadm" ] || verified "${kubernetes%/*}/$native/kubeadm" "$kubeadm"
    chmod +x "$kubeadm"
  fi
  "$kubeadm" config images list --kubernetes-version "$version" "$@" > "$work/said" 2> "$work/images.log" ||
    die "kubeadm does not say which images it needs: $(tail -n 1 "$work/images.log")"
  grep -x '[^ ]*/[^ ]*:[^ ]*' "$work/said" > "$work/$file"      # kubeadms before 1.24 warn between the lines
}

if [ "$(cat "$out/version" 2>/dev/null)" = "$version" ] && [ -e "$out/kubeadm-images" ]; then exit 0; fi
need curl ca-certificates
rm -f "$out/version"
rm -rf "$work"
mkdir -p "$work"
for name in kubeadm kubelet kubectl; do
  say "fetching $name $version for $arch"
  verified "$kubernetes/$name" "$work/$name"
  install -m 755 "$work/$name" "$out/$name"
done
say "fetching crictl $crictl_release"
verified "$crictl" "$work/crictl.tar.gz"
tar -xzf "$work/crictl.tar.gz" -C "$out" --no-same-owner crictl
# Only from its own default registry kubeadm takes each image by the name that upstream gives it: from any other, those of 1.21.2 and later
# ask for coredns:TAG where upstream has coredns/coredns:TAG. The default was k8s.gcr.io, which got nothing new since 2023.
images images
sed -i 's#^k8s\.gcr\.io/#registry.k8s.io/#' "$work/images"
images kubeadm-images --image-repository registry.k8s.io
mv "$work/images" "$work/kubeadm-images" "$out/"
rm -rf "$work"
echo "$version" > "$out/version"
