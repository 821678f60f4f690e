#!/bin/bash
# usage: cosign-save-load.sh
#   cosign 3.1.1 (Debian sid) cannot `load` into docker-registry 2.8.3 (Debian trixie) what it `save`d out of the same registry.
#   Expected: this pair of commands is what cosign has for moving a signed image on a disk, and its `copy` tells to use it.
#   Seen: the image arrives; then cosign sends the manifest of the signature without the bundle that it names, the registry refuses it
#   (MANIFEST_BLOB_UNKNOWN), and the image stands there without a signature. All blobs are in the folder. `oras cp -r` moves both.
#   It matters: on the far side of an air gap, with the disk as the only source, the signed image has become an unsigned one.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
# shellcheck source=lib.sh
. "$here/lib.sh"
debian sid cosign=3.1.1-2 oras=1.3.3-1
debian trixie docker-registry=2.8.3+ds1-2+b8
cd "$work"
registry 5957 trixie
site=127.0.0.1:5957
layout image << 'END'
it.image([it.layer({"one": "1"})], tag="1")
END
from sid oras cp --from-oci-layout image:1 --to-plain-http "$site/here:1" > /dev/null
export COSIGN_PASSWORD=''
from sid cosign generate-key-pair 2> /dev/null
from sid cosign sign --yes --key cosign.key --use-signing-config=false --tlog-upload=false "$site/here:1" > log 2>&1 || { cat log >&2; die "cosign cannot sign"; }
# a key of one's own, no transparency log: as it is without a network
verify() { from sid cosign verify --key cosign.pub --private-infrastructure "$1" > log 2>&1; }
verify "$site/here:1" || { cat log >&2; die "cosign does not find its own signature"; }
saw "signed and verified where it was signed"

from sid cosign save --dir disk "$site/here:1" > /dev/null 2>&1 || changed "cosign save fails"
if from sid cosign load --dir disk "$site/there:1" > log 2>&1; then changed "cosign load does it"; fi
blob=$(grep -o 'sha256:[0-9a-f]*$' log | sed -n 1p)
grep -q MANIFEST_BLOB_UNKNOWN log || changed "cosign load says: $(cat log)"
[ -f "disk/blobs/sha256/${blob#sha256:}" ] || changed "cosign save did not write $blob"
saw "cosign load: MANIFEST_BLOB_UNKNOWN for $blob, which is in the folder"
if verify "$site/there:1"; then changed "the signature arrived"; fi
saw "there, cosign verify: $(grep -o 'no signatures found' log | sed -n 1p)"
from sid oras cp -r --from-plain-http "$site/here:1" --to-plain-http "$site/oras:1" > /dev/null
verify "$site/oras:1" || changed "oras does not bring the signature along either"
saw "what oras cp -r moved verifies"
