#!/bin/bash
# usage: benches/app_change.sh OLD [NEW] [RUNS]
#   What it costs to bring another 10 KiB of an application to a running Kubernetes cluster of 1 master and 2 nodes: OLD and NEW are
#   two builds of sealift (NEW: $SEALIFT, else the newest in target), each with a cluster of its own, one after the other, RUNS changes
#   each (3). Prints for each the seconds of `apply` (median), the bytes that reached each host (the most), and how many services of
#   containerd, kubelet, registry and load balancer started anew; then NEW in parts of OLD. Needs root, and the machine for itself.
#   TESTHOST_ID (default 9) is the instance of its hosts.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."
# shellcheck source=../scripts/common.sh
. scripts/common.sh
case ${1:-} in '' | -*) usage "$0" >&2; exit 2 ;; esac
[ "$(id -u)" = 0 ] || die "test hosts need root"
newest() { find target -maxdepth 3 -name sealift -type f -perm -u+x -printf '%T@ %p\n' | sort -rn | head -n 1 | cut -d' ' -f2; }
declare -A build
build[old]=$(readlink -f "$1") build[new]=$(readlink -f "${2:-${SEALIFT:-$(newest)}}")
runs=${3:-3}
export TESTHOST_ID=${TESTHOST_ID:-9}
work=$(mktemp -d /var/tmp/sealift-app-change.XXXXXX)
trap 'scripts/testhost.sh down > /dev/null; rm -rf --one-file-system "$work"' EXIT

# received HOST: the bytes that its network has received since its start.
received() { scripts/testhost.sh exec "$1" sh -c 'cat /sys/class/net/e*/statistics/rx_bytes' < /dev/null | head -n 1; }
# services HOST: the services that must not start anew, with the number of each start.
services() {
  local unit
  for unit in containerd kubelet sealift-registry sealift-apiserver-balancer; do
    echo "$1 $unit $(scripts/testhost.sh exec "$1" systemctl show --value -p InvocationID "$unit" < /dev/null)"
  done
}

# measure NAME: `NAME SECONDS BYTES STARTS` for each change to the results.
measure() {
  local sealift=${build[$1]} home=$work/$1 run before began seconds most starts host
  local at=("$sealift" --quiet --store "$home/store")
  export SEALIFT_HOME=$home/state
  mkdir -p "$home"
  say "==> $1: $("$sealift" version | head -n 1)"
  "${at[@]}" build -t kubernetes:1 -f kubefiles/kubernetes/Kubefile --from-archive "$work/container-images" "$work/context" > /dev/null
  "${at[@]}" build -t demo:0 --build-arg BASE=kubernetes:1 -f kubefiles/demo/Kubefile --from-archive "$work/container-images" kubefiles/demo > /dev/null
  scripts/testhost.sh up 3 > /dev/null
  local address=10.213.$TESTHOST_ID.1
  local hosts=(--name bench -m "${address}1" -n "${address}2,${address}3" --pk "$(scripts/testhost.sh key)")
  "${at[@]}" run demo:0 "${hosts[@]}" --yes > "$home/log" 2>&1 || { tail -n 20 "$home/log" >&2; die "$1: the cluster did not come up"; }
  for run in $(seq "$runs"); do
    rm -rf "$home/change" && mkdir "$home/change"
    { printf 'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: change, namespace: default}\ndata:\n  text: "'; head -c 7680 /dev/urandom | base64 -w 0; printf '"\n'; } > "$home/change/change.yaml"
    printf 'FROM demo:0\nAPP change local://change.yaml\nLAUNCH ["demo", "change"]\n' > "$home/change/Kubefile"
    "${at[@]}" build -t "demo:$run" "$home/change" > /dev/null
    for host in h1 h2 h3; do services "$host"; done > "$home/before"
    before=("$(received h1)" "$(received h2)" "$(received h3)")
    began=$(date +%s.%N)
    "${at[@]}" run "demo:$run" "${hosts[@]}" --yes > "$home/log" 2>&1 || { tail -n 20 "$home/log" >&2; die "$1: change $run did not succeed"; }
    seconds=$(awk -v from="$began" -v to="$(date +%s.%N)" 'BEGIN { printf "%.2f", to - from }')
    most=0
    for host in 1 2 3; do
      local more=$(($(received "h$host") - before[host - 1]))
      [ "$more" -le "$most" ] || most=$more
    done
    for host in h1 h2 h3; do services "$host"; done > "$home/after"
    starts=$(diff "$home/before" "$home/after" | grep -c '^>' || true)
    echo "$1 $seconds $most $starts" | tee -a "$work/results" >&2
  done
  scripts/testhost.sh down > /dev/null
}

scripts/kubernetes-from-debian.sh "$work/kubernetes" > "$work/log" 2>&1
scripts/container-images.py "$work/kubernetes" "$work/container-images" >> "$work/log" 2>&1
kubefiles/kubernetes/prepare.sh "$work/kubernetes" "$work/context" >> "$work/log" 2>&1
measure old
measure new
sort -k1,1 -k2,2n "$work/results" | awk '
  { seconds[$1, ++count[$1]] = $2; if ($3 > bytes[$1]) bytes[$1] = $3; starts[$1] += $4 }
  function median(name) { return seconds[name, int((count[name] + 1) / 2)] }
  END {
    for (name in count) printf "%s: %.1f s, at most %d bytes to a host, %d services started anew\n", name, median(name), bytes[name], starts[name]
    printf "new / old: %.2f of the time, %.3f of the bytes\n", median("new") / median("old"), bytes["new"] / bytes["old"]
  }'
