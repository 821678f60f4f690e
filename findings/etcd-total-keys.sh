#!/bin/bash
# usage: etcd-total-keys.sh
#   "TOTAL KEYS" of `etcdutl snapshot status` 3.5.16 (Debian trixie; etcdctl 3.4.23 of bookworm the same) is not the number of keys.
#   Expected: an etcd that holds two keys has a snapshot with two keys.
#   Seen: 13. It counts the entries of all tables of the file: one for each revision that was not compacted away, deletions too, and
#   etcd's own (members, cluster version, consistent index).
#   It matters: who checks a backup by this number before and after a restore, or against `etcdctl get --prefix --keys-only`, takes a
#   good backup for a bad one; and a database that lost keys may well show more than before.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
# shellcheck source=lib.sh
. "$here/lib.sh"
debian trixie etcd-server=3.5.16-4 etcd-client=3.5.16-4
cd "$work"
at=http://127.0.0.1:5955
serve 5955 trixie etcd --data-dir data --listen-client-urls "$at" --advertise-client-urls "$at" --listen-peer-urls http://127.0.0.1:5956
ctl() { ETCDCTL_API=3 from trixie etcdctl --endpoints "$at" "$@" > /dev/null 2>&1; }
for ((try = 0; try < 50; try++)); do if ctl endpoint health; then break; fi; sleep 0.2; done
total() {
  ctl snapshot save "$1"
  from trixie etcdutl snapshot status "$1" -w json | grep -o '"totalKey":[0-9]*' | cut -d: -f2
}
empty=$(total empty.db)
ctl put a 1
ctl put b 1
ctl put c 1
for value in 2 3 4; do ctl put c "$value"; done
ctl del c
keys=$(ETCDCTL_API=3 from trixie etcdctl --endpoints "$at" get '' --prefix --keys-only 2> /dev/null | grep -c .)
full=$(total full.db)
same "keys" "$keys" 2
same "what seven writes added" "$((full - empty))" 7
saw "an etcd without keys: TOTAL KEYS $empty"
saw "after 2 keys that stay, and one written 4 times and deleted: TOTAL KEYS $full"
