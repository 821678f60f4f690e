#!/bin/bash
# usage: containerd-export-tags.sh
#   `ctr images export` of containerd 1.7.24 (Debian trixie) calls every image in the archive by its tag alone: two images of one
#   version cannot be told apart, and skopeo 1.18.0 takes the first for both.
#   Expected: a name that leads to one image; where two would be the same, an error.
#   Seen: reg.example/a:1 and reg.example/b:1 are both `1` in org.opencontainers.image.ref.name. The whole name is in an annotation of
#   containerd's own, which only containerd reads.
#   It matters: all images of one release have the same tag. Of an archive that a node wrote, skopeo can be asked for one of them
#   only, and does not say that there are more.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
# shellcheck source=lib.sh
. "$here/lib.sh"
[ "$(id -u)" = 0 ] || die "only root can run containerd"
debian trixie containerd=1.7.24~ds1-6+deb13u1 skopeo=1.18.0+ds1-1+b5
cd "$work"
layout images << 'END'
it.image([it.layer({"file": "a"})], tag="reg.example/a:1")
it.image([it.layer({"file": "b"})], tag="reg.example/b:1")
END
tar -C images -cf images.tar .
containerd trixie
ctr() { from trixie ctr -a "$work/containerd.sock" "$@"; }
ctr images import --no-unpack images.tar > log 2>&1 || { cat log >&2; die "containerd does not import the images"; }
same "names on the node" "$(ctr images ls -q | paste -sd' ')" "reg.example/a:1 reg.example/b:1"
ctr images export exported.tar reg.example/a:1 reg.example/b:1
names=$(tar -xOf exported.tar index.json | python3 -c '
import json, sys
print(*(one["annotations"]["org.opencontainers.image.ref.name"] for one in json.load(sys.stdin)["manifests"]))')
same "names in the archive" "$names" "1 1"
saw "reg.example/a:1 and reg.example/b:1 are exported as: $names"
first=$(python3 -c 'import json; print(json.load(open("images/index.json"))["manifests"][0]["digest"])')
digest=$(from trixie skopeo --insecure-policy inspect oci-archive:exported.tar:1 | sed -n 's/.*"Digest": "\(.*\)".*/\1/p' | sed -n 1p)
same "what skopeo finds as 1" "$digest" "$first"
saw "skopeo finds as 1: reg.example/a:1, and says nothing of the other"
if from trixie skopeo --insecure-policy inspect oci-archive:exported.tar:reg.example/b:1 > message 2>&1; then changed "skopeo finds the whole name"; fi
saw "as reg.example/b:1: $(grep -o 'no descriptor found.*' message | sed -n 1p)"
