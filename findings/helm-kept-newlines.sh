#!/bin/bash
# usage: helm-kept-newlines.sh
#   A text that keeps its last line breaks (`|+`) and stands right before `---` in a template has another value for each helm: 3.17.3
#   takes all but one away, 4.3.1 adds one, and kubectl reads what stands there.
#   Expected: the same bytes in the ConfigMap whether a manifest goes through helm without any template action in it, or to kubectl.
#   Seen: of "a" and two empty lines, 3.17.3 (and 4.2.3) leave "a\n", 4.3.1 makes "a\n\n\n\n", kubectl 1.37.1 has "a\n\n\n".
#   It matters: an upgrade of helm alone changes objects of an unchanged chart, and with the usual checksum annotations restarts their
#   pods; sums of such a text, made at the vendor's, fail on site.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
# shellcheck source=lib.sh
. "$here/lib.sh"
helm_and_kubectl 31 2.1.0
helm_and_kubectl 37 2.0.0
cd "$work"
mkdir -p chart/templates
printf 'apiVersion: v2\nname: chart\nversion: 1.0.0\n' > chart/Chart.yaml
cat > chart/templates/maps.yaml << 'END'
apiVersion: v1
kind: ConfigMap
metadata: {name: one}
data:
  text: |+
    a


---
apiVersion: v1
kind: ConfigMap
metadata: {name: two}
END
# what kubectl reads out of manifests, without a cluster
text() { "$work/v37/kubectl" label --local -f - -o 'jsonpath={.data}' seen=yes | sed -n 1p; }
same "kubectl" "$(text < chart/templates/maps.yaml)" '{"text":"a\n\n\n"}'
saw "kubectl $("$work/v37/kubectl" version --client | sed -n 's/^Client Version: //p'): $(text < chart/templates/maps.yaml)"
for expected in '31 {"text":"a\n"}' '37 {"text":"a\n\n\n\n"}'; do
  helm=$work/v${expected%% *}/helm
  version=$("$helm" version --short)
  same "helm $version" "$("$helm" template one chart | text)" "${expected#* }"
  saw "helm $version: ${expected#* }"
done
