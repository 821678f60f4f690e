#!/bin/bash
# usage: benches/peers.sh [MIB]     (default 512)
#   Times build, rebuild, push, pull, save, load and unpack of a tree of MIB MiB against buildah, skopeo, tar and zstd on this
#   machine, in one run, and prints ratios of medians (of RUNS, default 5) beside the bar that each must stay below, and of CPU
#   time, which other work on the machine disturbs less; then the peak memory of each. SEALIFT names another binary than
#   target's. Needs: buildah skopeo docker-registry hyperfine jq zstd, root, a release build of sealift.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."
# shellcheck source=common.sh
. benches/common.sh

mib=${1:-512} runs=${RUNS:-5}
sealift=$(release_build)
need buildah skopeo docker-registry hyperfine jq zstd
tree=$(bench_tree "$mib")
work=$(mktemp -d "$(dirname "$tree")/run.XXXXXX")
registry_pid=
trap '[ -z "$registry_pid" ] || kill "$registry_pid"; rm -rf "$work"; rm -f "$tree/changed"' EXIT

start_registry "$work"

printf 'FROM scratch\nCOPY . /\n' | tee "$work/Kubefile" > "$work/Dockerfile"
store="$work/store" image=$registry/bench:1
ours="$sealift --store $store --quiet"
theirs="buildah --root $work/buildah --runroot $work/buildah-run --storage-driver overlay"

# race NAME BAR PREPARE COMMAND PREPARE COMMAND: ours, theirs; the bar is the highest ratio that is good enough.
race() {
  hyperfine --warmup 0 --runs "$runs" --export-json "$work/race.json" --style none --prepare "$3" "$4" --prepare "$5" "$6" \
    > "$work/race.log" 2>&1 || { cat "$work/race.log" >&2; exit 1; }
  jq -r --arg name "$1" --arg bar "$2" '.results as $r | ($r[0].median / $r[1].median) as $ratio |
    def seconds: . * 100 | round / 100; def cpu: .user + .system; def share: . * 1000 | round / 1000;
    "| \($name) | \($r[0].median | seconds) | \($r[1].median | seconds) | \($ratio | share) | \($bar)\(
    if $ratio > ($bar | tonumber) then " **missed**" else "" end) | \(($r[0] | cpu) / ($r[1] | cpu) | share) |"' "$work/race.json"
}

# peak NAME PREPARE COMMAND: the memory that a command takes at most.
peak() {
  bash -c "$2"
  python3 -c 'import resource, subprocess, sys
subprocess.run(["bash", "-c", "exec " + sys.argv[2]], check=True, stdout=subprocess.DEVNULL)
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
print(f"| {sys.argv[1]} | {peak:.0f} | 96{'"'"' **missed**'"'"' if peak > 96 else str()} |")' "$1" "$3"
}

wipe_registry="rm -rf $work/registry/docker"
wipe_pulled="rm -rf $work/pulled $work/copied $work/buildah $work/buildah-run"
build_ours="$ours build -t $image -f $work/Kubefile $tree"
build_gzip="$build_ours --compression gzip"
build_theirs="$theirs bud -q --layers -t $image -f $work/Dockerfile $tree"
push_ours="$ours push --plain-http $image"
pull_ours="$sealift --store $work/pulled --quiet pull --plain-http $image"
save_ours="$ours save -o $work/a.tar $image"
load_ours="$sealift --store $work/pulled --quiet load -i $work/a.tar"
unpack_ours="$ours unpack $image $work/unpacked"
copy="skopeo copy -q --all --insecure-policy"
tarred="tar --sort=name -C $tree -cf - . | zstd -q -3 -T0 -f -o $work/tree.tar.zst"

echo one > "$tree/changed"
echo "| work ($mib MiB) | sealift s | peer s | ratio | bar | ratio of CPU time |"
echo "|---|---|---|---|---|---|"
race "build, zstd, vs tar and zstd -3 -T0" 1.25 "rm -rf $store" "$build_ours" true "$tarred"
race "build, zstd, vs buildah" 1 "rm -rf $store" "$build_ours" "rm -rf $work/buildah $work/buildah-run" "$build_theirs"
race "build, gzip, vs buildah" 0.35 "rm -rf $store" "$build_gzip" "rm -rf $work/buildah $work/buildah-run" "$build_theirs"
rm -rf "$store"
$build_ours >/dev/null; $build_theirs >/dev/null
race "unchanged rebuild vs buildah" 0.03 true "$build_ours" true "$build_theirs"
race "rebuild with one small file changed vs our full build" 0.25 "date +%N > $tree/changed" "$build_ours" \
  "rm -rf $work/full" "$sealift --store $work/full --quiet build -t $image -f $work/Kubefile $tree"
race "push vs buildah" 1 "$wipe_registry" "$push_ours" "$wipe_registry" "$theirs push -q --tls-verify=false $image"
race "push vs skopeo" 0.9 "$wipe_registry" "$push_ours" "$wipe_registry" "$copy --dest-tls-verify=false oci:$store:$image docker://$image"
bash -c "$wipe_registry"; $push_ours >/dev/null
race "pull vs skopeo" 0.9 "$wipe_pulled" "$pull_ours" "$wipe_pulled" "$copy --src-tls-verify=false docker://$image oci:$work/copied:x"
race "pull vs buildah" 1 "$wipe_pulled" "$pull_ours" "$wipe_pulled" "$theirs pull -q --tls-verify=false $image"
race "save vs skopeo" 0.9 "rm -f $work/a.tar" "$save_ours" "rm -f $work/b.tar" "$copy oci:$store:$image oci-archive:$work/b.tar:x"
race "load vs skopeo" 0.9 "$wipe_pulled" "$load_ours" "$wipe_pulled" "$copy oci-archive:$work/b.tar:x oci:$work/copied:x"
race "unpack vs tar --zstd" 1 "rm -rf $work/unpacked" "$unpack_ours" \
  "rm -rf $work/untarred; mkdir $work/untarred" "tar --zstd -xf $work/tree.tar.zst -C $work/untarred"

before=$(du -sb "$work/registry/docker" | cut -f1)
date +%N > "$tree/changed"
$build_ours >/dev/null; $push_ours >/dev/null
pushed=$(($(du -sb "$work/registry/docker" | cut -f1) - before))
echo; echo "One small file changed: $((pushed >> 20)) MiB pushed (bar: 80)."

echo; echo "| peak memory | MiB | bar |"; echo "|---|---|---|"
peak "build, zstd" "rm -rf $store" "$build_ours"
peak "unchanged rebuild" true "$build_ours"
peak "push" "$wipe_registry" "$push_ours"
peak "pull" "$wipe_pulled" "$pull_ours"
peak "save" "rm -f $work/a.tar" "$save_ours"
peak "load" "$wipe_pulled" "$load_ours"
peak "unpack" "rm -rf $work/unpacked" "$unpack_ours"
peak "build, gzip" "rm -rf $store" "$build_gzip"
