#!/bin/bash
# usage: benches/kill.sh [MB] [KILLS]     (default 300 MB, 20 kills)
#   Kills a pull, then a push, of an image of MB megabytes at random moments, each to and from the registry on site, and tells the
#   bytes over the wire beyond the image's, for each kill. Needs: python3, a build of sealift ($SEALIFT, else the newest in target).
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."

mb=${1:-300} kills=${2:-20}
newest=$(find target -maxdepth 3 -name sealift -type f -perm -u+x -printf '%T@ %p\n' 2>/dev/null | sort -rn | head -n 1 | cut -d' ' -f2)
sealift=$(readlink -f "${SEALIFT:-$newest}")
[ -x "$sealift" ] || { echo "kill.sh: no build of sealift: cargo build --release" >&2; exit 1; }
cache=${XDG_CACHE_HOME:-$HOME/.cache}/sealift/bench
mkdir -p "$cache"
work=$(mktemp -d "$cache/kill.XXXXXX")
pids=()
trap 'kill "${pids[@]}" 2>/dev/null || true; wait 2>/dev/null || true; rm -rf "$work"' EXIT

# an image of three layers that do not compress
mkdir "$work/tree"
for part in 1 2 3; do
  mkdir "$work/tree/$part"
  head -c $((mb * 1000000 / 3)) /dev/urandom > "$work/tree/$part/noise"
done
printf 'FROM scratch\nCOPY 1 /1\nCOPY 2 /2\nCOPY 3 /3\n' > "$work/Kubefile"
# at STORE ARGUMENT...: sealift with a store of its own; as a command to be killed it must not be a function
at() { local store=$1; shift; "$sealift" --quiet --store "$work/$store" "$@"; }
at here build -t bench:1 -f "$work/Kubefile" "$work/tree" >/dev/null
size=$(du -sb "$work/here/blobs" | cut -f1)

# serve STORE: the registry on site on a free port, behind the proxy; sets $site and $proxy
serve() {
  local port
  port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
  "$sealift" --quiet --store "$work/$1" registry serve --writable --listen "127.0.0.1:$port" 2> "$work/$1.log" &
  pids+=($!)
  site=127.0.0.1:$port
  for _ in $(seq 100); do curl -fs "http://$site/v2/" >/dev/null && break; sleep 0.1; done
  rm -f "$work/port"
  python3 benches/count_proxy.py "$site" "$work/$1.counts" > "$work/port" &
  pids+=($!)
  for _ in $(seq 100); do [ -s "$work/port" ] && break; sleep 0.1; done
  proxy=127.0.0.1:$(cat "$work/port")
}

# counted STORE FIELD
counted() { sleep 0.05; cut -d' ' -f"$2" "$work/$1.counts"; }

# arrived STORE: bytes that are there, whole blobs or parts of them
arrived() { find "$work/$1/blobs" "$work/$1/ingest" -type f -printf '%s\n' 2>/dev/null | awk '{ sum += $1 } END { print sum + 0 }'; }

# torment VERB COUNTS FIELD RECEIVER COMMAND...: kills the command at KILLS random places of the transfer, then lets it end
torment() {
  local verb=$1 counts=$2 field=$3 receiver=$4 done_kills=0 place pid extra=0 worst=0 lost
  shift 4
  for place in $(shuf -i "0-$size" -n "$kills" | sort -n); do
    "$@" >/dev/null 2>&1 &
    pid=$!
    while kill -0 "$pid" 2>/dev/null && [ "$(cut -d' ' -f"$field" "$work/$counts.counts")" -lt "$place" ]; do sleep 0.002; done
    if kill -9 "$pid" 2>/dev/null; then done_kills=$((done_kills + 1)); fi
    wait "$pid" 2>/dev/null || true
    sleep 0.2
    lost=$(($(counted "$counts" "$field") - $(arrived "$receiver") - extra))
    extra=$((extra + lost)) worst=$((lost > worst ? lost : worst))
  done
  digest=$("$@")
  moved=$(counted "$counts" "$field")
  echo "| $verb | $size | $done_kills | $moved | $(((moved - size) / (done_kills ? done_kills : 1))) | $worst |"
}

echo "| work | bytes of the image | kills | bytes over the wire | extra bytes for each kill | at most |"
echo "|---|---|---|---|---|---|"
serve there
name=$proxy/shop:1
torment push there 1 there "$sealift" --quiet --store "$work/here" push bench:1 "$name"
wanted=$digest
serve there2
at here push bench:1 "$site/shop:1" >/dev/null
torment pull there2 2 away "$sealift" --quiet --store "$work/away" pull "$proxy/shop:1"
[ "$digest" = "$wanted" ] || { echo "kill.sh: $digest is not $wanted" >&2; exit 1; }
at away fsck >/dev/null
