#!/bin/bash
# usage: helm-const-text.sh
#   For helm 4.2.3 the number 1 equals the text "1" where a values.schema.json says `const`, and does not where it says `enum`.
#   Expected: numbers and texts are never equal in JSON Schema, and `const: X` is the same as `enum: [X]`.
#   Seen: {"const": "1"} takes 1, {"enum": ["1"]} refuses it; {"const": 1} refuses "1". helm 3.17.3 and 4.3.1 refuse all three.
#   It matters: this guards versions and sizes that must be quoted in YAML. What such a chart let through with 4.1 and 4.2 is refused
#   when the image comes with another helm, and until then the template gets a number for its text.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
# shellcheck source=lib.sh
. "$here/lib.sh"
helm_and_kubectl 36 2.0.1
helm_and_kubectl 37 2.0.0
cd "$work"
mkdir -p chart/templates
printf 'apiVersion: v2\nname: chart\nversion: 1.0.0\n' > chart/Chart.yaml
# answers MINOR: to {"const": "1"} and 1, {"enum": ["1"]} and 1, {"const": 1} and "1"
answers() {
  local schema value all=()
  while read -r value schema; do
    printf '{"properties": {"value": %s}}\n' "$schema" > chart/values.schema.json
    if "$work/v$1/helm" template one chart --set-json "value=$value" > message 2>&1; then all+=(taken); else all+=(refused); fi
  done << 'END'
1 {"const": "1"}
1 {"enum": ["1"]}
"1" {"const": 1}
END
  printf '%s\n' "${all[*]}"
}
for expected in '36 taken refused refused' '37 refused refused refused'; do
  version=$("$work/v${expected%% *}/helm" version --short)
  same "helm $version" "$(answers "${expected%% *}")" "${expected#* }"
  saw "helm $version: const \"1\" and 1, enum [\"1\"] and 1, const 1 and \"1\": ${expected#* }"
done
