#!/bin/bash
# usage: umoci-gc-docker-manifest.sh
#   `umoci gc` 0.4.7 (Debian trixie; 0.6.0 of sid does the same) empties images of a layout whose manifests have Docker's media type.
#   Expected: garbage is what no entry of index.json leads to; or umoci refuses a manifest that it does not understand, as its other
#   commands do. An index.json may hold any media type, and `oras cp` brings Docker's images so from registries.
#   Seen: umoci keeps the manifest, takes it for a leaf, deletes its config and its layers, and exits 0.
#   It matters: one clean-up on the machine where images are gathered for a site destroys those that came from an older registry.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
# shellcheck source=lib.sh
. "$here/lib.sh"
debian trixie umoci=0.4.7+ds-4+b10 oras=1.2.0-1+b9
cd "$work"
layout images << 'END'
it.image([it.layer({"one": "1"}, docker=True)], docker=True, tag="docker")
it.image([it.layer({"two": "2"})], tag="oci")
END
blobs() { find images/blobs -type f | wc -l; }

from trixie oras cp --from-oci-layout images:docker --to-oci-layout copy:docker > /dev/null || changed "oras does not take the image for whole"
saw "before: $(blobs) blobs, both images are whole"
from trixie umoci gc --layout images || changed "umoci gc no longer exits 0"
same "blobs after umoci gc" "$(blobs)" 4
saw "after umoci gc, which exited 0: $(blobs) blobs"
from trixie oras cp --from-oci-layout images:oci --to-oci-layout copy:oci > /dev/null || changed "the OCI image is broken too"
if from trixie oras cp --from-oci-layout images:docker --to-oci-layout again:docker > message 2>&1; then changed "the Docker image is still whole"; fi
saw "the Docker image: $(grep -i 'error\|not found\|no such' message | sed -n 1p)"
