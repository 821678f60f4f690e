#!/bin/bash
# usage: containerd-server-only.sh
#   containerd 1.7.24 (Debian trixie; 1.6.20 of bookworm too) does not take a hosts.toml that has `server` and no mirrors, and then goes
#   to the registry's own name as if the file were not there.
#   Expected: `server` is where images of that name come from, mirrors or not; 2.1.9 of sid has it so. A file that cannot be used stops
#   the pull.
#   Seen: "invalid `host` tree" in the log, and a request to https://example.test. An empty table `[host]` under it makes the same file
#   work.
#   It matters: a node that was pointed at the site's registry in the shortest way asks the internet for every image.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
# shellcheck source=lib.sh
. "$here/lib.sh"
[ "$(id -u)" = 0 ] || die "only root can run containerd"
debian trixie containerd=1.7.24~ds1-6+deb13u1 docker-registry=2.8.3+ds1-2+b8 oras=1.2.0-1+b9
cd "$work"
registry 5963 trixie
layout image << 'END'
it.image([it.layer({"one": "1"})], tag="1")
END
from trixie oras cp --from-oci-layout image:1 --to-plain-http 127.0.0.1:5963/app:1 > /dev/null
containerd trixie
mkdir -p hosts/example.test
fetch() { from trixie ctr -a "$work/containerd.sock" content fetch --hosts-dir hosts example.test/app:1 > message 2>&1; }
printf 'server = "http://127.0.0.1:5963"\n' > hosts/example.test/hosts.toml
if fetch; then changed "the image comes from the server of the file"; fi
grep -q 'invalid.*host.*tree' message || changed "it does not say why: $(cat message)"
grep -q 'https://example.test/v2/app' message || changed "it does not ask example.test: $(tail -n 1 message)"
saw "server alone: $(grep -o 'error="invalid.*' message | sed -n 1p), and then: $(grep -o 'Head .*https://example.test/[^"\\]*' message | sed -n 1p)"
printf '[host]\n' >> hosts/example.test/hosts.toml
fetch || changed "with an empty [host] it fails too: $(tail -n 1 message)"
saw "with an empty table [host] under it: fetched from 127.0.0.1:5963"
