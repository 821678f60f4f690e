#!/bin/bash
# usage: helm-push-time.sh
#   `helm push` 4.3.1 (and 3.17.3) gives one and the same chart archive another digest once the file has another modification time.
#   Expected: the digest depends on the bytes, so that pushing again changes nothing; or, with a time of creation in it, it is another
#   one each time. Both would be noticed at once.
#   Seen: pushed twice it is the same; after `touch`, nothing else changed, another manifest, whose org.opencontainers.image.created is
#   the file's time.
#   It matters: an archive that came by a disk, or out of `cp`, has another time. Digests that are pinned or signed at the vendor's are
#   not those of the site's registry, though the chart is the same byte for byte.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
# shellcheck source=lib.sh
. "$here/lib.sh"
debian trixie docker-registry=2.8.3+ds1-2+b8
helm_and_kubectl 37 2.0.0
cd "$work"
registry 5960 trixie
mkdir -p chart/templates
printf 'apiVersion: v2\nname: chart\nversion: 1.0.0\n' > chart/Chart.yaml
"$work/v37/helm" package chart > /dev/null
push() { "$work/v37/helm" push --plain-http chart-1.0.0.tgz oci://127.0.0.1:5960/charts 2>&1 | sed -n 's/^Digest: //p'; }
first=$(push)
sleep 1.1
same "pushed again" "$(push)" "$first"
saw "pushed twice: ${first:0:19}... both times"
sum=$(sha256sum < chart-1.0.0.tgz)
touch -d '2020-01-01 00:00:00 UTC' chart-1.0.0.tgz
same "the archive's own sum" "$(sha256sum < chart-1.0.0.tgz)" "$sum"
touched=$(push)
if [ -z "$touched" ] || [ "$touched" = "$first" ]; then changed "the digest after touch is \`$touched\`"; fi
saw "after touch: ${touched:0:19}..."
