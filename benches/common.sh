# shellcheck shell=bash
# What benchmarks have in common; to be sourced from the project's directory.

# release_build: the path of the binary to measure: SEALIFT, else the release build in target.
release_build() {
  local binary=${SEALIFT:-$(readlink -f target/*/release/sealift | head -n 1)}
  [ -x "$binary" ] || { echo "$(basename "$0"): no release build: cargo build --release" >&2; exit 1; }
  echo "$binary"
}

# need TOOL...: fails with what to install when one is missing.
need() {
  local tool
  for tool in "$@"; do
    command -v "$tool" >/dev/null || { echo "$(basename "$0"): $tool is missing: apt-get install $*" >&2; exit 1; }
  done
}

# bench_tree MIB: the path of a tree of so many MiB, which is made once.
bench_tree() {
  local tree=${XDG_CACHE_HOME:-$HOME/.cache}/sealift/bench/tree-$1
  [ -d "$tree" ] || { mkdir -p "$(dirname "$tree")"; benches/make_tree.py "$tree.new" "$1" >&2; mv "$tree.new" "$tree"; }
  echo "$tree"
}

# start_registry DIR: a docker-registry that keeps its blobs in DIR/registry; sets $registry (host:port) and $registry_pid.
start_registry() {
  local port
  port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
  cat > "$1/registry.yml" <<YAML
version: 0.1
log: {level: error}
storage: {filesystem: {rootdirectory: $1/registry}, delete: {enabled: true}}
http: {addr: '127.0.0.1:$port'}
YAML
  docker-registry serve "$1/registry.yml" > "$1/registry.log" 2>&1 &
  # shellcheck disable=SC2034  # the caller ends it
  registry_pid=$! registry=127.0.0.1:$port
  for _ in $(seq 100); do curl -fs "http://$registry/v2/" >/dev/null && break; sleep 0.1; done
}
