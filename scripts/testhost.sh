#!/bin/bash
# usage: testhost.sh COMMAND
#   up N [RATE]              hosts h1 to hN; those that exist already stay as they are
#   create NAME [IP] [RATE]  one host; without IP, the next free one
#   start|stop NAME          power on; power loss (state stays)
#   destroy NAME             the host and all its state
#   down                     every host of this instance, and all else it made
#   list                     name, address, state of each
#   exec NAME COMMAND...     runs in the host's namespaces as root
#   ssh NAME [COMMAND...]    logs in as root by key
#   rate NAME RATE|none      limits the host's network both ways (tc tbf: 100mbit)
#   disk NAME SIZE           one more disk, /dev/vdb and so on (300M)
#   key                      prints the path of the private key that root, ops and deploy of all hosts accept
#   claim PID                prints the number of an instance nobody has; it is swept once process PID is gone
#   sweep                    takes down every instance whose owner is gone
#
# Test hosts look like small Debian servers: systemd as PID 1, sshd, an address of their own on a bridge, in their own PID,
# mount, UTS, IPC, network and cgroup namespaces over one shared Debian tree (testhost-base.sh). Users: root, ops (sudo asks
# for the password), deploy (sudo does not); password `testhost`. They reach each other and this machine, nothing else.
#
# TESTHOST_ID (0-255, default 0) is the instance: its bridge th<ID>, its hosts 10.213.<ID>.11 and up, its state in
# /var/tmp/sealift-testhosts/<ID>, its cgroup. Instances do not meet.
set -euo pipefail
self=$(readlink -f "$0")
here=$(dirname "$self")
# shellcheck source=common.sh
. "$here/common.sh"

id=${TESTHOST_ID:-0}
[[ $id =~ ^(0|[1-9][0-9]{0,2})$ && $id -le 255 ]] || die "TESTHOST_ID is a number from 0 to 255, not '$id'"
all=/var/tmp/sealift-testhosts          # on a disk, not tmpfs: overlays and containerd's snapshots live below it
state=$all/$id
bridge=th$id
net=10.213.$id
group=sealift-testhosts-$id
key=$state/id_ed25519
ssh_options=(-i "$key" -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR -o ConnectTimeout=5 -o IdentitiesOnly=yes)

# cgroup_trees: the roots of the cgroup hierarchies of this machine: one (v2), or one for each controller (v1, hybrid).
cgroup_trees() {
  if [ -e /sys/fs/cgroup/cgroup.controllers ]; then echo /sys/fs/cgroup; return; fi
  local tree
  for tree in cpu cpuacct cpuset memory devices freezer blkio pids systemd unified; do
    [ ! -d "/sys/fs/cgroup/$tree" ] || echo "/sys/fs/cgroup/$tree"
  done
}

# group_join NAME: makes the host's cgroup in every hierarchy; this shell joins it.
group_join() {
  local tree
  for tree in $(cgroup_trees); do
    mkdir -p "$tree/$group"
    case $tree in
      /sys/fs/cgroup)
        delegate "$tree"
        delegate "$tree/$group" ;;
      */cpuset)
        echo 1 > "$tree/$group/cgroup.clone_children"
        cat "$tree/cpuset.cpus" > "$tree/$group/cpuset.cpus"
        cat "$tree/cpuset.mems" > "$tree/$group/cpuset.mems" ;;
    esac
    mkdir -p "$tree/$group/$1"
    echo "$BASHPID" > "$tree/$group/$1/cgroup.procs"
  done
}

# group_leave PID: with cgroup v2 a group with processes of its own cannot hand controllers to groups below it: what started the
# host leaves the host's group, which then is the root that the host's systemd sees.
group_leave() {
  local starters=/sys/fs/cgroup/$group/starters
  [ -e /sys/fs/cgroup/cgroup.controllers ] || return 0
  mkdir -p "$starters"
  echo "$1" > "$starters/cgroup.procs"
}

# alone_in_group FILE: whether the reader's group has no process from outside its namespace (those read as 0).
alone_in_group() { ! grep -qx 0 "$1"; }

# delegate DIRECTORY: the groups below may use every controller there is (cgroup v2).
delegate() {
  local controller controllers
  read -ra controllers < "$1/cgroup.controllers"
  for controller in "${controllers[@]}"; do
    echo "+$controller" > "$1/cgroup.subtree_control" 2>/dev/null || true
  done
}

