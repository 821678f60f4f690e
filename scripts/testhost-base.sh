#!/bin/bash
# usage: testhost-base.sh
#   Prints the directory of the Debian tree that all test hosts share, read-only; makes it when it is missing (mmdebstrap,
#   half a minute) under the cache, by the checksum of this recipe. What a cluster image brings (containerd, runc,
#   kubelet, kubeadm, CNI plugins, registry) is not in it.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
# shellcheck source=common.sh
. "$here/common.sh"
case ${1:-} in '') ;; *) usage "$0"; exit 2 ;; esac

# What every host has: an init, a way in, and the tools that kubeadm, kube-proxy and tests look for on a host.
packages=(
  systemd systemd-sysv dbus openssh-server sudo
  iproute2 iptables nftables conntrack socat ethtool ebtables iputils-ping netcat-openbsd curl ca-certificates
  kmod procps mount util-linux lvm2 parted xfsprogs e2fsprogs chrony rsync tar gzip xz-utils zstd less
)

unread=(/usr/share/doc/\* /usr/share/man/\* /usr/share/locale/\*)

# Units that cannot work in a namespace, or that would only make starting and stopping slow.
masked=(
  systemd-udevd.service systemd-udevd-kernel.socket systemd-udevd-control.socket getty.target console-getty.service
  systemd-networkd-wait-online.service systemd-resolved.service systemd-timesyncd.service systemd-modules-load.service
  sys-kernel-debug.mount sys-kernel-tracing.mount
  apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer fstrim.timer
)

base=$cache/testhost-base/$(fingerprint "$0")

# people TREE: root by password; ops, whose sudo asks for the password; deploy, whose sudo does not. Passwords: testhost.
people() {
  local name
  for name in ops deploy; do chroot "$1" useradd --create-home --shell /bin/bash "$name"; done
  printf '%s:testhost\n' root ops deploy | chroot "$1" chpasswd
  printf 'Defaults timestamp_timeout=0\nops ALL=(ALL) ALL\ndeploy ALL=(ALL) NOPASSWD: ALL\n' > "$1/etc/sudoers.d/testhost"
  chmod 440 "$1/etc/sudoers.d/testhost"
  sed -i 's/^#\?PermitRootLogin.*/PermitRootLogin yes/; s/^#\?UseDNS.*/UseDNS no/' "$1/etc/ssh/sshd_config"
  # Without CAP_SYS_RESOURCE and CAP_AUDIT_CONTROL these two cannot do their work: it must not end the login.
  sed -i -E 's/^(session\s+)required(\s+pam_(loginuid|limits)\.so)/\1optional\2/' "$1"/etc/pam.d/{sshd,login,sudo,su}
}

# slim TREE: what differs for each host is made with the host; what nobody reads there goes.
slim() {
  rm -f "$1"/etc/ssh/ssh_host_* "$1"/etc/resolv.conf "$1"/etc/dpkg/dpkg.cfg.d/99mmdebstrap "$1"/var/cache/apt/*.bin
  : > "$1/etc/machine-id"
}

build() {
  local tree=$base.partial mirror
  mirror=$(debian_mirror)
  need mmdebstrap debian-archive-keyring
  rm -rf --one-file-system "$tree"
  say "making the test hosts' Debian tree (once)"
  # A merged /usr from the start: else a package does it, and brings all of Perl along.
  mmdebstrap --mode=root --variant=minbase --hook-dir=/usr/share/mmdebstrap/hooks/merged-usr \
    --include="usr-is-merged ${packages[*]}" "${unread[@]/#/--dpkgopt=path-exclude=}" \
    bookworm "$tree" "deb $mirror bookworm main" > "$base.log" 2>&1 ||
    die "mmdebstrap: $(tail -n 3 "$base.log") (all of it: $base.log)"
  chroot "$tree" systemctl mask -q "${masked[@]}"
  chroot "$tree" systemctl disable -q chrony lvm2-monitor blk-availability 2>/dev/null || true
  # A pod's first process may ignore SIGTERM: without this a reboot waits 90 s for it.
  install -D /dev/stdin "$tree/etc/systemd/system.conf.d/testhost.conf" <<< $'[Manager]\nDefaultTimeoutStopSec=8s'
  people "$tree"
  slim "$tree"
  mv "$tree" "$base"
}

if [ ! -d "$base" ]; then
  [ "$(id -u)" = 0 ] || die "making the tree needs root"
  locked "$base.lock"
  [ -d "$base" ] || build
fi
printf '%s\n' "$base"
