#!/bin/bash
# usage: debian-parts.sh
#   Prints a directory that holds, unpacked and not installed, what the cluster images take from Debian: containerd, runc, CNI
#   plugins, etcd, iptables and the like, with all libraries they need. Made when it is missing, under the cache, by the checksum
#   of this recipe; delete it to take Debian's newest.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
# shellcheck source=common.sh
. "$here/common.sh"
case ${1:-} in '') ;; *) usage "$0"; exit 2 ;; esac

packages=(
  containerd runc containernetworking-plugins       # what runs containers on a host
  etcd-server etcd-client                           # the etcd image, and etcd of the control plane
  iptables conntrack ipset kmod netbase             # what kube-proxy calls
  docker-registry                                   # the registry that quickstart.sh pushes to
  iproute2 curl ca-certificates busybox-static      # what the pod network's and the demo's containers are made of
  dnsmasq-base jq                                   # the cluster's DNS
)
parts=$cache/debian-parts/$(fingerprint "$0")

build() {
  local tree=$parts.partial downloads=$parts.download package
  need dpkg-dev
  say "taking containerd, runc, CNI plugins, etcd and tools from Debian (once)"
  rm -rf "$tree" "$downloads"
  mkdir -p "$tree/parts" "$downloads/partial"
  debian_apt update
  debian_apt -o Dir::Cache::archives="$downloads" install -y --download-only "${packages[@]}" > "$parts.log" ||
    die "apt cannot fetch the packages (see $parts.log)"
  for package in "$downloads"/*.deb; do
    dpkg-deb --fsys-tarfile "$package" | tar -C "$tree" -x --keep-directory-symlink --no-same-owner --exclude './dev/*'
    dpkg-deb -f "$package" Package Version | awk '{ print $2 }' | paste -sd' ' >> "$tree/parts/versions"
  done
  rm -rf "$downloads" "$tree"/usr/share/{doc,man,locale,perl}
  mv "$tree" "$parts"
}

if [ ! -d "$parts" ]; then
  locked "$parts.lock"
  [ -d "$parts" ] || build
fi
printf '%s\n' "$parts"
