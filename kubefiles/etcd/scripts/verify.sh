#!/bin/sh
# usage: verify.sh    Succeeds when all members are started and healthy, and what one takes every other gives. Waits up to 30 s.
# shellcheck source=etcd.sh
. "$(dirname "$0")/etcd.sh"
is_member || exit 0

healthy() { etcdctl_at "$(urls 2379 plain)" endpoint health 2>&1; }

tries=30
until answer=$(healthy); do
  tries=$((tries - 1))
  [ "$tries" -gt 0 ] || { echo "not all members are healthy:" >&2; echo "$answer" >&2; exit 1; }
  sleep 1
done

started=$(etcdctl_at "$(url "$HostIP" 2379)" member list | grep -c ', started, ')
wanted=$(echo "$members" | wc -w)
[ "$started" = "$wanted" ] || { echo "$started of $wanted members are started" >&2; exit 1; }

key=/sealift/verify/$(name_of "$HostIP")
etcdctl_at "$(url "$HostIP" 2379)" put "$key" "$HostIP" > /dev/null
for member in $members; do
  value=$(etcdctl_at "$(url "$member" 2379)" get "$key" --print-value-only)
  [ "$value" = "$HostIP" ] || { echo "the member on $member does not give what the one on $HostIP took" >&2; exit 1; }
done
etcdctl_at "$(url "$HostIP" 2379)" del "$key" > /dev/null