# group_processes NAME: everything that runs in the host, whatever it did to hide.
group_processes() {
  local tree
  for tree in $(cgroup_trees); do
    [ ! -d "$tree/$group/$1" ] || find "$tree/$group/$1" -name cgroup.procs -exec cat {} + 2>/dev/null || true
  done | sort -un
}

group_remove() {
  local tree
  for tree in $(cgroup_trees); do
    [ ! -d "$tree/$group/$1" ] || find "$tree/$group/$1" -depth -type d -exec rmdir {} + 2>/dev/null || true
  done
}

# first_process NAME: the PID, out here, of the host's PID 1; nothing when it does not run.
first_process() {
  local pid
  pid=$(cat "$state/$1/pid" 2>/dev/null) || return 0
  # A number in a file may be anybody's by now, or a dead process nobody waited for: it must live in the host's cgroup.
  if group_processes "$1" | grep -qx "$pid"; then echo "$pid"; fi
}

names() {
  local file
  for file in "$state"/*/address; do [ ! -f "$file" ] || basename "$(dirname "$file")"; done
}

address() { cat "$state/$1/address" 2>/dev/null || die "no host '$1' (there are: $(names | xargs))"; }

# until_true SECONDS WHAT COMMAND...: waits for the command to succeed.
until_true() {
  local deadline=$((SECONDS + $1)) what=$2
  shift 2
  until "$@"; do
    [ "$SECONDS" -lt "$deadline" ] || { say "$what: not in time"; return 1; }
    sleep 0.1
  done
}

network_up() {
  need iproute2 kmod openssh-client procps util-linux
  mkdir -p "$state"
  [ -f "$key" ] || ssh-keygen -q -t ed25519 -N '' -C testhost -f "$key"
  # In use by the hosts as if built in: they cannot load modules themselves.
  modprobe -a overlay br_netfilter vxlan nf_conntrack ip_tables xt_conntrack xt_comment nft_compat 2>/dev/null || true
  [ ! -e "/sys/class/net/$bridge" ] || return 0
  ip link add "$bridge" type bridge
  ip addr add "$net.1/24" dev "$bridge"
  ip link set "$bridge" up
}

free_address() {
  local last
  for last in $(seq 11 250); do
    grep -qsx "$net.$last" "$state"/*/address || { echo "$net.$last"; return; }
  done
  die "no free address in $net.0/24"
}

# identity NAME ADDRESS: what makes this host itself, laid over the shared tree.
identity() {
  local top=$state/$1/upper user home
  mkdir -p "$top/etc/ssh" "$top/root" "$top/home"
  echo "$1" > "$top/etc/hostname"
  printf '127.0.0.1 localhost\n%s %s\n' "$2" "$1" > "$top/etc/hosts"
  echo '# test hosts have no resolver' > "$top/etc/resolv.conf"
  tr -d - < /proc/sys/kernel/random/uuid > "$top/etc/machine-id"
  ssh-keygen -q -t ed25519 -N '' -C "$1" -f "$top/etc/ssh/ssh_host_ed25519_key"
  for user in root ops deploy; do
    home=$(awk -F: -v user="$user" '$1 == user { print $6 }' "$base/etc/passwd")
    [ -d "$top$home" ] || cp -a "$base$home" "$top$home"
    mkdir -m 700 "$top$home/.ssh"
    cp "$key.pub" "$top$home/.ssh/authorized_keys"
    chown -R --reference="$base$home" "$top$home"
  done
  chmod 700 "$top/root"
  builtin_modules "$top/usr" > /dev/null
}

# builtin_modules USR: modprobe of what the machine's kernel has for the hosts succeeds there.
builtin_modules() {
  local release modules
  release=$(uname -r)
  modules=$1/lib/modules/$release
  mkdir -p "$modules"
  printf 'kernel/%s.ko\n' fs/overlayfs/overlay net/bridge/br_netfilter net/bridge/bridge net/netfilter/nf_conntrack \
    net/ipv4/netfilter/ip_tables drivers/net/vxlan/vxlan net/netfilter/ipset/ip_set > "$modules/modules.builtin"
  : > "$modules/modules.order"
  depmod -b "$1" "$release" 2>/dev/null || true
}

# attach NAME ADDRESS: a network namespace with eth0, the other end of the cable in the bridge.
attach() {
  local space=$bridge-$1 cable=$bridge-$1
  ip netns add "$space"
  ip link add "$cable" type veth peer name eth0 netns "$space"
  ip link set "$cable" master "$bridge" up
  ip -n "$space" link set lo up
  ip -n "$space" addr add "$2/24" dev eth0
  ip -n "$space" link set eth0 up
  ip -n "$space" route add default via "$net.1"
}

