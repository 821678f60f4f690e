#!/bin/sh
# usage: uninstall.sh    Stops this host's member and removes its data and configuration. Nothing to remove is no error.
# shellcheck source=etcd.sh
. "$(dirname "$0")/etcd.sh"
systemctl disable --now --quiet etcd 2> /dev/null || true
systemctl reset-failed etcd 2> /dev/null || true
rm -rf "$data" "$config" "$config.tmp"
rmdir "$(dirname "$config")" "$(dirname "$data")" 2> /dev/null || true
