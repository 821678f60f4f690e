#!/bin/bash
# usage: helm-ignore-exception.sh
#   An exception in .helmignore leaves out everything else: with the two lines `*.md` and `!README.md`, helm 4.3.1 (and 3.17.3) say that
#   Chart.yaml is missing.
#   Expected: as in .gitignore and .dockerignore, whose syntax it has: all .md files but one are left out. The manual names `!` for it.
#   Seen: a line with `!` matches every path that its pattern does not match, and those are left out: templates, values, Chart.yaml.
#   It matters: the message names a file that is there, and whoever takes the exception for harmless looks for the fault in the chart.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
# shellcheck source=lib.sh
. "$here/lib.sh"
helm_and_kubectl 37 2.0.0
cd "$work"
mkdir -p chart/templates
printf 'apiVersion: v2\nname: chart\nversion: 1.0.0\n' > chart/Chart.yaml
printf 'kind: ConfigMap\n' > chart/templates/map.yaml
echo read > chart/README.md
echo notes > chart/NOTES.md
printf '*.md\n' > chart/.helmignore
"$work/v37/helm" template one chart > /dev/null || changed "without the exception it fails too"
saw "*.md alone: the chart is rendered"
printf '*.md\n!README.md\n' > chart/.helmignore
if "$work/v37/helm" template one chart > message 2>&1; then changed "the chart is rendered"; fi
grep -q 'Chart.yaml file is missing' message || changed "helm says: $(cat message)"
saw "with !README.md after it: $(grep missing message)"
