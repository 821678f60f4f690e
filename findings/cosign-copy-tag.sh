#!/bin/bash
# usage: cosign-copy-tag.sh
#   `cosign copy` 3.1.1 (Debian sid) of an image that it signed puts the IMAGE under the tag that is for the list of its signatures.
#   Expected: it copies the image with its signatures, or it fails. It says that it is on its way out, and exits 0.
#   Seen: at the destination, docker-registry 2.8.3 (Debian trixie), the tag sha256-DIGEST is no index but the image's own manifest, so
#   the copy has no signature that anyone finds, and every client that lists what refers to the image reads a manifest instead.
#   It matters: the mirror of a site looks right (both tags are there, nothing failed) and verifies nothing.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
# shellcheck source=lib.sh
. "$here/lib.sh"
debian sid cosign=3.1.1-2 oras=1.3.3-1
debian trixie docker-registry=2.8.3+ds1-2+b8
cd "$work"
registry 5958 trixie
site=127.0.0.1:5958
layout image << 'END'
it.image([it.layer({"one": "1"})], tag="1")
END
from sid oras cp --from-oci-layout image:1 --to-plain-http "$site/here:1" > /dev/null
export COSIGN_PASSWORD=''
from sid cosign generate-key-pair 2> /dev/null
from sid cosign sign --yes --key cosign.key --use-signing-config=false --tlog-upload=false "$site/here:1" > log 2>&1 || { cat log >&2; die "cosign cannot sign"; }
digest=$(from sid oras resolve --plain-http "$site/here:1")
kind() { from sid oras manifest fetch --plain-http --descriptor "$1" | grep -o '"mediaType": *"[^"]*"' | sed -n 1p | cut -d'"' -f4; }

from sid cosign copy "$site/here:1" "$site/there:1" > log 2>&1 || changed "cosign copy fails: $(tail -n 1 log)"
saw "cosign copy exited 0; tags there: $(from sid oras repo tags --plain-http "$site/there" | paste -sd' ')"
same "the tag for the list, here" "$(kind "$site/here:${digest/:/-}")" application/vnd.oci.image.index.v1+json
same "the tag for the list, there" "$(from sid oras resolve --plain-http "$site/there:${digest/:/-}")" "$digest"
saw "the tag ${digest:0:6}-... is an index here, and there it is the image $(cut -c1-19 <<< "$digest")... itself"
if from sid cosign verify --key cosign.pub --private-infrastructure "$site/there:1" > log 2>&1; then changed "the copy verifies"; fi
saw "there, cosign verify: $(grep -o 'no signatures found' log | sed -n 1p)"
