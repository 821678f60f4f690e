#!/bin/bash
# usage: fill-in.sh CONTEXT VERSION OWN
#   Fills in what CONTEXT/etc/kubeadm.yml and CONTEXT/host/etc/containerd/config.toml.tmpl leave open: the VERSION of Kubernetes, and
#   the images in CONTEXT/manifests/imageList. OWN is the list of what kubeadm takes by itself: only what differs from it is set, as
#   kubeadm keeps what is set also when it upgrades a cluster.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
# shellcheck source=../../scripts/common.sh
. "$here/../../scripts/common.sh"
[ $# = 3 ] || { usage "$0" >&2; exit 2; }
kubeadm=$1/etc/kubeadm.yml
containerd=$1/host/etc/containerd/config.toml.tmpl
list=$1/manifests/imageList
version=$2
own=$3

# image NAME FILE: the image of that name in a list, whatever its registry and path; fails if there is none.
image() { grep -m 1 "/$1:" "$2"; }

# set_unless_own PLACEHOLDER WANTED OWN: fills in a line of kubeadm.yml, or takes it out.
set_unless_own() {
  if [ "$2" = "$3" ]; then sed -i "/$1/d" "$kubeadm"; else sed -i "s#$1#$2#" "$kubeadm"; fi
}

pause=$(image pause "$list") || die "$list names no image pause: containerd starts no pod without"
etcd=$(image etcd "$list") || die "$list names no image etcd"
own_etcd=$(image etcd "$own") || die "$own names no image etcd"
dns=$(image coredns "$list" || image coredns "$own") || die "$own names no image coredns"
own_dns=$(image coredns "$own") || die "$own names no image coredns"

sed -i "s#@PAUSE@#$pause#" "$containerd"
sed -i "s#@VERSION@#$version#" "$kubeadm"
set_unless_own @ETCD@ "${etcd##*:}" "${own_etcd##*:}"
set_unless_own @DNS@ "${dns%/*}" "${own_dns%/*}"
