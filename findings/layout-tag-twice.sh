#!/bin/bash
# usage: layout-tag-twice.sh
#   One tag that stands twice in the index.json of an image layout is another image for each reader: the first of the two for
#   skopeo 1.18.0, the last for oras 1.2.0, an error for umoci 0.4.7 (all of Debian trixie).
#   Expected: one rule for all, or an error from all. OCI does not forbid the second entry.
#   Seen: skopeo copies the older image, oras the newer one, both exit 0; umoci says `tag is ambiguous`.
#   It matters: what was tested with one tool is not what the other one carries to the site, under the same tag of the same folder.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
# shellcheck source=lib.sh
. "$here/lib.sh"
debian trixie skopeo=1.18.0+ds1-1+b5 oras=1.2.0-1+b9 umoci=0.4.7+ds-4+b10
cd "$work"
layout images << 'END'
it.image([it.layer({"file": "older"})], tag="1.0")
it.image([it.layer({"file": "newer"})], tag="1.0")
END
digests=$(python3 -c 'import json; print(*(one["digest"] for one in json.load(open("images/index.json"))["manifests"]))')
read -r older newer <<< "$digests"

skopeo=$(from trixie skopeo --insecure-policy inspect oci:images:1.0 | python3 -c 'import json, sys; print(json.load(sys.stdin)["Digest"])')
oras=$(from trixie oras resolve --oci-layout images:1.0)
same "the image of skopeo" "$skopeo" "$older"
same "the image of oras" "$oras" "$newer"
saw "skopeo takes the first, ${skopeo:0:19}..., oras the last, ${oras:0:19}..."
if from trixie umoci stat --image images:1.0 > message 2>&1; then changed "umoci takes one of them"; fi
grep -q ambiguous message || changed "umoci says: $(cat message)"
saw "umoci: $(grep -o 'tag is ambiguous.*' message)"
