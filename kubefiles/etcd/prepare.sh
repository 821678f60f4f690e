#!/bin/bash
# usage: prepare.sh CONTEXT
#   Makes the directory CONTEXT that `sealift build -f kubefiles/etcd/Kubefile CONTEXT` needs, from etcd of Debian's packages
#   (not installed, only unpacked) and the files next to this script.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
# shellcheck source=../../scripts/common.sh
. "$here/../../scripts/common.sh"
[ $# = 1 ] || { usage "$0" >&2; exit 2; }
context=$1

parts=$("$here/../../scripts/debian-parts.sh")
mark=$( { echo "$parts"; cat "$0"; find "$here"/{host,scripts} -type f -print0 | sort -z | xargs -0 sha256sum; } | sha256sum | cut -c1-64)
[ "$(cat "$context/.prepared" 2>/dev/null)" != "$mark" ] || exit 0

rm -rf "$context.partial"
mkdir -p "$context.partial"
cp -r "$here"/{host,scripts} "$context.partial/"
mkdir -p "$context.partial/host/usr/bin"
cp "$parts"/usr/bin/{etcd,etcdctl} "$context.partial/host/usr/bin/"
# The same inputs make the same image whenever they are assembled.
find "$context.partial" -exec touch --no-dereference --date "@${SOURCE_DATE_EPOCH:-0}" {} +
echo "$mark" > "$context.partial/.prepared"
rm -rf "$context"
mv "$context.partial" "$context"
