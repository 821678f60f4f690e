#!/bin/bash
# usage: crane-short-name.sh
#   crane 0.20.7 (Debian sid), and cosign 3.1.1 with the same library, cannot name a repository of one letter.
#   Expected: registry, skopeo and oras take 127.0.0.1:5962/a:1, and OCI's pattern for names has no least length.
#   Seen: "could not parse reference", with no word of what is wrong with it; /ab:1 works.
#   It matters: a short project name, good for years on the site's registry, stops signing and copying with a message that reads like a
#   mistyped host.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
# shellcheck source=lib.sh
. "$here/lib.sh"
debian sid crane=0.20.7+ds1-5 oras=1.3.3-1
debian trixie docker-registry=2.8.3+ds1-2+b8
cd "$work"
registry 5962 trixie
layout image << 'END'
it.image([it.layer({"one": "1"})], tag="1")
END
for name in a ab; do
  from sid oras cp --from-oci-layout image:1 --to-plain-http "127.0.0.1:5962/$name:1" > /dev/null || changed "oras does not take the name $name"
done
from sid crane digest --insecure 127.0.0.1:5962/ab:1 > message 2>&1 || changed "crane does not take the name ab: $(cat message)"
saw "127.0.0.1:5962/ab:1: $(cut -c1-19 message)..."
if from sid crane digest --insecure 127.0.0.1:5962/a:1 > message 2>&1; then changed "crane takes the name a"; fi
grep -q 'could not parse reference' message || changed "crane says: $(cat message)"
saw "127.0.0.1:5962/a:1: $(tail -n 1 message)"
