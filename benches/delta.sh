#!/bin/bash
# usage: benches/delta.sh [MIB] [WORKLOAD_MIB]     (default 512 50)
#   Builds two versions of a cluster image, a rootfs tree of MIB MiB and one container image of WORKLOAD_MIB MiB that does not
#   compress. In the second the container image is another one, and one file of the tree has changed. Prints the size of the delta
#   archive, by `--base` and by `--for`, against the bytes of the changed blobs; the bar is 1.1. SEALIFT names another binary than
#   target's. Needs: buildah docker-registry jq, root.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."
# shellcheck source=common.sh
. benches/common.sh

mib=${1:-512} workload_mib=${2:-50}
sealift=$(release_build)
need buildah docker-registry jq
tree=$(bench_tree "$mib")
work=$(mktemp -d "$(dirname "$tree")/run.XXXXXX")
registry_pid=
trap '[ -z "$registry_pid" ] || kill "$registry_pid"; rm -rf "$work"; rm -f "$tree/changed"' EXIT

start_registry "$work"

store() { "$sealift" --store "$work/$1" --quiet "${@:2}"; }
theirs() { buildah --root "$work/buildah" --runroot "$work/buildah-run" --storage-driver vfs "$@"; }

mkdir "$work/workload"
printf 'FROM scratch\nCOPY data /data\n' > "$work/workload/Dockerfile"
for version in 1 2; do
  head -c "${workload_mib}M" /dev/urandom > "$work/workload/data"
  theirs bud -q -t "$registry/work:$version" "$work/workload" >/dev/null
  theirs push -q --tls-verify=false "$registry/work:$version"
  echo "version $version" > "$tree/changed"
  printf 'FROM scratch\nCOPY . /\nIMAGES %s/work:%s\n' "$registry" "$version" > "$work/Kubefile"
  store ours build --plain-http -t "shop:$version" -f "$work/Kubefile" "$tree" >/dev/null
done

changed=$(store ours diff shop:1 shop:2 -o json | jq .toMove.bytes)
store ours save -o "$work/1.tar" shop:1
store ours save -o "$work/base.tar" --base shop:1 shop:2
store site load -i "$work/1.tar" >/dev/null
store site inventory -o "$work/site.json"
store ours save -o "$work/for.tar" --for "$work/site.json" shop:2
store site load -i "$work/for.tar" >/dev/null
store site fsck >/dev/null
full=$(stat -c %s "$work/1.tar")

echo "| archive ($mib MiB tree, $workload_mib MiB workload) | bytes | of the changed blobs | bar |"
echo "|---|---|---|---|"
for kind in base for; do
  size=$(stat -c %s "$work/$kind.tar")
  jq -nr --arg kind "$kind" --argjson size "$size" --argjson changed "$changed" '($size / $changed * 10000 | round / 10000) as $ratio |
    "| delta by --\($kind) | \($size) | \($ratio) | 1.1\(if $ratio > 1.1 then " **missed**" else "" end) |"'
done
echo "| full | $full | | |"
echo
echo "Changed blobs: $changed bytes."
