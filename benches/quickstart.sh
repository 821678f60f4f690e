#!/bin/bash
# usage: benches/quickstart.sh OLD [NEW] [RUNS]
#   How long a newcomer waits: scripts/quickstart.sh of two revisions (NEW: HEAD), each from a clean clone and with empty caches of its
#   own, one after the other, RUNS times (1); every second time the other one is first. Prints the seconds on the clock and of the
#   processors for each, and NEW in parts of OLD. apt and cargo keep what they downloaded. Needs root, and the machine for itself.
#   TESTHOST_ID (default 8) is the instance of its hosts, QUICKSTART_PORT (default 5908) the registry's port; BENCH_DIR a
#   directory on a disk with 20 GiB (default: a new one in /var/tmp).
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
# shellcheck source=../scripts/common.sh
. "$here/../scripts/common.sh"
case ${1:-} in '' | -*) usage "$0" >&2; exit 2 ;; esac
[ "$(id -u)" = 0 ] || die "test hosts need root"
need git time
declare -A revision
revision[old]=$(git -C "$here" rev-parse --verify "$1^{commit}")
revision[new]=$(git -C "$here" rev-parse --verify "${2:-HEAD}^{commit}")
runs=${3:-1}
root=${BENCH_DIR:-$(mktemp -d /var/tmp/sealift-quickstart.XXXXXX)}
export TESTHOST_ID=${TESTHOST_ID:-8} QUICKSTART_PORT=${QUICKSTART_PORT:-5908}
unset SEALIFT QUICKSTART_DIR CARGO_TARGET_DIR

# hosts_seconds: of the processors, by the hosts that run, where the kernel counts it (cgroup v1 or v2).
hosts_seconds() {
  local group=sealift-testhosts-$TESTHOST_ID
  if [ -r "/sys/fs/cgroup/cpuacct/$group/cpuacct.usage" ]; then
    awk '{ printf "%.0f", $1 / 1e9 }' "/sys/fs/cgroup/cpuacct/$group/cpuacct.usage"
  else
    awk '$1 == "usage_usec" { printf "%.0f", $2 / 1e6 }' "/sys/fs/cgroup/$group/cpu.stat"
  fi
}

# measure NAME REVISION: `NAME SECONDS PROCESSOR-SECONDS` to the results; what it says to a log.
measure() {
  local clone=$root/$1/clone log=$root/$1.log
  rm -rf --one-file-system "${root:?}/$1"
  mkdir -p "$root/$1"
  git clone --quiet --no-hardlinks "$here/.." "$clone"
  git -C "$clone" checkout --quiet --detach "$2"
  sync
  export XDG_CACHE_HOME=$root/$1/cache SEALIFT_HOME=$root/$1/state
  say "==> $1 ${2:0:12}"
  if ! (cd "$clone" && command time --quiet --format '%e %U %S' --output "$root/time" scripts/quickstart.sh) > "$log" 2>&1; then
    tail -n 20 "$log" >&2
    die "$1: the quickstart did not succeed ($log)"
  fi
  awk -v name="$1" -v hosts="$(hosts_seconds)" '{ print name, $1, $2 + $3 + hosts }' "$root/time" | tee -a "$root/results" >&2
  sed -n '/^Time of each part/,/in all$/p' "$log" >&2
  (cd "$clone" && scripts/quickstart.sh --down) >> "$log" 2>&1
  rm -rf --one-file-system "${root:?}/$1"
}

: > "$root/results"
for run in $(seq "$runs"); do
  if [ $((run % 2)) = 1 ]; then order=(old new); else order=(new old); fi
  for one in "${order[@]}"; do measure "$one" "${revision[$one]}"; done
done
awk '{ clock[$1] += $2; processors[$1] += $3; count[$1]++ }
  END {
    for (name in count) printf "%s: %.0f s, %.0f s of the processors\n", name, clock[name] / count[name], processors[name] / count[name]
    printf "new / old: %.2f, %.2f of the processors\n", clock["new"] / clock["old"], processors["new"] / processors["old"]
  }' "$root/results"
