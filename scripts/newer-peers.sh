#!/bin/bash
# usage: newer-peers.sh OUT
#   Puts into the directory OUT the programs that images are exchanged with, in versions newer than those of Debian 12: cosign-2.5,
#   cosign-3.1, oras, crane, skopeo, buildah, podman, umoci, ctr, containerd, runc and docker-registry. They come out of Debian's later suites,
#   with the libraries that they need, unpacked under the cache and not installed; the second time takes no time.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
# shellcheck source=common.sh
. "$here/common.sh"
[ $# = 1 ] || { usage "$0" >&2; exit 2; }

# SUITE PACKAGE VERSION; the version without Debian's own part, which changes when a package is built again.
peers='
trixie cosign 2.5.0
forky cosign 3.1.1
forky oras 1.3.3
forky crane 0.20.7
forky skopeo 1.22.0
forky buildah 1.43.2
forky podman 5.8.6
forky umoci 0.6.0
forky containerd 2.1.9
forky docker-registry 2.8.3
'
tree=$cache/newer-peers/$(fingerprint "$0")
programs=(oras crane skopeo buildah podman umoci ctr containerd runc docker-registry)

# fetch SUITE: downloads the suite's packages with all that they depend on, and unpacks them into a root of their own.
fetch() {
  local suite=$1 root=$work/$1 package version wanted=()
  mkdir -p "$root" "$work/download-$suite/partial"
  while read -r _ package version; do wanted+=("$package=$version*"); done < <(grep "^$suite " <<< "$peers")
  debian_suite=$suite debian_apt update
  debian_suite=$suite debian_apt -o Dir::Cache::archives="$work/download-$suite" install -y --download-only "${wanted[@]}" > "$tree.log" 2>&1 ||
    die "Debian $suite has not these versions any more: ${wanted[*]} (see $tree.log)"
  for package in "$work/download-$suite"/*.deb; do
    dpkg-deb --fsys-tarfile "$package" | tar -C "$root" -x --keep-directory-symlink --no-same-owner --exclude './dev/*'
  done
  rm -rf "$work/download-$suite" "$root"/usr/share/{doc,man,locale,perl}
}

# link_to_libraries FILE: makes the program use the loader and the libraries of its suite, which are newer than this machine's.
link_to_libraries() {
  local root=$tree/forky
  patchelf --print-interpreter "$1" > /dev/null 2>&1 || return 0
  patchelf --set-interpreter "$root/usr/lib64/ld-linux-x86-64.so.2" --force-rpath --set-rpath "$root/usr/lib/x86_64-linux-gnu" "$1"
}

# wrap_podman: podman and buildah look for their helpers before they do anything.
wrap_podman() {
  local program
  cp "$work/forky/usr/bin/conmon" "$work/bin/podman-conmon"
  link_to_libraries "$work/bin/podman-conmon"
  printf '[engine]\nconmon_path = ["%s/bin/podman-conmon"]\nhelper_binaries_dir = ["%s/forky/usr/lib/podman"]\n' "$tree" "$tree" \
    > "$work/containers.conf"
  for program in podman buildah; do
    mv "$work/bin/$program" "$work/$program"
    printf '#!/bin/sh\nCONTAINERS_CONF=%s/containers.conf exec %s/%s "$@"\n' "$tree" "$tree" "$program" > "$work/bin/$program"
    chmod +x "$work/bin/$program"
  done
}

# keep_libraries: of a suite's root, only what the programs load.
keep_libraries() {
  mkdir -p "$work/kept/usr/lib"
  mv "$work/forky/usr/lib64" "$work/kept/usr/"
  mv "$work"/forky/usr/lib/{x86_64-linux-gnu,podman} "$work/kept/usr/lib/"
  rm -rf "$work/forky"
  mv "$work/kept" "$work/forky"
}

build() {
  local program place
  work=$tree.partial
  need dpkg-dev patchelf
  say "taking newer cosign, oras, skopeo and others from Debian's later suites (once)"
  rm -rf "$work"
  mkdir -p "$work/bin"
  fetch trixie
  fetch forky
  cp "$work/trixie/usr/bin/cosign" "$work/bin/cosign-2.5"
  cp "$work/forky/usr/bin/cosign" "$work/bin/cosign-3.1"
  for program in "${programs[@]}"; do
    for place in "$work"/forky/usr/{bin,sbin}/"$program"; do
      [ ! -f "$place" ] || cp "$place" "$work/bin/$program"
    done
    [ -x "$work/bin/$program" ] || die "no $program in these packages"
    link_to_libraries "$work/bin/$program"
  done
  wrap_podman
  rm -rf "$work/trixie"
  keep_libraries
  mv "$work" "$tree"
}

[ "$(uname -m)" = x86_64 ] || die "the programs are linked to libraries of x86_64"
locked "$tree.lock"
[ -d "$tree/bin" ] || build
mkdir -p "$1"
ln -sf "$tree"/bin/* "$1/"
