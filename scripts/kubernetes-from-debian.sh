#!/bin/bash
# usage: kubernetes-from-debian.sh OUT
#   Fills the directory OUT with the programs of Kubernetes, built from Debian bookworm's source package `kubernetes`: kubeadm,
#   kubelet, kubectl, kube-apiserver, kube-controller-manager, kube-scheduler, kube-proxy, pause; and `version`. They are for bare
#   hosts with containerd: without the clouds' providers and without Docker. The first build takes 3 minutes on two free cores and
#   3 GiB of disk; it is kept under the cache, by version and by the checksum of source and recipe. The same source gives the same bytes.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
# shellcheck source=common.sh
. "$here/common.sh"
case ${1:-} in '' | -*) usage "$0" >&2; exit 2 ;; esac
out=$1

version=v1.20.2
commit=faecb196815e248d3ecfb03c680a4507229c2a56   # of the upstream tag; `kubectl version` shows it
programs=(kubeadm kubelet kubectl kube-apiserver kube-controller-manager kube-scheduler kube-proxy)
root=$cache/kubernetes
source=$root/source

# fetch: the source package, and the one vendored library that Debian has newer.
fetch() {
  local downloads=$source.partial
  need dpkg-dev
  say "fetching the source of Kubernetes from Debian"
  rm -rf "$downloads"
  mkdir -p "$downloads"
  debian_apt update
  (cd "$downloads" && debian_apt source --download-only kubernetes && debian_apt download golang-github-modern-go-reflect2-dev)
  rm -rf "$source"
  mv "$downloads" "$source"
}

# patch_source: what Kubernetes 1.20.2 needs to be built with Debian's Go and to be right. In its top directory.
patch_source() {
  # The vendored reflect2 1.0.1 crashes when built with Go 1.18 or later: kubeadm init would panic in json-iterator.
  local library=vendor/github.com/modern-go/reflect2
  dpkg-deb -x "$source"/golang-github-modern-go-reflect2-dev_*.deb ../reflect2
  rm -rf "$library"
  mv "../reflect2/usr/share/gocode/src/${library#vendor/}" "$library"

  # Upstream issue 97294, fixed in 1.20.5: when etcd's leader changes (every second master that joins) watches on Services are
  # never closed, and kube-proxy sees no new Service for 5 to 10 minutes. decoratedWatcher.run must close its channel.
  local watcher=staging/src/k8s.io/apiserver/pkg/registry/generic/registry/decorated_watcher.go
  grep -q 'defer close(d.resultCh)' "$watcher" || sed -i \
    -e '/^func (d \*decoratedWatcher) run(ctx context.Context) {$/a\	defer close(d.resultCh)' \
    -e '/^\t\t\tclose(d.resultCh)$/d' "$watcher"
  grep -q 'defer close(d.resultCh)' "$watcher" || die "$watcher is not what the patch for issue 97294 expects"
}

# generate_openapi: the one generated file that upstream does not keep in its tree.
generate_openapi() {
  local directories
  go build -o ../openapi-gen ./vendor/k8s.io/kube-openapi/cmd/openapi-gen
  directories=$(grep -rlF --include=*.go '+k8s:openapi-gen=' cmd pkg plugin staging/src/k8s.io |
    grep -vE 'staging/src/k8s.io/(code-generator|sample-apiserver)/|/zz_generated|_test\.go$' |
    xargs -n1 dirname | sort -u | sed 's#^staging/src/#vendor/#; s#^#k8s.io/kubernetes/#' | paste -sd,)
  ../openapi-gen -v 0 --logtostderr --go-header-file hack/boilerplate/boilerplate.generatego.txt \
    --output-base "$GOPATH/src" -i "$directories" -p k8s.io/kubernetes/pkg/generated/openapi -O zz_generated.openapi \
    -r ../openapi-violations.txt
}

# link_flags: the version that the programs report; the date is the source package's, never today's.
link_flags() {
  local date package
  date=$(date -u -d "@$(dpkg-parsechangelog -l debian/changelog -S Timestamp)" +%Y-%m-%dT%H:%M:%SZ)
  printf -- '-s -w -buildid='
  for package in k8s.io/kubernetes/vendor/k8s.io/component-base/version k8s.io/kubernetes/vendor/k8s.io/client-go/pkg/version; do
    printf ' -X %s.%s' "$package" "gitVersion=$version" "$package" gitMajor=1 "$package" gitMinor=20 "$package" "gitCommit=$commit" \
      "$package" gitTreeState=clean "$package" "buildDate=$date"
  done
}

# compile DIRECTORY: all programs into it, in one call, so that all cores are busy to the end.
compile() {
  local packages=("${programs[@]/#/./cmd/}")
  # The libraries of clouds that these tags leave out are a good part of all code.
  go build -trimpath -tags providerless,dockerless -ldflags "$(link_flags)" -o "$1/" "${packages[@]}"
  gcc -Os -static -s -DVERSION=3.2 -o "$1/pause" build/pause/linux/pause.c
}

build() {
  local work=$root/work
  need golang-go gcc libc6-dev dpkg-dev
  say "building Kubernetes $version (once; several minutes)"
  rm -rf "$work" "$built.partial"
  # The place is the same each time: paths go into what Go's build cache remembers.
  mkdir -p "$work/gopath/src/k8s.io" "$built.partial"
  dpkg-source --no-check -x "$source"/kubernetes_*.dsc "$work/tree" > "$work/unpack.log" 2>&1 || die "$(tail -n 3 "$work/unpack.log")"
  ln -s "$work/tree" "$work/gopath/src/k8s.io/kubernetes"
  # As upstream and Debian build it, by GOPATH: with modules, Go 1.19 refuses this vendor directory.
  # GOGC: compilers are short-lived, collecting their garbage less often saves a fifth of their time.
  export GO111MODULE=off GOFLAGS='' GOGC=800 CGO_ENABLED=0 GOPATH=$work/gopath GOCACHE=$root/go-build PATH=/usr/lib/go/bin:$PATH
  cd "$GOPATH/src/k8s.io/kubernetes"
  patch_source
  generate_openapi
  compile "$built.partial"
  echo "$version" > "$built.partial/version"
  cd "$here"
  rm -rf "$work"
  mv "$built.partial" "$built"
}

locked "$root/lock"
compgen -G "$source/kubernetes_*.dsc" > /dev/null || fetch
built=$root/$version-$(fingerprint "$source"/*.dsc "$source"/*.deb "$0")
[ -d "$built" ] || build
mkdir -p "$out"
cp --archive --link "$built/." "$out/" 2> /dev/null || cp --archive --reflink=auto --remove-destination "$built/." "$out/"
