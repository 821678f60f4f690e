#!/bin/bash
# usage: prepare.sh KUBERNETES CONTEXT
#   Makes the directory CONTEXT that `sealift build -f kubefiles/kubernetes/Kubefile CONTEXT` needs, from the programs in the
#   directory KUBERNETES (of scripts/kubernetes-from-debian.sh or fetch.sh), containerd, runc, CNI plugins and etcdctl of Debian's
#   packages (not installed, only unpacked), and the files next to this script. What is there already and right stays.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
# shellcheck source=../../scripts/common.sh
. "$here/../../scripts/common.sh"
[ $# = 2 ] || { usage "$0" >&2; exit 2; }
kubernetes=$1
context=$2
[ -f "$kubernetes/version" ] || die "$kubernetes has no file 'version': fill it with kubernetes-from-debian.sh or fetch.sh"

parts=$("$here/../../scripts/debian-parts.sh")
version=$(cat "$kubernetes/version")
own=(etc host cni-routes)

# image_names: the container images of the control plane that no manifest names.
image_names() {
  if [ -f "$kubernetes/images" ]; then cat "$kubernetes/images"; return; fi
  local name
  for name in kube-apiserver kube-controller-manager kube-scheduler kube-proxy; do echo "registry.k8s.io/$name:$version"; done
  awk '$1 == "etcd-server" { sub(/[+-].*/, "", $2); print "registry.k8s.io/etcd:" $2 "-0" }' "$parts/parts/versions"
  echo registry.k8s.io/pause:3.2
  echo registry.k8s.io/coredns:1.7.0     # of scripts/container-images.py: a stand-in
}

# own_images: what kubeadm itself takes from registry.k8s.io. Where fetch.sh has asked it: it may be for another architecture.
own_images() {
  if [ -f "$kubernetes/kubeadm-images" ]; then cat "$kubernetes/kubeadm-images"; return; fi
  "$kubernetes/kubeadm" config images list --kubernetes-version "$version" --image-repository registry.k8s.io 2> /dev/null ||
    die "$kubernetes/kubeadm does not say which images it needs: fill the directory with fetch.sh again"
}

# inputs: all that decides what the context is.
inputs() {
  echo "$kubernetes $parts"
  cat "$0" "$here/fill-in.sh" "$kubernetes/version" "$parts/parts/versions"
  (cd "$kubernetes" && stat -c '%n %s %Y' -- *)
  (cd "$here" && find "${own[@]}" crictl -type f -print0 | sort -z | xargs -0 sha256sum)
}

assemble() { # DIRECTORY
  local bin=$1/host/usr/bin
  mkdir -p "$bin" "$1/host/opt/cni/bin" "$1/manifests"
  cp -r "${own[@]/#/$here/}" "$1/"
  cp "$kubernetes"/{kubeadm,kubelet,kubectl} "$bin/"
  if [ -e "$kubernetes/crictl" ]; then cp "$kubernetes/crictl" "$bin/"; else cp "$here/crictl" "$bin/"; fi
  cp "$parts"/usr/bin/{containerd,containerd-shim-runc-v2,ctr,etcdctl} "$parts/usr/sbin/runc" "$bin/"
  cp "$parts"/usr/lib/cni/* "$1/host/opt/cni/bin/"
  image_names > "$1/manifests/imageList"
  own_images > "$1/own"
  "$here/fill-in.sh" "$1" "$version" "$1/own"
  rm "$1/own"
  # The same inputs make the same image whenever they are assembled.
  find "$1" -exec touch --no-dereference --date "@${SOURCE_DATE_EPOCH:-0}" {} +
}

mark=$(inputs | sha256sum | cut -c1-64)
if [ "$(cat "$context/.prepared" 2>/dev/null)" != "$mark" ]; then
  rm -rf "$context.partial"
  assemble "$context.partial"
  echo "$mark" > "$context.partial/.prepared"
  rm -rf "$context"
  mv "$context.partial" "$context"
fi