create() { # NAME [IP] [RATE]
  local name=$1 ip=${2:-} rate=${3:-none}
  [[ $name =~ ^[a-z][a-z0-9-]{0,8}$ ]] || die "a host's name is up to nine letters, digits and dashes, not '$name'"
  [ ! -e "$state/$name" ] || die "$name exists"
  base=$("$here/testhost-base.sh")
  network_up
  [ -n "$ip" ] || ip=$(free_address)
  mkdir -p "$state/$name"/{upper,work,merged,disks}
  echo "$ip" > "$state/$name/address"
  cp -a "$base/var" "$state/$name/var"
  identity "$name" "$ip"
  attach "$name" "$ip"
  set_rate "$name" "$rate"
  boot "$name"
}

# boot NAME: starts systemd in namespaces of its own and notes its PID.
boot() {
  local name=$1 child
  [ -z "$(first_process "$name")" ] || die "$name runs already"
  base=$("$here/testhost-base.sh")
  # After a restart of this machine the host's disk is there, its cable is not.
  [ -e "/run/netns/$bridge-$name" ] || attach "$name" "$(address "$name")"
  (
    close_inherited
    group_join "$name"
    exec setsid nsenter --net="/run/netns/$bridge-$name" \
      unshare --mount --uts --ipc --pid --cgroup --fork --propagation private --kill-child=SIGKILL \
      "$self" inside "$name" "$base"
  ) < /dev/null > "$state/$name/console.log" 2>&1 &
  child=$!
  if ! until_true 10 "$name: its first process" unshared "$child" "$state/$name/pid"; then
    cat "$state/$name/console.log" >&2
    die "$name did not start"
  fi
  group_leave "$child"
}

# close_inherited: a host outlives its starter: it must not hold the starter's locks and pipes.
close_inherited() {
  local file
  for file in "/proc/$BASHPID/fd/"*; do
    case ${file##*/} in 0 | 1 | 2 | 255) ;; *) eval "exec ${file##*/}>&-" 2>/dev/null || true ;; esac
  done
}

# unshared PID FILE: whether that process became `unshare` and forked; the child's PID goes to the file.
unshared() { [ "$(cat "/proc/$1/comm" 2>/dev/null)" = unshare ] && pgrep -P "$1" > "$2"; }

# inside NAME BASE: runs as PID 1 of the new namespaces: makes the root tree, enters it, becomes systemd.
inside() {
  local name=$1 base=$2 root=$state/$1/merged
  hostname "$name"
  mount -t overlay overlay -o "lowerdir=$base,upperdir=$state/$name/upper,workdir=$state/$name/work" "$root"
  mount --bind "$state/$name/var" "$root/var"      # no overlay: containerd's overlays live below it
  mount -t proc proc "$root/proc"
  [ ! -e "$root/proc/sysrq-trigger" ] || mount --bind /dev/null "$root/proc/sysrq-trigger"
  mount -t sysfs sysfs "$root/sys"
  mount_cgroups "$root"
  mount_dev "$root/dev"
  mount -t tmpfs -o mode=755 tmpfs "$root/run"
  mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
  mkdir -p "$root/run/lock"
  shadow_sysctls "$root"
  cd "$root"
  mkdir -p .old
  pivot_root . .old
  umount -l /.old
  rmdir /.old 2>/dev/null || true
  mount --make-rshared /                           # kubelet propagates mounts
  # CAP_SYS_TIME would set the clock of the whole machine.
  exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin container=testhost TERM=linux LANG=C.UTF-8 \
    setpriv --bounding-set=-sys_time,-sys_module --inh-caps=-sys_time,-sys_module /sbin/init
}

mount_cgroups() { # ROOT
  local tree controller
  if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
    mount -t cgroup2 cgroup2 "$1/sys/fs/cgroup"
    until_true 10 "the host's cgroup is its own" alone_in_group "$1/sys/fs/cgroup/cgroup.procs"
    return
  fi
  mount -t tmpfs -o mode=755 tmpfs "$1/sys/fs/cgroup"
  for tree in $(cgroup_trees); do
    controller=$(basename "$tree")
    mkdir "$1/sys/fs/cgroup/$controller"
    case $controller in
      unified) mount -t cgroup2 cgroup2 "$1/sys/fs/cgroup/unified" ;;
      systemd) mount -t cgroup -o none,name=systemd cgroup "$1/sys/fs/cgroup/systemd" ;;
      *) mount -t cgroup -o "$controller" cgroup "$1/sys/fs/cgroup/$controller" ;;
    esac
  done
}

