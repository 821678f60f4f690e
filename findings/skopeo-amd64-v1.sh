#!/bin/bash
# usage: skopeo-amd64-v1.sh
#   skopeo 1.18.0 (Debian trixie; 1.9.3 of bookworm and 1.22.0 of sid do the same) finds no image for amd64 in an index whose entry says
#   `"architecture": "amd64", "variant": "v1"`.
#   Expected: v1 is the baseline that every such processor has, and only another way to write no variant: arm64 with v8, its baseline,
#   is found. oras takes either.
#   Seen: "no image found in image index for architecture amd64, variant """. `--override-variant v2` does not find v1 either, but finds
#   an entry without a variant. buildah 1.43.2 of sid fails with the same message; containerd imports and unpacks the same index.
#   It matters: an image that runs on every node cannot be copied by the tool that carries it there.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
# shellcheck source=lib.sh
. "$here/lib.sh"
debian trixie skopeo=1.18.0+ds1-1+b5 oras=1.2.0-1+b9
cd "$work"
layout images << 'END'
def only(architecture, variant, tag):
    platform = {"os": "linux", "architecture": architecture}
    platform.update({"variant": variant} if variant else {})
    it.index([(platform, it.image([it.layer({"on": tag})], architecture=architecture, variant=variant))], tag=tag)
only("amd64", None, "amd64")
only("amd64", "v1", "amd64-v1")
only("arm64", "v8", "arm64-v8")
END
# inspect TAG OPTION...: whether skopeo finds an image
inspect() { if from trixie skopeo --insecure-policy "${@:2}" inspect "oci:images:$1" > /dev/null 2> message; then echo found; else echo 'not found'; fi; }
amd64=(--override-os linux --override-arch amd64)
same "amd64" "$(inspect amd64 "${amd64[@]}")" found
same "arm64/v8" "$(inspect arm64-v8 --override-os linux --override-arch arm64)" found
same "amd64/v1" "$(inspect amd64-v1 "${amd64[@]}")" 'not found'
grep -q 'no image found in image index' message || changed "skopeo says: $(cat message)"
saw "arm64 in an index of arm64/v8: found; amd64 in an index of amd64/v1: $(grep -o 'no image found.*' message)"
same "v2 from amd64/v1" "$(inspect amd64-v1 "${amd64[@]}" --override-variant v2)" 'not found'
same "v2 from amd64" "$(inspect amd64 "${amd64[@]}" --override-variant v2)" found
saw "with --override-variant v2: amd64/v1 not found, amd64 found"
from trixie oras manifest fetch --oci-layout --platform linux/amd64 images:amd64-v1 > /dev/null || changed "oras does not find it either"
saw "oras, asked for linux/amd64, takes amd64/v1"
