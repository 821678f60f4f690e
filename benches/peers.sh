#!/bin/bash
# usage: benches/peers.sh [MIB]     (default 512)
#   Times build, unchanged rebuild, push and pull of a tree of MIB MiB against buildah and skopeo on this machine, in one run,
#   and prints ratios of medians. Needs: buildah skopeo docker-registry hyperfine jq, root, a release build of sealift.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."

mib=${1:-512} runs=${RUNS:-5}
sealift=$(readlink -f target/*/release/sealift | head -n 1)
[ -x "$sealift" ] || { echo "peers.sh: no release build: cargo build --release" >&2; exit 1; }
for tool in buildah skopeo docker-registry hyperfine jq; do
  command -v "$tool" >/dev/null || { echo "peers.sh: $tool is missing: apt-get install buildah skopeo docker-registry hyperfine jq" >&2; exit 1; }
done

cache=${XDG_CACHE_HOME:-$HOME/.cache}/sealift/bench
tree=$cache/tree-$mib
[ -d "$tree" ] || { mkdir -p "$cache"; benches/make_tree.py "$tree.new" "$mib"; mv "$tree.new" "$tree"; }
work=$(mktemp -d "$cache/run.XXXXXX")
registry_pid=
trap '[ -z "$registry_pid" ] || kill "$registry_pid"; rm -rf "$work"' EXIT

port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
cat > "$work/registry.yml" <<YAML
version: 0.1
log: {level: error}
storage: {filesystem: {rootdirectory: $work/registry}, delete: {enabled: true}}
http: {addr: '127.0.0.1:$port'}
YAML
docker-registry serve "$work/registry.yml" > "$work/registry.log" 2>&1 &
registry_pid=$!
for _ in $(seq 100); do curl -fs "http://127.0.0.1:$port/v2/" >/dev/null && break; sleep 0.1; done

printf 'FROM scratch\nCOPY . /\n' | tee "$work/Kubefile" > "$work/Dockerfile"
store="$work/store" image=127.0.0.1:$port/bench:1
ours="$sealift --store $store --quiet"
theirs="buildah --root $work/buildah --runroot $work/buildah-run --storage-driver overlay"

# race NAME PREPARE COMMAND PREPARE COMMAND: ours, theirs
race() {
  hyperfine --warmup 0 --runs "$runs" --export-json "$work/$1.json" --style none \
    --prepare "$2" "$3" --prepare "$4" "$5" > "$work/$1.log" 2>&1 || { cat "$work/$1.log" >&2; exit 1; }
  jq -r --arg name "$1" '.results as $r | "| \($name) | \($r[0].median * 100 | round / 100) | \($r[1].median * 100 | round / 100) | \($r[0].median / $r[1].median * 100 | round / 100) |"' "$work/$1.json"
}
wipe_registry="rm -rf $work/registry/docker"
build_ours="$ours build -t $image -f $work/Kubefile $tree"
build_gzip="$build_ours --compression gzip"
build_theirs="$theirs bud -q --layers -t $image -f $work/Dockerfile $tree"
copy_options="--src-tls-verify=false"

echo "| work ($mib MiB) | sealift s | peer s | ratio |"
echo "|---|---|---|---|"
race "build, zstd, vs buildah" "rm -rf $store" "$build_ours" "rm -rf $work/buildah $work/buildah-run" "$build_theirs"
race "build, gzip, vs buildah" "rm -rf $store" "$build_gzip" "rm -rf $work/buildah $work/buildah-run" "$build_theirs"
$build_ours >/dev/null; $build_theirs >/dev/null
race "unchanged rebuild vs buildah" true "$build_ours" true "$build_theirs"
race "push vs buildah" "$wipe_registry" "$ours push --plain-http $image" "$wipe_registry" "$theirs push -q --tls-verify=false $image"
race "push vs skopeo" "$wipe_registry" "$ours push --plain-http $image" "$wipe_registry" "skopeo copy -q --all --insecure-policy --dest-tls-verify=false oci:$store:$image docker://$image"
$ours push --plain-http "$image" >/dev/null
race "pull vs skopeo" "rm -rf $work/pulled" "$sealift --store $work/pulled --quiet pull --plain-http $image" \
  "rm -rf $work/copied" "skopeo copy -q --all --insecure-policy $copy_options docker://$image oci:$work/copied:x"
race "pull vs buildah" "rm -rf $work/pulled" "$sealift --store $work/pulled --quiet pull --plain-http $image" \
  "rm -rf $work/buildah $work/buildah-run" "$theirs pull -q --tls-verify=false $image"
race "save vs skopeo" "rm -f $work/a.tar" "$ours save -o $work/a.tar $image" \
  "rm -f $work/b.tar" "skopeo copy -q --all --insecure-policy oci:$store:$image oci-archive:$work/b.tar:x"
