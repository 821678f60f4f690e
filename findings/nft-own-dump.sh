#!/bin/bash
# usage: nft-own-dump.sh
#   After `nft list ruleset > FILE`, `nft -f FILE` (nftables 1.0.6) iptables 1.8.9 cannot read rules like kube-proxy's any more, all of
#   Debian bookworm, and iptables-save exits 0 with no rule at all.
#   Expected: the rules that were there are there again, since both programs keep them in the same tables of the kernel.
#   Seen: a rule with DNAT comes back as one that iptables does not know; for it the whole table is "incompatible", and iptables-save
#   writes a comment line and nothing else. (nft writes "do not touch" above such tables, as a comment of the dump, which it loads.)
#   It matters: keeping the running ruleset in /etc/nftables.conf is how Debian's nftables is commonly made to last. On a node that was
#   saved so, what backs up, compares or cleans up by iptables-save sees an empty nat table and no error.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
# shellcheck source=lib.sh
. "$here/lib.sh"
[ "$(id -u)" = 0 ] || die "only root can make a network of its own"
debian bookworm nftables=1.0.6-2+deb12u2 iptables=1.8.9-2
cd "$work"
cat > node.sh << 'END'
set -eu
iptables-nft -t nat -N KUBE-SVC-WEB
iptables-nft -t nat -A KUBE-SVC-WEB -p tcp --dport 80 -j DNAT --to-destination 10.244.0.5:8080
iptables-nft -t nat -A KUBE-SVC-WEB -p tcp --dport 81 -j ACCEPT
iptables-nft-save -t nat > before
nft list ruleset > ruleset
nft flush ruleset
nft -f ruleset
iptables-nft-save -t nat > after
END
command=()
mkdir bin
for program in nft iptables-nft iptables-nft-save; do
  command_of bookworm "$program"
  printf '#!/bin/sh\nexec %s "$@"\n' "${command[*]}" > "bin/$program"
done
chmod +x bin/*
libraries=$(find "$work/bookworm/usr/lib" -maxdepth 2 -name xtables)
PATH=$work/bin:$PATH XTABLES_LIBDIR=$libraries XTABLES_LOCKFILE=$work/lock unshare --net sh node.sh 2> message || { cat message >&2; die "this kernel does not do it"; }
same "rules before" "$(grep -c '^-A' before)" 2
saw "before: $(grep -- '-j DNAT' before)"
same "rules after" "$(grep -c '^-A' after || true)" 0
grep -q 'incompatible' after || changed "iptables-save says: $(cat after)"
saw "after, iptables-save with exit code 0: $(grep incompatible after)"
