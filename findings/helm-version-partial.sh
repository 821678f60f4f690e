#!/bin/bash
# usage: helm-version-partial.sh
#   `--version 1.2` of helm 4.3.1 (3.17.3 the same) is a range for a chart of a web server and a tag for a chart of an OCI registry.
#   Expected: the same charts behind the same option, of which the manual says that it takes a range or an exact version: the newest 1.2.x.
#   Seen: http:// has 1.2.3; oci:// says "1.2: not found". `1.2.x` and `~1.2` mean the range in both.
#   It matters: a chart repository that moved into the site's registry, with all its versions, no longer has what was asked for before.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
# shellcheck source=lib.sh
. "$here/lib.sh"
debian trixie docker-registry=2.8.3+ds1-2+b8
helm_and_kubectl 37 2.0.0
cd "$work"
helm=$work/v37/helm
registry 5964 trixie
mkdir -p app repository
for version in 1.2.0 1.2.3 1.3.0; do
  printf 'apiVersion: v2\nname: app\nversion: %s\n' "$version" > app/Chart.yaml
  "$helm" package app --destination repository > /dev/null
  "$helm" push --plain-http "repository/app-$version.tgz" oci://127.0.0.1:5964/charts > /dev/null 2>&1
done
"$helm" repo index repository
python3 -m http.server --bind 127.0.0.1 --directory repository 5965 > web.log 2>&1 &
served+=("$!")
for ((try = 0; try < 50; try++)); do if (: < /dev/tcp/127.0.0.1/5965) 2> /dev/null; then break; fi; sleep 0.1; done

web() { "$helm" show chart app --repo http://127.0.0.1:5965 --version "$1" 2>&1 | sed -n 's/^version: //p'; }
oci() { "$helm" show chart oci://127.0.0.1:5964/charts/app --plain-http --version "$1" 2> message | sed -n 's/^version: //p'; }
for range in 1.2.x '~1.2'; do
  same "$range of the web server" "$(web "$range")" 1.2.3
  same "$range of the registry" "$(oci "$range")" 1.2.3
done
saw "--version 1.2.x and ~1.2: 1.2.3 from both"
same "1.2 of the web server" "$(web 1.2)" 1.2.3
same "1.2 of the registry" "$(oci 1.2 || true)" ''
grep -q '1.2: not found' message || changed "the registry says otherwise: $(cat message)"
saw "--version 1.2: 1.2.3 from the web server, and from the registry: $(tail -n 1 message)"
