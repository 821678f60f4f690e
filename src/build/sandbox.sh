#!/bin/sh
# Carries out a RUN in mount and pid namespaces of its own, which `unshare` made.
# usage: sandbox.sh own|host BUILD_DIR K=V... COMMAND...
#   own:  BUILD_DIR/rootfs has a shell; COMMAND begins with chroot
#   host: COMMAND runs with this machine's tools, all of it read-only but BUILD_DIR/rootfs (at /mnt/rootfs) and /tmp
set -eu
mode=$1 build=$2
shift 2
# as in any container: what the caller has set must not show in the image
umask 022

die() { echo "sandbox: $*" >&2; exit 125; }

mount --make-rprivate / || die "mount namespaces do not work here"

if [ "$mode" = own ]; then
	root=$build/rootfs
	mount -t proc proc "$root/proc" 2>/dev/null || mount --rbind /proc "$root/proc" || die "no /proc in the rootfs"
	mount -t tmpfs -o mode=755 tmpfs "$root/dev" || die "no /dev in the rootfs"
	for node in null zero full random urandom tty; do
		: >"$root/dev/$node"
		mount --bind "/dev/$node" "$root/dev/$node" || die "no /dev/$node in the rootfs"
	done
	ln -s /proc/self/fd "$root/dev/fd"
	for file in resolv.conf hosts; do
		if [ -e "/etc/$file" ]; then mount --bind "/etc/$file" "$root/etc/$file" || die "no /etc/$file in the rootfs"; fi
	done
	exec env -i "$@"
fi

mount --bind "$build" /mnt || die "/mnt cannot be used as mount point"
mount --bind /mnt/tmp /tmp || die "/tmp cannot be used as mount point"
mount -t proc proc /proc 2>/dev/null || true
# field 5 is the mount point, with blanks as \040; field 6 its options, of which a user namespace must keep the others
sed 's/\\/\\0/g' /proc/self/mountinfo | while read -r _ _ _ _ point options _; do
	point=$(printf '%b' "$point")
	case $point in /proc | /proc/* | /sys | /sys/* | /dev | /dev/* | /mnt | /mnt/* | /tmp | /tmp/*) continue ;; esac
	case $options in ro | ro,*) continue ;; esac
	mountpoint -q "$point" || continue
	mount -o "remount,bind,ro${options#rw}" "$point" || die "$point cannot be made read-only"
done
cd /mnt/rootfs
exec env -i "$@"
