#!/bin/bash
# usage: registry-patch-range.sh
#   docker-registry 2.8.3 (Debian trixie) does not look at the Content-Range of an upload's PATCH: it appends whatever comes.
#   Expected: 416, as the OCI distribution specification has it for a chunk that does not begin where the upload has got to.
#   Seen: bytes that say they are 1000-1004 are taken as the first five, those that say they are 0-4 as the next five; both times 202.
#   It matters: a client that resumes an upload and trusts the registry to refuse a chunk out of place (sent twice after a lost answer,
#   say) is told that all is well until the digest is wrong at the very end, and has to send the whole layer again. It must ask for the
#   upload's Range first.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
# shellcheck source=lib.sh
. "$here/lib.sh"
command -v curl > /dev/null || die "curl is needed"
debian trixie docker-registry=2.8.3+ds1-2+b8
cd "$work"
registry 5954 trixie
header() { tr -d '\r' < answer | awk -v name="$1:" 'tolower($1) == name { print $2 }'; }
status() { awk 'NR == 1 { print $2 }' answer; }
upload() {
  curl -sS -o /dev/null -D answer -X PATCH -H 'Content-Type: application/octet-stream' -H "Content-Range: $1" --data-binary "$2" "$(header location)"
}

curl -sS -o /dev/null -D answer -X POST http://127.0.0.1:5954/v2/app/blobs/uploads/
upload 1000-1004 hello
same "a first chunk that says 1000-1004" "$(status) $(header range)" "202 0-4"
saw "a first chunk that says it is 1000-1004: $(status), the upload has $(header range)"
upload 0-4 world
same "a second chunk that says 0-4" "$(status) $(header range)" "202 0-9"
saw "a second chunk that says it is 0-4: $(status), the upload has $(header range)"
digest=$(printf helloworld | sha256sum | cut -d' ' -f1)
curl -sS -o /dev/null -D answer -X PUT -H 'Content-Length: 0' "$(header location)&digest=sha256:$digest"
same "the end of the upload" "$(status)" 201
saw "the blob is helloworld: $(status)"
