#!/bin/bash
# usage: sqfstar-updated-file.sh
#   sqfstar 4.6.1 (squashfs-tools of Debian trixie; 4.7.5 of sid does the same) keeps the OLD content of a file that a tar has twice.
#   Expected: what every tar does, and what `tar -r` and `tar -u` are for: the last one wins. mkfs.erofs 1.8.6 does so.
#   Seen: sqfstar prints "already exists in the tar file, ignoring", exits 0, and the file system has the first.
#   It matters: a root file system for hosts that was put right by adding a file to its tar boots with the file that was wrong; the
#   same tar as an image layer, or unpacked, has the right one.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
# shellcheck source=lib.sh
. "$here/lib.sh"
debian trixie squashfs-tools=1:4.6.1-1 erofs-utils=1.8.6-1
cd "$work"
mkdir tree
echo old > tree/file
tar -cf root.tar tree
echo new > tree/file
tar -rf root.tar tree/file

mkdir unpacked
tar -xf root.tar -C unpacked
same "tar" "$(cat unpacked/tree/file)" new
from trixie mkfs.erofs --quiet --tar=f root.erofs root.tar > /dev/null 2>&1
from trixie fsck.erofs --extract=erofs root.erofs > /dev/null 2>&1
same "mkfs.erofs" "$(cat erofs/tree/file)" new
saw "tar and mkfs.erofs: new"
from trixie sqfstar -quiet -no-progress root.squashfs < root.tar > message 2>&1 || changed "sqfstar fails: $(cat message)"
same "sqfstar" "$(from trixie unsquashfs -cat root.squashfs tree/file)" old
saw "sqfstar, which exited 0: old ($(tail -n 1 message))"
