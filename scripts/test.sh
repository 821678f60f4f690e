#!/bin/bash
# usage: test.sh
#   Everything that is tested: form of scripts and code, then all tests, the end-to-end ones with real registries, hosts and
#   Kubernetes included. Needs Debian 12, Rust and root; installs the Debian packages that are missing.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
# shellcheck source=common.sh
. "$here/common.sh"
[ $# = 0 ] || { usage "$0" >&2; exit 2; }
cd "$here/.."
logs=$PWD/target/test-logs
mkdir -p "$logs"

step() { say "==> [$((SECONDS / 60)):$(printf %02d $((SECONDS % 60)))] $*"; }

# What sealift is tested against, and what its tests and their hosts are made with.
packages=(
  skopeo umoci buildah docker-registry containerd runc containernetworking-plugins etcd-server etcd-client apache2-utils
  build-essential ca-certificates curl mmdebstrap debian-archive-keyring dpkg-dev faketime golang-go jq kmod openssh-client patchelf procps
  bsdutils bzip2 db-util iproute2 libcap2-bin openssl python3 python3-pip qemu-user-static rpm shellcheck sqlite3 sudo uidmap util-linux xz-utils zstd
)

# caches: what end-to-end tests need and takes minutes to make, while the code compiles.
caches() {
  "$here/debian-parts.sh" && "$here/testhost-base.sh" && "$here/helm.sh" target/test-helm && "$here/cyclonedx.sh" target/test-cyclonedx && "$here/newer-peers.sh" target/test-peers && "$here/kubernetes-from-debian.sh" target/test-kubernetes && "$here/cargo-deb.sh"
}

scripts_form() {
  local file files=()
  mapfile -t files < <(git ls-files | while read -r file; do head -c 20 "$file" | grep -qE '^#!/bin/(ba)?sh|^# shellcheck' && echo "$file"; done)
  for file in "${files[@]}"; do bash -n "$file"; done
  shellcheck "${files[@]}"
  python3 -c 'import ast, sys; [ast.parse(open(name).read(), name) for name in sys.argv[1:]]' scripts/*.py
}

# dependencies: deny.toml on licences, sources and banned crates.
dependencies() {
  "$here/cargo-deny.sh" target/test-deny
  target/test-deny/cargo-deny --locked check --hide-inclusion-graph bans licenses sources >&2
}

# changed_files: what git says is new or changed in the tree; nothing outside of a checkout.
changed_files() {
  [ "$(git rev-parse --is-inside-work-tree 2> /dev/null)" = true ] || return 0
  git status --porcelain --untracked-files=all | sort
}

# tree_is_clean BEFORE: what BEFORE, an answer of changed_files, does not name, tests have left behind.
tree_is_clean() {
  local left
  left=$(comm -13 <(printf '%s\n' "$1") <(changed_files))
  [ -z "$left" ] || die "the tests, or somebody meanwhile, left changes in the tree:"$'\n'"$left"
}

# tests compile | tests run: with nextest where it is installed, which runs the light ones side by side.
tests() {
  if cargo nextest --version > /dev/null 2>&1; then
    case $1 in
      compile) cargo nextest run --locked --no-run ;;
      run) cargo nextest run --locked --no-fail-fast ;;
    esac
  else
    case $1 in
      compile) cargo test --locked --no-run ;;
      run)
        say "cargo-nextest is not installed: cargo test instead, one test after another in each file"
        cargo test --locked --no-fail-fast -- --test-threads 1
        ;;
    esac
  fi
}

[ "$(id -u)" = 0 ] || die "the end-to-end tests start hosts and need root; without: cargo test --lib"
before=$(changed_files)
step 'packages'
need "${packages[@]}"
step 'caches, in the background'
caches > "$logs/caches.log" 2>&1 &
caching=$!
step 'form of scripts and code'
scripts_form
cargo fmt --check
cargo clippy --locked --all-targets -- -D warnings
step 'licences, sources and versions of dependencies'
dependencies
step 'compiling the tests'
tests compile
step 'waiting for the caches'
wait "$caching" || { tail -n 40 "$logs/caches.log" >&2; die "the caches could not be made ($logs/caches.log)"; }
step 'all tests'
tests run
step 'the tree is as it was'
tree_is_clean "$before"
if [ "$(printf '%s\n' 6.7 "$(uname -r)" | sort -V | head -n 1)" = 6.7 ]; then
  step 'done: nothing was skipped'
else
  step 'done; skipped, for it needs Linux 6.7: RUN inside the root of a foreign platform, with an emulator'
fi
