#!/bin/bash
# usage: erofs-sparse-file.sh
#   `mkfs.erofs --tar=f` 1.8.6 (Debian trixie; 1.9.4 of sid does the same) leaves out a file that GNU tar wrote as a sparse one, and
#   exits 0.
#   Expected: the file with its holes, as sqfstar, mke2fs -d, bsdtar and Python's tarfile have it from the same tar, or an error.
#   Seen: from a tar of --format=gnu the file is not there at all; of --format=posix there is a folder GNUSparseFile.NUMBER with a file
#   that begins with the list of its parts. Everything else is right.
#   It matters: disk images and databases are what is sparse in a root file system or a layer, and `tar -S` is how one packs them. The
#   host boots without them.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
# shellcheck source=lib.sh
. "$here/lib.sh"
debian trixie erofs-utils=1.8.6-1 squashfs-tools=1:4.6.1-1
cd "$work"
mkdir tree
truncate -s 1M tree/disk.img
printf boot | dd of=tree/disk.img bs=1 seek=500000 conv=notrunc status=none
echo plain > tree/plain
sum() { sha256sum "$1" | cut -c1-64; }

for format in gnu posix; do
  tar --format="$format" --sparse -cf "$format.tar" tree
  tar -tvf "$format.tar" | grep '1048576 .*tree/disk.img' > /dev/null || die "GNU tar did not pack the file as expected"
  from trixie sqfstar -quiet -no-progress "$format.squashfs" < "$format.tar" > log 2>&1 || { cat log >&2; die "sqfstar fails"; }
  same "$format by sqfstar" "$(from trixie unsquashfs -cat "$format.squashfs" tree/disk.img | sha256sum | cut -c1-64)" "$(sum tree/disk.img)"
  from trixie mkfs.erofs --quiet --tar=f "$format.erofs" "$format.tar" > log 2>&1 || changed "mkfs.erofs fails: $(tail -n 1 log)"
  from trixie fsck.erofs --extract="$format" "$format.erofs" > log 2>&1 || { cat log >&2; die "fsck.erofs fails"; }
  same "$format, the other file" "$(cat "$format/tree/plain")" plain
  [ ! -e "$format/tree/disk.img" ] || changed "$format: disk.img is there"
  saw "tar --format=$format --sparse, mkfs.erofs exits 0: $(cd "$format" && find tree -type f | sort | paste -sd' '); sqfstar has tree/disk.img"
done
same "the files of gnu" "$(cd gnu && find . -type f | wc -l)" 1
find posix/tree -path '*/GNUSparseFile.*/disk.img' | grep . > /dev/null || changed "posix: no GNUSparseFile"
