#!/bin/bash
# usage: auth-store-or-file.sh
#   In one Docker config with `credsStore` and an entry under `auths`, skopeo 1.18.0 believes the entry and oras 1.2.0 the store
#   (both of Debian trixie): the opposite order.
#   Expected: the same order everywhere, since both say that they read ~/.docker/config.json as docker does.
#   Seen: with the right password in the store and an old one in the file, oras gets in and skopeo does not; with the right one in the
#   file and a store that has nothing, skopeo gets in and oras does not.
#   It matters: a password that was renewed with one tool stays the old one for the other, on the machine that fills the disk for a site.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
# shellcheck source=lib.sh
. "$here/lib.sh"
debian trixie docker-registry=2.8.3+ds1-2+b8 oras=1.2.0-1+b9 skopeo=1.18.0+ds1-1+b5 apache2-utils
cd "$work"
from trixie htpasswd -Bbc htpasswd me right 2> /dev/null
registry 5952 trixie
host=127.0.0.1:5952
layout image << 'END'
it.image([it.layer({"one": "1"})], tag="1")
END
from trixie skopeo --insecure-policy copy -q --dest-creds me:right --dest-tls-verify=false oci:image:1 "docker://$host/app:1"

mkdir bin
# the two helpers speak the protocol of docker-credential-*: one knows the password, the other has nothing
printf '#!/bin/sh\ncat > /dev/null\necho %s\n' "'{\"ServerURL\":\"$host\",\"Username\":\"me\",\"Secret\":\"right\"}'" > bin/docker-credential-full
printf '#!/bin/sh\ncat > /dev/null\necho "credentials not found in native keychain"\nexit 1\n' > bin/docker-credential-empty
chmod +x bin/*
export PATH=$PATH:$work/bin

# answers STORE PASSWORD: what skopeo and oras reach with this store and this password in the file
answers() {
  printf '{"credsStore": "%s", "auths": {"%s": {"auth": "%s"}}}\n' "$1" "$host" "$(printf 'me:%s' "$2" | base64)" > config.json
  if from trixie skopeo list-tags --authfile config.json --tls-verify=false "docker://$host/app" > /dev/null 2>&1; then printf 'skopeo in, '; else printf 'skopeo out, '; fi
  if from trixie oras repo tags --registry-config config.json --plain-http "$host/app" > /dev/null 2>&1; then echo 'oras in'; else echo 'oras out'; fi
}
same "right in the store, wrong in the file" "$(answers full wrong)" "skopeo out, oras in"
saw "right password in the store, wrong one in the file: skopeo out, oras in"
same "nothing in the store, right in the file" "$(answers empty right)" "skopeo in, oras out"
saw "nothing in the store, right password in the file: skopeo in, oras out"
