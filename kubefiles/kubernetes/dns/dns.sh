#!/bin/sh
# usage: dns.sh [-conf COREFILE]
#   A stand-in for CoreDNS, of which Debian has no package: Debian's dnsmasq, fed with the cluster's Services and Endpoints. kubeadm
#   starts it as it starts CoreDNS: as the Deployment `coredns` behind the Service `kube-dns`. Where there is internet, the real one
#   takes its place (fetch.sh). It answers
#     * A and PTR of Services, and of the endpoints of headless ones, by their names or addresses (10-244-0-5.SERVICE…);
#     * SRV of named ports;
#     * all other names as the node's resolver does; where the node has none, there are none (NXDOMAIN).
#   It does not know ExternalName and names of pods. Of COREFILE only the cluster's domain counts.
set -eu

corefile=/etc/coredns/Corefile
[ "${1:-}" != -conf ] || corefile=$2
state=${STATE:-/dev/shm/dns}            # the container's root is read-only
api=${API:-https://${KUBERNETES_SERVICE_HOST:-}:${KUBERNETES_SERVICE_PORT:-}}/api/v1
account=${ACCOUNT:-/var/run/secrets/kubernetes.io/serviceaccount}
port=${PORT:-53}

ask() { # PATH SECONDS
  curl --silent --show-error --fail --no-buffer --max-time "$2" --cacert "$account/ca.crt" \
    -H "Authorization: Bearer $(cat "$account/token")" "$api/$1"
}

# changes KIND: a line now, and whenever an object changes. A watch ends by itself: whoever served it may have lost its power.
changes() {
  while :; do
    echo "$1"
    ask "$1?watch=true&timeoutSeconds=30" 35 | while read -r _; do echo "$1"; done || true
    sleep 1
  done
}

ticks() { while sleep 2; do echo tick; done; }

# fetch: the Services and Endpoints of now.
fetch() { ask services 10 > services.json && ask endpoints 10 > endpoints.json; }

# render: from them, `hosts` for A and PTR, and `srv.conf`.
render() {
  jq --raw-output --arg domain "$domain" --slurpfile endpoints endpoints.json '
    def name: "\(.metadata.name).\(.metadata.namespace).svc.\($domain)";
    def host($service): "\(.hostname // (.ip | gsub("[.:]"; "-"))).\($service)";
    ($endpoints[0].items | map({key: name, value: (.subsets // [])}) | from_entries) as $subsets
    | .items[] | select(.spec.type != "ExternalName") | name as $service | .spec as $spec
    | if $spec.clusterIP == "None" then
        $subsets[$service][]? as $subset | $subset.addresses[]? | host($service) as $host
        | "\(.ip) \($host) \($service)",
          ($subset.ports[]? | select(.name) | "srv-host=_\(.name)._\(.protocol | ascii_downcase).\($service),\($host),\(.port)")
      else
        (($spec.clusterIPs // [$spec.clusterIP])[] | "\(.) \($service)"),
        ($spec.ports[]? | select(.name) | "srv-host=_\(.name)._\(.protocol | ascii_downcase).\($service),\($service),\(.port)")
      end' services.json | sort > records
  awk '/^srv-host=/ { next } { print }' records > hosts.new
  awk '/^srv-host=/' records > srv.new
}

# renew FILE: puts FILE.new in its place; fails if that changes nothing.
renew() {
  [ "$(cat "$1.new")" != "$(cat "$1" 2> /dev/null)" ] || return 1
  mv "$1.new" "$1"
}

# resolvers: where other names are asked for, as options; nobody, without a resolver on the node.
resolvers() {
  awk '$1 == "nameserver" && $2 !~ /^(127\.|::1$)/ { print "--server=" $2; found = 1 } END { if (!found) print "--address=/#/" }' \
    "${RESOLV_CONF:-/etc/resolv.conf}"
}

start() {
  # shellcheck disable=SC2046
  dnsmasq --keep-in-foreground --log-facility=- --user= --group= --pid-file= --port="$port" --conf-file="$state/srv" \
    --no-hosts --addn-hosts="$state/hosts" --local="/$domain/" --local-ttl=5 --cache-size=1000 --no-resolv $(resolvers) &
  server=$!
}

stop() {
  kill "$server" 2> /dev/null || true
  wait "$server" || true
}

# serve: what is new. Names are read anew while it answers; SRV only when it starts, which takes some milliseconds.
serve() {
  new=
  ! renew hosts || new=hosts
  ! renew srv || new=srv
  [ -n "$new" ] || return 0
  if [ -z "$server" ]; then
    start
    echo OK > www/ready
  elif [ "$new" = srv ]; then
    stop
    start
  else
    kill -HUP "$server"
  fi
}

# alive: whether dnsmasq runs; a dead one stays as a zombie.
alive() {
  [ -n "$server" ] || return 0
  read -r _ _ status _ < "/proc/$server/stat" && [ "$status" != Z ]
}

mkdir -p "$state/www"
cd "$state"
rm -f hosts changes www/ready
: > srv
domain=$(awk '$1 == "kubernetes" { sub(/\.$/, "", $2); print $2; exit }' "$corefile")
domain=${domain:-cluster.local}
server=
echo OK > www/health
for probe in ${PROBES-8080 8181}; do httpd -f -p "$probe" -h "$state/www" & done
mkfifo changes
exec 3<> changes
trap 'exit 0' TERM INT         # the first process of a container takes all others with it
for kind in services endpoints; do changes "$kind" >&3 & done
ticks >&3 &
echo "a stand-in for CoreDNS, by dnsmasq: names of $domain"

while read -r what <&3; do
  alive || { echo "dnsmasq ended" >&2; exit 1; }
  [ "$what" != tick ] || continue
  # changes come in groups: one look at all of a group
  count=0
  # shellcheck disable=SC3045  # busybox has it
  while [ $((count += 1)) -lt 40 ] && read -r -t 0.2 _ <&3; do :; done
  if fetch && render; then serve; fi
done
