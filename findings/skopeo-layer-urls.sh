#!/bin/bash
# usage: skopeo-layer-urls.sh
#   skopeo 1.18.0 (Debian trixie; 1.9.3 of bookworm and 1.22.0 of sid do the same) never reads a layer that lies in an image layout
#   once its descriptor also has `urls`, with the media type of an ordinary layer.
#   Expected: `urls` names further places to fetch from (OCI: "MAY"), so a layer that is there is copied like any other.
#   Seen: `skopeo copy oci:A oci:B` exits 0 and leaves the blob out of B; to `dir:`, which has to have the bytes, it goes to the
#   network for them and fails there, with the bytes beside it. `oras cp` copies them.
#   It matters: an image that was copied to a disk without one word of complaint lacks a layer, and this is found on site.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
# shellcheck source=lib.sh
. "$here/lib.sh"
debian trixie skopeo=1.18.0+ds1-1+b5 oras=1.2.0-1+b9
cd "$work"
layout a << 'END'
it.image([it.layer({"one": "1"}), it.layer({"two": "2"}, urls=["http://127.0.0.1:1/two.tar.gz"])], tag="1")
END
blobs() { find "$1/blobs" -type f | wc -l; }

from trixie skopeo --insecure-policy copy -q oci:a:1 oci:b:1 || changed "skopeo no longer says that all is well"
same "blobs in the copy" "$(blobs b)" 3
saw "skopeo copied $(blobs b) of $(blobs a) blobs from layout to layout, and exited 0"

if from trixie skopeo --insecure-policy copy -q oci:a:1 dir:c 2> message; then changed "skopeo copies the layer to dir:"; fi
grep -q 'two.tar.gz' message || changed "skopeo fails otherwise: $(cat message)"
saw "to a folder it fails with: $(tail -n 1 message)"

from trixie oras cp --from-oci-layout a:1 --to-oci-layout d:1 > /dev/null
same "blobs in the copy of oras" "$(blobs d)" 4
saw "oras copied all $(blobs d)"
