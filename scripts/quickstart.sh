#!/bin/bash
# usage: quickstart.sh [--masters N] [--nodes N] [--down]
#   From nothing to a Kubernetes cluster on test hosts of this machine (Debian 12, root, Rust): builds sealift and Kubernetes, makes
#   the cluster images `kubernetes` and `demo`, pushes the latter to a registry, pulls it into an empty store, and runs it on
#   1 master and 2 nodes, or as many as said. Run again, it changes nothing that is already so.
#   --down removes the hosts and what the cluster left here; builds and caches stay, so that the next start is quick.
#   QUICKSTART_PORT (default 5055) is the registry's port on loopback, QUICKSTART_DIR (default target/quickstart) where it works,
#   TESTHOST_ID (default 0) the instance of its hosts; SEALIFT names a built sealift to take instead of building.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
# shellcheck source=common.sh
. "$here/common.sh"
cd "$here/.."

masters=1
nodes=2
down=no
while [ $# -gt 0 ]; do
  case $1 in
    --masters | --nodes)
      [[ ${2:-} =~ ^[0-9]+$ ]] || die "$1 needs a number"
      declare "${1#--}=$2"
      shift 2 ;;
    --down) down=yes; shift ;;
    -h | --help) usage "$0"; exit 0 ;;
    *) usage "$0" >&2; exit 2 ;;
  esac
done
[ "$(id -u)" = 0 ] || die "test hosts need root"
[ $((masters % 2)) = 1 ] || die "etcd needs an odd number of masters, not $masters"

export TESTHOST_ID=${TESTHOST_ID:-0}
work=${QUICKSTART_DIR:-$PWD/target/quickstart}
state=${SEALIFT_HOME:-/var/lib/sealift}
port=${QUICKSTART_PORT:-5055}
registry=127.0.0.1:$port
name=quickstart
target=$(rustc -vV 2>/dev/null | sed -n 's/^host: //p') || die "there is no Rust: see https://rustup.rs"
sealift=${SEALIFT:-$PWD/target/$target/quickstart/sealift}
hosts=$here/testhost.sh
version=v1.20.2
image=$registry/sealift/demo:1.0

began=$SECONDS
times=$work/logs/times

