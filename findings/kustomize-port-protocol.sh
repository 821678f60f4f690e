#!/bin/bash
# usage: kustomize-port-protocol.sh
#   `kubectl kustomize` 1.37.1 (kustomize 5.8.1; 1.31.9 with 5.4.2 does the same) drops what a patch says of a Service's port, without a
#   word, if only one of patch and Service writes `protocol`.
#   Expected: `protocol` defaults to TCP, so port 80 is port 80 with protocol TCP, and the two are merged, as `kubectl patch` of the
#   same program does; or else the list has both.
#   Seen: the port stays as it was; targetPort is lost, exit code 0. A second protocol on a port (53 UDP beside 53) is lost too. With
#   `protocol` on both sides, or on neither, it works.
#   It matters: an overlay for a site that was tried out with `kubectl patch` and then put into the image does nothing there.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
# shellcheck source=lib.sh
. "$here/lib.sh"
helm_and_kubectl 37 2.0.0
kubectl=$work/v37/kubectl
cd "$work"
mkdir overlay
# ports OF-THE-SERVICE OF-THE-PATCH: the ports that come out, on one line
ports() {
  printf '{apiVersion: v1, kind: Service, metadata: {name: web}, spec: {ports: [%s]}}\n' "$1" > overlay/service.yaml
  printf '{apiVersion: v1, kind: Service, metadata: {name: web}, spec: {ports: [%s]}}\n' "$2" > overlay/patch.yaml
  printf 'resources: [service.yaml]\npatches: [{path: patch.yaml}]\n' > overlay/kustomization.yaml
  "$kubectl" kustomize overlay | sed -n '/^  ports:/,$p' | tail -n +2 | paste -sd' ' | tr -s ' '
}
same "protocol in neither" "$(ports '{port: 80}' '{port: 80, targetPort: 8080}')" " - port: 80 targetPort: 8080"
same "protocol in both" "$(ports '{port: 80, protocol: TCP}' '{port: 80, protocol: TCP, targetPort: 8080}')" " - port: 80 protocol: TCP targetPort: 8080"
same "protocol in the patch" "$(ports '{port: 80}' '{port: 80, protocol: TCP, targetPort: 8080}')" " - port: 80"
saw "port 80, patched with {port: 80, protocol: TCP, targetPort: 8080}: port 80 without the targetPort"
same "protocol in the Service" "$(ports '{port: 80, protocol: TCP}' '{port: 80, targetPort: 8080}')" " - port: 80 protocol: TCP"
saw "port 80 with protocol: TCP, patched with {port: 80, targetPort: 8080}: without the targetPort too"
same "another protocol" "$(ports '{port: 53}' '{port: 53, protocol: UDP, name: udp}')" " - port: 53"
saw "port 53, patched with {port: 53, protocol: UDP, name: udp}: no UDP"
printf '{apiVersion: v1, kind: Service, metadata: {name: web}, spec: {ports: [{port: 80}]}}\n' > service.yaml
"$kubectl" patch --local -f service.yaml -o json -p '{"spec": {"ports": [{"port": 80, "protocol": "TCP", "targetPort": 8080}]}}' | grep '"targetPort": 8080' > /dev/null ||
  changed "kubectl patch does not merge them either"
saw "kubectl patch merges the first of these"
