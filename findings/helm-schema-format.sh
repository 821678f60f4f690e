#!/bin/bash
# usage: helm-schema-format.sh
#   helm 4.3.1 does not check `format` in a values.schema.json that says no `$schema`; helm 3.17.3 does.
#   Expected: a value that was refused is refused, or a note in the output. That `format` is a mere remark is so in newer drafts only,
#   and most charts say no draft.
#   Seen: {"format": "ipv4"} takes "nope" with 4.3.1. With "$schema": draft-07 added, nothing else changed, it is refused again. On the
#   other hand, a list under `items`, good with 3.17.3, makes the whole schema invalid for 4.3.1.
#   It matters: the address that a site fills in is no longer checked when the helm of the image is newer, and wrong ones get as far as
#   the pods.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
# shellcheck source=lib.sh
. "$here/lib.sh"
helm_and_kubectl 31 2.1.0
helm_and_kubectl 37 2.0.0
cd "$work"
mkdir -p chart/templates
printf 'apiVersion: v2\nname: chart\nversion: 1.0.0\n' > chart/Chart.yaml
# answer MINOR SCHEMA VALUE: what helm says to `value: VALUE`
answer() {
  printf '%s\n' "$2" > chart/values.schema.json
  if "$work/v$1/helm" template one chart --set-json "value=$3" > message 2>&1; then echo taken; else echo refused; fi
}
any='{"properties": {"value": {"format": "ipv4"}}}'
# shellcheck disable=SC2016 # $schema is no variable
seven='{"$schema": "http://json-schema.org/draft-07/schema#", "properties": {"value": {"format": "ipv4"}}}'
pair='{"properties": {"value": {"items": [{"type": "string"}, {"type": "integer"}]}}}'
old=$("$work/v31/helm" version --short) new=$("$work/v37/helm" version --short)

same "$old, no \$schema, ipv4" "$(answer 31 "$any" '"nope"')" refused
same "$new, no \$schema, ipv4" "$(answer 37 "$any" '"nope"')" taken
saw "format ipv4 and \"nope\", no \$schema: $old refuses it, $new takes it"
same "$new, draft-07, ipv4" "$(answer 37 "$seven" '"nope"')" refused
saw "with \$schema draft-07 $new refuses it: $(grep . message | tail -n 1 | sed 's/^ *- *//')"
same "$old, no \$schema, a pair" "$(answer 31 "$pair" '["a", 1]')" taken
same "$new, no \$schema, a pair" "$(answer 37 "$pair" '["a", 1]')" refused
saw "a list under items: $old takes [\"a\", 1], $new says: $(grep . message | tail -n 1 | sed 's/^ *- *//')"
