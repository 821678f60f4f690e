#!/bin/sh
# The pod network of a site whose nodes share one network: no tunnel, no download. On every node, every few seconds:
#   * /etc/cni/net.d gets a bridge with addresses from the node's podCIDR;
#   * each other node's podCIDR gets a route by that node's address, and routes of nodes that are gone go;
#   * what pods send out of the cluster leaves with the node's address.
# From the environment: NODE (this node's name), INTERVAL (seconds, default 3), CONFIG (directory of the CNI configuration).
set -eu

api=https://${KUBERNETES_SERVICE_HOST:?}:${KUBERNETES_SERVICE_PORT:?}/api/v1/nodes
account=/var/run/secrets/kubernetes.io/serviceaccount
config=${CONFIG:-/host/etc/cni/net.d}
ip=/bin/ip            # in full: busybox would take its own, which cannot tell routes by their mark
protocol=90           # marks our routes among the host's: see `ip route show proto 90`
chain=CNI-ROUTES      # and our rules, as CNI plugins name theirs: what removes those removes these (`iptables -t nat -S CNI-ROUTES`)

# nodes: "name address podCIDR" of each node that has all three. The API server writes YAML with sorted keys and a fixed
# indentation, so that a few lines of awk read it.
nodes() {
  curl --silent --show-error --fail --max-time 10 --cacert "$account/ca.crt" \
    -H "Authorization: Bearer $(cat "$account/token")" -H 'Accept: application/yaml' "$api" > /tmp/nodes.yaml || return 1
  awk '
    function flush() { if (name != "" && address != "" && cidr != "") print name, address, cidr; name = address = cidr = "" }
    /^- / { flush() }
    /^[- ] [a-zA-Z]+:$/ { section = substr($0, 3) }
    section == "metadata:" && /^    name: / { name = $2 }
    section == "spec:" && /^    podCIDR: / { cidr = $2 }
    section == "status:" && /^    - address: / { candidate = $3 }
    section == "status:" && /^      type: InternalIP$/ && address == "" { address = candidate }
    END { flush() }' /tmp/nodes.yaml | sort > /tmp/nodes
}

# configure CIDR: the CNI configuration for this node's pods, written in one piece.
configure() {
  file=$config/10-routes.conflist
  cat > /tmp/conflist << JSON
{
  "cniVersion": "0.4.0",
  "name": "routes",
  "plugins": [
    {
      "type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": false, "hairpinMode": true,
      "ipam": {"type": "host-local", "ranges": [[{"subnet": "$1"}]], "routes": [{"dst": "0.0.0.0/0"}]}
    },
    {"type": "portmap", "capabilities": {"portMappings": true}, "snat": true}
  ]
}
JSON
  [ "$(cat /tmp/conflist)" != "$(cat "$file" 2> /dev/null)" ] || return 0
  cat /tmp/conflist > "$config/.10-routes.tmp"
  mv "$config/.10-routes.tmp" "$file"
  echo "pods of this node get addresses from $1"
}

# routes: makes our routes those that /tmp/nodes wants, and no others.
routes() {
  while read -r name address cidr; do
    [ "$name" = "$NODE" ] || echo "$cidr via $address"
  done < /tmp/nodes | sort > /tmp/wanted
  "$ip" -4 route show proto "$protocol" | awk '{ print $1, $2, $3 }' | sort > /tmp/present
  while read -r cidr _ address; do
    grep_line "$cidr via $address" /tmp/present && continue
    "$ip" -4 route replace "$cidr" via "$address" proto "$protocol" && echo "route to $cidr by $address"
  done < /tmp/wanted
  while read -r cidr _ address; do
    awk -v cidr="$cidr" '$1 == cidr { found = 1 } END { exit !found }' /tmp/wanted && continue
    "$ip" -4 route del "$cidr" proto "$protocol" && echo "no node has $cidr any more: route removed"
  done < /tmp/present
}

grep_line() { awk -v line="$1" '$0 == line { found = 1 } END { exit !found }' "$2"; }

# masquerade CIDR: one chain, replaced as a whole when the nodes change.
masquerade() {
  {
    echo '*nat'
    echo ":$chain - [0:0]"
    while read -r _ _ cidr; do echo "-A $chain -d $cidr -j RETURN"; done < /tmp/nodes
    echo "-A $chain -d 224.0.0.0/4 -j RETURN"
    echo "-A $chain -j MASQUERADE"
    echo COMMIT
  } > /tmp/rules
  if [ "$(cat /tmp/rules)" != "$(cat /tmp/rules.done 2> /dev/null)" ]; then
    iptables-restore --noflush --wait 5 < /tmp/rules && cat /tmp/rules > /tmp/rules.done
  fi
  iptables -w 5 -t nat -C POSTROUTING -s "$1" -j "$chain" 2> /dev/null || iptables -w 5 -t nat -A POSTROUTING -s "$1" -j "$chain"
}

mkdir -p "$config" /tmp
echo "keeping the pod network of $NODE"
while :; do
  if nodes; then
    own=$(awk -v node="$NODE" '$1 == node { print $3 }' /tmp/nodes)
    routes || true
    if [ -n "$own" ]; then
      configure "$own"
      masquerade "$own" || true
    fi
  fi
  sleep "${INTERVAL:-3}"
done