# part TITLE COMMAND...: one part of the work, with its time; what it prints goes to its log, and to the person when it fails.
part() {
  local title=$1 from=$SECONDS log=$work/logs/${1// /-}.log
  shift
  say "==> $title"
  if ! "$@" > "$log" 2>&1; then
    tail -n 40 "$log" >&2
    die "$title did not succeed (all it said: $log)"
  fi
  took "$title" "$from"
  say "    $title: $((SECONDS - from)) s"
}

# shown TITLE COMMAND...: as part, for commands whose progress is worth seeing.
shown() {
  local title=$1 from=$SECONDS
  shift
  say "==> $title"
  "$@" || die "$title did not succeed"
  took "$title" "$from"
}

took() { printf '%5d s  %s\n' $((SECONDS - $2)) "$1" >> "$times"; } # TITLE SECONDS-THEN

packages() {
  need build-essential ca-certificates mmdebstrap debian-archive-keyring dpkg-dev golang-go python3 \
    iproute2 kmod openssh-client procps util-linux curl
}

# together: what takes long and does not wait for each other, side by side; each part with its own time.
together() {
  local job jobs=()
  if [ -z "${SEALIFT:-}" ]; then part 'sealift' cargo build --profile quickstart --locked & jobs+=($!); fi
  { part 'Kubernetes' "$here/kubernetes-from-debian.sh" "$work/kubernetes" && part 'container images and context' ingredients; } & jobs+=($!)
  { part 'Debian packages' "$here/debian-parts.sh" && part 'test hosts' "$hosts" up $((masters + nodes)); } & jobs+=($!)
  for job in "${jobs[@]}"; do wait "$job" || exit 1; done
}

ingredients() {
  "$here/container-images.py" "$work/kubernetes" "$work/container-images"
  kubefiles/kubernetes/prepare.sh "$work/kubernetes" "$work/kubernetes-context"
}

# at_desk, on_site ARGUMENT...: sealift with the store of the one who builds, and of the one who runs.
at_desk() { "$sealift" --store "$work/desk" "$@"; }
on_site() { "$sealift" --store "$work/site" "$@"; }

build_images() {
  at_desk build -t "kubernetes:$version" --build-arg "VERSION=$version" -f kubefiles/kubernetes/Kubefile \
    --from-archive "$work/container-images" "$work/kubernetes-context"
  at_desk build -t "$image" --build-arg "BASE=kubernetes:$version" -f kubefiles/demo/Kubefile \
    --from-archive "$work/container-images" kubefiles/demo
}

# with_registry COMMAND...: while Debian's docker-registry serves on loopback.
with_registry() {
  local server status=0
  mkdir -p "$work/registry"
  printf 'version: 0.1\nlog: {level: error}\nstorage: {filesystem: {rootdirectory: %s}}\nhttp: {addr: "%s"}\n' \
    "$work/registry" "$registry" > "$work/registry.yml"
  "$("$here/debian-parts.sh")/usr/bin/docker-registry" serve "$work/registry.yml" > "$work/logs/registry.log" 2>&1 &
  server=$!
  { until_served "$server" && "$@"; } || status=$?
  kill "$server"
  wait "$server" || true
  return "$status"
}

until_served() {
  local tries=100
  until curl -sf "http://$registry/v2/" > /dev/null; do
    kill -0 "$1" 2>/dev/null || { say "the registry ended (is port $port taken? QUICKSTART_PORT says another): $(tail -n 1 "$work/logs/registry.log")"; return 1; }
    [ $((tries -= 1)) -gt 0 ] || { say "the registry does not answer"; return 1; }
    sleep 0.1
  done
  kill -0 "$1" 2>/dev/null || { say "something else answers on port $port (QUICKSTART_PORT says another)"; return 1; }
}

push_and_pull() {
  at_desk push --plain-http "$image" && on_site pull --plain-http "$image"
}

# addresses FROM COUNT: of test hosts by number, comma separated.
addresses() { seq -s ', ' -f "10.213.$TESTHOST_ID.%g" $((10 + $1)) $((9 + $1 + $2)); }

clusterfile() {
  cat << YAML
apiVersion: sealift.io/v1
kind: Cluster
metadata:
  name: $name
spec:
  image: $image
  ssh:
    user: root
    pk: $("$hosts" key)
  hosts:
  - ips: [$(addresses 1 "$masters")]
    roles: [master]
YAML
  [ "$nodes" = 0 ] || printf -- '  - ips: [%s]\n    roles: [node]\n' "$(addresses $((masters + 1)) "$nodes")"
}

write_clusterfile() {
  if [ -f "$work/Clusterfile" ] && [ "$(clusterfile)" != "$(cat "$work/Clusterfile")" ]; then
    die "there is a cluster of another shape already: $work/Clusterfile (tear it down first: scripts/quickstart.sh --down)"
  fi
  clusterfile > "$work/Clusterfile"
}

# answers: waits until every node answers with its own name.
answers() {
  local number ip tries
  for number in $(seq $((masters + nodes))); do
    ip=10.213.$TESTHOST_ID.$((10 + number))
    tries=60
    until [ "$(curl -s --max-time 2 "http://$ip:30080/")" = "hello from h$number" ]; do
      [ $((tries -= 1)) -gt 0 ] || { say "http://$ip:30080/ does not answer 'hello from h$number'"; return 1; }
      sleep 1
    done
    echo "http://$ip:30080/  hello from h$number"
  done
}

summary() {
  printf '%s\n' '' 'Every node is ready, and the demo answers:' "$1" '' 'Time of each part (the long ones side by side):' "$(cat "$times")" \
    "$(printf '%5d s  in all' $((SECONDS - began)))" '' \
    'Look around:' \
    "  $sealift status $name" \
    "  $sealift exec $name -- crictl ps" \
    "  $sealift kubeconfig $name > kubeconfig" \
    "  $sealift --store $work/site apply -f $work/Clusterfile      # 0 changes" \
    "  TESTHOST_ID=$TESTHOST_ID scripts/testhost.sh ssh h1" \
    '' 'Tear down:' \
    "  $sealift reset -f $work/Clusterfile    # the cluster; the hosts stay, clean" \
    '  scripts/quickstart.sh --down             # the hosts too'
}

# forget_hosts: new hosts at the same addresses show new keys.
forget_hosts() {
  local ip
  [ -f "$state/known_hosts" ] || return 0
  for ip in $(seq -f "10.213.$TESTHOST_ID.%g" 11 250); do
    ! grep -q "^$ip " "$state/known_hosts" || ssh-keygen -q -f "$state/known_hosts" -R "$ip" > /dev/null 2>&1
  done
}

tear_down() {
  "$hosts" down
  forget_hosts
  rm -rf "$work/Clusterfile" "$work/site" "$state/clusters/$name"
  say "the hosts are gone; builds and caches stay in $work and $cache"
}

mkdir -p "$work/logs"
if [ "$down" = yes ]; then tear_down; exit 0; fi
locked "$work/lock"
write_clusterfile
rm -f "$times"
part 'packages' packages
together
shown 'build' build_images
shown 'push and pull' with_registry push_and_pull
shown 'run' on_site run -f "$work/Clusterfile"
part 'the demo answers' answers
summary "$(cat "$work/logs/the-demo-answers.log")"