mount_dev() { # DEV
  local node
  mount -t tmpfs -o mode=755,size=64k,nr_inodes=512 tmpfs "$1"
  for node in null zero full random urandom tty fuse kmsg loop-control net/tun; do
    [ -e "/dev/$node" ] || continue
    mkdir -p "$(dirname "$1/$node")"
    touch "$1/$node"
    mount --bind "/dev/$node" "$1/$node"
  done
  mkdir "$1/pts" "$1/shm" "$1/mqueue" "$1/disk"
  mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts "$1/pts"
  mount -t tmpfs -o mode=1777 tmpfs "$1/shm"
  ln -s pts/ptmx "$1/ptmx"
  ln -s /proc/self/fd "$1/fd"
  ln -s fd/0 "$1/stdin"
  ln -s fd/1 "$1/stdout"
  ln -s fd/2 "$1/stderr"
}

# shadow_sysctls ROOT: what the kernel does not keep apart for each host becomes a plain file there: what a host sets, it
# reads back, and this machine keeps its own.
shadow_sysctls() {
  local name file
  mkdir "$1/run/sysctl-shadow"
  for name in vm/overcommit_memory vm/panic_on_oom vm/swappiness vm/max_map_count kernel/panic kernel/panic_on_oops \
    kernel/pid_max kernel/keys/root_maxkeys kernel/keys/root_maxbytes fs/file-max fs/nr_open fs/inotify/max_user_instances \
    fs/inotify/max_user_watches net/core/rmem_max net/core/wmem_max net/netfilter/nf_conntrack_max; do
    [ -e "$1/proc/sys/$name" ] || continue
    file=$1/run/sysctl-shadow/${name//\//_}
    cat "$1/proc/sys/$name" > "$file"
    mount --bind "$file" "$1/proc/sys/$name"
  done
}

set_rate() { # NAME RATE|none
  local cable=$bridge-$1
  tc qdisc del dev "$cable" root 2>/dev/null || true
  tc -n "$cable" qdisc del dev eth0 root 2>/dev/null || true
  [ "$2" != none ] || return 0
  tc qdisc add dev "$cable" root tbf rate "$2" burst 256kb latency 50ms
  tc -n "$cable" qdisc add dev eth0 root tbf rate "$2" burst 256kb latency 50ms
}

add_disk() { # NAME SIZE
  local name=$1 letters=bcdefghij count file loop
  count=$(find "$state/$name/disks" -name '*.img' | wc -l)
  [ "$count" -lt ${#letters} ] || die "$name has ${#letters} disks already"
  file=$state/$name/disks/$count.img
  truncate -s "$2" "$file"
  loop=$(losetup -f --show "$file")
  nsenter -t "$(running "$name")" -m mknod "/dev/vd${letters:count:1}" b "$((0x$(stat -c %t "$loop")))" "$((0x$(stat -c %T "$loop")))"
  echo "/dev/vd${letters:count:1}"
}

running() {
  local pid
  address "$1" > /dev/null
  pid=$(first_process "$1")
  [ -n "$pid" ] || die "$1 is down (testhost.sh start $1)"
  echo "$pid"
}

nothing_runs() { [ -z "$(group_processes "$1")" ]; }

# halt NAME: power loss. When its PID 1 dies the kernel kills the rest; what is still starting goes by the cgroup.
halt() {
  local pid
  for pid in $(group_processes "$1"); do kill -KILL "$pid" 2>/dev/null || true; done
  until_true 15 "$1: its processes ended" nothing_runs "$1"
  group_remove "$1"
}

destroy() { # NAME
  local name=$1 file loop
  halt "$name" || true
  for file in "$state/$name"/disks/*.img; do
    [ -e "$file" ] || continue
    for loop in $(losetup -j "$file" | cut -d: -f1); do losetup -d "$loop" 2>/dev/null || true; done
  done
  ip link del "$bridge-$name" 2>/dev/null || true
  ip netns del "$bridge-$name" 2>/dev/null || true
  group_remove "$name"
  until_true 5 "$state/$name: removed" remove_tree "$state/$name" || die "$state/$name could not be removed"
}

remove_tree() { rm -rf --one-file-system "$1" 2>/dev/null; }

# down: by what is there, not by what was noted, so that nothing of a start that was killed stays.
down() {
  local name tree
  for name in $( { names; ip netns list | awk '{ print $1 }' | sed -n "s/^$bridge-//p"; find_groups; } | sort -u); do destroy "$name" & done
  wait
  ip link del "$bridge" 2>/dev/null || true
  for tree in $(cgroup_trees); do rmdir "$tree/$group/starters" "$tree/$group" 2>/dev/null || true; done
  remove_tree "$state" || die "$state could not be removed"
}

find_groups() {
  local tree
  for tree in $(cgroup_trees); do find "$tree/$group" -mindepth 1 -maxdepth 1 -type d ! -name starters -printf '%f\n' 2>/dev/null || true; done
}

# answers ADDRESS: the port first, as that costs next to nothing while a slow machine starts its hosts.
answers() { (exec 3<> "/dev/tcp/$1/22") 2>/dev/null && ssh "${ssh_options[@]}" -o BatchMode=yes "root@$1" true 2>/dev/null; }

wait_ssh() { until_true 60 "$1: ssh answers" answers "$(address "$1")" || die "$1 does not answer ssh (see $state/$1/console.log)"; }

up() { # N [RATE]
  local number jobs=() job
  [[ ${1:-} =~ ^[1-9][0-9]*$ && $1 -le 200 ]] || die "up needs a number of hosts"
  "$here/testhost-base.sh" > /dev/null
  network_up
  for number in $(seq "$1"); do
    if [ ! -e "$state/h$number" ]; then
      create "h$number" "$net.$((10 + number))" "${2:-none}" & jobs+=($!)
    elif [ -z "$(first_process "h$number")" ]; then
      boot "h$number" & jobs+=($!)
    fi
  done
  for job in "${jobs[@]}"; do wait "$job" || die "not all hosts came up"; done
  for number in $(seq "$1"); do wait_ssh "h$number"; done
}

list() {
  local name
  for name in $(names); do
    printf '%s %s %s\n' "$name" "$(address "$name")" "$([ -n "$(first_process "$name")" ] && echo up || echo down)"
  done
}

# owner PID: what tells that process from a later one with the same number.
owner() { awk '{ print $1, $22 }' "/proc/$1/stat" 2>/dev/null; }

sweep() {
  local directory pid started
  for directory in "$all"/*/; do
    [ -f "$directory/owner" ] || continue
    read -r pid started < "$directory/owner" || true
    [ "$(owner "$pid")" != "$pid $started" ] || continue
    TESTHOST_ID=$(basename "$directory") "$self" down || true
  done
}

# taken NUMBER: whether an instance has it, or another network of this machine has its addresses.
taken() { [ -e "$all/$1" ] || [ -e "/sys/class/net/th$1" ] || ip -4 route show to match "10.213.$1.1" | grep -qv ^default; }

claim() { # PID
  local number
  locked "$all/lock"
  sweep
  for number in $(seq 1 255); do
    ! taken "$number" || continue
    mkdir -p "$all/$number"
    owner "$1" > "$all/$number/owner" || die "no process $1"
    echo "$number"
    return
  done
  die "all instances are taken ($all)"
}

command=${1:-help}
shift || true
case $command in
  help | -h | --help) usage "$self"; exit 0 ;;
esac
[ "$(id -u)" = 0 ] || die "test hosts need root"
case $command in
  up) up "$@" ;;
  create) create "$@"; wait_ssh "$1" ;;
  start) address "$1" > /dev/null; network_up; boot "$1"; wait_ssh "$1" ;;
  stop) address "$1" > /dev/null; halt "$1" ;;
  destroy) destroy "$1" ;;
  down) down ;;
  list) list ;;
  exec)
    pid=$(running "$1")
    shift
    exec nsenter -t "$pid" -m -u -i -n -p -C --root="/proc/$pid/root" --wdns=/ \
      env -i PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=dumb "$@" ;;
  ssh)
    ip=$(address "$1")
    shift
    exec ssh "${ssh_options[@]}" "root@$ip" "$@" ;;
  rate) address "$1" > /dev/null; set_rate "$1" "$2" ;;
  disk) add_disk "$@" ;;
  key) echo "$key" ;;
  claim) claim "$1" ;;
  sweep) sweep ;;
  inside) inside "$@" ;;
  *) usage "$self" >&2; exit 2 ;;
esac
