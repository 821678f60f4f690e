#!/bin/bash
# usage: kustomize-literal-quotes.sh
#   One kubectl 1.37.1 (kustomize 5.8.1) makes two values of one literal: `kubectl kustomize` takes quotes off the ends of a literal of
#   configMapGenerator, `kubectl create configmap --from-literal` keeps them.
#   Expected: KEY=VALUE means the same in both; YAML and the shell have taken off theirs by then.
#   Seen: ARGS="--a" "--b" comes out as --a" "--b, for the first and the last character happen to be quotes. A JSON text loses its own.
#   It matters: what a site's kustomization was made from, by the command that is there to make it, is not what it brings to the cluster.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
# shellcheck source=lib.sh
. "$here/lib.sh"
helm_and_kubectl 37 2.0.0
cd "$work"
mkdir overlay
literals=('ARGS="--a" "--b"' 'JSON="text"')
kubectl=$work/v37/kubectl
cat > overlay/kustomization.yaml << END
generatorOptions: {disableNameSuffixHash: true}
configMapGenerator:
- name: map
  literals:
  - '${literals[0]}'
  - '${literals[1]}'
END
data() { "$kubectl" label --local -f - -o 'jsonpath={.data}' seen=yes | sed -n 1p; }
created=$("$kubectl" create configmap map --dry-run=client -o yaml --from-literal="${literals[0]}" --from-literal="${literals[1]}" | data)
built=$("$kubectl" kustomize overlay | data)
same "kubectl create configmap" "$created" '{"ARGS":"\"--a\" \"--b\"","JSON":"\"text\""}'
same "kubectl kustomize" "$built" '{"ARGS":"--a\" \"--b","JSON":"text"}'
saw "kubectl create configmap: $created"
saw "kubectl kustomize: $built"
