#!/bin/bash
# usage: helm-null-in-parent.sh
#   `key: null` in the values.yaml of a chart takes away a default of its subchart with helm 3.17.3 (and 4.1.4), and does nothing with
#   4.3.1 (and 4.2.3).
#   Expected: null deletes, as the manual says, wherever the value is written, in every version; or nowhere.
#   Seen: 4.3.1 renders the subchart with the default that the chart took away. The same null in a file given by -f still deletes it.
#   It matters: charts drop resource limits or a node selector of what they wrap in just this way. The same image, rendered by a newer
#   helm, brings them back, and pods do not find a node.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
# shellcheck source=lib.sh
. "$here/lib.sh"
helm_and_kubectl 31 2.1.0
helm_and_kubectl 37 2.0.0
cd "$work"
mkdir -p chart/charts/part/templates
printf 'apiVersion: v2\nname: chart\nversion: 1.0.0\n' > chart/Chart.yaml
printf 'apiVersion: v2\nname: part\nversion: 1.0.0\n' > chart/charts/part/Chart.yaml
printf 'limit: 1Gi\n' > chart/charts/part/values.yaml
echo 'values: {{ omit .Values "global" | toJson }}' > chart/charts/part/templates/values.yaml
rendered() { "$work/v$1/helm" template one chart "${@:2}" | sed -n 's/^values: //p'; }
echo 'part: {limit: null}' > site.yaml
old=$("$work/v31/helm" version --short) new=$("$work/v37/helm" version --short)

same "$new without a null" "$(rendered 37)" '{"limit":"1Gi"}'
for minor in 31 37; do same "a null by -f, package v$minor" "$(rendered "$minor" -f site.yaml)" '{}'; done
saw "null in a file of -f: both helms take the subchart's limit away"
cp site.yaml chart/values.yaml
same "$old, null in values.yaml" "$(rendered 31)" '{}'
same "$new, null in values.yaml" "$(rendered 37)" '{"limit":"1Gi"}'
saw "the same line in the chart's values.yaml: $old takes it away, $new has $(rendered 37)"
