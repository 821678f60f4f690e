#!/bin/bash
# usage: umoci-git-archive.sh
#   umoci 0.4.7 (Debian trixie; 0.6.0 of sid does the same) does not unpack an image with a layer that `git archive` made.
#   Expected: a POSIX tar is a layer. containerd, buildah, GNU tar and squashfs-tools take it.
#   Seen: "pax_global_header: unknown typeflag 'g'": the record in which git writes the commit for all that follows is an entry to umoci.
#   It matters: such a layer is the short way to put a folder of configuration into an image; it goes through every registry and runs on
#   every node, and the tool that unpacks a root file system for hosts without a runtime is the one that stops.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
# shellcheck source=lib.sh
. "$here/lib.sh"
command -v git > /dev/null || die "git is needed"
debian trixie umoci=0.4.7+ds-4+b10
cd "$work"
mkdir repo
echo setting > repo/setting.conf
git -C repo init -q
git -C repo add .
git -C repo -c user.name=site -c user.email=site@example.test commit -q -m settings
git -C repo archive --format=tar --output="$work/git.tar" HEAD
tar -C repo -cf gnu.tar setting.conf
mkdir unpacked
tar -xf git.tar -C unpacked
same "what tar unpacks" "$(ls -A unpacked)" setting.conf
layout images << 'END'
for tag in "git", "gnu":
    it.image([it.layer({}, tar=open(tag + ".tar", "rb").read())], tag=tag)
END
from trixie umoci unpack --rootless --image images:gnu gnu > message 2>&1 || changed "umoci does not unpack a layer of GNU tar either: $(tail -n 1 message)"
saw "a layer of GNU tar is unpacked"
if from trixie umoci unpack --rootless --image images:git git > message 2>&1; then changed "umoci unpacks it"; fi
grep -q 'pax_global_header.*typeflag' message || changed "umoci fails otherwise: $(tail -n 1 message)"
saw "a layer of git archive: $(grep -o 'unpack entry.*' message | tail -n 1)"
