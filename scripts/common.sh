# shellcheck shell=bash disable=SC2034,SC2016
# What the scripts share; read with `. scripts/common.sh`, never run.

# Where everything that takes long to make is kept between runs.
cache=${XDG_CACHE_HOME:-$HOME/.cache}/sealift

# say TEXT...: tells a person on stderr what happens, so that stdout stays an answer.
say() { printf '%s\n' "$*" >&2; }

# die TEXT...: ends the script with the reason.
die() { printf '%s: %s\n' "$(basename "$0")" "$*" >&2; exit 1; }

# usage FILE: prints the comment at the head of a script, which is its usage text.
usage() { sed -n '2,/^[^#]/{s/^# \{0,1\}//p}' "$1"; }

# debian_suites: "URI SUITE" of every suite of Debian bookworm that apt on this machine is configured with, the main one first.
debian_suites() {
  local format='$(REPO_URI) $(CODENAME) $(COMPONENT)' suites
  suites=$(apt-get indextargets --format "$format" 'Created-By: Packages')
  if [ -z "$suites" ] && [ "$(id -u)" = 0 ]; then     # apt knows what a suite is called once it has fetched its lists
    apt-get -o DPkg::Lock::Timeout=300 -qq update >&2
    suites=$(apt-get indextargets --format "$format" 'Created-By: Packages')
  fi
  awk '$2 ~ /^bookworm/ && $3 == "main" { print $1, $2 }' <<< "$suites" | sort --stable -k2,2 | grep . ||
    die "apt is not configured with Debian bookworm main, or has no lists yet (apt-get update; apt-get indextargets)"
}

# debian_mirror: where bookworm itself comes from.
debian_mirror() { debian_suites | awk '$2 == "bookworm" { print $1; exit }'; }

# need PACKAGE...: installs the Debian packages that are missing, in one call.
need() {
  local missing=() package
  for package; do
    dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || missing+=("$package")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  [ "$(id -u)" = 0 ] || die "these Debian packages are missing, and only root can install them: ${missing[*]}"
  say "installing ${missing[*]}"
  local apt=(apt-get -o DPkg::Lock::Timeout=300 -qq)
  "${apt[@]}" update >&2 || say "apt-get update had errors: going on with the lists that are there"
  without_services env DEBIAN_FRONTEND=noninteractive "${apt[@]}" install -y --no-install-recommends "${missing[@]}" > /dev/null
}

# from_pypi PACKAGE VERSION DIR: fetches the wheel of a package, without what it needs, into DIR.
from_pypi() {
  python3 -m pip download --quiet --disable-pip-version-check --no-deps --dest "$3" "$1==$2" >&2 || die "pip cannot fetch $1 $2"
}

# without_services COMMAND...: runs an installation whose packages' services (a registry, etcd, containerd) shall not start: we
# want their programs. A policy-rc.d that the machine has already is left as it is.
without_services() {
  local policy=/usr/sbin/policy-rc.d status=0
  if [ -e "$policy" ]; then "$@"; return; fi
  printf '#!/bin/sh\nexit 101\n' > "$policy"
  chmod +x "$policy"
  "$@" || status=$?
  rm -f "$policy"
  return "$status"
}

# fingerprint FILE...: twelve characters that change when a file's content does.
fingerprint() { cat -- "$@" | sha256sum | cut -c1-12; }

# locked FILE: from here on this shell is the only one that holds FILE's lock; gone when the shell ends.
locked() {
  mkdir -p "$(dirname "$1")"
  exec {lock}>"$1"
  flock -n "$lock" || { say "waiting for another $(basename "$0") (lock $1)"; flock "$lock"; }
}

# debian_apt UPDATE-or-DOWNLOAD...: apt-get with lists and state of its own, over the suites of bookworm that this machine's apt
# is configured with, and their sources. It changes nothing of the machine, needs no root, and takes nothing as installed.
# With $debian_suite set, it is over that suite of the same mirror instead (trixie, forky, sid).
debian_apt() (
  suite=${debian_suite:-}
  root=$cache/apt${suite:+-$suite}
  key=/usr/share/keyrings/debian-archive-keyring.gpg
  mkdir -p "$root"/{state/lists/partial,cache/archives/partial}
  exec {apt_lock}> "$root/lock"
  flock "$apt_lock"
  : > "$root/status"
  { if [ -n "$suite" ]; then printf '%s %s\n' "$(debian_mirror)" "$suite"; else debian_suites; fi; } | awk -v key="$key" '{ print "deb [signed-by=" key "]", $0, "main"; print "deb-src [signed-by=" key "]", $0, "main" }' \
    > "$root/sources.list"
  apt-get -qq -o DPkg::Lock::Timeout=300 -o Dir::Etc::SourceList="$root/sources.list" -o Dir::Etc::SourceParts=- \
    -o Dir::State="$root/state" -o Dir::State::status="$root/status" -o Dir::Cache="$root/cache" \
    -o APT::Sandbox::User="$(id -un)" -o APT::Install-Recommends=false "$@"
)
