#!/bin/sh
# usage: check.sh    Succeeds when this host's member runs with the configuration it should have, and is healthy. Changes nothing.
# shellcheck source=etcd.sh
. "$(dirname "$0")/etcd.sh"
if ! is_member; then
  [ ! -e "$config" ] || { echo "$HostIP is no member, but has $config"; exit 1; }
  exit 0
fi

[ "$(wanted_config)" = "$(cat "$config" 2> /dev/null)" ] || { echo "$config is not there or not as it should be"; exit 1; }
systemctl --quiet is-enabled etcd || { echo "etcd.service is not enabled"; exit 1; }
systemctl --quiet is-active etcd || { echo "etcd.service does not run"; exit 1; }
etcdctl_at "$(url "$HostIP" 2379)" endpoint health > /dev/null 2>&1 || { echo "the member on $HostIP is not healthy"; exit 1; }
