#!/bin/bash
# usage: systemd-cron-either-day.sh
#   systemd-cron 2.5.1 (Debian trixie; 1.15.19 of bookworm and 2.8.2 of sid do the same) makes a timer of a crontab line that runs only
#   where BOTH day fields agree.
#   Expected: either, as cron has it, and as the crontab(5) of systemd-cron itself says: "30 4 1,15 * 5" is the 1st, the 15th, and
#   every Friday.
#   Seen: `OnCalendar=Fri *-*-1,15 4:30:00`, which comes a few times a year.
#   It matters: the backup of etcd that a cluster image brings along as a crontab is made four times a year instead of six times a month
#   on hosts where systemd-cron stands in for cron, and nothing fails.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
# shellcheck source=lib.sh
. "$here/lib.sh"
[ "$(id -u)" = 0 ] || die "only root can put a crontab where the generator looks"
debian trixie systemd-cron=2.5.1-2
cd "$work"
generator=$work/trixie/usr/lib/systemd/system-generators/systemd-crontab-generator
# the generator reads /etc: it gets one of its own, in mounts that nobody else sees
mkdir -p etc/cron.d timers
cp -P /etc/passwd /etc/group etc/
echo '30 4 1,15 * 5 root /usr/local/bin/save-etcd' > etc/cron.d/save-etcd
command=()
command_of trixie "$generator"
unshare --mount sh -c 'mount --bind etc /etc && shift && "$@"' sh x "${command[@]}" "$work/timers" > log 2>&1 || { cat log >&2; die "the generator fails"; }
calendar=$(cat timers/cron-save-etcd-*.timer | sed -n 's/^OnCalendar=//p')
same "the timer" "$calendar" "Fri *-*-1,15 4:30:00"
saw "30 4 1,15 * 5 becomes OnCalendar=$calendar"
zcat "$work/trixie/usr/share/man/man5/crontab.5.gz" | grep -A 5 'restricted' | grep 'either' > /dev/null || changed "crontab(5) of systemd-cron no longer says \`either\`"
saw "its own crontab(5) says that such a line runs when either field matches"
times=$(systemd-analyze calendar --base-time='2027-01-01 00:00:00 UTC' --iterations=3 "$calendar" 2> /dev/null | grep -oE '[0-9]{4}-[0-9]{2}-[0-9]{2}' | sort -u | paste -sd' ' || true)
[ -z "$times" ] || saw "so it runs at $times, and so on"
