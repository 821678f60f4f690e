#!/bin/bash
# usage: containerd-import-chart.sh
#   `ctr images import` of containerd 1.6.20 (Debian bookworm) stops at a helm chart that lies beside the images of an archive, and
#   leaves the images behind it listed, but not unpacked.
#   Expected: what is no image is left alone, as 1.7 and 2.1 do; or the whole archive is refused before anything is listed.
#   Seen: "mismatched image rootfs and manifest layers", exit code 1; `ctr images ls` has every name. An image before the chart is
#   unpacked, one after it is not.
#   It matters: charts and images travel together in one layout now. A script that asks whether the name is there takes the node for
#   done, and which images work depends on their order in index.json.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
# shellcheck source=lib.sh
. "$here/lib.sh"
[ "$(id -u)" = 0 ] || die "only root can run containerd"
debian bookworm containerd=1.6.20~ds1-1+deb12u3
cd "$work"
layout images << 'END'
it.image([it.layer({"one": "1"})], tag="example.test/before:1")
config = it.blob({"name": "chart", "version": "1.0.0", "apiVersion": "v2"}, "application/vnd.cncf.helm.config.v1+json")
chart = it.blob(b"an archive", "application/vnd.cncf.helm.chart.content.v1.tar+gzip")
kind = "application/vnd.oci.image.manifest.v1+json"
it.tagged(it.blob({"schemaVersion": 2, "config": config, "layers": [chart]}, kind), "example.test/chart:1")
it.image([it.layer({"two": "2"})], tag="example.test/zz-after:1")
END
tar -C images -cf images.tar .
containerd bookworm
ctr() { from bookworm ctr -a "$work/containerd.sock" "$@"; }
if ctr images import --snapshotter native images.tar > message 2>&1; then changed "the import does not fail"; fi
grep -q 'mismatched image rootfs and manifest layers' message || changed "it fails otherwise: $(tail -n 1 message)"
saw "$(tail -n 1 message | sed 's/.*ctr: /ctr: /')"
same "names" "$(ctr images ls -q | paste -sd' ')" "example.test/before:1 example.test/chart:1 example.test/zz-after:1"
saw "listed: $(ctr images ls -q | paste -sd' ')"
unpacked() { ctr images check --snapshotter native name=="$1" | awk 'NR == 2 { print $NF }'; }
same "the image before the chart, unpacked" "$(unpacked example.test/before:1)" true
same "the image after the chart, unpacked" "$(unpacked example.test/zz-after:1)" false
saw "before: unpacked; zz-after: not"
