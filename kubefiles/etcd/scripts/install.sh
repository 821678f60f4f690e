#!/bin/sh
# usage: install.sh    Makes this host a member, running and healthy. Run on all masters at once: each waits for the others.
# shellcheck source=etcd.sh
. "$(dirname "$0")/etcd.sh"
is_member || exit 0

mkdir -p "$(dirname "$config")"
install -d -m 700 "$data"
wanted_config > "$config.tmp"
mv "$config.tmp" "$config"
systemctl daemon-reload
systemctl enable --quiet etcd
# Ends when the members have elected a leader, or after the unit's time.
if ! systemctl restart etcd; then
  echo "etcd did not start on $HostIP (members: $members)" >&2
  journalctl --unit etcd --lines 5 --no-pager --output cat >&2 || true
  exit 1
fi
