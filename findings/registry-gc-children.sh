#!/bin/bash
# usage: registry-gc-children.sh
#   `docker-registry garbage-collect --delete-untagged` 2.8.3 (Debian trixie) takes the manifests that a tagged OCI index lists for
#   untagged, and deletes them.
#   Expected: a manifest that a tagged index lists is in use; that option is for what no tag leads to.
#   Seen: of a tagged image for two platforms only the index is left. The tag sha256-DIGEST, under which clients keep the list of an
#   image's signatures and bills where a registry has no referrers API, survives too, and what it lists is gone.
#   It matters: a site cleans its registry, all tags are still listed, and the next node that pulls gets nothing; signed images are
#   unsigned. Both look whole until a client goes down one level.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
# shellcheck source=lib.sh
. "$here/lib.sh"
command -v curl > /dev/null || die "curl is needed"
debian trixie docker-registry=2.8.3+ds1-2+b8 oras=1.2.0-1+b9
cd "$work"
layout images << 'END'
platform = lambda architecture: {"os": "linux", "architecture": architecture}
part = lambda architecture: (platform(architecture), it.image([it.layer({"arch": architecture})], architecture=architecture))
it.index([part("amd64"), part("arm64")], tag="both")
it.image([it.layer({"one": "1"})], tag="one")
END
site=127.0.0.1:5953
registry 5953 trixie
from trixie oras cp --from-oci-layout images:both --to-plain-http "$site/app:both" > /dev/null
from trixie oras cp --from-oci-layout images:one --to-plain-http "$site/app:one" > /dev/null
echo signed > signature
from trixie oras attach --plain-http --artifact-type application/x-signature "$site/app:one" signature > /dev/null
parts=$(from trixie oras manifest fetch --plain-http "$site/app:both" | grep -o 'sha256:[0-9a-f]*')
status() { curl -sS -o /dev/null -w '%{http_code}' -H 'Accept: application/vnd.oci.image.manifest.v1+json' "http://$site/v2/app/manifests/$1"; }
for part in $parts; do same "the manifest $part before" "$(status "$part")" 200; done
saw "before: tags $(from trixie oras repo tags --plain-http "$site/app" | paste -sd' '); both images are whole"

# as its manual asks: nobody uploads meanwhile; and the registry starts anew afterwards, so that it remembers nothing
kill "${served[0]}" && { wait "${served[0]}" || true; }
from trixie docker-registry garbage-collect --delete-untagged "$work/registry.yml" > gc.log 2>&1
saw "$(grep 'eligible for deletion$' gc.log)"
registry 5953 trixie
same "tags" "$(from trixie oras repo tags --plain-http "$site/app" | sed 's/-.*/-DIGEST/' | sort | paste -sd' ')" "both one sha256-DIGEST"
saw "after: the same tags"
for part in $parts; do same "the manifest $part" "$(status "$part")" 404; done
saw "the two images that the index \`both\` lists: 404"
signature=$(from trixie oras discover --plain-http --format json "$site/app:one" | grep -o '"reference": *"[^"]*"' | cut -d'"' -f4)
[ -n "$signature" ] || changed "the signature is no longer listed"
same "the signature" "$(status "${signature#*@}")" 404
saw "the signature is still listed, and its manifest: 404"
