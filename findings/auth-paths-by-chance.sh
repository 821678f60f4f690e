#!/bin/bash
# usage: auth-paths-by-chance.sh
#   With two logins for two folders of one registry, as `podman login HOST/team` writes them, oras 1.2.0 (Debian trixie) takes one of
#   the two by chance at each run, whichever repository it goes to.
#   Expected: the entry whose path leads to the repository, as skopeo has it; or, from a tool that knows hosts only, none.
#   Seen: of 80 runs of the same command with the same file some are let in and some get 401. Those of skopeo all succeed. crane
#   0.20.7 of sid does as oras does: keys are cut down to their hosts, and the first in Go's random order of maps is taken.
#   It matters: a mirroring job fails now and then for no reason that can be seen, and a second try "cures" it.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
# shellcheck source=lib.sh
. "$here/lib.sh"
debian trixie docker-registry=2.8.3+ds1-2+b8 oras=1.2.0-1+b9 skopeo=1.18.0+ds1-1+b5 apache2-utils
cd "$work"
from trixie htpasswd -Bbc htpasswd team right 2> /dev/null
registry 5951 trixie
host=127.0.0.1:5951
layout image << 'END'
it.image([it.layer({"one": "1"})], tag="1")
END
from trixie skopeo --insecure-policy copy -q --dest-creds team:right --dest-tls-verify=false oci:image:1 "docker://$host/team/app:1"
printf '{"auths": {"%s/team": {"auth": "%s"}, "%s/other": {"auth": "%s"}}}\n' \
  "$host" "$(printf team:right | base64)" "$host" "$(printf other:wrong | base64)" > config.json

count() {
  local ok=0 run
  for ((run = 0; run < 80; run++)); do
    if "$@" > /dev/null 2>&1; then ok=$((ok + 1)); fi
  done
  printf '%s\n' "$ok"
}
skopeo=$(count from trixie skopeo list-tags --authfile config.json --tls-verify=false "docker://$host/team/app")
oras=$(count from trixie oras repo tags --registry-config config.json --plain-http "$host/team/app")
same "runs of skopeo that were let in, of 80" "$skopeo" 80
if [ "$oras" = 0 ] || [ "$oras" = 80 ]; then changed "oras is let in $oras times of 80"; fi
saw "of 80 runs, skopeo was let in 80 times, oras $oras times"
