#!/bin/bash
# usage: cosign-artifact-type.sh
#   The signature of cosign 3.1.1 (Debian sid) cannot be found by its type where a registry has no referrers API.
#   Expected: its manifest has artifactType application/vnd.dev.sigstore.bundle.v0.3+json, so that is how it is listed (OCI: the
#   entry's artifactType is that of the manifest; the config's media type only where the manifest has none).
#   Seen: in the index under the tag sha256-DIGEST cosign writes the media type of the empty config, application/vnd.oci.empty.v1+json.
#   `oras discover` 1.3.3 lists two kinds of nothing, and with --artifact-type it finds no signature.
#   It matters: mirrors that take signatures along by type, and policies that ask for one, see none. docker-registry 2.8 is such
#   a registry.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
# shellcheck source=lib.sh
. "$here/lib.sh"
debian sid cosign=3.1.1-2 oras=1.3.3-1
debian trixie docker-registry=2.8.3+ds1-2+b8
cd "$work"
registry 5959 trixie
site=127.0.0.1:5959
layout image << 'END'
it.image([it.layer({"one": "1"})], tag="1")
END
from sid oras cp --from-oci-layout image:1 --to-plain-http "$site/app:1" > /dev/null
export COSIGN_PASSWORD=''
from sid cosign generate-key-pair 2> /dev/null
from sid cosign sign --yes --key cosign.key --use-signing-config=false --tlog-upload=false "$site/app:1" > log 2>&1 || { cat log >&2; die "cosign cannot sign"; }
discover() { from sid oras discover --plain-http --format json "$@" "$site/app:1" > found.json; }
field() { python3 -c 'import json, sys; found = json.load(open("found.json")); print(*((one[sys.argv[1]]) for one in found.get("referrers") or found.get("manifests") or []))' "$1"; }

discover
reference=$(field reference)
listed=$(field artifactType)
own=$(from sid oras manifest fetch --plain-http "$reference" | python3 -c 'import json, sys; print(json.load(sys.stdin)["artifactType"])')
same "the manifest's own type" "$own" application/vnd.dev.sigstore.bundle.v0.3+json
same "the type in the list" "$listed" application/vnd.oci.empty.v1+json
saw "the manifest says $own, the list says $listed"
discover --artifact-type "$own"
same "found by its type" "$(field reference)" ""
saw "oras discover --artifact-type $own finds nothing"
